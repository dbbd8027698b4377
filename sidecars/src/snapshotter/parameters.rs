//! What a snapshot class's parameters say, and where a content's secrets are.

use std::collections::HashMap;

use holdfast_api::{
    secret::{self, SecretError, SecretKey},
    snapshot::names::{GROUP_GET_SECRET, GROUP_SECRET, LIST_SECRET, RESERVED, SECRET},
};
use kube::ResourceExt;

use super::content::{Content, Parameters};

/// A class that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ClassError {
    #[error("parameter {0} is not known: csi.storage.k8s.io/ is reserved, correct or remove it")]
    Reserved(String),
    #[error("{0}")]
    Secret(#[from] SecretError),
}

/// What the driver gets.
pub(crate) fn of_driver(class: Option<&Parameters>) -> Result<HashMap<String, String>, ClassError> {
    let mut driver = HashMap::new();
    for (key, value) in class.into_iter().flatten() {
        if !key.starts_with(RESERVED) {
            driver.insert(key.clone(), value.clone());
        } else if !is_secret(key) {
            return Err(ClassError::Reserved(key.clone()));
        }
    }
    Ok(driver)
}

/// As upstream, whatever the class is of.
fn is_secret(key: &str) -> bool {
    let stem = key.strip_suffix("-secret-name").or_else(|| key.strip_suffix("-secret-namespace"));
    stem.is_some_and(|stem| [SECRET, LIST_SECRET, GROUP_SECRET, GROUP_GET_SECRET].contains(&stem))
}

/// The secret for taking and deleting, as the snapshot controller wrote it down.
pub(crate) fn secret<C: Content>(content: &C) -> Option<SecretKey> {
    let annotation = |key: &str| content.annotations().get(key).filter(|value| !value.is_empty()).cloned();
    let [name, namespace] = C::WORDS.secret;
    Some(SecretKey { name: annotation(name)?, namespace: annotation(namespace)? })
}

/// The secret for asking. Its name can depend on the content's alone.
pub(crate) fn ask_secret<C: Content>(
    class: Option<&Parameters>,
    content: &C,
) -> Result<Option<SecretKey>, ClassError> {
    let Some(parameters) = class else { return Ok(None) };
    let known = format!("{}content.name", C::WORDS.kind);
    let token = |token: &str| (token == known).then(|| content.name_any());
    let [purpose, stem] = C::WORDS.ask_secret;
    Ok(secret::of_class(purpose, stem, parameters, &token, &token)?)
}
