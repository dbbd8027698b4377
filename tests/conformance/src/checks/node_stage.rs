//! NodeStageVolume and NodeUnstageVolume.

use holdfast_proto::csi::{
    self, VolumeCapability, node_service_capability::rpc::Type as Node, volume_capability::AccessMode,
};
use tonic::Code;

use crate::{
    capability,
    check::{Check, check, refuse},
    failure::{Verdict, must},
    fixture::{Fixture, Volume, requests::NO_SUCH_ID},
    need::{BLOCK, MOUNT, Need, STAGE},
    rows::{
        EXCEEDS, IDEMPOTENT, INVALID, MISSING, NO_VOLUME, PENDING, PUBLISHED_INCOMPATIBLE, UNIMPLEMENTED,
        node::{STAGED, UNSTAGED},
    },
};

const UNDECLARED: &[Need] = &[Need::NoNode(Node::StageUnstageVolume)];

/// A check about a volume that is attached and not yet staged.
macro_rules! refuse_attached {
    ($id:literal, $condition:expr, $needs:expr, |$f:ident, $v:ident| $request:expr) => {
        $crate::check::Check {
            id: $id,
            rpc: Some($crate::rpc::Rpc::NodeStageVolume),
            condition: $condition,
            needs: &$needs,
            run: |$f| {
                Box::pin(async move {
                    let $v = attached($f).await?;
                    let request = $request;
                    $f.refused(request).await
                })
            },
        }
    };
}

pub(super) const CHECKS: &[Check] = &[
    refuse!("node-stage-volume/undeclared", NodeStageVolume, UNIMPLEMENTED, [UNDECLARED], |f| nowhere(f)),
    refuse_attached!("node-stage-volume/missing-volume-id", MISSING, [STAGE], |f, v| {
        csi::NodeStageVolumeRequest { volume_id: String::new(), ..f.stage_request(&v) }
    }),
    refuse_attached!("node-stage-volume/missing-staging-path", MISSING, [STAGE], |f, v| {
        csi::NodeStageVolumeRequest { staging_target_path: String::new(), ..f.stage_request(&v) }
    }),
    refuse_attached!("node-stage-volume/missing-capability", MISSING, [STAGE], |f, v| {
        csi::NodeStageVolumeRequest { volume_capability: None, ..f.stage_request(&v) }
    }),
    refuse_attached!("node-stage-volume/missing-access-type", MISSING, [STAGE], |f, v| {
        csi::NodeStageVolumeRequest {
            volume_capability: Some(VolumeCapability { access_type: None, ..v.capability.clone() }),
            ..f.stage_request(&v)
        }
    }),
    refuse_attached!("node-stage-volume/missing-access-mode", MISSING, [STAGE], |f, v| {
        csi::NodeStageVolumeRequest {
            volume_capability: Some(VolumeCapability { access_mode: None, ..v.capability.clone() }),
            ..f.stage_request(&v)
        }
    }),
    refuse_attached!("node-stage-volume/undefined-access-mode", INVALID, [STAGE], |f, v| {
        csi::NodeStageVolumeRequest {
            volume_capability: Some(VolumeCapability {
                access_mode: Some(AccessMode { mode: 99 }),
                ..v.capability.clone()
            }),
            ..f.stage_request(&v)
        }
    }),
    refuse_attached!("node-stage-volume/relative-path", INVALID, [STAGE], |f, v| {
        csi::NodeStageVolumeRequest {
            staging_target_path: "csi-check/staging".to_owned(),
            ..f.stage_request(&v)
        }
    }),
    refuse_attached!("node-stage-volume/path-with-nul", INVALID, [STAGE], |f, v| {
        csi::NodeStageVolumeRequest {
            staging_target_path: format!("{}\0x", v.staging()),
            ..f.stage_request(&v)
        }
    }),
    refuse_attached!("node-stage-volume/other-access-type", EXCEEDS, [STAGE, MOUNT, BLOCK], |f, v| {
        csi::NodeStageVolumeRequest {
            volume_capability: Some(capability::opposite(&v.capability)),
            ..f.stage_request(&v)
        }
    }),
    refuse_attached!("node-stage-volume/no-such-volume", NO_VOLUME, [STAGE], |f, v| {
        csi::NodeStageVolumeRequest { volume_id: NO_SUCH_ID.to_owned(), ..f.stage_request(&v) }
    }),
    check!("node-stage-volume/staged", NodeStageVolume, STAGED, [STAGE], staged),
    check!("node-stage-volume/idempotent", NodeStageVolume, IDEMPOTENT, [STAGE], stage_twice),
    check!("node-stage-volume/other-use", NodeStageVolume, PUBLISHED_INCOMPATIBLE, [STAGE, MOUNT], other_use),
    check!("node-stage-volume/at-once", NodeStageVolume, PENDING, [STAGE], at_once),
    refuse!("node-unstage-volume/undeclared", NodeUnstageVolume, UNIMPLEMENTED, [UNDECLARED], |_f| {
        unstage(NO_SUCH_ID, "/csi-check-no-such-path")
    }),
    refuse!("node-unstage-volume/missing-volume-id", NodeUnstageVolume, MISSING, [STAGE], |f, v| {
        unstage("", &f.unstage_request(&v).staging_target_path)
    }),
    refuse!(
        "node-unstage-volume/missing-staging-path",
        NodeUnstageVolume,
        MISSING,
        [STAGE],
        |_f, v| unstage(&v.id, "")
    ),
    refuse!("node-unstage-volume/relative-path", NodeUnstageVolume, INVALID, [STAGE], |_f, v| {
        unstage(&v.id, "csi-check/staging")
    }),
    refuse!("node-unstage-volume/no-such-volume", NodeUnstageVolume, NO_VOLUME, [STAGE], |f, v| {
        unstage(NO_SUCH_ID, &f.unstage_request(&v).staging_target_path)
    }),
    refuse!("node-unstage-volume/not-staged", NodeUnstageVolume, UNSTAGED, [STAGE], |f, v| f
        .unstage_request(&v)),
    check!("node-unstage-volume/undone", NodeUnstageVolume, UNSTAGED, [STAGE], undone),
    check!("node-unstage-volume/idempotent", NodeUnstageVolume, IDEMPOTENT, [STAGE], unstage_twice),
];

