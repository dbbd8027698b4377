//! A group snapshot to be taken: its claims, its class, and the content for it.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_api::{
    secret::{self, SecretError, SecretKey},
    selector::Selector,
    snapshot::{
        GROUP_OF_GROUPS,
        group::{
            VolumeGroupSnapshot, VolumeGroupSnapshotClass, VolumeGroupSnapshotContent,
            VolumeGroupSnapshotContentSource, VolumeGroupSnapshotContentSpec,
        },
        group_content_name,
        names::{
            DEFAULT_GROUP_CLASS, GROUP_CONTENT_BOUND, GROUP_SECRET, GROUP_SECRET_NAME, GROUP_SECRET_NAMESPACE,
        },
    },
};
use k8s_openapi::{
    api::core::v1::{ObjectReference, PersistentVolumeClaim},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    super::super::{
        class::{Class, choose},
        decide::full_name,
        reason::Reason,
        source::{Source, source},
    },
    Action,
    live::fail,
};
use crate::controllers::view::{Seen, Shared, View};

pub(super) fn decide(view: &View, group: &Seen<VolumeGroupSnapshot>) -> Option<Action> {
    let chosen = match chosen(view, group) {
        Ok(chosen) => chosen,
        Err(reason) => return fail(group, reason),
    };
    let driver = chosen.first().map(|(_, (_, csi))| csi.driver.as_str()).unwrap_or_default();
    let named = group.spec.volume_group_snapshot_class_name.as_deref();
    let class = match choose(&view.group_classes, named, driver, |class| &class.driver, DEFAULT_GROUP_CLASS) {
        Ok(Class::Named(class)) => class,
        Ok(Class::Default(class)) => {
            let class = class.key.name.to_string();
            let reason = Reason::DefaultClass { class: class.clone() };
            return Some(Action::Classify { group: group.at(), class, reason });
        }
        Err(reason) => return fail(group, reason),
    };
    let secret = match secret_of(class, group) {
        Ok(secret) => secret,
        Err(error) => return fail(group, Reason::BadSecret(error)),
    };
    let handles = chosen.iter().map(|(_, (_, csi))| csi.volume_handle.clone());
    let content = VolumeGroupSnapshotContent {
        metadata: metadata(&group_content_name(&group.uid), secret),
        spec: VolumeGroupSnapshotContentSpec {
            volume_group_snapshot_ref: reference(group),
            deletion_policy: class.deletion_policy.clone(),
            driver: driver.to_owned(),
            volume_group_snapshot_class_name: Some(class.key.name.to_string()),
            source: VolumeGroupSnapshotContentSource {
                volume_handles: Some(handles.collect()),
                group_snapshot_handles: None,
            },
        },
        ..VolumeGroupSnapshotContent::default()
    };
    Some(Action::Create {
        group: group.at(),
        claims: chosen.iter().map(|(claim, _)| claim.at()).collect(),
        content: Box::new(content),
        unchanged: chosen.iter().map(|(_, (volume, _))| volume.at()).chain([class.at()]).collect(),
        reason: Reason::Creating { snapshot: full_name(&group.key) },
    })
}

type Chosen<'a> = Vec<(&'a Shared<PersistentVolumeClaim>, Source<'a>)>;

/// The claims that are selected, each with its volume: all fit for it and of one driver, or none.
fn chosen<'a>(view: &'a View, group: &Seen<VolumeGroupSnapshot>) -> Result<Chosen<'a>, Reason> {
    let selector = group.spec.source.selector.clone().unwrap_or_default();
    let selector = Selector::try_from(&selector).map_err(Reason::BadSelector)?;
    let claims = view.claims.within(&group.key.namespace);
    let claims = claims.filter(|claim| selector.matches_map(claim.metadata.labels.as_ref()));
    let chosen = claims.map(|claim| source(view, claim).map(|source| (claim, source)));
    let chosen: Chosen<'a> = chosen.collect::<Result<_, _>>().map_err(Reason::Unfit)?;
    if chosen.is_empty() {
        return Err(Reason::NothingSelected);
    }
    let drivers: BTreeSet<&str> = chosen.iter().map(|(_, (_, csi))| csi.driver.as_str()).collect();
    if drivers.len() > 1 {
        let of = |driver: &str| {
            let its = chosen.iter().filter(|(_, (_, csi))| csi.driver == driver);
            let names: Vec<&str> = its.map(|(claim, _)| &*claim.key.name).collect();
            format!("{driver}: {}", names.join(", "))
        };
        let drivers: Vec<String> = drivers.iter().map(|driver| of(driver)).collect();
        return Err(Reason::SeveralDrivers { drivers: drivers.join("; ") });
    }
    Ok(chosen)
}

/// The secret that the class names for this group snapshot.
fn secret_of(
    class: &VolumeGroupSnapshotClass,
    group: &Seen<VolumeGroupSnapshot>,
) -> Result<Option<SecretKey>, SecretError> {
    let namespace_token = |token: &str| match token {
        "volumegroupsnapshotcontent.name" => Some(group_content_name(&group.uid)),
        "volumegroupsnapshot.namespace" => Some(group.key.namespace.to_string()),
        _ => None,
    };
    let name_token = |token: &str| match token {
        "volumegroupsnapshot.name" => Some(group.key.name.to_string()),
        _ => namespace_token(token),
    };
    let none = BTreeMap::new();
    let parameters = class.parameters.as_ref().unwrap_or(&none);
    secret::of_class("group-snapshotter", GROUP_SECRET, parameters, &name_token, &namespace_token)
}

/// With its finalizer from the first moment: it must not go before it is known what it stands for.
fn metadata(name: &str, secret: Option<SecretKey>) -> ObjectMeta {
    let annotations = secret.map(|SecretKey { namespace, name }| {
        BTreeMap::from([(GROUP_SECRET_NAME.to_owned(), name), (GROUP_SECRET_NAMESPACE.to_owned(), namespace)])
    });
    ObjectMeta {
        name: Some(name.to_owned()),
        annotations,
        finalizers: Some(vec![GROUP_CONTENT_BOUND.to_owned()]),
        generation: Some(1),
        ..ObjectMeta::default()
    }
}

fn reference(group: &Seen<VolumeGroupSnapshot>) -> ObjectReference {
    ObjectReference {
        api_version: Some(format!("{GROUP_OF_GROUPS}/v1")),
        kind: Some("VolumeGroupSnapshot".to_owned()),
        namespace: Some(group.key.namespace.to_string()),
        name: Some(group.key.name.to_string()),
        uid: Some(group.uid.to_string()),
        resource_version: Some(group.revision.to_string()),
        ..ObjectReference::default()
    }
}
