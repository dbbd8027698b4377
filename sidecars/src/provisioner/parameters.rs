//! What a class's parameters say: to the driver, and to us.
//!
//! Keys under `csi.storage.k8s.io/` are ours and never reach the driver; their names and
//! the template rules are those of Kubernetes' CSI documentation ("StorageClass Secrets").

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

use holdfast_api::secret::{self, SecretError, SecretKey};

const PREFIX: &str = "csi.storage.k8s.io/";
const FS_TYPE: &str = "csi.storage.k8s.io/fstype";

/// A class whose parameters cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ParameterError {
    #[error("parameter {0} is not known: csi.storage.k8s.io/ is reserved, correct or remove it")]
    Reserved(String),
    #[error("parameters fstype and csi.storage.k8s.io/fstype are both given: keep the second")]
    TwoFsTypes,
    #[error("{0}")]
    Secret(#[from] SecretError),
}

/// The secrets that a class names, by what they are for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Secrets {
    pub provisioner: Option<SecretKey>,
    pub controller_publish: Option<SecretKey>,
    pub node_stage: Option<SecretKey>,
    pub node_publish: Option<SecretKey>,
    pub controller_expand: Option<SecretKey>,
    pub node_expand: Option<SecretKey>,
    pub controller_modify: Option<SecretKey>,
}

/// A class's parameters, taken apart for one claim.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Parameters {
    /// What the driver gets.
    pub driver: BTreeMap<String, String>,
    pub fs_type: Option<String>,
    pub secrets: Secrets,
}

/// Takes `parameters` apart for `claim`, whose volume will be named `volume`.
pub(crate) fn read(
    parameters: &BTreeMap<String, String>,
    claim: &PersistentVolumeClaim,
    volume: &str,
) -> Result<Parameters, ParameterError> {
    let mut driver = BTreeMap::new();
    let mut fs_types = Vec::new();
    for (key, value) in parameters {
        if key == FS_TYPE {
            fs_types.push(value.clone());
        } else if let Some(ours) = key.strip_prefix(PREFIX) {
            if !is_secret_key(ours) {
                return Err(ParameterError::Reserved(key.clone()));
            }
        } else {
            if key.eq_ignore_ascii_case("fstype") {
                // The old spelling; drivers of that time expect to see it too.
                fs_types.push(value.clone());
            }
            driver.insert(key.clone(), value.clone());
        }
    }
    if fs_types.len() > 1 {
        return Err(ParameterError::TwoFsTypes);
    }
    let secret = |purpose| secret_for(purpose, parameters, claim, volume);
    Ok(Parameters {
        driver,
        fs_type: fs_types.pop().filter(|fs_type| !fs_type.is_empty()),
        secrets: Secrets {
            provisioner: secret("provisioner")?,
            controller_publish: secret("controller-publish")?,
            node_stage: secret("node-stage")?,
            node_publish: secret("node-publish")?,
            controller_expand: secret("controller-expand")?,
            node_expand: secret("node-expand")?,
            controller_modify: secret("controller-modify")?,
        },
    })
}

const PURPOSES: [&str; 9] = [
    "provisioner",
    "controller-publish",
    "node-stage",
    "node-publish",
    "controller-expand",
    "node-expand",
    "controller-modify",
    "snapshotter",
    "snapshotter-list",
];

fn is_secret_key(key: &str) -> bool {
    let Some(purpose) = key.strip_suffix("secret-namespace").or_else(|| key.strip_suffix("secret-name"))
    else {
        return false;
    };
    purpose.is_empty() || purpose.strip_suffix('-').is_some_and(|purpose| PURPOSES.contains(&purpose))
}

