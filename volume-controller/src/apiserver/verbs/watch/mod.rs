//! Following changes.

mod event;

use std::collections::VecDeque;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, header};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::Call;
use crate::apiserver::Api;
use crate::apiserver::accept::{Shape, Syntax};
use crate::apiserver::metrics::OpenWatch;
use crate::apiserver::route::Target;
use crate::apiserver::selection::Selection;
use crate::apiserver::status::ApiError;
use crate::apiserver::{reply, unread};
use crate::store::{Change, ChangeKind, Expired, Next, Object, Watch, WatchError};
pub(crate) use event::Shared;
use event::{Became, Event, Form};

/// How long a watch stays open whose client does not say, at least; upstream's
/// `--min-request-timeout`. Up to twice that, so that clients do not come back together.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(1800);
/// How many bytes of initial events go out together.
const CHUNK: usize = 64 * 1024;
/// Marks the bookmark after the initial events (KEP-3157).
const INITIAL_END: &str = "k8s.io/initial-events-end";

pub(super) fn watch(call: &Call) -> Result<Response, ApiError> {
    let feed = Feed::open(call)?;
    let media = match call.accepted.syntax {
        Syntax::Protobuf => "application/vnd.kubernetes.protobuf;stream=watch",
        Syntax::Json | Syntax::Yaml => "application/json",
    };
    let stream = futures::stream::unfold(feed, |mut feed| async move {
        let bytes = feed.next().await?;
        Some((Ok::<_, Infallible>(bytes), feed))
    });
    let mut response = Response::new(Body::from_stream(stream));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    // What a client that reads nothing has yet to hear is kept in memory, for a while only.
    response.extensions_mut().insert(unread::Streamed);
    Ok(response)
}

/// One open watch.
struct Feed {
    api: Arc<Api>,
    selection: Selection,
    form: Form,
    allow_bookmarks: bool,
    /// Bytes that are next to be sent.
    out: VecDeque<Bytes>,
    /// The state at the start, sent as ADDED events.
    initial: VecDeque<Arc<Object>>,
    /// The revision of that state, while its bookmark is still to be sent.
    initial_end: Option<u64>,
    changes: Result<Watch, Expired>,
    /// The last revision that the client knows of, by an event or a bookmark.
    told: u64,
    /// Nothing up to this revision is still to be delivered.
    progress: u64,
    next_bookmark: Instant,
    deadline: Instant,
    is_over: bool,
    metrics: OpenWatch,
}

impl Feed {
    fn open(call: &Call) -> Result<Self, ApiError> {
        let (options, target) = (&call.options, &call.target);
        if call.accepted.syntax == Syntax::Yaml {
            return Err(ApiError::NotAcceptable("application/json, application/vnd.kubernetes.protobuf"));
        }
        let selection = Selection::parse(target, options)?;
        let wants_state = check(options)?;
        let asked = options.revision()?;
        let resource = target.stored.resource();
        let store = &call.api.store;
        let mut initial = VecDeque::new();
        let current = store.revision();
        let from = match asked {
            Some(asked) if asked > current => {
                // Numbers that were never given out here come from another history, such as
                // before a restored backup. Waiting for them would skip what happens meanwhile.
                if wants_state == Some(true) {
                    return Err(ApiError::FutureVersion { asked, current });
                }
                asked
            }
            Some(asked) if asked > 0 && wants_state != Some(true) => asked,
            _ if wants_state == Some(false) => current,
            _ => {
                let namespace = (!target.namespace.is_empty()).then_some(target.namespace.as_str());
                let list = store.list(&resource, namespace, None, None);
                for object in list.objects {
                    if selection.matches(target, &object)? {
                        initial.push_back(object);
                    }
                }
                list.revision
            }
        };
        let changes = match asked {
            Some(asked) if asked > current => Err(Expired { from: asked, oldest: current }),
            _ => store.watch(&[&resource], from),
        };
        let timeout = options.timeout_seconds.filter(|seconds| *seconds > 0).map(Duration::from_secs);
        let timeout = timeout.unwrap_or_else(|| DEFAULT_TIMEOUT.mul_f64(1.0 + rand::random::<f64>()));
        let now = Instant::now();
        Ok(Self {
            selection,
            allow_bookmarks: options.allow_bookmarks,
            out: VecDeque::new(),
            initial,
            initial_end: (wants_state == Some(true)).then_some(from),
            changes,
            told: from,
            progress: from,
            next_bookmark: now + call.api.bookmark_interval,
            // A year is as good as for ever, and cannot overflow.
            deadline: now + timeout.min(Duration::from_secs(365 * 24 * 3600)),
            is_over: false,
            metrics: call.api.metrics.open_watch(&call.labels),
            form: Form {
                accepted: call.accepted,
                include: reply::include_object(&options.include_object)?,
                target: Target {
                    kind: target.kind,
                    stored: target.stored,
                    namespace: target.namespace.clone(),
                    name: target.name.clone(),
                    part: target.part,
                },
            },
            api: call.api.clone(),
        })
    }

