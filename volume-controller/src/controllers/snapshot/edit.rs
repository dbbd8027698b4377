//! Edits that both sorts of snapshots need, and how reasons are told.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    keeping::Notes,
    reason::{Reason, Sort},
};
use crate::{
    controllers::{
        engine::Io,
        recorder::{News, Severity},
        view::At,
    },
    lifecycle,
    store::{Key, Precondition, Write},
};

const COMPONENT: &str = "snapshot-controller";

pub(super) fn tell(io: &Io, about: &Key, reason: &Reason, sort: Sort) {
    let message = reason.message(sort);
    let Some(name) = reason.name(sort) else {
        tracing::info!(%about, "{message}");
        return;
    };
    let severity = if reason.is_warning() { Severity::Warning } else { Severity::Normal };
    io.recorder.tell(News { about: about.clone(), component: COMPONENT, severity, reason: name, message });
}

pub(super) fn uid(body: &Value) -> &str {
    body["metadata"]["uid"].as_str().unwrap_or_default()
}

/// With its finalizer whatever happened to that: without one the object would go at once, and what
/// it stands for would stay behind.
pub(super) fn abandon(io: &Io, content: &At, delete: bool, notes: &Notes) -> Option<Write> {
    let marked = io.edit(content, |body| {
        add(body, &[notes.bound]);
        body["metadata"]["annotations"][notes.deleted] = json!("yes");
    })?;
    match marked.body {
        Some(body) if delete => {
            let precondition = Precondition::Revision(content.revision);
            Some(lifecycle::delete(content.key.clone(), precondition, body, 0, Timestamp::now()))
        }
        body => Some(Write { body, ..marked }),
    }
}

/// Puts finalizers on that are not there yet.
pub(super) fn add(body: &mut Value, finalizers: &[&str]) {
    let list = &mut body["metadata"]["finalizers"];
    if !list.is_array() {
        *list = json!([]);
    }
    for finalizer in finalizers {
        if let Some(list) = list.as_array_mut()
            && !list.iter().any(|entry| entry == finalizer)
        {
            list.push(json!(finalizer));
        }
    }
}

/// Takes finalizers off.
pub(super) fn release(body: &mut Value, finalizers: &[&str]) {
    if let Some(list) = body["metadata"]["finalizers"].as_array_mut() {
        list.retain(|entry| !finalizers.iter().any(|finalizer| entry == finalizer));
    }
}