fn secret_for(
    purpose: &'static str,
    parameters: &BTreeMap<String, String>,
    claim: &PersistentVolumeClaim,
    volume: &str,
) -> Result<Option<SecretKey>, ParameterError> {
    let pair = |stem: String| {
        (
            parameters.get(&format!("{PREFIX}{stem}secret-name")),
            parameters.get(&format!("{PREFIX}{stem}secret-namespace")),
        )
    };
    let (name, namespace) = match pair(format!("{purpose}-")) {
        // Nothing of its own: the class's default secret counts.
        (None, None) => pair(String::new()),
        found => found,
    };
    let claim_namespace = claim.namespace().unwrap_or_default();
    let namespace_token = |token: &str| match token {
        "pv.name" => Some(volume.to_owned()),
        "pvc.namespace" => Some(claim_namespace.clone()),
        _ => None,
    };
    let name_token = |token: &str| match token {
        "pvc.name" => Some(claim.name_any()),
        _ => namespace_token(token).or_else(|| {
            let key = token.strip_prefix("pvc.annotations['")?.strip_suffix("']")?;
            claim.annotations().get(key).cloned()
        }),
    };
    Ok(secret::resolve(purpose, name, namespace, &name_token, &namespace_token)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn claim() -> PersistentVolumeClaim {
        let mut claim = PersistentVolumeClaim::default();
        claim.metadata.name = Some("data".to_owned());
        claim.metadata.namespace = Some("dev".to_owned());
        claim.metadata.annotations = Some([("e.com/key".to_owned(), "special".to_owned())].into());
        claim
    }

    fn read_pairs(pairs: &[(&str, &str)]) -> Result<Parameters, ParameterError> {
        let map = pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        read(&map, &claim(), "pvc-1")
    }

    #[test]
    fn the_driver_sees_only_its_own() {
        let found = read_pairs(&[("pool", "fast"), ("csi.storage.k8s.io/fstype", "xfs")]).expect("good");
        assert_eq!(found.driver, [("pool".to_owned(), "fast".to_owned())].into());
        assert_eq!(found.fs_type.as_deref(), Some("xfs"));
        assert_eq!(found.secrets, Secrets::default());
    }

    #[test]
    fn secret_templates() {
        type Row = (u32, &'static str, &'static str, Option<(&'static str, &'static str)>);
        let table: [Row; 11] = [
            (1, "plain", "kube-system", Some(("kube-system", "plain"))),
            (2, "${pvc.name}", "${pvc.namespace}", Some(("dev", "data"))),
            (3, "s-${pv.name}", "${pvc.namespace}", Some(("dev", "s-pvc-1"))),
            (4, "${pvc.annotations['e.com/key']}", "dev", Some(("dev", "special"))),
            (5, "${pvc.annotations['e.com/none']}", "dev", None),
            (6, "a", "${pvc.name}", None),
            (7, "a", "${pvc.annotations['e.com/key']}", None),
            (8, "a", "", None),
            (9, "${pvc.name", "dev", None),
            (10, "$pvc", "dev", None),
            (11, "UPPER", "dev", None),
        ];
        for (number, name, namespace, wanted) in table {
            let found = read_pairs(&[
                ("csi.storage.k8s.io/node-stage-secret-name", name),
                ("csi.storage.k8s.io/node-stage-secret-namespace", namespace),
            ]);
            let wanted = wanted.map(|(namespace, name)| SecretKey {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            });
            assert_eq!(found.ok().and_then(|p| p.secrets.node_stage), wanted, "row {number}");
        }
    }

    #[test]
    fn the_default_secret_counts_for_every_purpose_without_its_own() {
        let found = read_pairs(&[
            ("csi.storage.k8s.io/secret-name", "default"),
            ("csi.storage.k8s.io/secret-namespace", "sys"),
            ("csi.storage.k8s.io/provisioner-secret-name", "own"),
            ("csi.storage.k8s.io/provisioner-secret-namespace", "sys"),
        ])
        .expect("good");
        let key = |name: &str| Some(SecretKey { namespace: "sys".to_owned(), name: name.to_owned() });
        assert_eq!(found.secrets.provisioner, key("own"));
        assert_eq!(found.secrets.node_publish, key("default"));
        assert_eq!(found.secrets.controller_expand, key("default"));
    }

    #[test]
    fn bad_parameters() {
        let reserved = read_pairs(&[("csi.storage.k8s.io/fsType", "xfs")]);
        assert!(matches!(reserved, Err(ParameterError::Reserved(_))));
        let twice = read_pairs(&[("fstype", "xfs"), ("csi.storage.k8s.io/fstype", "xfs")]);
        assert_eq!(twice, Err(ParameterError::TwoFsTypes));
        let half = read_pairs(&[("csi.storage.k8s.io/provisioner-secret-name", "x")]);
        assert_eq!(half, Err(ParameterError::Secret(SecretError::Half { purpose: "provisioner" })));
    }
}
