//! Why the snapshot controller does what it does, for snapshots and for group snapshots;
//! upstream's wording where upstream has one.

use std::fmt;

use holdfast_api::{
    secret::SecretError,
    selector::SelectorError,
    snapshot::names::{DEFAULT_CLASS, DEFAULT_GROUP_CLASS},
};

use super::source::Unfit;

/// What a reason is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sort {
    Snapshot,
    Group,
}

/// One reason; feeds the event, the status and the log line alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    // News.
    Creating { snapshot: String },
    Created { snapshot: String },
    Ready { snapshot: String },
    DriverFailed { message: String },
    // For the log.
    DefaultClass { class: String },
    Bound { snapshot: String, content: String },
    Joining { group: String },
    Protecting,
    Deleting { snapshot: String },
    Keeping { snapshot: String },
    WaitsForContent { content: String },
    Kept { content: String },
    Gone,
    NothingToDelete { driver: String },
    ClaimUnused,
    // What a person has to do something about.
    NoClaim { claim: String },
    Unfit(Unfit),
    NoClass { class: String },
    WrongDriver { class: String, of: String, driver: String },
    NoDefaultClass { driver: String },
    ManyDefaultClasses { driver: String, classes: String },
    BadSecret(SecretError),
    ContentMissing { content: String },
    ContentMismatch { content: String },
    ContentGoing { content: String },
    Misbound { content: String },
    InRestore { claims: String },
    InGroup { group: String },
    NotDeleted { message: String },
    NoDriver { driver: String },
    // The same, of groups alone.
    BadSelector(SelectorError),
    NothingSelected,
    SeveralDrivers { drivers: String },
    Taken { object: String },
}

impl Reason {
    /// The event's `reason`; `None` for what only the log tells.
    pub(crate) fn name(&self, sort: Sort) -> Option<&'static str> {
        let (of_snapshot, of_group) = match self {
            Self::Creating { .. } => ("CreatingSnapshot", "CreatingGroupSnapshot"),
            Self::Created { .. } => ("SnapshotCreated", "GroupSnapshotCreated"),
            Self::Ready { .. } => ("SnapshotReady", "GroupSnapshotReady"),
            Self::DriverFailed { .. } => ("SnapshotCreationFailed", "GroupSnapshotCreationFailed"),
            Self::NoClaim { .. }
            | Self::Unfit(_)
            | Self::WrongDriver { .. }
            | Self::BadSecret(_)
            | Self::BadSelector(_)
            | Self::NothingSelected
            | Self::SeveralDrivers { .. }
            | Self::Taken { .. } => ("SnapshotContentCreationFailed", "GroupSnapshotContentCreationFailed"),
            Self::NoClass { .. } => ("GetSnapshotClassFailed", "GetGroupSnapshotClassFailed"),
            Self::NoDefaultClass { .. } | Self::ManyDefaultClasses { .. } => {
                ("SetDefaultSnapshotClassFailed", "SetDefaultGroupSnapshotClassFailed")
            }
            Self::ContentMissing { .. } => ("SnapshotContentMissing", "GroupSnapshotContentMissing"),
            Self::ContentMismatch { .. } => ("SnapshotContentMismatch", "GroupSnapshotContentMismatch"),
            Self::ContentGoing { .. } | Self::Misbound { .. } => {
                ("SnapshotContentMisbound", "GroupSnapshotContentMisbound")
            }
            Self::InRestore { .. } | Self::InGroup { .. } => {
                ("SnapshotDeletePending", "SnapshotDeletePending")
            }
            Self::NotDeleted { .. } => ("SnapshotDeleteError", "GroupSnapshotDeleteError"),
            Self::NoDriver { .. } => ("DriverNotFound", "DriverNotFound"),
            Self::DefaultClass { .. }
            | Self::Bound { .. }
            | Self::Joining { .. }
            | Self::Protecting
            | Self::Deleting { .. }
            | Self::Keeping { .. }
            | Self::WaitsForContent { .. }
            | Self::Kept { .. }
            | Self::Gone
            | Self::NothingToDelete { .. }
            | Self::ClaimUnused => return None,
        };
        Some(if sort == Sort::Group { of_group } else { of_snapshot })
    }

    /// Whether a person has to do something.
    pub(crate) fn is_warning(&self) -> bool {
        let is_news = matches!(self, Self::Creating { .. } | Self::Created { .. } | Self::Ready { .. });
        self.name(Sort::Snapshot).is_some() && !is_news
    }

    /// For people.
    pub(crate) fn message(&self, sort: Sort) -> String {
        Said { reason: self, sort }.to_string()
    }
}

/// A reason in the words of what it is about.
struct Said<'a> {
    reason: &'a Reason,
    sort: Sort,
}

impl Said<'_> {
    fn pick(&self, of_snapshot: &'static str, of_group: &'static str) -> &'static str {
        if self.sort == Sort::Group { of_group } else { of_snapshot }
    }
}

