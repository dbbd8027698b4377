//! What a batch of transactions would do, decided before anything is written:
//! pure, from the objects as they are and the writes admitted so far.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::quota;
use super::{
    Change, ChangeKind, CommitError, Committed, Guard, Key, Object, Precondition, Transaction, Write,
};

/// The changes of one batch, in order, on top of the objects that `current` shows.
pub(crate) struct Plan<F> {
    revision: u64,
    current: F,
    overlay: HashMap<Key, Option<Arc<Object>>>,
    changes: Vec<Arc<Change>>,
    bytes: usize,
    quota: Option<u64>,
    used: u64,
}

impl<F: Fn(&Key) -> Option<Arc<Object>>> Plan<F> {
    /// An empty plan on top of `revision`.
    pub(crate) fn new(revision: u64, current: F) -> Self {
        Self {
            revision,
            current,
            overlay: HashMap::new(),
            changes: Vec::new(),
            bytes: 0,
            quota: None,
            used: 0,
        }
    }

    /// The same with a limit to what all objects together may have; `used` is what they have before it.
    pub(crate) fn within(self, quota: Option<u64>, used: u64) -> Self {
        Self { quota, used, ..self }
    }

    /// The changes so far; the first has the revision after the one started from.
    pub(crate) fn into_changes(self) -> Vec<Arc<Change>> {
        self.changes
    }

    /// The size of the bodies so far.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// An object as the writes admitted so far leave it.
    fn current(&self, key: &Key) -> Option<Arc<Object>> {
        match self.overlay.get(key) {
            Some(planned) => planned.clone(),
            None => (self.current)(key),
        }
    }

    /// Admits one transaction, or refuses it and leaves the plan as it was.
    pub(crate) fn admit(
        &mut self,
        transaction: impl Into<Transaction>,
    ) -> Result<Vec<Committed>, CommitError> {
        let Transaction { guards, writes, .. } = transaction.into();
        for Guard { key, precondition } in guards {
            check(&key, &precondition, self.current(&key).as_ref())?;
        }
        let mut keys = HashSet::with_capacity(writes.len());
        let mut staged = Vec::with_capacity(writes.len());
        for write in writes {
            let revision = self.revision + staged.len() as u64 + 1;
            if !keys.insert(write.key.clone()) {
                return Err(CommitError::Twice { key: write.key });
            }
            let current = self.current(&write.key);
            staged.push(Arc::new(stage(write, current, revision)?));
        }
        let used = quota::after(&staged, self.used, self.quota)?;
        self.used = used;
        let mut committed = Vec::with_capacity(staged.len());
        for change in staged {
            self.revision = change.revision;
            let after = (change.kind != ChangeKind::Deleted).then(|| change.object.clone());
            self.overlay.insert(change.object.key.clone(), after);
            committed.push(Committed { revision: change.revision, object: change.object.clone() });
            self.bytes += change.object.body.len();
            self.changes.push(change);
        }
        Ok(committed)
    }
}

/// Refuses what does not hold of an object as it is.
fn check(key: &Key, precondition: &Precondition, current: Option<&Arc<Object>>) -> Result<(), CommitError> {
    let holds = match (precondition, current) {
        (Precondition::Absent, None) => true,
        (Precondition::Absent, Some(current)) => {
            return Err(CommitError::Exists { key: key.clone(), current: current.clone() });
        }
        (_, None) => return Err(CommitError::Missing { key: key.clone() }),
        (Precondition::Revision(expected), Some(current)) => current.revision == *expected,
        (Precondition::Uid(expected), Some(current)) => current.uid == *expected,
        (Precondition::Present, Some(_)) => true,
    };
    match current {
        Some(current) if !holds => Err(CommitError::Conflict { key: key.clone(), current: current.clone() }),
        _ => Ok(()),
    }
}

