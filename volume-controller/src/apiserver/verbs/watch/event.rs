//! Events as they go over the wire. However many watch, each form of an event is made and kept once.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use jiff::Timestamp;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::apiserver::accept::{Accepted, Shape, Syntax};
use crate::apiserver::kinds::Kind;
use crate::apiserver::route::Target;
use crate::apiserver::status::ApiError;
use crate::apiserver::table::IncludeObject;
use crate::apiserver::unread::PIECE;
use crate::apiserver::{protobuf, reply};
use crate::store::Object;

/// How many forms of events are kept, and how many bytes with the objects that they are of: those that
/// hear of a change do so soon after each other. One is always kept, however large.
const KEPT: usize = 256;
const KEPT_BYTES: usize = 4 << 20;

/// From how many bytes on an object is not copied.
const LARGE: usize = PIECE;

/// What an object has become to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Became {
    Added,
    Modified,
    Deleted,
}

impl Became {
    fn name(self) -> &'static str {
        match self {
            Self::Added => "ADDED",
            Self::Modified => "MODIFIED",
            Self::Deleted => "DELETED",
        }
    }

    /// Everything before the object.
    fn head(self) -> &'static [u8] {
        match self {
            Self::Added => br#"{"type":"ADDED","object":"#,
            Self::Modified => br#"{"type":"MODIFIED","object":"#,
            Self::Deleted => br#"{"type":"DELETED","object":"#,
        }
    }
}

const TAIL: &[u8] = b"}\n";

/// What a watch is of, and how its client wants to be told.
pub(super) struct Form {
    pub(super) target: Target,
    pub(super) accepted: Accepted,
    pub(super) include: IncludeObject,
}

/// An event in bytes.
#[derive(Debug)]
pub(super) enum Event {
    /// In one piece.
    Whole(Bytes),
    /// The stored bytes themselves, with a line around them.
    Around(Became, Bytes),
}

impl Event {
    pub(super) fn len(&self) -> usize {
        match self {
            Self::Whole(bytes) => bytes.len(),
            Self::Around(became, body) => became.head().len() + body.len() + TAIL.len(),
        }
    }

    /// Its bytes, in order.
    pub(super) fn append_to(self, out: &mut VecDeque<Bytes>) {
        match self {
            Self::Whole(bytes) => out.push_back(bytes),
            Self::Around(became, body) => {
                out.extend([Bytes::from_static(became.head()), body, Bytes::from_static(TAIL)]);
            }
        }
    }
}

impl Form {
    fn is_verbatim(&self) -> bool {
        reply::is_verbatim(&self.target, self.accepted)
    }

    /// An object of the state at the start. A small one is of interest to nobody else.
    pub(super) fn initial(&self, shared: &Shared, object: &Arc<Object>) -> Result<Event, ApiError> {
        if object.body.len() >= LARGE {
            return self.event(shared, Became::Added, object, object.revision);
        }
        self.whole(Became::Added, object, object.revision).map(Event::Whole)
    }

    /// What happened to an object at a revision.
    pub(super) fn event(
        &self,
        shared: &Shared,
        became: Became,
        object: &Arc<Object>,
        revision: u64,
    ) -> Result<Event, ApiError> {
        if object.body.len() >= LARGE && self.is_verbatim() && object.revision == revision {
            return Ok(Event::Around(became, object.body.clone()));
        }
        shared.get(self, became, object, revision).map(Event::Whole)
    }

    fn whole(&self, became: Became, object: &Object, revision: u64) -> Result<Bytes, ApiError> {
        let is_as_stored = object.revision == revision;
        if is_as_stored && self.is_verbatim() {
            return Ok([became.head(), &object.body, TAIL].concat().into());
        }
        let mut body = reply::decode(object)?;
        if !is_as_stored {
            body["metadata"]["resourceVersion"] = json!(revision.to_string());
        }
        let shaped = reply::shape(&self.target, self.accepted.shape, self.include, body, Timestamp::now());
        self.write(became.name(), &shaped)
    }

