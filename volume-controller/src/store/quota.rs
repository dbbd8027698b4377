//! How much may be stored. Counted in bytes of the objects' JSON: that is what users put in, it is the same in every
//! database, and it goes down at once when something is deleted.

use std::sync::Arc;

use serde::Deserialize;
use serde::de::IgnoredAny;

use super::memory::size;
use super::{Change, ChangeKind, CommitError};

/// How near the objects are to the quota.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Level {
    /// There is room, or no quota.
    #[default]
    Low,
    /// Four fifths are used.
    High,
    /// Nothing new is taken any more.
    Full,
}

impl Level {
    pub(crate) fn of(used: u64, quota: Option<u64>) -> Self {
        match quota {
            Some(quota) if used >= quota => Self::Full,
            Some(quota) if used >= quota / 5 * 4 => Self::High,
            _ => Self::Low,
        }
    }

    /// Says that this is the level now.
    pub(crate) fn log(self, used: u64, quota: Option<u64>) {
        let quota = quota.unwrap_or_default();
        match self {
            Self::Low => tracing::info!(used, quota, "the store has room again"),
            Self::High => tracing::warn!(used, quota, "the store is filling up; see --store-quota"),
            Self::Full => {
                tracing::error!(
                    used,
                    quota,
                    "the store is full: it takes nothing new until something is deleted"
                );
            }
        }
    }
}

/// What all objects have after a transaction, or that it is refused. Beyond the quota nothing new comes in. What exists
/// may grow by another eighth, so that what goes on with it (a status, a finalizer) does not stop at once; and
/// what is being deleted may always be written, because that is how room comes back.
pub(crate) fn after(staged: &[Arc<Change>], used: u64, quota: Option<u64>) -> Result<u64, CommitError> {
    let Some(quota) = quota else { return Ok(used) };
    let mut after = used;
    for change in staged {
        if change.kind != ChangeKind::Deleted {
            after += size(&change.object);
        }
        after -= change.previous.as_ref().map_or(0, |previous| size(previous));
    }
    let creates = staged.iter().any(|change| change.kind == ChangeKind::Created);
    let limit = if creates { quota } else { quota + quota / 8 };
    let is_deletion =
        || staged.iter().all(|change| change.kind == ChangeKind::Deleted || is_going(&change.object.body));
    if after <= used || after <= limit || is_deletion() {
        return Ok(after);
    }
    Err(CommitError::Full(format!(
        "its objects have {used} bytes, the quota is {quota}; delete what is not needed, or raise --store-quota"
    )))
}

/// Whether an object is being deleted.
fn is_going(body: &[u8]) -> bool {
    #[derive(Deserialize)]
    struct Body {
        metadata: Metadata,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Metadata {
        deletion_timestamp: Option<IgnoredAny>,
    }
    serde_json::from_slice::<Body>(body).is_ok_and(|body| body.metadata.deletion_timestamp.is_some())
}

#[cfg(test)]
mod tests {
    use super::super::plan::Plan;
    use super::super::{Key, Object, Precondition, Write};
    use super::*;
    use bytes::Bytes;
    use serde_json::json;

    #[test]
    fn levels() {
        for (used, quota, expected) in [
            (u64::MAX, None, Level::Low),
            (79, Some(100), Level::Low),
            (80, Some(100), Level::High),
            (99, Some(100), Level::High),
            (100, Some(100), Level::Full),
        ] {
            assert_eq!(Level::of(used, quota), expected, "{used} of {quota:?}");
        }
    }

    /// One write to a store with one object, `there`, of 100 bytes, and a quota.
    fn is_admitted(quota: u64, name: &str, precondition: Precondition, text: usize, is_going: bool) -> bool {
        let there = Arc::new(Object {
            key: Key::new("pods", "default", "there"),
            revision: 7,
            uid: "".into(),
            body: Bytes::from(json!({"metadata": {}, "x": "x".repeat(76)}).to_string()),
        });
        let used = size(&there);
        assert_eq!(used, 98);
        let current = move |key: &Key| (*key.name == *"there").then(|| there.clone());
        let mut plan = Plan::new(7, current).within(Some(quota), used);
        let metadata =
            if is_going { json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}) } else { json!({}) };
        let body = (text > 0).then(|| json!({"metadata": metadata, "x": "x".repeat(text)}));
        let write = Write { key: Key::new("pods", "default", name), precondition, body };
        match plan.admit(vec![write]) {
            Ok(_) => true,
            Err(CommitError::Full(why)) => {
                assert!(why.contains("98 bytes") && why.contains(&quota.to_string()), "{why}");
                false
            }
            Err(error) => panic!("{error}"),
        }
    }

    #[test]
    fn what_is_refused_at_the_quota() {
        use Precondition::{Absent, Present};
        for (name, quota, (object, precondition, text, is_going), expected) in [
            ("a creation with room", 1_000, ("new", Absent, 10, false), true),
            ("a creation without", 100, ("new", Absent, 10, false), false),
            ("an update that grows, within an eighth", 100, ("there", Present, 60, false), true),
            ("an update that grows beyond", 80, ("there", Present, 200, false), false),
            ("an update that shrinks, far beyond", 10, ("there", Present, 10, false), true),
            ("a deletion, far beyond", 10, ("there", Present, 0, false), true),
            ("a deletion that has to wait, far beyond", 10, ("there", Present, 200, true), true),
        ] {
            assert_eq!(is_admitted(quota, object, precondition, text, is_going), expected, "{name}");
        }
    }
}
