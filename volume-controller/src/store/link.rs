//! Rows as they come from SQL, made into objects and changes that share their bodies.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use tokio::time::Instant;

use super::dialect::{ChangeRow, Loaded, ObjectRow};
use super::{Change, Key, Object, plan};

/// Objects and changes, ready for memory.
pub(crate) struct Linked {
    /// The latest revision.
    pub(crate) revision: u64,
    /// The revision before the first of `changes`.
    pub(crate) floor: u64,
    pub(crate) objects: Vec<Arc<Object>>,
    /// With when each was made.
    pub(crate) changes: Vec<(Arc<Change>, Instant)>,
}

/// Links what was loaded. The error says what does not fit together.
pub(crate) fn loaded(rows: Loaded) -> Result<Linked, String> {
    let Loaded { revision, floor, .. } = rows;
    let now = Instant::now();
    let objects = rows.objects.into_iter().map(object).collect::<Result<Vec<_>, _>>()?;
    let mut seen = HashSet::with_capacity(objects.len());
    if let Some(object) = objects.iter().find(|object| !seen.insert(&object.key)) {
        return Err(format!("{} is there twice", object.key));
    }
    let mut known: HashMap<u64, Arc<Object>> =
        objects.iter().map(|object| (object.revision, object.clone())).collect();
    for row in rows.replaced {
        known.insert(row.revision, object(row)?);
    }
    let mut changes = Vec::with_capacity(rows.changes.len());
    for row in rows.changes {
        // Older than the clock itself: as if made now, which keeps it longer, never shorter.
        let at = now.checked_sub(row.age).unwrap_or(now);
        let revision = row.object.revision;
        if let Some(missing) = row.previous.filter(|previous| !known.contains_key(previous)) {
            return Err(format!("change {revision} replaced revision {missing}, which is not there"));
        }
        let change = change(
            row,
            |row| row.previous.and_then(|previous| known.get(&previous).cloned()),
            |row| known.get(&row.revision).cloned(),
        )?;
        known.insert(revision, change.object.clone());
        changes.push((change, at));
    }
    Ok(Linked { revision, floor, objects, changes })
}

/// Links what somebody else committed after revision `seen` to the objects as they are
/// here. A gap is an error: a watch would miss what belongs there.
pub(crate) fn foreign(
    seen: u64,
    rows: Vec<ChangeRow>,
    current: impl Fn(&Key) -> Option<Arc<Object>>,
) -> Result<Vec<Arc<Change>>, String> {
    let mut latest: HashMap<Key, Arc<Object>> = HashMap::new();
    let mut changes = Vec::with_capacity(rows.len());
    for (row, expected) in rows.into_iter().zip(seen + 1..) {
        let found = row.object.revision;
        if found != expected {
            return Err(format!("the change log goes on at revision {found} where {expected} belongs"));
        }
        let change = change(
            row,
            |row| {
                // A creation has nothing before it, whatever was deleted earlier.
                row.previous?;
                latest.get(&row.object.key).cloned().or_else(|| current(&row.object.key))
            },
            |_| None,
        )?;
        latest.insert(change.object.key.clone(), change.object.clone());
        changes.push(change);
    }
    Ok(changes)
}

fn change(
    row: ChangeRow,
    previous: impl FnOnce(&ChangeRow) -> Option<Arc<Object>>,
    shared: impl FnOnce(&ObjectRow) -> Option<Arc<Object>>,
) -> Result<Arc<Change>, String> {
    let previous = previous(&row);
    let kind = row.kind;
    let object = match shared(&row.object) {
        Some(object) => object,
        None => object(row.object)?,
    };
    Ok(Arc::new(Change { revision: object.revision, kind, object, previous }))
}

fn object(row: ObjectRow) -> Result<Arc<Object>, String> {
    let ObjectRow { revision, key, body } = row;
    let uid = plan::uid_of(&body)
        .map_err(|error| format!("the body of {key} at revision {revision} is not an object: {error}"))?;
    Ok(Arc::new(Object { key, revision, uid, body }))
}
