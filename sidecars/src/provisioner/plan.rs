//! Everything about one volume to be made, worked out before anything is asked of the driver.

use std::{collections::BTreeMap, sync::Arc};

use holdfast_api::{
    access::{self, claim_class},
    names,
    quantity::{QuantityError, format_bytes},
};
use holdfast_proto::csi::{CapacityRange, CreateVolumeRequest, Volume, volume_capability::access_mode::Mode};
use k8s_openapi::{
    api::{
        core::v1::{
            CSIPersistentVolumeSource, ObjectReference, PersistentVolume, PersistentVolumeClaim,
            PersistentVolumeSpec, SecretReference,
        },
        storage::v1::StorageClass,
    },
    apimachinery::pkg::{api::resource::Quantity, apis::meta::v1::ObjectMeta},
};
use kube::ResourceExt;

use super::{
    parameters::{self, ParameterError},
    source::{self, Source, SourceError},
    topology::{self, NodePlace, TopologyError},
};
use crate::{
    Provisioning,
    csi::{self, CapabilityError, DriverFacts},
    writes::SecretKey,
};

/// Where a volume remembers the secret that DeleteVolume needs; upstream's names, so that
/// either provisioner can delete what the other made.
pub(crate) const DELETION_SECRET_NAME: &str = "volume.kubernetes.io/provisioner-deletion-secret-name";
/// See [`DELETION_SECRET_NAME`].
pub(crate) const DELETION_SECRET_NAMESPACE: &str =
    "volume.kubernetes.io/provisioner-deletion-secret-namespace";
const MODIFY_SECRET_NAME: &str = "volume.kubernetes.io/controller-modify-secret-name";
const MODIFY_SECRET_NAMESPACE: &str = "volume.kubernetes.io/controller-modify-secret-namespace";

