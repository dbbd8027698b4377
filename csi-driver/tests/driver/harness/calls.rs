//! The calls that an orchestrator makes, with what a test leaves out of them filled in.

use std::fs;

use holdfast_proto::csi::{self, CapacityRange, VolumeCapability, volume_capability::AccessType};
use tonic::{Code, Response, Status};

use super::{Driver, NODE, assert_code, can_grow_ext4_online, volume};

impl Driver {
    pub(crate) async fn create(&mut self, request: csi::CreateVolumeRequest) -> Result<csi::Volume, Status> {
        Ok(self.controller.create_volume(request).await?.into_inner().volume.unwrap())
    }

    pub(crate) async fn delete(&mut self, id: &str) -> Result<(), Status> {
        let request = csi::DeleteVolumeRequest { volume_id: id.to_owned(), ..Default::default() };
        done(self.controller.delete_volume(request).await)
    }

    pub(crate) async fn attach(&mut self, id: &str, capability: &VolumeCapability) -> Result<(), Status> {
        done(
            self.controller
                .controller_publish_volume(csi::ControllerPublishVolumeRequest {
                    volume_id: id.to_owned(),
                    node_id: NODE.to_owned(),
                    volume_capability: Some(capability.clone()),
                    ..Default::default()
                })
                .await,
        )
    }

    pub(crate) async fn detach(&mut self, id: &str) -> Result<(), Status> {
        done(
            self.controller
                .controller_unpublish_volume(csi::ControllerUnpublishVolumeRequest {
                    volume_id: id.to_owned(),
                    node_id: NODE.to_owned(),
                    ..Default::default()
                })
                .await,
        )
    }

    /// Stages at `staging-<id>`, which is made as an orchestrator does.
    pub(crate) async fn stage(&mut self, id: &str, capability: &VolumeCapability) -> Result<(), Status> {
        let staging = self.staging(id);
        fs::create_dir_all(&staging).unwrap();
        done(
            self.node
                .node_stage_volume(csi::NodeStageVolumeRequest {
                    volume_id: id.to_owned(),
                    staging_target_path: staging,
                    volume_capability: Some(capability.clone()),
                    ..Default::default()
                })
                .await,
        )
    }

    pub(crate) fn staging(&self, id: &str) -> String {
        self.path(&format!("staging-{id}"))
    }

    pub(crate) async fn unstage(&mut self, id: &str) -> Result<(), Status> {
        let staging_target_path = self.staging(id);
        let request = csi::NodeUnstageVolumeRequest { volume_id: id.to_owned(), staging_target_path };
        done(self.node.node_unstage_volume(request).await)
    }

    pub(crate) fn publish_request(
        &self,
        id: &str,
        target: &str,
        capability: &VolumeCapability,
    ) -> csi::NodePublishVolumeRequest {
        csi::NodePublishVolumeRequest {
            volume_id: id.to_owned(),
            staging_target_path: self.staging(id),
            target_path: self.path(target),
            volume_capability: Some(capability.clone()),
            ..Default::default()
        }
    }

    pub(crate) async fn publish(
        &mut self,
        id: &str,
        target: &str,
        capability: &VolumeCapability,
    ) -> Result<(), Status> {
        let request = self.publish_request(id, target, capability);
        done(self.node.node_publish_volume(request).await)
    }

    pub(crate) async fn unpublish(&mut self, id: &str, target: &str) -> Result<(), Status> {
        let target_path = self.path(target);
        let request = csi::NodeUnpublishVolumeRequest { volume_id: id.to_owned(), target_path };
        done(self.node.node_unpublish_volume(request).await)
    }

    pub(crate) async fn expand(
        &mut self,
        id: &str,
        bytes: i64,
    ) -> Result<csi::ControllerExpandVolumeResponse, Status> {
        let request = csi::ControllerExpandVolumeRequest {
            volume_id: id.to_owned(),
            capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
            ..Default::default()
        };
        Ok(self.controller.controller_expand_volume(request).await?.into_inner())
    }

    pub(crate) async fn node_expand(&mut self, id: &str, target: &str) -> Result<i64, Status> {
        self.node_expand_to(id, target, 0).await
    }

    /// As a kubelet asks: with the size that the controller gave.
    pub(crate) async fn node_expand_to(&mut self, id: &str, target: &str, bytes: i64) -> Result<i64, Status> {
        let request = csi::NodeExpandVolumeRequest {
            volume_id: id.to_owned(),
            volume_path: self.path(target),
            capacity_range: (bytes > 0).then_some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
            ..Default::default()
        };
        Ok(self.node.node_expand_volume(request).await?.into_inner().capacity_bytes)
    }

    /// Makes the node take up the new size `bytes`: online where that is possible, else
    /// by staging the volume anew.
    pub(crate) async fn grow_on_node(
        &mut self,
        id: &str,
        bytes: i64,
        target: &str,
        capability: &VolumeCapability,
    ) {
        let is_ext4 =
            matches!(&capability.access_type, Some(AccessType::Mount(mount)) if mount.fs_type == "ext4");
        if is_ext4
            && !can_grow_ext4_online()
            && let Err(status) = self.node_expand(id, target).await
        {
            assert_code(Err::<(), _>(status), Code::FailedPrecondition, "CAP_SYS_RESOURCE");
            self.unpublish(id, target).await.unwrap();
            self.unstage(id).await.unwrap();
            self.stage(id, capability).await.unwrap();
            self.publish(id, target, capability).await.unwrap();
        }
        for _ in 0..2 {
            assert_eq!(self.node_expand_to(id, target, bytes).await.unwrap(), bytes);
        }
    }

    pub(crate) async fn stats(&mut self, id: &str, target: &str) -> Result<Vec<csi::VolumeUsage>, Status> {
        let request = csi::NodeGetVolumeStatsRequest {
            volume_id: id.to_owned(),
            volume_path: self.path(target),
            ..Default::default()
        };
        Ok(self.node.node_get_volume_stats(request).await?.into_inner().usage)
    }

    /// Makes, attaches, stages and publishes a volume at `target`.
    pub(crate) async fn bring_up(
        &mut self,
        name: &str,
        bytes: i64,
        capability: &VolumeCapability,
        target: &str,
    ) -> String {
        let id = self.create(volume(name, bytes, capability)).await.unwrap().volume_id;
        self.attach(&id, capability).await.unwrap();
        self.stage(&id, capability).await.unwrap();
        self.publish(&id, target, capability).await.unwrap();
        id
    }

    /// The way back, to the end.
    pub(crate) async fn take_down(&mut self, id: &str, target: &str) {
        self.unpublish(id, target).await.unwrap();
        self.unstage(id).await.unwrap();
        self.detach(id).await.unwrap();
        self.delete(id).await.unwrap();
    }
}

fn done<T>(response: Result<Response<T>, Status>) -> Result<(), Status> {
    response.map(|_| ())
}
