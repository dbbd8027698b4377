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
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::ObjectMeta};

use super::{
    super::{
        class::{Class, choose},
        reason::Reason,
        source::source,
    },
    Action, full_name,
    live::fail,
};
use crate::controllers::view::{Seen, View};

pub(super) fn decide(view: &View, snapshot: &Seen<VolumeSnapshot>) -> Option<Action> {
    let name = snapshot.spec.source.persistent_volume_claim_name.as_deref().unwrap_or_default();
    let Some(claim) = view.claims.get(&snapshot.key.namespace, name) else {
        return fail(snapshot, Reason::NoClaim { claim: name.to_owned() });
    };
    let (volume, csi) = match source(view, claim) {
        Ok(source) => source,
        Err(unfit) => return fail(snapshot, Reason::Unfit(unfit)),
    };
    let named = snapshot.spec.volume_snapshot_class_name.as_deref();
    let class = match choose(&view.snapshot_classes, named, &csi.driver, |class| &class.driver, DEFAULT_CLASS)
    {
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