/// Why no volume can be made for a claim as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum PlanError {
    #[error("the driver does not create volumes: make one by hand, or choose a class of another driver")]
    NotADynamicDriver,
    #[error(
        "a claim with a selector cannot be provisioned: remove the selector, or make a volume that matches it"
    )]
    Selector,
    #[error("{0}")]
    Source(#[from] SourceError),
    #[error("volumeAttributesClassName is not served: remove it from the claim")]
    AttributesClass,
    #[error("the claim's size cannot be used: {0}")]
    Size(#[from] QuantityError),
    #[error("{0}")]
    Modes(#[from] CapabilityError),
    #[error("the class cannot be used: {0}")]
    Parameters(#[from] ParameterError),
    #[error("{0}")]
    Topology(#[from] TopologyError),
}

/// How this provisioner is set up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Tell the driver the claim's and volume's names (`--extra-create-metadata`).
    pub extra_create_metadata: bool,
    /// For a class that names no file system.
    pub default_fs_type: String,
    pub how: Provisioning,
}

impl Settings {
    /// The name of the volume for a claim, for Kubernetes and for the driver alike.
    pub(crate) fn volume_name(&self, claim: &PersistentVolumeClaim) -> String {
        let (prefix, uid) = (&self.how.volume_name_prefix, claim.uid().unwrap_or_default());
        match self.how.volume_name_uuid_length {
            None => format!("{prefix}-{uid}"),
            Some(length) => {
                let short: String = uid.chars().filter(|c| *c != '-').take(length).collect();
                format!("{prefix}-{short}")
            }
        }
    }

    /// Whether a claim is for another node's provisioner. What this process has begun it brings to its end.
    pub(crate) fn leaves_to_others(&self, claim: &PersistentVolumeClaim, begun: bool) -> bool {
        let chosen = claim.annotations().get(names::SELECTED_NODE);
        self.how.node.as_ref().is_some_and(|node| !begun && chosen != Some(node))
    }
}

/// See the module's documentation. Has no secrets in it, only where they are.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Plan {
    /// The request, without secrets.
    pub request: CreateVolumeRequest,
    /// The secret for CreateVolume, and for DeleteVolume.
    pub secret: Option<SecretKey>,
    /// The bytes asked for.
    pub bytes: i64,
    /// The volume object, lacking what only the driver's answer can give.
    volume: PersistentVolume,
    topology: bool,
}

/// Works out the volume for `claim`. `places` counts only when the driver has topologies, `source`
/// only when the claim names one.
pub(crate) fn plan(
    facts: &DriverFacts,
    settings: &Settings,
    claim: &PersistentVolumeClaim,
    class: &Arc<StorageClass>,
    places: &[NodePlace],
    source: &Source,
) -> Result<Plan, PlanError> {
    if !facts.controller || !facts.create_delete {
        return Err(PlanError::NotADynamicDriver);
    }
    let spec = claim.spec.clone().unwrap_or_default();
    if spec.selector.is_some() {
        return Err(PlanError::Selector);
    }
    if spec.volume_attributes_class_name.as_ref().is_some_and(|name| !name.is_empty()) {
        return Err(PlanError::AttributesClass);
    }
    let name = settings.volume_name(claim);
    let bytes = access::claim_request(claim)?;
    let volume_content_source = source::content_source(facts, claim, bytes, source)?;
    let empty = BTreeMap::new();
    let parameters = parameters::read(class.parameters.as_ref().unwrap_or(&empty), claim, &name)?;
    let fs_type = parameters.fs_type.clone().unwrap_or_else(|| settings.default_fs_type.clone());
    let mount_options = class.mount_options.clone().unwrap_or_default();
    let capabilities = csi::for_claim(claim, &fs_type, &mount_options, facts.single_node_multi_writer)?;
    let accessibility = if facts.topology {
        let allowed = class.allowed_topologies.as_deref().unwrap_or_default();
        let selected = claim.annotations().get(names::SELECTED_NODE).map(String::as_str);
        topology::requirement(&settings.how, allowed, selected, places, &claim.name_any())?
    } else {
        None
    };
    let mut to_driver: std::collections::HashMap<String, String> = parameters.driver.into_iter().collect();
    if settings.extra_create_metadata {
        to_driver.insert("csi.storage.k8s.io/pvc/name".to_owned(), claim.name_any());
        to_driver
            .insert("csi.storage.k8s.io/pvc/namespace".to_owned(), claim.namespace().unwrap_or_default());
        to_driver.insert("csi.storage.k8s.io/pv/name".to_owned(), name.clone());
    }
    // A volume that is only ever read can be attached read-only, if the driver can tell.
    let only_read = matches!(capabilities.as_slice(), [one]
        if one.access_mode.as_ref().is_some_and(|mode| mode.mode() == Mode::MultiNodeReaderOnly));
    let volume = PersistentVolume {
        metadata: metadata(&name, facts, &parameters.secrets, class),
        spec: Some(PersistentVolumeSpec {
            access_modes: spec.access_modes,
            claim_ref: Some(claim_reference(claim)),
            csi: Some(CSIPersistentVolumeSource {
                driver: facts.name.clone(),
                fs_type: (access::claim_mode(claim) != "Block" && !fs_type.is_empty()).then_some(fs_type),
                read_only: (only_read && facts.publish_readonly).then_some(true),
                controller_publish_secret_ref: reference(parameters.secrets.controller_publish.as_ref()),
                node_stage_secret_ref: reference(parameters.secrets.node_stage.as_ref()),
                node_publish_secret_ref: reference(parameters.secrets.node_publish.as_ref()),
                controller_expand_secret_ref: reference(parameters.secrets.controller_expand.as_ref()),
                node_expand_secret_ref: reference(parameters.secrets.node_expand.as_ref()),
                ..CSIPersistentVolumeSource::default()
            }),
            mount_options: (!mount_options.is_empty()).then_some(mount_options),
            persistent_volume_reclaim_policy: Some(reclaim_policy(class).to_owned()),
            storage_class_name: claim_class(claim).map(str::to_owned),
            volume_mode: Some(access::claim_mode(claim).to_owned()),
            ..PersistentVolumeSpec::default()
        }),
        status: None,
    };
    let request = CreateVolumeRequest {
        name,
        capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        volume_capabilities: capabilities,
        parameters: to_driver,
        accessibility_requirements: accessibility,
        volume_content_source,
        ..CreateVolumeRequest::default()
    };
    Ok(Plan { request, secret: parameters.secrets.provisioner, bytes, volume, topology: facts.topology })
}

impl Plan {
    /// The volume object to save, now that the driver has answered.
    pub(crate) fn volume_object(&self, made: &Volume) -> PersistentVolume {
        let mut object = self.volume.clone();
        let spec = object.spec.get_or_insert_default();
        // 0 means that the driver does not know; then the claim has what it asked for.
        let bytes = if made.capacity_bytes == 0 { self.bytes } else { made.capacity_bytes };
        spec.capacity = Some([("storage".to_owned(), Quantity(format_bytes(bytes)))].into());
        if self.topology {
            spec.node_affinity = topology::node_affinity(&made.accessible_topology);
        }
        if let Some(source) = spec.csi.as_mut() {
            source.volume_handle.clone_from(&made.volume_id);
            let attributes: BTreeMap<_, _> = made.volume_context.clone().into_iter().collect();
            source.volume_attributes = (!attributes.is_empty()).then_some(attributes);
        }
        object
    }
}

/// The default is Delete (Kubernetes' documentation of StorageClass).
fn reclaim_policy(class: &StorageClass) -> &str {
    class.reclaim_policy.as_deref().unwrap_or("Delete")
}

fn metadata(
    name: &str,
    facts: &DriverFacts,
    secrets: &parameters::Secrets,
    class: &StorageClass,
) -> ObjectMeta {
    let text =
        |key: Option<&SecretKey>, part: fn(&SecretKey) -> &String| key.map(part).cloned().unwrap_or_default();
    let deletion = secrets.provisioner.as_ref();
    let mut annotations = BTreeMap::from([
        (names::PROVISIONED_BY.to_owned(), facts.name.clone()),
        (DELETION_SECRET_NAME.to_owned(), text(deletion, |key| &key.name)),
        (DELETION_SECRET_NAMESPACE.to_owned(), text(deletion, |key| &key.namespace)),
    ]);
    if let Some(key) = &secrets.controller_modify {
        annotations.insert(MODIFY_SECRET_NAME.to_owned(), key.name.clone());
        annotations.insert(MODIFY_SECRET_NAMESPACE.to_owned(), key.namespace.clone());
    }
    let finalizers =
        (reclaim_policy(class) == "Delete").then(|| vec![names::PROVISIONER_FINALIZER.to_owned()]);
    ObjectMeta {
        name: Some(name.to_owned()),
        annotations: Some(annotations),
        finalizers,
        ..ObjectMeta::default()
    }
}

fn claim_reference(claim: &PersistentVolumeClaim) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        name: Some(claim.name_any()),
        namespace: claim.namespace(),
        uid: claim.uid(),
        ..ObjectReference::default()
    }
}

fn reference(key: Option<&SecretKey>) -> Option<SecretReference> {
    key.map(|key| SecretReference { name: Some(key.name.clone()), namespace: Some(key.namespace.clone()) })
}
