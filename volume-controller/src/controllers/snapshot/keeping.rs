//! What keeps a content, of a snapshot or of a group, and whether there is anybody to serve it.

use holdfast_api::snapshot::names::{
    BEING_CREATED, BEING_DELETED, CONTENT_BOUND, GROUP_BEING_CREATED, GROUP_BEING_DELETED,
    GROUP_CONTENT_BOUND,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::reason::Reason;
use crate::controllers::view::{View, has_finalizer, is_deleting};

/// What it stands for stays.
const RETAIN: &str = "Retain";

/// A content's notes to itself.
#[derive(Debug)]
pub(super) struct Notes {
    pub(super) bound: &'static str,
    pub(super) created: &'static str,
    pub(super) deleted: &'static str,
}

pub(super) const OF_SNAPSHOT: Notes =
    Notes { bound: CONTENT_BOUND, created: BEING_CREATED, deleted: BEING_DELETED };
pub(super) const OF_GROUP: Notes =
    Notes { bound: GROUP_CONTENT_BOUND, created: GROUP_BEING_CREATED, deleted: GROUP_BEING_DELETED };

/// What counts of a content here.
pub(super) struct Content<'a> {
    pub(super) notes: &'static Notes,
    pub(super) metadata: &'a ObjectMeta,
    pub(super) driver: &'a str,
    pub(super) policy: &'a str,
    /// The UID of the object that it belongs to.
    pub(super) belongs_to: Option<&'a str>,
    pub(super) is_ready: bool,
}

/// What to do for a content.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Protect,
    Release(Reason),
    Wait(Reason),
}

pub(super) fn step(view: &View, content: &Content<'_>) -> Option<Step> {
    let is_held = has_finalizer(content.metadata, content.notes.bound);
    if !is_deleting(content.metadata) && !is_held {
        return Some(Step::Protect);
    }
    let waits = if is_deleting(content.metadata) { is_held } else { !content.is_ready };
    if !waits || is_known(view, content.driver) {
        return None;
    }
    let driver = content.driver.to_owned();
    Some(if is_settled(content) {
        Step::Release(Reason::NothingToDelete { driver })
    } else {
        Step::Wait(Reason::NoDriver { driver })
    })
}

/// Whether a content that is being deleted leaves nothing for a driver to do: what it stands for is
/// to stay, nobody has begun to make it, and its snapshot, if it ever had one, lets it go.
fn is_settled(content: &Content<'_>) -> bool {
    let notes = content.metadata.annotations.as_ref();
    let has = |note: &str| notes.is_some_and(|notes| notes.contains_key(note));
    let unbound = content.belongs_to.unwrap_or_default().is_empty();
    is_deleting(content.metadata)
        && content.policy == RETAIN
        && !has(content.notes.created)
        && (unbound || has(content.notes.deleted))
}

/// Whether anything says that there is such a driver.
fn is_known(view: &View, driver: &str) -> bool {
    view.drivers.get("", driver).is_some()
        || view.csi_nodes.iter().any(|node| node.spec.drivers.iter().any(|found| found.name == driver))
}