    /// An event of any type, about anything.
    pub(super) fn write(&self, event: &str, object: &Value) -> Result<Bytes, ApiError> {
        match self.accepted.syntax {
            Syntax::Json | Syntax::Yaml => Ok(line(event, object)),
            Syntax::Protobuf => protobuf::event(event, object)
                .map(Bytes::from)
                .map_err(|e| ApiError::Internal(format!("cannot write protobuf: {e}"))),
        }
    }
}

pub(super) fn line(event: &str, object: &Value) -> Bytes {
    format!("{{\"type\":\"{event}\",\"object\":{object}}}\n").into()
}

/// What makes two events the same bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Name {
    /// Its address: that of the object and not only its revision, as after the loss of a database's end
    /// another object may have that. The entry keeps the object, so that no other comes to lie there.
    object: usize,
    revision: u64,
    became: Became,
    kind: usize,
    accepted: Accepted,
    include: IncludeObject,
    /// A table tells ages, in seconds.
    second: Option<i64>,
}

struct Made {
    of: Arc<Object>,
    /// Held while it is made, so that it is made once.
    making: Mutex<()>,
    bytes: OnceLock<Bytes>,
}

impl Made {
    fn size(&self) -> usize {
        self.of.body.len() + self.bytes.get().map_or(0, Bytes::len)
    }
}

#[derive(Default)]
struct Recent {
    made: HashMap<Name, Arc<Made>>,
    /// The oldest first.
    order: VecDeque<Name>,
}

/// The last events that were made, for all watches.
#[derive(Default)]
pub(crate) struct Shared(Mutex<Recent>);

impl Shared {
    fn get(
        &self,
        form: &Form,
        became: Became,
        object: &Arc<Object>,
        revision: u64,
    ) -> Result<Bytes, ApiError> {
        let is_table = matches!(form.accepted.shape, Shape::Table(_));
        let name = Name {
            object: Arc::as_ptr(object).addr(),
            revision,
            became,
            kind: std::ptr::from_ref::<Kind>(form.target.kind).addr(),
            accepted: form.accepted,
            include: form.include,
            second: is_table.then(|| Timestamp::now().as_second()),
        };
        let made = self.entry(name, object);
        if let Some(bytes) = made.bytes.get() {
            return Ok(bytes.clone());
        }
        let _making = made.making.lock();
        if let Some(bytes) = made.bytes.get() {
            return Ok(bytes.clone());
        }
        let bytes = form.whole(became, object, revision)?;
        // Nobody else sets it meanwhile.
        let _ = made.bytes.set(bytes.clone());
        self.forget();
        Ok(bytes)
    }

    fn entry(&self, name: Name, object: &Arc<Object>) -> Arc<Made> {
        let mut recent = self.0.lock();
        if let Some(made) = recent.made.get(&name) {
            return made.clone();
        }
        let made = Arc::new(Made { of: object.clone(), making: Mutex::default(), bytes: OnceLock::new() });
        recent.made.insert(name.clone(), made.clone());
        recent.order.push_back(name);
        made
    }

