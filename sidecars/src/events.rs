//! One reason, told everywhere: to the log, and as an Event on the object.

use futures::StreamExt;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::{Client, Resource, runtime::events::EventType};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tracing::{debug, info, warn};

mod recorder;

use recorder::Recorder;

/// Events that may wait to be written; more are dropped (and logged all the same).
const WAITING: usize = 4096;
/// How many are written at the same time: the server commits together what comes together.
const WRITERS: usize = 16;
/// The API's limit for an event's note, bytes.
const LONGEST_NOTE: usize = 1024;

/// How a reason appears as an Event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Headline {
    pub kind: EventType,
    /// Upstream's reason, such as `ProvisioningFailed`.
    pub reason: &'static str,
    /// What was being done, such as `Provision`.
    pub action: &'static str,
}

impl Headline {
    pub(crate) const fn normal(reason: &'static str, action: &'static str) -> Self {
        Self { kind: EventType::Normal, reason, action }
    }

    pub(crate) const fn warning(reason: &'static str, action: &'static str) -> Self {
        Self { kind: EventType::Warning, reason, action }
    }
}

/// Why a controller does what it does. Its `Display` is the message for people.
pub(crate) trait Explain: std::fmt::Display {
    /// The Event that tells of it; `None` when it is of no interest to the object's owner.
    fn headline(&self) -> Option<Headline>;
}

/// As the API spells it.
fn event_type(kind: EventType) -> &'static str {
    match kind {
        EventType::Normal => "Normal",
        EventType::Warning => "Warning",
    }
}

/// One event to be written.
struct News {
    headline: Headline,
    note: String,
    about: ObjectReference,
}

/// Tells reasons. Never blocks: events are written in the background.
#[derive(Clone)]
pub(crate) struct Teller {
    events: mpsc::Sender<News>,
}

impl Teller {
    /// A teller, and the task that writes its events for as long as a teller lives.
    pub(crate) fn new(client: Client, controller: String) -> (Self, impl Future<Output = ()> + Send) {
        let (events, waiting) = mpsc::channel(WAITING);
        let recorder = Recorder::new(client, controller);
        let write = async move {
            let recorder = &recorder;
            ReceiverStream::new(waiting)
                .for_each_concurrent(WRITERS, |News { headline, note, about }: News| async move {
                    // An event is a courtesy: losing one must not fail what it tells of.
                    if let Err(error) = recorder.publish(headline, note, about).await {
                        debug!(%error, reason = headline.reason, "cannot write an event");
                    }
                })
                .await;
        };
        (Self { events }, write)
    }

    /// Logs `reason`, and writes it as an Event on `about` when it has a headline.
    pub(crate) fn tell<K: Resource<DynamicType = ()>>(&self, about: &K, reason: &impl Explain) {
        let mut reference = about.object_ref(&());
        // The recorder folds repetitions by this reference: a version would keep them apart.
        reference.resource_version = None;
        let object = match &reference.namespace {
            Some(namespace) => format!("{namespace}/{}", reference.name.as_deref().unwrap_or_default()),
            None => reference.name.clone().unwrap_or_default(),
        };
        let kind = K::kind(&());
        let Some(headline) = reason.headline() else {
            debug!(%kind, %object, "{reason}");
            return;
        };
        match headline.kind {
            EventType::Normal => info!(%kind, %object, reason = headline.reason, "{reason}"),
            EventType::Warning => warn!(%kind, %object, reason = headline.reason, "{reason}"),
        }
        let news = News { headline, note: shorten(&reason.to_string()), about: reference };
        if self.events.try_send(news).is_err() {
            debug!(%kind, %object, reason = headline.reason, "too many events wait: one dropped");
        }
    }
}

/// At most [`LONGEST_NOTE`] bytes, cut at a character.
fn shorten(text: &str) -> String {
    let mut end = text.len().min(LONGEST_NOTE);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text[..end].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_fit() {
        assert_eq!(shorten("short"), "short");
        let long = "ä".repeat(600);
        assert_eq!(shorten(&long).len(), 1024);
        assert_eq!(shorten(&format!("x{long}")).len(), 1023);
    }
}
