//! What a snapshot class's parameters say, and where a content's secrets are.

use std::collections::HashMap;

use holdfast_api::{
    secret::{self, SecretError, SecretKey},
    snapshot::{
        names::{LIST_SECRET, RESERVED, SECRET, SECRET_NAME, SECRET_NAMESPACE},
        volume::{VolumeSnapshotClass, VolumeSnapshotContent},
    },
};
use kube::ResourceExt;

/// A class that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClassError {
    #[error("parameter {0} is not known: csi.storage.k8s.io/ is reserved, correct or remove it")]
    Reserved(String),
    #[error("{0}")]
    Secret(#[from] SecretError),
}

/// What the driver gets.
pub(crate) fn of_driver(class: Option<&VolumeSnapshotClass>) -> Result<HashMap<String, String>, ClassError> {
    let all = class.and_then(|class| class.parameters.as_ref()).into_iter().flatten();
    let mut driver = HashMap::new();
    for (key, value) in all {
        if !key.starts_with(RESERVED) {
            driver.insert(key.clone(), value.clone());
        } else if !is_secret(key) {
            return Err(ClassError::Reserved(key.clone()));
        }
    }
    Ok(driver)
}

fn is_secret(key: &str) -> bool {
    let stem = key.strip_suffix("-secret-name").or_else(|| key.strip_suffix("-secret-namespace"));
    stem.is_some_and(|stem| stem == SECRET || stem == LIST_SECRET)
}

/// The secret for CreateSnapshot and DeleteSnapshot, as the snapshot controller wrote it down.
pub(crate) fn secret(content: &VolumeSnapshotContent) -> Option<SecretKey> {
    let annotation = |key: &str| content.annotations().get(key).filter(|value| !value.is_empty()).cloned();
    Some(SecretKey { name: annotation(SECRET_NAME)?, namespace: annotation(SECRET_NAMESPACE)? })
}

/// The secret for GetSnapshot and ListSnapshots. Its name can depend on the content's alone.
pub(crate) fn list_secret(
    class: Option<&VolumeSnapshotClass>,
    content: &VolumeSnapshotContent,
) -> Result<Option<SecretKey>, ClassError> {
    let Some(parameters) = class.and_then(|class| class.parameters.as_ref()) else { return Ok(None) };
    let token = |token: &str| (token == "volumesnapshotcontent.name").then(|| content.name_any());
    Ok(secret::of_class("snapshotter-list", LIST_SECRET, parameters, &token, &token)?)
}