fn nowhere(f: &Fixture) -> csi::NodeStageVolumeRequest {
    csi::NodeStageVolumeRequest {
        volume_id: NO_SUCH_ID.to_owned(),
        staging_target_path: "/csi-check-no-such-path".to_owned(),
        volume_capability: Some(f.capability()),
        ..Default::default()
    }
}

fn unstage(volume_id: &str, path: &str) -> csi::NodeUnstageVolumeRequest {
    csi::NodeUnstageVolumeRequest { volume_id: volume_id.to_owned(), staging_target_path: path.to_owned() }
}

async fn attached(f: &Fixture) -> Verdict<Volume> {
    let mut volume = f.volume().await?;
    f.attach(&mut volume).await?;
    Ok(volume)
}

/// A staged volume can be published; how it is staged is the plugin's own.
async fn staged(f: &Fixture) -> Verdict {
    let volume = f.staged().await?;
    f.publish(&volume, "target").await?;
    f.write(&volume, "target", 0, vec![7; 4096]).await?;
    f.holds(&volume, "target", 0, &[7; 4096]).await
}

async fn stage_twice(f: &Fixture) -> Verdict {
    let volume = attached(f).await?;
    f.twice(f.stage_request(&volume)).await.map(|_| ())
}

/// The same path with another access mode, or mount options.
async fn other_use(f: &Fixture) -> Verdict {
    use csi::volume_capability::AccessType;
    let volume = f.staged().await?;
    let mut other = volume.capability.clone();
    if let Some(AccessType::Mount(mount)) = &mut other.access_type {
        mount.mount_flags = vec!["noatime".to_owned(), "ro".to_owned()];
    }
    f.refused(csi::NodeStageVolumeRequest { volume_capability: Some(other), ..f.stage_request(&volume) })
        .await?;
    f.ok(f.stage_request(&volume)).await.map(|_| ())
}

async fn at_once(f: &Fixture) -> Verdict {
    let volume = attached(f).await?;
    f.at_once(vec![f.stage_request(&volume); 8]).await?;
    f.ok(f.stage_request(&volume)).await?;
    f.at_once(vec![f.unstage_request(&volume); 8]).await?;
    f.ok(f.unstage_request(&volume)).await?;
    must!(
        !f.is_mounted(&volume.staging()).await?,
        "nothing mounted after unstaging",
        "a mount at {}",
        volume.staging()
    );
    Ok(())
}

async fn undone(f: &Fixture) -> Verdict {
    let volume = f.staged().await?;
    f.unstage(&volume).await?;
    must!(
        !f.is_mounted(&volume.staging()).await?,
        "nothing mounted after unstaging",
        "a mount at {}",
        volume.staging()
    );
    // The staging folder belongs to the orchestrator.
    f.stage(&volume).await?;
    f.unstage(&volume).await?;
    f.answers(f.delete_request(&volume.id), &[Code::Ok, Code::FailedPrecondition]).await.map(|_| ())
}

async fn unstage_twice(f: &Fixture) -> Verdict {
    let volume = f.staged().await?;
    f.twice(f.unstage_request(&volume)).await.map(|_| ())
}