    /// Lets go of the oldest that are too many.
    fn forget(&self) {
        let mut gone = Vec::new();
        let mut recent = self.0.lock();
        let mut bytes: usize = recent.made.values().map(|made| made.size()).sum();
        while recent.order.len() > 1 && (recent.order.len() > KEPT || bytes > KEPT_BYTES) {
            let Some(name) = recent.order.pop_front() else { break };
            let Some(made) = recent.made.remove(&name) else { continue };
            bytes = bytes.saturating_sub(made.size());
            gone.push(made);
        }
        drop(recent);
        drop(gone);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::route;
    use crate::store::Key;

    const MAPS: &str = "/api/v1/configmaps";

    fn object(revision: u64, size: usize) -> Arc<Object> {
        let body = json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "b", "namespace": "a", "resourceVersion": revision.to_string()},
            "data": {"a": "x".repeat(size)},
        });
        let key = Key::new("configmaps", "a", "b");
        Arc::new(Object { key, revision, uid: "".into(), body: body.to_string().into() })
    }

    fn form(shape: Shape, syntax: Syntax) -> Form {
        let target = route::parse(MAPS).unwrap();
        Form { target, accepted: Accepted { shape, syntax }, include: IncludeObject::Object }
    }

    fn forms() -> [Form; 5] {
        [
            form(Shape::Object, Syntax::Json),
            form(Shape::Object, Syntax::Protobuf),
            form(Shape::Metadata("meta.k8s.io/v1"), Syntax::Json),
            form(Shape::Metadata("meta.k8s.io/v1"), Syntax::Protobuf),
            form(Shape::Table("meta.k8s.io/v1"), Syntax::Json),
        ]
    }

    fn bytes(event: Event) -> Vec<u8> {
        let (size, mut out) = (event.len(), VecDeque::new());
        event.append_to(&mut out);
        let bytes = out.iter().flatten().copied().collect::<Vec<u8>>();
        assert_eq!(bytes.len(), size);
        bytes
    }

    /// Where the object's own bytes, or those made of it, lie.
    fn place(event: &Event) -> *const u8 {
        match event {
            Event::Whole(bytes) | Event::Around(_, bytes) => bytes.as_ptr(),
        }
    }

    #[test]
    fn all_who_watch_share_the_bytes() {
        for size in [10, LARGE] {
            let (shared, object) = (Shared::default(), object(7, size));
            for form in forms() {
                let told = || form.event(&shared, Became::Modified, &object, 7).unwrap();
                let (first, second) = (told(), told());
                // Ages of tables that were made in two seconds differ.
                let is_same = place(&first) == place(&second);
                assert!(is_same || matches!(form.accepted.shape, Shape::Table(_)), "{:?}", form.accepted);
                assert_eq!(bytes(first).len(), bytes(second).len());
            }
        }
        let large = object(7, LARGE);
        let told = form(Shape::Object, Syntax::Json).event(&Shared::default(), Became::Added, &large, 7);
        assert_eq!(place(&told.unwrap()), large.body.as_ptr(), "it is copied");
    }

    #[test]
    fn each_is_told_what_it_asked_for() {
        for size in [10, LARGE] {
            let (shared, object) = (Shared::default(), object(7, size));
            let mut seen = Vec::new();
            for form in &forms() {
                for (became, revision) in [(Became::Added, 7), (Became::Modified, 7), (Became::Deleted, 9)] {
                    let told = bytes(form.event(&shared, became, &object, revision).unwrap());
                    assert_eq!(told, form.whole(became, &object, revision).unwrap());
                    if form.accepted.syntax == Syntax::Json {
                        let read: Value = serde_json::from_slice(&told).unwrap();
                        assert_eq!(read["type"], became.name());
                        let metadata = &read["object"]["metadata"];
                        assert_eq!(metadata["resourceVersion"], revision.to_string(), "{read}");
                    }
                    assert!(!seen.contains(&told));
                    seen.push(told);
                }
            }
            // The same place and revision, and another content.
            let other = self::object(7, size + 1);
            let told = bytes(forms()[0].event(&shared, Became::Added, &other, 7).unwrap());
            assert!(!seen.contains(&told));
        }
    }

    #[test]
    fn what_is_kept_has_an_end() {
        let (shared, form) = (Shared::default(), form(Shape::Object, Syntax::Protobuf));
        let kept = |shared: &Shared| {
            let recent = shared.0.lock();
            assert_eq!(recent.made.len(), recent.order.len());
            (recent.made.len(), recent.made.values().map(|made| made.size()).sum::<usize>())
        };
        for revision in 1..2 * KEPT as u64 {
            form.event(&shared, Became::Modified, &object(revision, 10), revision).unwrap();
        }
        assert_eq!(kept(&shared).0, KEPT);
        for revision in 1..20 {
            form.event(&shared, Became::Modified, &object(revision, 1 << 20), revision).unwrap();
            assert!(kept(&shared).1 <= KEPT_BYTES);
        }
        form.event(&shared, Became::Modified, &object(1, KEPT_BYTES), 1).unwrap();
        assert_eq!(kept(&shared).0, 1);
    }
}
