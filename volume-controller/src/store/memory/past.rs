//! Lists as they were: the present, with the changes since then taken back.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Memory, Place, Span};
use crate::store::{Change, ChangeKind, Expired, List, Object};

impl Memory {
    /// The list as of revision `at`, for as long as the log reaches back to it. One
    /// that is still to come is answered with the present.
    pub(crate) fn list_at(
        &self,
        resource: &str,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        at: u64,
    ) -> Result<List, Expired> {
        let span = Span::new(namespace, after);
        let state = self.state.read();
        let expired = Expired { from: at, oldest: state.log.floor() };
        let since: Vec<Arc<Change>> = match state.log.after(at) {
            _ if at >= state.revision => Vec::new(),
            None => return Err(expired),
            Some(since) => since.filter(|change| &*change.object.key.resource == resource).cloned().collect(),
        };
        let revision = at.min(state.revision);
        let present: Vec<Arc<Object>> =
            state.resources.get(resource).map_or_else(Vec::new, |all| span.of(all).cloned().collect());
        drop(state);
        if since.is_empty() {
            return Ok(List { revision, objects: present });
        }
        let place = |object: &Object| (object.key.namespace.clone(), object.key.name.clone());
        let mut objects: BTreeMap<Place, Arc<Object>> =
            present.into_iter().map(|object| (place(&object), object)).collect();
        // Backwards, so that of several changes of one object the oldest has the last word.
        for change in since.iter().rev().filter(|change| span.has(&change.object.key)) {
            match (change.kind, &change.previous) {
                (ChangeKind::Created, _) => objects.remove(&place(&change.object)),
                (_, Some(previous)) => objects.insert(place(previous), previous.clone()),
                // What was there is not known: no list is better than a wrong one.
                (_, None) => return Err(expired),
            };
        }
        Ok(List { revision, objects: objects.into_values().collect() })
    }
}
