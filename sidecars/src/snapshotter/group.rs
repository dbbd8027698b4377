//! The content of a group snapshot.

use std::collections::BTreeSet;

use holdfast_api::snapshot::group::{
    VolumeGroupSnapshotClass, VolumeGroupSnapshotContent, VolumeGroupSnapshotContentSpec,
};
use holdfast_proto::csi::{
    CreateVolumeGroupSnapshotRequest, DeleteVolumeGroupSnapshotRequest, GetVolumeGroupSnapshotRequest,
    VolumeGroupSnapshot,
};
use jiff::Timestamp;
use k8s_openapi::{api::core::v1::ObjectReference, apimachinery::pkg::apis::meta::v1::Time};
use serde_json::{Value, json};
use tonic::Code;

use super::{
    content::{Content, OF_GROUP, Parameters, Secrets, Words},
    single::{moment, size},
};
use crate::{
    cache::{Cache, Kind},
    context::Context,
    csi::{CsiError, DriverFacts, Origin},
};

impl Content for VolumeGroupSnapshotContent {
    const WORDS: &'static Words = &OF_GROUP;
    type Class = VolumeGroupSnapshotClass;
    type Spec = VolumeGroupSnapshotContentSpec;
    type Request = CreateVolumeGroupSnapshotRequest;
    type Told = VolumeGroupSnapshot;
    const TRUST: Option<fn(&str, i64) -> Value> = None;

    fn cached(cache: &Cache) -> &Kind<Self> {
        &cache.group_contents
    }

    fn can_take(facts: &DriverFacts) -> bool {
        facts.group_snapshots
    }

    fn can_ask(facts: &DriverFacts) -> bool {
        facts.group_snapshots
    }

    fn parameters_of(class: &VolumeGroupSnapshotClass) -> Option<&Parameters> {
        class.parameters.as_ref()
    }

    fn wish(&self) -> &VolumeGroupSnapshotContentSpec {
        &self.spec
    }

    fn driver(&self) -> &str {
        &self.spec.driver
    }

    fn deletion_policy(&self) -> &str {
        &self.spec.deletion_policy
    }

    fn class_name(&self) -> Option<&str> {
        self.spec.volume_group_snapshot_class_name.as_deref()
    }

    fn belongs_to(&self) -> &ObjectReference {
        &self.spec.volume_group_snapshot_ref
    }

    fn handle(&self) -> Option<&str> {
        let told = self.status.as_ref().and_then(|status| status.volume_group_snapshot_handle.as_deref());
        let given = self.spec.source.group_snapshot_handles.as_ref();
        let given = given.map(|given| given.volume_group_snapshot_handle.as_str());
        told.or(given).filter(|handle| !handle.is_empty())
    }

    fn is_ready(&self) -> bool {
        self.status.as_ref().and_then(|status| status.ready_to_use) == Some(true)
    }

    fn is_given(&self) -> bool {
        self.spec.source.group_snapshot_handles.is_some()
    }

    fn is_member(&self) -> bool {
        false
    }

    fn error(&self) -> Option<&str> {
        self.status.as_ref()?.error.as_ref()?.message.as_deref()
    }

    fn request(&self, name: String, parameters: Secrets) -> Option<CreateVolumeGroupSnapshotRequest> {
        let source_volume_ids = self.spec.source.volume_handles.clone()?;
        Some(CreateVolumeGroupSnapshotRequest {
            name,
            source_volume_ids,
            parameters,
            ..CreateVolumeGroupSnapshotRequest::default()
        })
    }

    /// Only with all its snapshots.
    fn is_told_ready(told: &VolumeGroupSnapshot) -> bool {
        told.ready_to_use && told.snapshots.iter().all(|snapshot| snapshot.ready_to_use)
    }

    fn status_of(told: &VolumeGroupSnapshot) -> Value {
        let infos = told.snapshots.iter().map(|snapshot| {
            let mut info = json!({
                "volumeHandle": snapshot.source_volume_id, "snapshotHandle": snapshot.snapshot_id,
                "readyToUse": snapshot.ready_to_use,
            });
            if let Some(time) = moment(snapshot) {
                info["creationTime"] = json!(time);
            }
            if let Some(size) = size(snapshot) {
                info["restoreSize"] = json!(size);
            }
            info
        });
        let created = told.creation_time.as_ref().and_then(|time| Timestamp::from_second(time.seconds).ok());
        json!({
            "volumeGroupSnapshotHandle": told.group_snapshot_id,
            // CSI requires it; without one a group would never count as cut.
            "creationTime": Time(created.unwrap_or_else(Timestamp::now)),
            "readyToUse": Self::is_told_ready(told),
            "volumeSnapshotInfoList": infos.collect::<Value>(),
            "error": null,
        })
    }