impl fmt::Display for Said<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let noun = self.pick("snapshot", "group snapshot");
        let capital = self.pick("Snapshot", "GroupSnapshot");
        let kind = self.pick("VolumeSnapshotContent", "VolumeGroupSnapshotContent");
        let default = self.pick(DEFAULT_CLASS, DEFAULT_GROUP_CLASS);
        let failed = format!("Failed to create {noun} content with error");
        match self.reason {
            Reason::Creating { snapshot } => {
                write!(f, "Waiting for a {noun} {snapshot} to be created by the CSI driver.")
            }
            Reason::Created { snapshot } => {
                write!(f, "{capital} {snapshot} was successfully created by the CSI driver.")
            }
            Reason::Ready { snapshot } => write!(f, "{capital} {snapshot} is ready to use."),
            Reason::DriverFailed { message } | Reason::NotDeleted { message } => f.write_str(message),
            Reason::DefaultClass { class } => {
                write!(f, "the {noun} names no class and gets the default class {class:?}")
            }
            Reason::Bound { snapshot, content } => {
                write!(f, "{noun} {snapshot} is bound to content {content}")
            }
            Reason::Joining { group } => write!(f, "the snapshot is part of group snapshot {group}"),
            Reason::Protecting => f.write_str("it must not go before what it stands for is settled"),
            Reason::Deleting { snapshot } => {
                write!(f, "{noun} {snapshot} is being deleted, and its content with it")
            }
            Reason::Keeping { snapshot } => {
                write!(
                    f,
                    "{noun} {snapshot} is being deleted; the content's deletionPolicy keeps what it stands for"
                )
            }
            Reason::WaitsForContent { content } => {
                write!(f, "nothing is made from the {noun} any more; it waits for content {content} to go")
            }
            Reason::Kept { content } => write!(f, "content {content} stays without the {noun}"),
            Reason::Gone => write!(f, "the {noun} is being deleted and no content belongs to it"),
            Reason::NothingToDelete { driver } => {
                write!(
                    f,
                    "what it stands for is retained, so nobody waits for the driver {driver}, which is not here"
                )
            }
            Reason::ClaimUnused => f.write_str("no snapshot of the claim is being taken any more"),
            Reason::NoClaim { claim } => write!(
                f,
                "{failed} persistentvolumeclaim {claim:?} not found: create it, or delete the {noun}"
            ),
            Reason::Unfit(unfit) => write!(f, "{failed} {unfit}"),
            Reason::NoClass { class } => write!(
                f,
                "Failed to get {noun} class with error {} {class:?} not found",
                self.pick(
                    "volumesnapshotclass.snapshot.storage.k8s.io",
                    "volumegroupsnapshotclass.groupsnapshot.storage.k8s.io"
                )
            ),
            Reason::WrongDriver { class, of, driver } => write!(
                f,
                "{failed} the volume is one of driver {driver}, and {noun} class {class:?} of driver {of}: name a \
                 class of {driver}"
            ),
            Reason::NoDefaultClass { driver } => write!(
                f,
                "Failed to set default {noun} class with error cannot find default {noun} class for driver \
                 {driver}: name one in {}, or mark one with {default}=true",
                self.pick("volumeSnapshotClassName", "volumeGroupSnapshotClassName")
            ),
            Reason::ManyDefaultClasses { driver, classes } => write!(
                f,
                "Failed to set default {noun} class with error several default {noun} classes were found for \
                 driver {driver} ({classes}): take {default} off all but one"
            ),
            Reason::BadSecret(error) => write!(f, "{failed} {error}"),
            Reason::ContentMissing { content } => write!(f, "{kind} {content} is missing"),
            Reason::ContentMismatch { content } => {
                write!(f, "{kind} {content} is dynamically provisioned while expecting a pre-provisioned one")
            }
            Reason::ContentGoing { content } => write!(f, "{kind} {content} is being deleted"),
            Reason::Misbound { content } => {
                write!(f, "{kind} [{content}] is bound to a different {noun}")
            }
            Reason::InRestore { claims } => write!(
                f,
                "{} is being used to restore a PVC ({claims}): it goes when that is bound or deleted",
                self.pick("Snapshot", "A snapshot of the group")
            ),
            Reason::InGroup { group } => write!(
                f,
                "the snapshot is part of group snapshot {group} and goes with it: delete the group snapshot"
            ),
            Reason::NoDriver { driver } => write!(
                f,
                "no CSI driver {driver:?} is known here (neither a CSIDriver object nor a node tells of it): install \
                 or start it, or correct spec.driver by making the object anew"
            ),
            Reason::BadSelector(error) => write!(f, "{failed} {error}"),
            Reason::NothingSelected => write!(
                f,
                "{failed} spec.source.selector selects no PVC of the namespace: label those that it is meant for"
            ),
            Reason::SeveralDrivers { drivers } => write!(
                f,
                "{failed} the selected PVCs are of several drivers, which cannot take one moment's snapshots together \
                 ({drivers}): select those of one driver"
            ),
            Reason::Taken { object } => {
                write!(f, "{failed} the name of its {object} is taken: delete that, if it is not needed")
            }
        }
    }
}