/// One write as a change, if its precondition holds.
fn stage(write: Write, current: Option<Arc<Object>>, revision: u64) -> Result<Change, CommitError> {
    let Write { key, precondition, body } = write;
    let malformed = |why| CommitError::Malformed { key: key.clone(), why };
    if key.resource.is_empty() || key.name.is_empty() {
        return Err(malformed("its resource and its name must not be empty"));
    }
    if [&key.resource, &key.namespace, &key.name].iter().any(|part| part.contains('\0')) {
        return Err(malformed("its key contains a NUL character"));
    }
    check(&key, &precondition, current.as_ref())?;
    let kind = match (&current, &body) {
        (_, None) => ChangeKind::Deleted,
        (None, Some(_)) => ChangeKind::Created,
        (Some(_), Some(_)) => ChangeKind::Updated,
    };
    let body = match (body, &current) {
        (Some(body), _) => body,
        (None, Some(current)) => {
            serde_json::from_slice(&current.body).map_err(|_| malformed("the stored body is not JSON"))?
        }
        (None, None) => return Err(CommitError::Missing { key }),
    };
    let (uid, body) = seal(body, revision).map_err(malformed)?;
    // The key that is already in memory is shared instead of kept twice.
    let key = current.as_ref().map_or(key, |current| current.key.clone());
    let object = Arc::new(Object { key, revision, uid, body });
    Ok(Change { revision, kind, object, previous: current })
}

/// The body as stored: `metadata.resourceVersion` set. And its `metadata.uid`.
fn seal(mut body: Value, revision: u64) -> Result<(Box<str>, Bytes), &'static str> {
    let Value::Object(fields) = &mut body else { return Err("the body is not a JSON object") };
    let metadata = fields.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_null() {
        *metadata = Value::Object(Map::new());
    }
    let Value::Object(metadata) = metadata else { return Err("metadata is not a JSON object") };
    metadata.insert("resourceVersion".to_owned(), Value::String(revision.to_string()));
    let uid = metadata.get("uid").and_then(Value::as_str).unwrap_or_default().into();
    let body = serde_json::to_vec(&body).map_err(|_| "the body cannot be written as JSON")?;
    // Boxed, so that the capacity which writing left over is not kept for as long as the object.
    Ok((uid, body.into_boxed_slice().into()))
}