    async fn take(
        context: &Context,
        request: CreateVolumeGroupSnapshotRequest,
        secrets: Secrets,
    ) -> Result<VolumeGroupSnapshot, CsiError> {
        let sources: BTreeSet<String> = request.source_volume_ids.iter().cloned().collect();
        let request = CreateVolumeGroupSnapshotRequest { secrets, ..request };
        let told = context.csi.create_group_snapshot(request).await?;
        whole(told, &sources)
    }

    async fn ask(
        &self,
        context: &Context,
        group_snapshot_id: String,
        secrets: Secrets,
    ) -> Result<Option<VolumeGroupSnapshot>, CsiError> {
        let snapshot_ids = members(self);
        let request = GetVolumeGroupSnapshotRequest { group_snapshot_id, snapshot_ids, secrets };
        context.csi.get_group_snapshot(request).await
    }

    async fn delete(
        &self,
        context: &Context,
        group_snapshot_id: String,
        secrets: Secrets,
    ) -> Result<(), CsiError> {
        let snapshot_ids = members(self);
        let request = DeleteVolumeGroupSnapshotRequest { group_snapshot_id, snapshot_ids, secrets };
        context.csi.delete_group_snapshot(request).await
    }
}

/// The driver's ids of its snapshots.
fn members(content: &VolumeGroupSnapshotContent) -> Vec<String> {
    let told = content.status.as_ref().and_then(|status| status.volume_snapshot_info_list.as_ref());
    let told: Vec<String> =
        told.into_iter().flatten().filter_map(|info| info.snapshot_handle.clone()).collect();
    let given = content.spec.source.group_snapshot_handles.as_ref();
    match given {
        Some(given) if told.is_empty() => given.volume_snapshot_handles.clone(),
        _ => told,
    }
}

/// The answer, if it tells of one snapshot of each volume. Of a part that it does not tell of nobody would know.
fn whole(told: VolumeGroupSnapshot, sources: &BTreeSet<String>) -> Result<VolumeGroupSnapshot, CsiError> {
    let of: BTreeSet<&String> = told.snapshots.iter().map(|snapshot| &snapshot.source_volume_id).collect();
    let is_named = told.snapshots.iter().all(|snapshot| !snapshot.snapshot_id.is_empty());
    if is_named && told.snapshots.len() == sources.len() && of == sources.iter().collect() {
        return Ok(told);
    }
    Err(CsiError {
        method: "CreateVolumeGroupSnapshot",
        code: Code::Internal,
        message: format!(
            "the driver answered success with snapshots of volumes {of:?}, and was asked for one of each of \
             {sources:?}: this is a fault of the driver"
        ),
        origin: Origin::Way,
    })
}

#[cfg(test)]
mod tests {
    use holdfast_proto::csi::Snapshot;

    use super::*;

    fn told(of: &[(&str, &str)]) -> VolumeGroupSnapshot {
        let snapshot = |(volume, id): &(&str, &str)| Snapshot {
            source_volume_id: (*volume).to_owned(),
            snapshot_id: (*id).to_owned(),
            ready_to_use: true,
            ..Snapshot::default()
        };
        let snapshots = of.iter().map(snapshot).collect();
        VolumeGroupSnapshot {
            group_snapshot_id: "g".to_owned(),
            snapshots,
            ready_to_use: true,
            creation_time: None,
        }
    }

    #[test]
    fn an_answer_tells_of_every_volume_or_of_nothing() {
        let sources: BTreeSet<String> = ["v", "w"].map(str::to_owned).into();
        for (number, of, wanted) in [
            (1, vec![("v", "x"), ("w", "y")], true),
            (2, vec![("w", "y"), ("v", "x")], true),
            (3, vec![("v", "x")], false),
            (4, vec![("v", "x"), ("v", "y")], false),
            (5, vec![("v", "x"), ("w", "")], false),
            (6, vec![("v", "x"), ("w", "y"), ("z", "z")], false),
            (7, vec![], false),
        ] {
            let answer = whole(told(&of), &sources);
            assert_eq!(answer.is_ok(), wanted, "row {number}");
            assert!(
                answer.err().is_none_or(|error| !error.is_final()),
                "row {number}: something may be there"
            );
        }
    }

    #[test]
    fn a_group_is_ready_when_all_of_it_is() {
        let mut group = told(&[("v", "x"), ("w", "y")]);
        assert_eq!(VolumeGroupSnapshotContent::status_of(&group)["readyToUse"], true);
        group.snapshots[1].ready_to_use = false;
        let status = VolumeGroupSnapshotContent::status_of(&group);
        assert_eq!(status["readyToUse"], false);
        let infos = json!([
            {"volumeHandle": "v", "snapshotHandle": "x", "readyToUse": true},
            {"volumeHandle": "w", "snapshotHandle": "y", "readyToUse": false},
        ]);
        assert_eq!(status["volumeSnapshotInfoList"], infos);
        assert!(status["creationTime"].is_string(), "{status}");
    }
}
