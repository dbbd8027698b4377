//! The snapshots of a group that was cut: one for each of its volumes, named after both, so that
//! they are found again without a search.

use std::collections::{BTreeMap, HashMap};

use holdfast_api::{
    access,
    snapshot::{
        group::{VolumeGroupSnapshot, VolumeGroupSnapshotContent, VolumeSnapshotInfo},
        member_names,
        names::{
            CONTENT_BOUND, GROUP_HANDLE, GROUP_SECRET_NAME, GROUP_SECRET_NAMESPACE, SECRET_NAME,
            SECRET_NAMESPACE, SNAPSHOT_AS_SOURCE, SNAPSHOT_BOUND, SNAPSHOT_IN_GROUP,
        },
        volume::{
            VolumeSnapshot, VolumeSnapshotContent, VolumeSnapshotContentSource, VolumeSnapshotContentSpec,
            VolumeSnapshotContentStatus, VolumeSnapshotSource, VolumeSnapshotSpec, VolumeSnapshotStatus,
        },
    },
};
use k8s_openapi::{
    api::core::v1::{ObjectReference, PersistentVolume},
    apimachinery::pkg::apis::meta::v1::ObjectMeta,
};

use super::{
    super::super::{
        decide::{owner, status_of},
        reason::Reason,
    },
    Change, Member,
};
use crate::controllers::view::{Seen, Shared, View, annotation, claim_volume, csi_source};

/// The volumes of a namespace's claims, by their driver's ids, with the claims' names.
type Volumes<'a> = HashMap<&'a str, (String, &'a Shared<PersistentVolume>)>;

/// The snapshots to be saved with their contents: all of them, or why not.
pub(super) fn made(
    view: &View,
    group: &Seen<VolumeGroupSnapshot>,
    content: &Seen<VolumeGroupSnapshotContent>,
    handle: &str,
) -> Result<Vec<Member>, Reason> {
    let volumes = volumes(view, &group.key.namespace, &content.spec.driver);
    let members = infos(content).map(|(volume, info)| {
        let [name, content_name] = member_names(&group.uid, volume);
        if view.snapshots.get(&group.key.namespace, &name).is_some() {
            return Err(Reason::Taken { object: format!("VolumeSnapshot {name}") });
        }
        if view.contents.get("", &content_name).is_some() {
            return Err(Reason::Taken { object: format!("VolumeSnapshotContent {content_name}") });
        }
        let of = volumes.get(volume);
        let mode = of.map(|(_, volume)| access::volume_mode(volume).to_owned());
        // The claims are held until now. Where one was forced away all the same, what was cut of it stays.
        let claim = of.map(|(claim, _)| claim.clone()).unwrap_or_default();
        let made = VolumeSnapshotContent {
            metadata: content_metadata(&content_name, content, handle),
            spec: VolumeSnapshotContentSpec {
                volume_snapshot_ref: reference(group, &name),
                deletion_policy: content.spec.deletion_policy.clone(),
                driver: content.spec.driver.clone(),
                volume_snapshot_class_name: None,
                source: VolumeSnapshotContentSource {
                    volume_handle: Some(volume.to_owned()),
                    snapshot_handle: None,
                },
                source_volume_mode: mode,
            },
            status: Some(content_status(content, handle, info)),
            ..VolumeSnapshotContent::default()
        };
        let snapshot = VolumeSnapshot {
            metadata: metadata(group, &name),
            spec: VolumeSnapshotSpec {
                source: VolumeSnapshotSource {
                    persistent_volume_claim_name: Some(claim),
                    volume_snapshot_content_name: None,
                },
                volume_snapshot_class_name: None,
            },
            status: Some(snapshot_status(group, &content_name, &made)),
            ..VolumeSnapshot::default()
        };
        Ok(Member { snapshot: Box::new(snapshot), content: Box::new(made) })
    });
    members.collect()
}

/// What the group's content says anew of its snapshots that are there.
pub(super) fn changes(
    view: &View,
    group: &Seen<VolumeGroupSnapshot>,
    content: &Seen<VolumeGroupSnapshotContent>,
    handle: &str,
) -> Vec<Change> {
    let changes = infos(content).filter_map(|(volume, info)| {
        let [name, content_name] = member_names(&group.uid, volume);
        let snapshot = view.snapshots.get(&group.key.namespace, &name)?;
        let of = view.contents.get("", &content_name)?;
        let is_its = of.spec.volume_snapshot_ref.uid.as_deref() == Some(&snapshot.uid);
        let told = content_status(content, handle, info);
        if !is_its || of.status.as_ref() == Some(&told) {
            return None;
        }
        let now = VolumeSnapshotContent { status: Some(told.clone()), ..VolumeSnapshotContent::default() };
        Some(Change {
            snapshot: snapshot.at(),
            status: Box::new(snapshot_status(group, &content_name, &now)),
            content: of.at(),
            content_status: Box::new(told),
        })
    });
    changes.collect()
}

/// What the driver said of each volume.
fn infos(content: &VolumeGroupSnapshotContent) -> impl Iterator<Item = (&str, &VolumeSnapshotInfo)> {
    let all = content.status.as_ref().and_then(|status| status.volume_snapshot_info_list.as_ref());
    all.into_iter().flatten().map(|info| (info.volume_handle.as_deref().unwrap_or_default(), info))
}

fn volumes<'a>(view: &'a View, namespace: &str, driver: &str) -> Volumes<'a> {
    let claims = view.claims.within(namespace);
    let volumes = claims.filter_map(|claim| {
        let volume = view.volumes.get("", claim_volume(claim)?)?;
        let csi = csi_source(volume).filter(|csi| csi.driver == driver)?;
        Some((csi.volume_handle.as_str(), (claim.key.name.to_string(), volume)))
    });
    volumes.collect()
}