    /// The next bytes for the client; `None` at the end.
    async fn next(&mut self) -> Option<Bytes> {
        if !self.initial.is_empty() && self.out.is_empty() {
            self.initial_events();
        }
        if let Some(bytes) = self.out.pop_front() {
            return Some(bytes);
        }
        if self.is_over {
            return None;
        }
        if let Some(revision) = self.initial_end.take()
            && self.allow_bookmarks
        {
            return Some(self.bookmark(revision, true));
        }
        loop {
            let changes = match &mut self.changes {
                Ok(changes) => changes,
                Err(expired) => {
                    let text = format!("too old resource version: {} ({})", expired.from, expired.oldest);
                    return Some(self.fail(&ApiError::Expired(text)));
                }
            };
            let is_bookmark_due = self.allow_bookmarks && self.progress > self.told;
            tokio::select! {
                biased;
                () = self.api.stop.cancelled() => return None,
                () = sleep_until(self.deadline) => {
                    self.is_over = true;
                    // So that the client goes on from as late as possible.
                    return is_bookmark_due.then(|| self.bookmark(self.progress, false));
                }
                () = sleep_until(self.next_bookmark), if is_bookmark_due => {
                    return Some(self.bookmark(self.progress, false));
                }
                // Cancel-safe: what was not returned is returned by the next call.
                next = changes.next() => match next {
                    Ok(Next::Change(change)) => {
                        self.progress = change.revision;
                        match self.event(&change) {
                            Ok(Some(event)) => {
                                self.told = change.revision;
                                self.metrics.sent(event.len());
                                event.append_to(&mut self.out);
                                return self.out.pop_front();
                            }
                            Ok(None) => {}
                            Err(error) => return Some(self.fail(&error)),
                        }
                    }
                    Ok(Next::Progress(revision)) => self.progress = self.progress.max(revision),
                    Err(WatchError::TooSlow) => {
                        self.metrics.was_too_slow();
                        let text = "the watch was read too slowly: list again".to_owned();
                        return Some(self.fail(&ApiError::Expired(text)));
                    }
                    Err(WatchError::Closed) => return None,
                },
            }
        }
    }

    /// Puts some of the state at the start in line to be sent: small objects together, large ones as they are.
    fn initial_events(&mut self) {
        let mut bytes = Vec::new();
        while bytes.len() < CHUNK
            && self.out.is_empty()
            && let Some(object) = self.initial.pop_front()
        {
            let event = self.form.initial(&self.api.shared, &object);
            match event.inspect(|event| self.metrics.sent(event.len())) {
                Ok(Event::Whole(event)) if event.len() < CHUNK => bytes.extend_from_slice(&event),
                Ok(event) => event.append_to(&mut self.out),
                Err(error) => {
                    self.initial.clear();
                    bytes.extend_from_slice(&self.fail(&error));
                }
            }
        }
        if !bytes.is_empty() {
            self.out.push_front(bytes.into());
        }
    }

    /// What a change is to this client: an object that begins to match is added,
    /// one that ceases to match is deleted.
    fn event(&self, change: &Change) -> Result<Option<Event>, ApiError> {
        let target = &self.form.target;
        if !target.namespace.is_empty() && *change.object.key.namespace != *target.namespace {
            return Ok(None);
        }
        let matches = |object: &Object| {
            if self.selection.is_everything() { Ok(true) } else { self.selection.matches(target, object) }
        };
        let did = match (&change.previous, change.kind) {
            (Some(previous), _) => matches(previous)?,
            // A deletion whose last state is all there is to judge by.
            (None, ChangeKind::Deleted) => matches(&change.object)?,
            (None, _) => false,
        };
        let does = change.kind != ChangeKind::Deleted && matches(&change.object)?;
        let (became, object) = match (did, does) {
            (false, false) => return Ok(None),
            (false, true) => (Became::Added, &change.object),
            (true, true) => (Became::Modified, &change.object),
            (true, false) if change.kind == ChangeKind::Deleted => (Became::Deleted, &change.object),
            (true, false) => (Became::Deleted, change.previous.as_ref().unwrap_or(&change.object)),
        };
        self.form.event(&self.api.shared, became, object, change.revision).map(Some)
    }

    /// An event that is this client's alone.
    fn write(&self, event: &str, object: &Value) -> Result<Bytes, ApiError> {
        self.form.write(event, object).inspect(|bytes| self.metrics.sent(bytes.len()))
    }

    fn bookmark(&mut self, revision: u64, is_initial_end: bool) -> Bytes {
        self.told = revision;
        self.next_bookmark = Instant::now() + self.api.bookmark_interval;
        let mut metadata = json!({"resourceVersion": revision.to_string()});
        if is_initial_end {
            metadata["annotations"] = json!({INITIAL_END: "true"});
        }
        let kind = self.form.target.kind;
        let object = match self.form.accepted.shape {
            Shape::Object => {
                // Typed clients expect a time, even where there is none.
                metadata["creationTimestamp"] = Value::Null;
                json!({"kind": kind.kind, "apiVersion": kind.api_version(), "metadata": metadata})
            }
            Shape::Metadata(version) => {
                json!({"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": metadata})
            }
            Shape::Table(version) => {
                json!({"kind": "Table", "apiVersion": version, "metadata": metadata, "columnDefinitions": [], "rows": []})
            }
        };
        self.write("BOOKMARK", &object).unwrap_or_else(|error| self.fail(&error))
    }

    /// The last event of a watch that cannot go on. Upstream answers so, rather than
    /// with an HTTP error, and clients rely on it to list again.
    fn fail(&mut self, error: &ApiError) -> Bytes {
        tracing::debug!(resource = self.form.target.kind.plural, %error, "watch ends");
        self.is_over = true;
        let status = error.status();
        self.write("ERROR", &status).unwrap_or_else(|_| event::line("ERROR", &status))
    }
}

/// Whether the state at the start is wanted: `None` when the client does not say.
fn check(options: &crate::apiserver::options::Options) -> Result<Option<bool>, ApiError> {
    let forbidden = |why: &str| {
        Err(ApiError::Unprocessable(format!(
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: {why}"
        )))
    };
    match (options.send_initial_events, options.resource_version_match.as_str()) {
        (None, "") => Ok(None),
        (None, _) => {
            forbidden("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided")
        }
        (Some(wanted), "NotOlderThan") => Ok(Some(wanted)),
        (Some(_), _) => forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"),
    }
}
