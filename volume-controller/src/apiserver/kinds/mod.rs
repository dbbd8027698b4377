//! The kinds that the API serves, one file each: names, defaults, validation,
//! printed columns, subresources. Adding a kind is adding a file and its line
//! in [`ALL`].

pub mod cluster_role;
pub mod cluster_role_binding;
pub mod config_map;
pub mod csi_driver;
pub mod csi_node;
pub mod csi_storage_capacity;
pub mod events;
mod kind;
pub mod lease;
pub mod limit_range;
pub mod namespace;
pub mod node;
pub mod persistent_volume;
pub mod persistent_volume_claim;
pub mod pod;
pub mod resource_quota;
pub mod role;
pub mod role_binding;
pub mod secret;
pub mod service_account;
pub mod snapshot;
pub mod storage_class;
pub mod volume_attachment;
pub mod volume_attributes_class;

// Rules that several kinds share.
mod access_modes;
mod binding_subjects;
pub(crate) mod check;
pub(crate) mod columns;
mod data;
mod defaults;
mod fields;
mod names;
mod node_selector;
pub(crate) mod policy_rules;
pub(crate) mod quantities;
mod volume_source;

pub use kind::{Cause, CauseReason, Column, Field, Kind, Model, Scope};

/// Every kind, in the order in which discovery lists them.
pub static ALL: &[&Kind] = &[
    &config_map::KIND,
    &events::CORE,
    &limit_range::KIND,
    &namespace::KIND,
    &node::KIND,
    &persistent_volume_claim::KIND,
    &persistent_volume::KIND,
    &pod::KIND,
    &resource_quota::KIND,
    &secret::KIND,
    &service_account::KIND,
    &lease::KIND,
    &events::EVENTS_V1,
    &cluster_role_binding::KIND,
    &cluster_role::KIND,
    &role_binding::KIND,
    &role::KIND,
    &csi_driver::KIND,
    &csi_node::KIND,
    &csi_storage_capacity::KIND,
    &storage_class::KIND,
    &volume_attachment::KIND,
    &volume_attributes_class::KIND,
    &volume_attributes_class::KIND_BETA,
    &snapshot::volume_snapshot_class::KIND,
    &snapshot::volume_snapshot_content::KIND,
    &snapshot::volume_snapshot::KIND,
    &snapshot::volume_group_snapshot_class::KIND,
    &snapshot::volume_group_snapshot_content::KIND,
    &snapshot::volume_group_snapshot::KIND,
    &snapshot::volume_group_snapshot_class::KIND_BETA,
    &snapshot::volume_group_snapshot_content::KIND_BETA,
    &snapshot::volume_group_snapshot::KIND_BETA,
];

/// The kind in whose form objects of a kind are stored: the first version of the resource,
/// and for Events of `events.k8s.io` those of the core group.
#[must_use]
pub fn stored(kind: &'static Kind) -> &'static Kind {
    if std::ptr::eq(kind, &raw const events::EVENTS_V1) {
        return &events::CORE;
    }
    let same = |other: &&&Kind| (other.group, other.plural) == (kind.group, kind.plural);
    ALL.iter().find(same).copied().unwrap_or(kind)
}

/// The kind that an object or a reference names, of whichever version.
#[must_use]
pub fn named(api_version: &str, kind: &str) -> Option<&'static Kind> {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    let found = ALL.iter().find(|known| (known.group, known.kind) == (group, kind));
    found.copied()
}

#[cfg(test)]
mod update_tests;

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn kinds_are_sound() {
        for kind in ALL {
            let resource = kind.resource();
            let is_same = |other: &&&Kind| other.resource() == resource && other.version == kind.version;
            assert_eq!(ALL.iter().filter(is_same).count(), 1, "{resource}");
            assert!(std::ptr::eq(stored(stored(kind)), stored(kind)), "{resource}");
            let names = kind.columns.iter().filter(|column| column.format == "name").count();
            assert_eq!(names, 1, "{resource} has one name column");
            // Defaults make something that the model understands, and are idempotent.
            let mut object =
                json!({"apiVersion": kind.api_version(), "kind": kind.kind, "metadata": {"name": "a"}});
            object = (kind.model.check)(&object).unwrap();
            (kind.default)(&mut object);
            (kind.prepare_create)(&mut object);
            let once = object.clone();
            (kind.default)(&mut object);
            (kind.prepare_create)(&mut object);
            assert_eq!(object, once, "{resource}");
            let known = (kind.model.check)(&object).unwrap_or_else(|e| panic!("{resource}: {e}"));
            (kind.validate)(&known);
            assert_eq!((kind.validate_update)(&known, &known), [], "{resource}");
            for column in kind.columns {
                (column.cell)(&known, jiff::Timestamp::UNIX_EPOCH);
            }
        }
    }
}
