//! VolumeAttachment.

use k8s_openapi::api::storage::v1::VolumeAttachment;
use serde_json::{Value, json};

use super::check::{Checks, text};
use super::columns::{AGE, NAME, cell_text, column};
use super::defaults::{nothing, set};
use super::fields;
use super::kind::{Cause, Column, Kind, Model, Scope};
use super::names::NameRule;

/// The kind.
pub static KIND: Kind = Kind {
    group: "storage.k8s.io",
    version: "v1",
    kind: "VolumeAttachment",
    plural: "volumeattachments",
    singular: "volumeattachment",
    short_names: &[],
    categories: &[],
    scope: Scope::Cluster,
    model: Model::of::<VolumeAttachment>(),
    has_status: true,
    is_graceful: false,
    returns_deleted: true,
    columns: COLUMNS,
    fields: fields::NONE,
    default: nothing,
    prepare_create,
    validate,
    validate_update,
};

const COLUMNS: &[Column] = &[
    NAME,
    column("Attacher", "", |attachment, _| cell_text(&attachment["spec"]["attacher"]))
        .described("The driver that attaches."),
    column("PV", "", |attachment, _| cell_text(&attachment["spec"]["source"]["persistentVolumeName"]))
        .described("The volume."),
    column("Node", "", |attachment, _| cell_text(&attachment["spec"]["nodeName"])).described("The node."),
    column("Attached", "", |attachment, _| (attachment["status"]["attached"] == true).into())
        .typed("boolean")
        .described("Whether the volume is attached."),
    AGE,
];

fn prepare_create(attachment: &mut Value) {
    set(attachment, &["status"], json!({"attached": false}));
}

fn validate(attachment: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let spec = &attachment["spec"];
    if checks.present("spec.attacher", &spec["attacher"])
        && let Some(problem) = NameRule::Driver.problem(&text(&spec["attacher"]).to_lowercase())
    {
        checks.invalid("spec.attacher", &spec["attacher"], problem);
    }
    checks.present("spec.nodeName", &spec["nodeName"]);
    let source = &spec["source"];
    let (name, inline) = (&source["persistentVolumeName"], &source["inlineVolumeSpec"]);
    if name.is_null() == inline.is_null() {
        checks.invalid(
            "spec.source",
            source,
            "must specify exactly one of inlineVolumeSpec and persistentVolumeName",
        );
    } else if inline.is_null() {
        checks.present("spec.source.persistentVolumeName", name);
    }
    checks.into_causes()
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    checks.immutable("spec", &new["spec"], &old["spec"]);
    checks.into_causes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::check::lines;

    fn attachment(source: Value) -> Value {
        json!({"metadata": {"name": "csi-1"}, "spec": {"attacher": "a.b", "nodeName": "n", "source": source}})
    }

    #[test]
    fn rules() {
        const ONE: &str = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
        let volume = || attachment(json!({"persistentVolumeName": "pv"}));
        assert_eq!(lines(&validate(&volume())), [""; 0]);
        assert_eq!(lines(&validate(&attachment(json!({})))), [format!("spec.source: Invalid: {{}}: {ONE}")]);
        let mut nameless = volume();
        nameless["spec"]["nodeName"] = "".into();
        nameless["spec"]["attacher"] = "".into();
        assert_eq!(lines(&validate(&nameless)), ["spec.attacher: Required: ", "spec.nodeName: Required: "]);
        let other = attachment(json!({"persistentVolumeName": "other"}));
        assert!(lines(&validate_update(&other, &volume()))[0].ends_with(": field is immutable"));
        let mut attached = volume();
        attached["status"] = json!({"attached": true});
        assert_eq!(validate_update(&attached, &volume()), []);
        prepare_create(&mut attached);
        assert_eq!(attached["status"], json!({"attached": false}));
    }
}