/// No snapshot of a group is ready before all of them are.
fn content_status(
    content: &VolumeGroupSnapshotContent,
    handle: &str,
    info: &VolumeSnapshotInfo,
) -> VolumeSnapshotContentStatus {
    let is_ready = content.status.as_ref().and_then(|status| status.ready_to_use) == Some(true);
    VolumeSnapshotContentStatus {
        snapshot_handle: info.snapshot_handle.clone(),
        creation_time: info.creation_time,
        restore_size: info.restore_size,
        ready_to_use: Some(is_ready),
        error: None,
        volume_group_snapshot_handle: Some(handle.to_owned()),
    }
}

fn snapshot_status(
    group: &Seen<VolumeGroupSnapshot>,
    content_name: &str,
    content: &VolumeSnapshotContent,
) -> VolumeSnapshotStatus {
    let name = Some(group.key.name.to_string());
    VolumeSnapshotStatus { volume_group_snapshot_name: name, ..status_of(content_name, content) }
}

fn metadata(group: &Seen<VolumeGroupSnapshot>, name: &str) -> ObjectMeta {
    let finalizers = [SNAPSHOT_IN_GROUP, SNAPSHOT_AS_SOURCE, SNAPSHOT_BOUND].map(str::to_owned);
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some(group.key.namespace.to_string()),
        owner_references: Some(vec![owner(group)]),
        finalizers: Some(finalizers.into()),
        generation: Some(1),
        ..ObjectMeta::default()
    }
}

fn content_metadata(name: &str, content: &Seen<VolumeGroupSnapshotContent>, handle: &str) -> ObjectMeta {
    let mut annotations = BTreeMap::from([(GROUP_HANDLE.to_owned(), handle.to_owned())]);
    for (from, to) in [(GROUP_SECRET_NAME, SECRET_NAME), (GROUP_SECRET_NAMESPACE, SECRET_NAMESPACE)] {
        let value = annotation(&content.metadata, from).map(|value| (to.to_owned(), value.to_owned()));
        annotations.extend(value);
    }
    ObjectMeta {
        name: Some(name.to_owned()),
        annotations: Some(annotations),
        finalizers: Some(vec![CONTENT_BOUND.to_owned()]),
        generation: Some(1),
        ..ObjectMeta::default()
    }
}

/// Without the UID, which the snapshot gets when it is saved.
fn reference(group: &Seen<VolumeGroupSnapshot>, name: &str) -> ObjectReference {
    ObjectReference {
        api_version: Some("snapshot.storage.k8s.io/v1".to_owned()),
        kind: Some("VolumeSnapshot".to_owned()),
        namespace: Some(group.key.namespace.to_string()),
        name: Some(name.to_owned()),
        ..ObjectReference::default()
    }
}
