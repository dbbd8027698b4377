//! The content of one snapshot.

use holdfast_api::snapshot::{
    names::GROUP_HANDLE,
    volume::{VolumeSnapshotClass, VolumeSnapshotContent, VolumeSnapshotContentSpec},
};
use holdfast_proto::csi::{
    CreateSnapshotRequest, DeleteSnapshotRequest, GetSnapshotRequest, ListSnapshotsRequest, Snapshot,
};
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::ObjectReference;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::content::{Content, OF_SNAPSHOT, Parameters, Secrets, Words};
use crate::{
    cache::{Cache, Kind},
    context::Context,
    csi::{CsiError, DriverFacts},
};

impl Content for VolumeSnapshotContent {
    const WORDS: &'static Words = &OF_SNAPSHOT;
    type Class = VolumeSnapshotClass;
    type Spec = VolumeSnapshotContentSpec;
    type Request = CreateSnapshotRequest;
    type Told = Snapshot;
    const TRUST: Option<fn(&str, i64) -> Value> = Some(
        |handle, now| json!({"snapshotHandle": handle, "creationTime": now, "readyToUse": true, "error": null}),
    );

    fn cached(cache: &Cache) -> &Kind<Self> {
        &cache.contents
    }

    fn can_take(facts: &DriverFacts) -> bool {
        facts.create_snapshot
    }

    fn can_ask(facts: &DriverFacts) -> bool {
        facts.get_snapshot || facts.list_snapshots
    }

    fn parameters_of(class: &VolumeSnapshotClass) -> Option<&Parameters> {
        class.parameters.as_ref()
    }

    fn wish(&self) -> &VolumeSnapshotContentSpec {
        &self.spec
    }

    fn driver(&self) -> &str {
        &self.spec.driver
    }

    fn deletion_policy(&self) -> &str {
        &self.spec.deletion_policy
    }

    fn class_name(&self) -> Option<&str> {
        self.spec.volume_snapshot_class_name.as_deref()
    }

    fn belongs_to(&self) -> &ObjectReference {
        &self.spec.volume_snapshot_ref
    }

    fn handle(&self) -> Option<&str> {
        let told = self.status.as_ref().and_then(|status| status.snapshot_handle.as_deref());
        told.or(self.spec.source.snapshot_handle.as_deref()).filter(|handle| !handle.is_empty())
    }

    fn is_ready(&self) -> bool {
        self.status.as_ref().and_then(|status| status.ready_to_use) == Some(true)
    }

    fn is_given(&self) -> bool {
        self.spec.source.snapshot_handle.is_some()
    }

    fn is_member(&self) -> bool {
        let group = self.status.as_ref().and_then(|status| status.volume_group_snapshot_handle.as_ref());
        group.is_some() || self.annotations().contains_key(GROUP_HANDLE)
    }

    fn error(&self) -> Option<&str> {
        self.status.as_ref()?.error.as_ref()?.message.as_deref()
    }

    fn request(&self, name: String, parameters: Secrets) -> Option<CreateSnapshotRequest> {
        let source_volume_id = self.spec.source.volume_handle.clone()?;
        Some(CreateSnapshotRequest { name, source_volume_id, parameters, ..CreateSnapshotRequest::default() })
    }

    fn is_told_ready(told: &Snapshot) -> bool {
        told.ready_to_use
    }

    fn status_of(told: &Snapshot) -> Value {
        let mut status = json!({
            "snapshotHandle": told.snapshot_id, "readyToUse": told.ready_to_use, "error": null,
        });
        if let Some(time) = moment(told) {
            status["creationTime"] = json!(time);
        }
        if let Some(size) = size(told) {
            status["restoreSize"] = json!(size);
        }
        if !told.group_snapshot_id.is_empty() {
            status["volumeGroupSnapshotHandle"] = json!(told.group_snapshot_id);
        }
        status
    }

    async fn take(
        context: &Context,
        request: CreateSnapshotRequest,
        secrets: Secrets,
    ) -> Result<Snapshot, CsiError> {
        context.csi.create_snapshot(CreateSnapshotRequest { secrets, ..request }).await
    }

    async fn ask(
        &self,
        context: &Context,
        snapshot_id: String,
        secrets: Secrets,
    ) -> Result<Option<Snapshot>, CsiError> {
        if context.facts.get_snapshot {
            return context.csi.get_snapshot(GetSnapshotRequest { snapshot_id, secrets }).await;
        }
        let request = ListSnapshotsRequest { snapshot_id, secrets, ..ListSnapshotsRequest::default() };
        context.csi.list_snapshot(request).await
    }

    async fn delete(&self, context: &Context, snapshot_id: String, secrets: Secrets) -> Result<(), CsiError> {
        context.csi.delete_snapshot(DeleteSnapshotRequest { snapshot_id, secrets }).await
    }
}

/// The moment that it shows, in nanoseconds since 1970; `None` past what the field holds (the year 2262).
pub(super) fn moment(snapshot: &Snapshot) -> Option<i64> {
    let time = snapshot.creation_time.as_ref()?;
    i64::try_from(SignedDuration::new(time.seconds, time.nanos).as_nanos()).ok()
}

/// In bytes; 0 is "not known".
pub(super) fn size(snapshot: &Snapshot) -> Option<i64> {
    Some(snapshot.size_bytes).filter(|size| *size > 0)
}
