//! Writes Events, and counts repetitions in the one that is there (`events.k8s.io/v1`, `EventSeries`).
//!
//! Of what was written it remembers a few words each, for a while. (`kube`'s recorder keeps the whole
//! objects, and looks at all of them for each new one.)

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use jiff::Timestamp;
use k8s_openapi::{
    api::{core::v1::ObjectReference, events::v1::Event},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use serde_json::json;
use tokio::time::Instant;

use super::{Headline, event_type};

/// After this long without a repetition, the next one is an event of its own; as in upstream's recorders.
const SERIES_ENDS: Duration = Duration::from_secs(6 * 60);
/// What is remembered is looked through for what has ended when it has doubled, and not below this number.
const FEW: usize = 1024;

pub(super) struct Recorder {
    client: Client,
    controller: String,
    written: Mutex<Written>,
}

#[derive(Default)]
struct Written {
    /// By [`identity`].
    series: HashMap<u64, Series>,
    /// How many of them there were when they were last looked through.
    kept: usize,
}

struct Series {
    /// The event's.
    name: String,
    count: i32,
    last: Instant,
}

impl Written {
    /// Notes one more: the event that it repeats, and how often that makes it.
    fn repeat(&mut self, identity: u64, now: Instant) -> Option<(String, i32)> {
        if self.series.len() >= FEW.max(2 * self.kept) {
            self.series.retain(|_, series| now - series.last < SERIES_ENDS);
            self.kept = self.series.len();
        }
        let series = self.series.get_mut(&identity).filter(|series| now - series.last < SERIES_ENDS)?;
        series.count = series.count.saturating_add(1);
        series.last = now;
        Some((series.name.clone(), series.count))
    }

    fn began(&mut self, identity: u64, name: String, now: Instant) {
        self.series.insert(identity, Series { name, count: 1, last: now });
    }
}

impl Recorder {
    pub(super) fn new(client: Client, controller: String) -> Self {
        Self { client, controller, written: Mutex::default() }
    }

    /// Writes one event, or that it happened again.
    pub(super) async fn publish(
        &self,
        headline: Headline,
        note: String,
        about: ObjectReference,
    ) -> kube::Result<()> {
        // Objects without a namespace have their events in `default`, as upstream.
        let namespace = about.namespace.as_deref().unwrap_or("default");
        let events: Api<Event> = Api::namespaced(self.client.clone(), namespace);
        let identity = identity(headline, &about);
        let repeated = self.written.lock().repeat(identity, Instant::now());
        if let Some((name, count)) = repeated {
            let series = json!({"series": {"count": count, "lastObservedTime": MicroTime(Timestamp::now())}});
            match events.patch_metadata(&name, &PatchParams::default(), &Patch::Merge(series)).await {
                // Somebody has cleared it away: it begins anew.
                Err(kube::Error::Api(status)) if status.code == 404 => {}
                other => return other.map(drop),
            }
        }
        let event = self.event(headline, note, about);
        let name = event.metadata.name.clone().unwrap_or_default();
        events.create(&PostParams::default(), &event).await?;
        self.written.lock().began(identity, name, Instant::now());
        Ok(())
    }

    fn event(&self, headline: Headline, note: String, about: ObjectReference) -> Event {
        let now = Timestamp::now();
        let subject = about.name.as_deref().unwrap_or(&self.controller);
        Event {
            metadata: ObjectMeta {
                namespace: about.namespace.clone(),
                name: Some(format!("{subject}.{:x}", now.as_nanosecond())),
                ..ObjectMeta::default()
            },
            action: Some(headline.action.to_owned()),
            reason: Some(headline.reason.to_owned()),
            type_: Some(event_type(headline.kind).to_owned()),
            event_time: Some(MicroTime(now)),
            note: Some(note),
            reporting_controller: Some(self.controller.clone()),
            reporting_instance: Some(self.controller.clone()),
            regarding: Some(about),
            ..Event::default()
        }
    }
}

/// The same for a repetition: the same news about the same object, whatever the note says.
fn identity(headline: Headline, about: &ObjectReference) -> u64 {
    let mut hasher = DefaultHasher::new();
    (event_type(headline.kind), headline.reason, headline.action).hash(&mut hasher);
    (&about.kind, &about.namespace, &about.name, &about.uid).hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repetitions_are_counted_for_a_while() {
        let (mut written, start) = (Written::default(), Instant::now());
        assert_eq!(written.repeat(1, start), None);
        written.began(1, "a".to_owned(), start);
        assert_eq!(written.repeat(1, start), Some(("a".to_owned(), 2)));
        assert_eq!(written.repeat(2, start), None);
        let later = start + SERIES_ENDS - Duration::from_secs(1);
        assert_eq!(written.repeat(1, later), Some(("a".to_owned(), 3)));
        let last = later + Duration::from_secs(2);
        assert_eq!(written.repeat(1, last), Some(("a".to_owned(), 4)), "it counts from the last one");
        assert_eq!(written.repeat(1, last + SERIES_ENDS), None);
    }

    #[test]
    fn what_has_ended_is_forgotten() {
        let (mut written, start) = (Written::default(), Instant::now());
        for identity in 0..FEW as u64 {
            written.began(identity, String::new(), start);
        }
        written.repeat(0, start + SERIES_ENDS);
        assert!(written.series.is_empty());
    }

    #[test]
    fn what_is_the_same_news() {
        let about =
            |name: &str| ObjectReference { name: Some(name.to_owned()), ..ObjectReference::default() };
        let (made, failed) = (Headline::normal("Made", "Make"), Headline::warning("Made", "Make"));
        assert_eq!(identity(made, &about("a")), identity(made, &about("a")));
        assert_ne!(identity(made, &about("a")), identity(made, &about("b")));
        assert_ne!(identity(made, &about("a")), identity(failed, &about("a")));
    }
}
