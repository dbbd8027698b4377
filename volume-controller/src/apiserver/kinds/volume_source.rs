//! What one volume is made of: the sources that persistent volumes and the
//! volumes of pods have in common.

use serde_json::Value;

use super::check::{Checks, text};
use super::defaults::{fill, fill_text};
use super::names::NameRule;

/// What a host path may be checked to be.
const HOST_PATH_TYPES: [&str; 8] =
    ["", "BlockDevice", "CharDevice", "Directory", "DirectoryOrCreate", "File", "FileOrCreate", "Socket"];

/// Defaults of the source in `holder`, a volume of a pod or the spec of a persistent volume.
pub(crate) fn default(holder: &mut Value) {
    if holder["hostPath"].is_object() {
        fill(holder, &["hostPath", "type"], "");
    }
    if holder["iscsi"].is_object() {
        fill_text(holder, &["iscsi", "iscsiInterface"], "default");
    }
    if holder["rbd"].is_object() {
        fill_text(holder, &["rbd", "pool"], "rbd");
        fill_text(holder, &["rbd", "user"], "admin");
        fill_text(holder, &["rbd", "keyring"], "/etc/ceph/keyring");
    }
    if holder["azureDisk"].is_object() {
        for (field, value) in [("cachingMode", "ReadWrite"), ("fsType", "ext4"), ("kind", "Shared")] {
            fill(holder, &["azureDisk", field], value);
        }
        fill(holder, &["azureDisk", "readOnly"], false);
    }
    if holder["scaleIO"].is_object() {
        fill_text(holder, &["scaleIO", "fsType"], "xfs");
        fill_text(holder, &["scaleIO", "storageMode"], "ThinProvisioned");
    }
}

/// The fields that a source cannot do without.
fn needed(source: &str) -> &'static [&'static str] {
    match source {
        "awsElasticBlockStore" => &["volumeID"],
        "azureDisk" => &["diskName", "diskURI"],
        "azureFile" => &["secretName", "shareName"],
        "cinder" => &["volumeID"],
        "gcePersistentDisk" => &["pdName"],
        "gitRepo" => &["repository"],
        "glusterfs" => &["endpoints", "path"],
        "hostPath" | "local" => &["path"],
        "iscsi" => &["targetPortal", "iqn"],
        "nfs" => &["server", "path"],
        "flexVolume" => &["driver"],
        "photonPersistentDisk" => &["pdID"],
        "portworxVolume" => &["volumeID"],
        "quobyte" => &["registry", "volume"],
        "rbd" => &["image"],
        "scaleIO" => &["gateway", "system"],
        "vsphereVolume" => &["volumePath"],
        "persistentVolumeClaim" => &["claimName"],
        "secret" => &["secretName"],
        "configMap" => &["name"],
        _ => &[],
    }
}

/// The rules on one source; `at` is where it is: `spec`, `spec.volumes[0]`.
pub(crate) fn check(checks: &mut Checks, at: &str, name: &str, source: &Value) {
    let field = format!("{at}.{name}");
    for part in needed(name) {
        checks.present(format!("{field}.{part}"), &source[*part]);
    }
    match name {
        "hostPath" | "local" => {
            check_no_backsteps(checks, &format!("{field}.path"), text(&source["path"]));
            checks.one_of(format!("{field}.type"), &source["type"], &HOST_PATH_TYPES);
        }
        "nfs" if !text(&source["path"]).starts_with('/') && !text(&source["path"]).is_empty() => {
            checks.invalid(format!("{field}.path"), &source["path"], "must be an absolute path");
        }
        "csi" => check_csi(checks, &field, source, at == "spec"),
        _ => {}
    }
}

fn check_csi(checks: &mut Checks, field: &str, source: &Value, persistent: bool) {
    let driver = format!("{field}.driver");
    if checks.present(&*driver, &source["driver"])
        && let Some(problem) = NameRule::Driver.problem(&text(&source["driver"]).to_lowercase())
    {
        checks.invalid(driver, &source["driver"], problem);
    }
    if persistent {
        checks.present(format!("{field}.volumeHandle"), &source["volumeHandle"]);
        for secret in [
            "controllerPublishSecretRef",
            "controllerExpandSecretRef",
            "nodePublishSecretRef",
            "nodeStageSecretRef",
            "nodeExpandSecretRef",
        ] {
            if !source[secret].is_null() {
                checks.present(format!("{field}.{secret}.name"), &source[secret]["name"]);
                checks.present(format!("{field}.{secret}.namespace"), &source[secret]["namespace"]);
            }
        }
    }
}

/// A path that does not go up.
pub(crate) fn check_no_backsteps(checks: &mut Checks, field: &str, path: &str) {
    if path.split('/').any(|part| part == "..") {
        checks.invalid_text(field, path, "must not contain '..'");
    }
}
