//! The driver's group controller: groups of snapshots, idempotent under a name.

use holdfast_proto::csi::{
    group_controller_server::GroupController,
    group_controller_service_capability::{self, Rpc, rpc},
    *,
};
use tonic::{Request, Response, Status};

use super::Driver;

impl Driver {
    pub(crate) fn with_groups(&self) {
        self.0.lock().takes_groups = true;
    }

    /// The driver's ids of the groups that it has.
    pub(crate) fn groups(&self) -> Vec<String> {
        self.0.lock().groups.values().map(|group| group.group_snapshot_id.clone()).collect()
    }

    /// A group that is there already, of one volume.
    pub(crate) fn put_group(&self, id: &str) {
        let group = group(id, &["h".to_owned()]);
        self.0.lock().groups.insert(id.to_owned(), group);
    }
}

fn group(name: &str, volumes: &[String]) -> VolumeGroupSnapshot {
    let time = prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5 };
    let snapshot = |volume: &String| Snapshot {
        snapshot_id: format!("id-{name}-{volume}"),
        source_volume_id: volume.clone(),
        size_bytes: 1 << 30,
        creation_time: Some(time),
        ready_to_use: true,
        group_snapshot_id: format!("id-{name}"),
    };
    VolumeGroupSnapshot {
        group_snapshot_id: format!("id-{name}"),
        snapshots: volumes.iter().map(snapshot).collect(),
        creation_time: Some(time),
        ready_to_use: true,
    }
}

/// The specification: the ids are those of the group's snapshots, or the call is wrong.
fn check(group: &VolumeGroupSnapshot, ids: &[String]) {
    let of: Vec<&String> = group.snapshots.iter().map(|snapshot| &snapshot.snapshot_id).collect();
    assert_eq!(ids.iter().collect::<Vec<_>>(), of, "the ids of the group's snapshots");
}

#[tonic::async_trait]
impl GroupController for Driver {
    async fn group_controller_get_capabilities(
        &self,
        _: Request<GroupControllerGetCapabilitiesRequest>,
    ) -> Result<Response<GroupControllerGetCapabilitiesResponse>, Status> {
        let kind = rpc::Type::CreateDeleteGetVolumeGroupSnapshot;
        let capability = GroupControllerServiceCapability {
            r#type: Some(group_controller_service_capability::Type::Rpc(Rpc { r#type: kind.into() })),
        };
        Ok(Response::new(GroupControllerGetCapabilitiesResponse { capabilities: vec![capability] }))
    }

    async fn create_volume_group_snapshot(
        &self,
        request: Request<CreateVolumeGroupSnapshotRequest>,
    ) -> Result<Response<CreateVolumeGroupSnapshotResponse>, Status> {
        let request = request.into_inner();
        self.do_it("CreateVolumeGroupSnapshot", &request.name.clone(), move |inner| {
            let made = || group(&request.name, &request.source_volume_ids);
            let mut told = inner.groups.entry(request.name.clone()).or_insert_with(made).clone();
            told.ready_to_use = inner.unready == 0;
            inner.unready = inner.unready.saturating_sub(1);
            CreateVolumeGroupSnapshotResponse { group_snapshot: Some(told) }
        })
        .await
    }

    async fn delete_volume_group_snapshot(
        &self,
        request: Request<DeleteVolumeGroupSnapshotRequest>,
    ) -> Result<Response<DeleteVolumeGroupSnapshotResponse>, Status> {
        let request = request.into_inner();
        self.do_it("DeleteVolumeGroupSnapshot", &request.group_snapshot_id.clone(), move |inner| {
            inner.groups.retain(|_, group| {
                let is_meant = group.group_snapshot_id == request.group_snapshot_id;
                if is_meant {
                    check(group, &request.snapshot_ids);
                }
                !is_meant
            });
            DeleteVolumeGroupSnapshotResponse {}
        })
        .await
    }

    async fn get_volume_group_snapshot(
        &self,
        request: Request<GetVolumeGroupSnapshotRequest>,
    ) -> Result<Response<GetVolumeGroupSnapshotResponse>, Status> {
        let request = request.into_inner();
        let id = request.group_snapshot_id.clone();
        let answer = self.do_it("GetVolumeGroupSnapshot", &id, move |inner| {
            let is_meant =
                |group: &&VolumeGroupSnapshot| group.group_snapshot_id == request.group_snapshot_id;
            let found = inner.groups.values().find(is_meant).cloned();
            found.map(|mut group| {
                check(&group, &request.snapshot_ids);
                group.ready_to_use = inner.unready == 0;
                inner.unready = inner.unready.saturating_sub(1);
                GetVolumeGroupSnapshotResponse { group_snapshot: Some(group) }
            })
        });
        let found = answer.await?.into_inner();
        found.map(Response::new).ok_or_else(|| Status::not_found("no such group"))
    }
}
