//! A snapshot to be taken: its class, and the content for it.

use std::collections::BTreeMap;

use holdfast_api::{
    access,
    secret::{self, SecretError, SecretKey},
    snapshot::{
        content_name,
        names::{CONTENT_BOUND, DEFAULT_CLASS, SECRET, SECRET_NAME, SECRET_NAMESPACE},
        volume::{
            VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotContent, VolumeSnapshotContentSource,
            VolumeSnapshotContentSpec,
        },
    },
};
use k8s_openapi::{
    api::core::v1::{ObjectReference, PersistentVolume, PersistentVolumeClaim},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{super::reason::Reason, Action, full_name, live::fail};
use crate::controllers::view::{
    Seen, Shared, View, annotation, claim_phase, claim_ref_uid, claim_volume, csi_source, is_deleting,
};

pub(super) fn decide(view: &View, snapshot: &Seen<VolumeSnapshot>) -> Option<Action> {
    let (claim, volume) = match source(view, snapshot) {
        Ok(source) => source,
        Err(reason) => return fail(snapshot, reason),
    };
    let Some(csi) = csi_source(volume) else {
        return fail(snapshot, Reason::NotCsi { volume: volume.key.name.to_string() });
    };
    let class = match class(view, snapshot, &csi.driver) {
        Ok(Class::Named(class)) => class,
        Ok(Class::Default(class)) => {
            let class = class.key.name.to_string();
            let reason = Reason::DefaultClass { class: class.clone() };
            return Some(Action::Classify { snapshot: snapshot.at(), class, reason });
        }
        Err(reason) => return fail(snapshot, reason),
    };
    let secret = match secret_of(class, snapshot) {
        Ok(secret) => secret,
        Err(error) => return fail(snapshot, Reason::BadSecret(error)),
    };
    let content = VolumeSnapshotContent {
        metadata: metadata(&content_name(&snapshot.uid), secret),
        spec: VolumeSnapshotContentSpec {
            volume_snapshot_ref: reference(snapshot),
            deletion_policy: class.deletion_policy.clone(),
            driver: csi.driver.clone(),
            volume_snapshot_class_name: Some(class.key.name.to_string()),
            source: VolumeSnapshotContentSource {
                volume_handle: Some(csi.volume_handle.clone()),
                snapshot_handle: None,
            },
            source_volume_mode: Some(access::volume_mode(volume).to_owned()),
        },
        ..VolumeSnapshotContent::default()
    };
    Some(Action::Create {
        snapshot: snapshot.at(),
        claim: claim.at(),
        content: Box::new(content),
        unchanged: vec![volume.at(), class.at()],
        reason: Reason::Creating { snapshot: full_name(&snapshot.key) },
    })
}

type Source<'a> = (&'a Shared<PersistentVolumeClaim>, &'a Shared<PersistentVolume>);

/// The claim and its volume.
fn source<'a>(view: &'a View, snapshot: &Seen<VolumeSnapshot>) -> Result<Source<'a>, Reason> {
    let name = snapshot.spec.source.persistent_volume_claim_name.as_deref().unwrap_or_default();
    let claim = name.to_owned();
    let Some(found) = view.claims.get(&snapshot.key.namespace, name) else {
        return Err(Reason::NoClaim { claim });
    };
    if is_deleting(&found.metadata) {
        return Err(Reason::ClaimGoing { claim });
    }
    let volume = claim_volume(found).filter(|_| claim_phase(found) == "Bound");
    let Some(volume) = volume else { return Err(Reason::ClaimUnbound { claim }) };
    match view.volumes.get("", volume) {
        Some(volume) if claim_ref_uid(volume) == Some(&found.uid) => Ok((found, volume)),
        _ => Err(Reason::NoVolume { claim, volume: volume.to_owned() }),
    }
}

enum Class<'a> {
    /// The snapshot names it.
    Named(&'a Shared<VolumeSnapshotClass>),
    /// It names none, and this is the default.
    Default(&'a Shared<VolumeSnapshotClass>),
}

fn class<'a>(view: &'a View, snapshot: &VolumeSnapshot, driver: &str) -> Result<Class<'a>, Reason> {
    let named = snapshot.spec.volume_snapshot_class_name.as_deref().filter(|name| !name.is_empty());
    if let Some(name) = named {
        let Some(class) = view.snapshot_classes.get("", name) else {
            return Err(Reason::NoClass { class: name.to_owned() });
        };
        if class.driver != driver {
            let (of, driver) = (class.driver.clone(), driver.to_owned());
            return Err(Reason::WrongDriver { class: name.to_owned(), of, driver });
        }
        return Ok(Class::Named(class));
    }
    let is_default = |class: &&Shared<VolumeSnapshotClass>| {
        class.driver == driver && annotation(&class.metadata, DEFAULT_CLASS) == Some("true")
    };
    let mut defaults = view.snapshot_classes.iter().filter(is_default);
    match (defaults.next(), defaults.next()) {
        (None, _) => Err(Reason::NoDefaultClass { driver: driver.to_owned() }),
        (Some(class), None) => Ok(Class::Default(class)),
        (Some(one), Some(other)) => Err(Reason::ManyDefaultClasses {
            driver: driver.to_owned(),
            classes: [one, other].map(|class| class.key.name.to_string()).join(", "),
        }),
    }
}

/// The secret that the class names for this snapshot.
fn secret_of(
    class: &VolumeSnapshotClass,
    snapshot: &Seen<VolumeSnapshot>,
) -> Result<Option<SecretKey>, SecretError> {
    let namespace_token = |token: &str| match token {
        "volumesnapshotcontent.name" => Some(content_name(&snapshot.uid)),
        "volumesnapshot.namespace" => Some(snapshot.key.namespace.to_string()),
        _ => None,
    };
    let name_token = |token: &str| match token {
        "volumesnapshot.name" => Some(snapshot.key.name.to_string()),
        _ => namespace_token(token),
    };
    let none = BTreeMap::new();
    let parameters = class.parameters.as_ref().unwrap_or(&none);
    secret::of_class("snapshotter", SECRET, parameters, &name_token, &namespace_token)
}

/// With its finalizer from the first moment: it must not go before it is known what it stands for.
fn metadata(name: &str, secret: Option<SecretKey>) -> ObjectMeta {
    let annotations = secret.map(|SecretKey { namespace, name }| {
        BTreeMap::from([(SECRET_NAME.to_owned(), name), (SECRET_NAMESPACE.to_owned(), namespace)])
    });
    ObjectMeta {
        name: Some(name.to_owned()),
        annotations,
        finalizers: Some(vec![CONTENT_BOUND.to_owned()]),
        generation: Some(1),
        ..ObjectMeta::default()
    }
}

fn reference(snapshot: &Seen<VolumeSnapshot>) -> ObjectReference {
    ObjectReference {
        api_version: Some("snapshot.storage.k8s.io/v1".to_owned()),
        kind: Some("VolumeSnapshot".to_owned()),
        namespace: Some(snapshot.key.namespace.to_string()),
        name: Some(snapshot.key.name.to_string()),
        uid: Some(snapshot.uid.to_string()),
        resource_version: Some(snapshot.revision.to_string()),
        ..ObjectReference::default()
    }
}