/// `metadata.uid` of a stored body; empty when it has none.
pub(crate) fn uid_of(body: &[u8]) -> serde_json::Result<Box<str>> {
    #[derive(Deserialize)]
    struct Body {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    struct Metadata {
        #[serde(default)]
        uid: Value,
    }
    let body: Body = serde_json::from_slice(body)?;
    Ok(body.metadata.uid.as_str().unwrap_or_default().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn key() -> Key {
        Key::new("pods", "default", "a")
    }

    fn at_seven(key: &Key) -> Option<Arc<Object>> {
        let body = Bytes::from_static(br#"{"metadata":{"uid":"u"}}"#);
        (key.name.starts_with("there"))
            .then(|| Arc::new(Object { key: key.clone(), revision: 7, uid: "u".into(), body }))
    }

    #[test]
    fn preconditions() {
        use Precondition::{Absent, Present, Revision, Uid};
        let put = || Some(json!({"metadata": {"uid": "u"}}));
        for (number, (name, precondition, body, expected)) in [
            ("new", Absent, put(), "Created"),
            ("new", Present, put(), "Missing"),
            ("new", Revision(7), put(), "Missing"),
            ("new", Uid("u".into()), put(), "Missing"),
            ("new", Absent, None, "Missing"),
            ("new", Present, None, "Missing"),
            ("new", Revision(7), None, "Missing"),
            ("new", Uid("u".into()), None, "Missing"),
            ("there", Absent, put(), "Exists"),
            ("there", Present, put(), "Updated"),
            ("there", Revision(7), put(), "Updated"),
            ("there", Revision(6), put(), "Conflict"),
            ("there", Revision(8), put(), "Conflict"),
            ("there", Uid("u".into()), put(), "Updated"),
            ("there", Uid("v".into()), put(), "Conflict"),
            ("there", Uid("".into()), put(), "Conflict"),
            ("there", Absent, None, "Exists"),
            ("there", Present, None, "Deleted"),
            ("there", Revision(7), None, "Deleted"),
            ("there", Revision(6), None, "Conflict"),
            ("there", Uid("u".into()), None, "Deleted"),
            ("there", Uid("v".into()), None, "Conflict"),
            ("", Absent, put(), "Malformed"),
            ("a\0b", Absent, put(), "Malformed"),
            ("new", Absent, Some(json!("text")), "Malformed"),
            ("new", Absent, Some(json!({"metadata": 1})), "Malformed"),
            ("new", Absent, Some(json!({"metadata": null})), "Created"),
            ("new", Absent, Some(json!({})), "Created"),
        ]
        .into_iter()
        .enumerate()
        {
            let mut plan = Plan::new(10, at_seven);
            let write = Write { key: Key::new("pods", "default", name), precondition, body };
            let result = plan.admit(vec![write.clone()]);
            let found = match (&result, plan.changes.first()) {
                (Ok(_), Some(change)) => format!("{:?}", change.kind),
                (Err(error), None) => format!("{error:?}").split(' ').next().unwrap().to_owned(),
                other => panic!("case {number}: {other:?}"),
            };
            assert_eq!(found, expected, "case {number}: {write:?}");
            assert_eq!(plan.revision, 10 + u64::from(result.is_ok()), "case {number}");
        }
    }

    #[test]
    fn transactions_of_a_batch_see_one_another_but_not_themselves() {
        let mut plan = Plan::new(10, at_seven);
        let put = |precondition| Write { key: key(), precondition, body: Some(json!({})) };
        let delete = |precondition| Write { key: key(), precondition, body: None };
        assert_eq!(plan.admit(vec![put(Precondition::Absent)]).unwrap()[0].revision, 11);
        assert!(matches!(plan.admit(vec![put(Precondition::Absent)]), Err(CommitError::Exists { .. })));
        assert_eq!(plan.admit(vec![put(Precondition::Revision(11))]).unwrap()[0].revision, 12);
        assert!(matches!(
            plan.admit(vec![put(Precondition::Revision(11))]),
            Err(CommitError::Conflict { .. })
        ));
        assert_eq!(plan.admit(vec![delete(Precondition::Present)]).unwrap()[0].revision, 13);
        assert!(matches!(plan.admit(vec![put(Precondition::Present)]), Err(CommitError::Missing { .. })));
        let twice = plan.admit(vec![put(Precondition::Absent), put(Precondition::Present)]);
        assert!(matches!(twice, Err(CommitError::Twice { .. })));
        assert_eq!(plan.admit(vec![put(Precondition::Absent)]).unwrap()[0].revision, 14);
        let previous: Vec<_> = plan
            .into_changes()
            .iter()
            .map(|one| one.previous.as_ref().map(|object| object.revision))
            .collect();
        assert_eq!(previous, [None, Some(11), Some(12), None]);
    }

    #[test]
    fn guards_are_looked_at_and_not_written() {
        use Precondition::{Absent, Present, Revision, Uid};
        for (name, precondition, expected) in [
            ("there", Revision(7), None),
            ("there", Revision(6), Some("Conflict")),
            ("there", Uid("u".into()), None),
            ("there", Uid("v".into()), Some("Conflict")),
            ("there", Present, None),
            ("there", Absent, Some("Exists")),
            ("new", Absent, None),
            ("new", Present, Some("Missing")),
            ("new", Revision(7), Some("Missing")),
        ] {
            let mut plan = Plan::new(10, at_seven);
            let guard = Guard { key: Key::new("pods", "default", name), precondition: precondition.clone() };
            let write = Write { key: key(), precondition: Absent, body: Some(json!({})) };
            let result = plan.admit(Transaction { guards: vec![guard], ..vec![write].into() });
            let found = result.as_ref().err().map(|error| format!("{error:?}"));
            let found = found.as_deref().and_then(|text| text.split(' ').next());
            assert_eq!(found, expected, "{name} {precondition:?}");
            assert_eq!(plan.changes.len(), usize::from(expected.is_none()), "{name} {precondition:?}");
        }

        // What an earlier transaction of the batch writes, a guard sees.
        let mut plan = Plan::new(10, at_seven);
        let gone = Key::new("pods", "default", "there");
        plan.admit(vec![Write { key: gone.clone(), precondition: Present, body: None }]).unwrap();
        let write = Write { key: key(), precondition: Absent, body: Some(json!({})) };
        let guard = Guard { key: gone, precondition: Revision(7) };
        let late = plan.admit(Transaction { guards: vec![guard], ..vec![write].into() });
        assert!(matches!(late, Err(CommitError::Missing { .. })), "{late:?}");
        assert_eq!(plan.changes.len(), 1);
    }

    #[test]
    fn the_uid_of_a_stored_body() {
        for (body, uid) in [
            (json!({"metadata": {"uid": "a-b"}, "uid": "other"}), "a-b"),
            (json!({"metadata": {}}), ""),
            (json!({"metadata": {"uid": null}}), ""),
            (json!({"metadata": {"uid": "\"quoted\" \u{e9}"}}), "\"quoted\" \u{e9}"),
        ] {
            let (sealed, bytes) = seal(body, 3).unwrap();
            assert_eq!(&*sealed, uid);
            assert_eq!(&*uid_of(&bytes).unwrap(), uid);
        }
    }
}
