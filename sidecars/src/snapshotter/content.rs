//! What the steps in [`super::decide`] are told of a content: that of a snapshot, or that of a group
//! snapshot. The steps and their order are the same for both.

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Debug,
};

use holdfast_api::snapshot::names;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt;
use serde_json::Value;

use crate::{
    cache::{Cache, Cached, Kind},
    context::Context,
    csi::{CsiError, DriverFacts},
    writes::Object,
};

/// The names that differ.
#[derive(Debug)]
pub(crate) struct Words {
    /// For people.
    pub noun: &'static str,
    /// What upstream calls its kind in names of parameters.
    pub kind: &'static str,
    /// Before the UID in the name that the driver is told.
    pub prefix: &'static str,
    pub queue: &'static str,
    /// The finalizer that keeps the content.
    pub bound: &'static str,
    /// The annotation of the intent.
    pub created: &'static str,
    /// The annotation that says that the object of the content goes.
    pub deleted: &'static str,
    /// The annotations that say where the secret is: its name, its namespace.
    pub secret: [&'static str; 2],
    /// The secret for asking, in the class: what it is for, and its parameters' stem.
    pub ask_secret: [&'static str; 2],
    /// Reasons of events: not created, not asked for, not deleted.
    pub events: [&'static str; 3],
    /// What the driver does not declare where it does none of this.
    pub capability: &'static str,
}

pub(crate) const OF_SNAPSHOT: Words = Words {
    noun: "snapshot",
    kind: "volumesnapshot",
    prefix: "snapshot-",
    queue: "snapshots",
    bound: names::CONTENT_BOUND,
    created: names::BEING_CREATED,
    deleted: names::BEING_DELETED,
    secret: [names::SECRET_NAME, names::SECRET_NAMESPACE],
    ask_secret: ["snapshotter-list", names::LIST_SECRET],
    events: ["SnapshotCreationFailed", "SnapshotContentCheckandUpdateFailed", "SnapshotDeleteError"],
    capability: "CREATE_DELETE_SNAPSHOT",
};

pub(crate) const OF_GROUP: Words = Words {
    noun: "group snapshot",
    kind: "volumegroupsnapshot",
    prefix: "groupsnapshot-",
    queue: "groupsnapshots",
    bound: names::GROUP_CONTENT_BOUND,
    created: names::GROUP_BEING_CREATED,
    deleted: names::GROUP_BEING_DELETED,
    secret: [names::GROUP_SECRET_NAME, names::GROUP_SECRET_NAMESPACE],
    ask_secret: ["group-snapshotter-get", names::GROUP_GET_SECRET],
    events: [
        "GroupSnapshotCreationFailed",
        "GroupSnapshotContentCheckandUpdateFailed",
        "GroupSnapshotDeleteError",
    ],
    capability: "CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT",
};

/// What a class says to the driver, and to us.
pub(crate) type Parameters = BTreeMap<String, String>;

/// Secrets as CSI wants them.
pub(crate) type Secrets = HashMap<String, String>;

/// See the module's documentation.
pub(crate) trait Content: Object + Cached + PartialEq {
    const WORDS: &'static Words;
    /// How it is taken.
    type Class: Object + PartialEq;
    /// What it is to be.
    type Spec: Clone + PartialEq + Send + Sync + 'static;
    /// The call that takes it.
    type Request: Debug + Clone + PartialEq + Send + Sync;
    /// What the driver says of it.
    type Told: Debug + Clone + PartialEq + Send + Sync;
    /// The status, as a patch, of one that was there, by its id and the time (in nanoseconds since 1970),
    /// where the driver cannot be asked; `None` where a driver that cannot be asked has none.
    const TRUST: Option<fn(&str, i64) -> Value>;

    fn cached(cache: &Cache) -> &Kind<Self>;
    fn can_take(facts: &DriverFacts) -> bool;
    fn can_ask(facts: &DriverFacts) -> bool;
    fn parameters_of(class: &Self::Class) -> Option<&Parameters>;

    fn wish(&self) -> &Self::Spec;
    fn driver(&self) -> &str;
    fn deletion_policy(&self) -> &str;
    fn class_name(&self) -> Option<&str>;
    /// The object that it belongs to.
    fn belongs_to(&self) -> &ObjectReference;
    /// The driver's id of it, once it is known.
    fn handle(&self) -> Option<&str>;
    fn is_ready(&self) -> bool;
    /// It was there before its content.
    fn is_given(&self) -> bool;
    /// It is one of a group, which is taken and deleted as a whole.
    fn is_member(&self) -> bool;
    /// What the status says went wrong.
    fn error(&self) -> Option<&str>;

    /// The call that takes it, without its secrets; `None` where it says of nothing.
    fn request(&self, name: String, parameters: Secrets) -> Option<Self::Request>;
    fn is_told_ready(told: &Self::Told) -> bool;
    /// The status, as a patch, of what the driver said.
    fn status_of(told: &Self::Told) -> Value;

    /// Takes it.
    fn take(
        context: &Context,
        request: Self::Request,
        secrets: Secrets,
    ) -> impl Future<Output = Result<Self::Told, CsiError>> + Send;
    /// Asks how it is; `None` when the driver says that there is none of the id.
    fn ask(
        &self,
        context: &Context,
        handle: String,
        secrets: Secrets,
    ) -> impl Future<Output = Result<Option<Self::Told>, CsiError>> + Send;
    fn delete(
        &self,
        context: &Context,
        handle: String,
        secrets: Secrets,
    ) -> impl Future<Output = Result<(), CsiError>> + Send;
}

pub(crate) fn has_intent<C: Content>(content: &C) -> bool {
    content.annotations().contains_key(C::WORDS.created)
}

pub(crate) fn is_held<C: Content>(content: &C) -> bool {
    content.finalizers().iter().any(|finalizer| finalizer == C::WORDS.bound)
}

/// The content is being deleted, and not against the will of the object that it belongs to.
pub(crate) fn is_going<C: Content>(content: &C) -> bool {
    let unbound = content.belongs_to().uid.as_deref().unwrap_or_default().is_empty();
    let released = content.annotations().contains_key(C::WORDS.deleted);
    content.meta().deletion_timestamp.is_some() && (unbound || released)
}
