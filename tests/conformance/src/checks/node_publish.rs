//! NodePublishVolume and NodeUnpublishVolume.

use std::fs;

use holdfast_proto::csi::{
    self, VolumeCapability,
    node_service_capability::rpc::Type as Node,
    volume_capability::{AccessMode, AccessType, access_mode::Mode},
};

use crate::{
    capability,
    check::{Check, check, refuse},
    failure::{Failure, Verdict, must},
    fixture::{Fixture, blocking, requests::NO_SUCH_ID},
    need::{BLOCK, LOCAL, MOUNT, Need, STAGE},
    rows::{
        EXCEEDS, IDEMPOTENT, INVALID, MISSING, NO_VOLUME, PENDING, PUBLISHED_INCOMPATIBLE,
        node::{NOT_STAGED, PUBLISHED, STAGE_FIRST, UNPUBLISHED},
    },
};

const GROUP: &[Need] = &[Need::Node(Node::VolumeMountGroup)];

/// A check about a volume that is staged and not yet published.
macro_rules! refuse_staged {
    ($id:literal, $condition:expr, $needs:expr, |$f:ident, $v:ident| $request:expr) => {
        $crate::check::Check {
            id: $id,
            rpc: Some($crate::rpc::Rpc::NodePublishVolume),
            condition: $condition,
            needs: &$needs,
            run: |$f| {
                Box::pin(async move {
                    let $v = $f.staged().await?;
                    let request = $request;
                    $f.refused(request).await
                })
            },
        }
    };
}

pub(super) const CHECKS: &[Check] = &[
    refuse_staged!("node-publish-volume/missing-volume-id", MISSING, [LOCAL], |f, v| {
        csi::NodePublishVolumeRequest { volume_id: String::new(), ..f.publish_request(&v, "target") }
    }),
    refuse_staged!("node-publish-volume/missing-target-path", MISSING, [LOCAL], |f, v| {
        csi::NodePublishVolumeRequest { target_path: String::new(), ..f.publish_request(&v, "target") }
    }),
    refuse_staged!("node-publish-volume/missing-capability", MISSING, [LOCAL], |f, v| {
        csi::NodePublishVolumeRequest { volume_capability: None, ..f.publish_request(&v, "target") }
    }),
    refuse_staged!("node-publish-volume/missing-access-type", MISSING, [LOCAL], |f, v| {
        csi::NodePublishVolumeRequest {
            volume_capability: Some(VolumeCapability { access_type: None, ..v.capability.clone() }),
            ..f.publish_request(&v, "target")
        }
    }),
    refuse_staged!("node-publish-volume/missing-access-mode", MISSING, [LOCAL], |f, v| {
        csi::NodePublishVolumeRequest {
            volume_capability: Some(VolumeCapability { access_mode: None, ..v.capability.clone() }),
            ..f.publish_request(&v, "target")
        }
    }),
    refuse_staged!("node-publish-volume/undefined-access-mode", INVALID, [LOCAL], |f, v| {
        csi::NodePublishVolumeRequest {
            volume_capability: Some(VolumeCapability {
                access_mode: Some(AccessMode { mode: 99 }),
                ..v.capability.clone()
            }),
            ..f.publish_request(&v, "target")
        }
    }),
    refuse_staged!("node-publish-volume/relative-target-path", INVALID, [LOCAL], |f, v| {
        csi::NodePublishVolumeRequest {
            target_path: "csi-check/target".to_owned(),
            ..f.publish_request(&v, "target")
        }
    }),
    refuse_staged!("node-publish-volume/target-path-with-nul", INVALID, [LOCAL], |f, v| {
        csi::NodePublishVolumeRequest {
            target_path: format!("{}\0x", v.path("target")),
            ..f.publish_request(&v, "target")
        }
    }),
    refuse_staged!("node-publish-volume/relative-staging-path", INVALID, [STAGE], |f, v| {
        csi::NodePublishVolumeRequest {
            staging_target_path: "csi-check/staging".to_owned(),
            ..f.publish_request(&v, "target")
        }
    }),
    refuse_staged!("node-publish-volume/other-access-type", EXCEEDS, [LOCAL, MOUNT, BLOCK], |f, v| {
        csi::NodePublishVolumeRequest {
            volume_capability: Some(capability::opposite(&v.capability)),
            ..f.publish_request(&v, "target")
        }
    }),
    refuse_staged!("node-publish-volume/no-such-volume", NO_VOLUME, [LOCAL], |f, v| {
        csi::NodePublishVolumeRequest { volume_id: NO_SUCH_ID.to_owned(), ..f.publish_request(&v, "target") }
    }),
    refuse_staged!("node-publish-volume/missing-staging-path", NOT_STAGED, [STAGE], |f, v| {
        csi::NodePublishVolumeRequest {
            staging_target_path: String::new(),
            ..f.publish_request(&v, "target")
        }
    }),
    check!("node-publish-volume/not-staged", NodePublishVolume, STAGE_FIRST, [STAGE], not_staged),
    check!("node-publish-volume/idempotent", NodePublishVolume, IDEMPOTENT, [LOCAL], publish_twice),
    check!(
        "node-publish-volume/other-readonly",
        NodePublishVolume,
        PUBLISHED_INCOMPATIBLE,
        [LOCAL],
        other_readonly
    ),
    check!("node-publish-volume/at-once", NodePublishVolume, PENDING, [LOCAL], at_once),
    check!("node-publish-volume/published", NodePublishVolume, PUBLISHED, [LOCAL], published),
    check!("node-publish-volume/block-device", NodePublishVolume, PUBLISHED, [LOCAL, BLOCK], block_device),
    check!("node-publish-volume/readonly", NodePublishVolume, PUBLISHED, [LOCAL], readonly),
    check!(
        "node-publish-volume/mount-group",
        NodePublishVolume,
        PUBLISHED,
        [LOCAL, MOUNT, GROUP],
        mount_group
    ),
    check!("node-publish-volume/long-target-path", NodePublishVolume, PUBLISHED, [LOCAL], long_path),
    refuse!("node-unpublish-volume/missing-volume-id", NodeUnpublishVolume, MISSING, [LOCAL], |f, v| {
        csi::NodeUnpublishVolumeRequest { volume_id: String::new(), ..f.unpublish_request(&v, "target") }
    }),
    refuse!("node-unpublish-volume/missing-target-path", NodeUnpublishVolume, MISSING, [LOCAL], |f, v| {
        csi::NodeUnpublishVolumeRequest { target_path: String::new(), ..f.unpublish_request(&v, "target") }
    }),
    refuse!("node-unpublish-volume/relative-target-path", NodeUnpublishVolume, INVALID, [LOCAL], |f, v| {
        csi::NodeUnpublishVolumeRequest {
            target_path: "csi-check/target".to_owned(),
            ..f.unpublish_request(&v, "target")
        }
    }),
    refuse!("node-unpublish-volume/no-such-volume", NodeUnpublishVolume, NO_VOLUME, [LOCAL], |f, v| {
        csi::NodeUnpublishVolumeRequest {
            volume_id: NO_SUCH_ID.to_owned(),
            ..f.unpublish_request(&v, "target")
        }
    }),
    refuse!("node-unpublish-volume/not-published", NodeUnpublishVolume, UNPUBLISHED, [LOCAL], |f, v| {
        f.unpublish_request(&v, "target")
    }),
    check!("node-unpublish-volume/removed", NodeUnpublishVolume, UNPUBLISHED, [LOCAL], removed),
    check!("node-unpublish-volume/idempotent", NodeUnpublishVolume, IDEMPOTENT, [LOCAL], unpublish_twice),
];

async fn not_staged(f: &Fixture) -> Verdict {
    let mut volume = f.volume().await?;
    f.attach(&mut volume).await?;
    f.refused(f.publish_request(&volume, "target")).await
}

async fn publish_twice(f: &Fixture) -> Verdict {
    let volume = f.staged().await?;
    f.twice(f.publish_request(&volume, "target")).await?;
    // Published twice, gone after once.
    f.unpublish(&volume, "target").await?;
    must!(
        !f.is_mounted(&volume.path("target")).await?,
        "no mount after unpublishing",
        "one that was stacked"
    );
    Ok(())
}

async fn other_readonly(f: &Fixture) -> Verdict {
    let volume = f.published().await?;
    f.refused(csi::NodePublishVolumeRequest { readonly: true, ..f.publish_request(&volume, "target") })
        .await?;
    f.write(&volume, "target", 0, vec![1; 512]).await
}

async fn at_once(f: &Fixture) -> Verdict {
    let volume = f.staged().await?;
    f.at_once(vec![f.publish_request(&volume, "target"); 8]).await?;
    f.ok(f.publish_request(&volume, "target")).await?;
    f.at_once(vec![f.unpublish_request(&volume, "target"); 8]).await?;
    f.ok(f.unpublish_request(&volume, "target")).await?;
    let path = volume.path("target");
    must!(!f.exists(&path).await?, format!("no {path} after unpublishing"), "it is there");
    Ok(())
}

async fn published(f: &Fixture) -> Verdict {
    let volume = f.published().await?;
    f.write(&volume, "target", 0, vec![5; 4096]).await?;
    f.holds(&volume, "target", 0, &[5; 4096]).await
}

async fn block_device(f: &Fixture) -> Verdict {
    use std::os::unix::fs::FileTypeExt;
    let volume = f.published_for(capability::block(Mode::SingleNodeWriter)).await?;
    let path = volume.path("target");
    let device =
        blocking(f, "the target can be looked at", move || Ok(fs::metadata(path)?.file_type())).await?;
    must!(device.is_block_device(), "a block device at the target path", "{device:?}");
    let seen = f.visible_bytes(&volume, "target").await?;
    must!(
        seen >= f.options().size,
        format!("a device of at least {} bytes", f.options().size),
        "{seen} bytes"
    );
    Ok(())
}

async fn readonly(f: &Fixture) -> Verdict {
    let volume = f.staged().await?;
    f.ok(csi::NodePublishVolumeRequest { readonly: true, ..f.publish_request(&volume, "target") }).await?;
    match f.write(&volume, "target", 0, vec![1; 512]).await {
        Ok(()) => {
            Err(Failure::wrong("no writing to a volume that is published readonly", "512 bytes written"))
        }
        Err(_) => Ok(()),
    }
}

/// The files belong to the group that was asked for.
async fn mount_group(f: &Fixture) -> Verdict {
    use std::os::unix::fs::MetadataExt;
    const GROUP: u32 = 4242;
    let mut wanted = f.capability();
    if let Some(AccessType::Mount(mount)) = &mut wanted.access_type {
        mount.volume_mount_group = GROUP.to_string();
    }
    let volume = f.published_for(wanted).await?;
    let path = volume.path("target");
    let group = blocking(f, "the target can be looked at", move || Ok(fs::metadata(path)?.gid())).await?;
    must!(group == GROUP, format!("group {GROUP} at the target"), "group {group}");
    Ok(())
}

/// Paths override the limit of 128 bytes.
async fn long_path(f: &Fixture) -> Verdict {
    let volume = f.staged().await?;
    let target = "t".repeat(200);
    f.publish(&volume, &target).await?;
    f.unpublish(&volume, &target).await
}

async fn removed(f: &Fixture) -> Verdict {
    let volume = f.published().await?;
    f.unpublish(&volume, "target").await?;
    let path = volume.path("target");
    must!(!f.exists(&path).await?, format!("no {path}: the plugin made it"), "it is there");
    f.publish(&volume, "target").await
}

async fn unpublish_twice(f: &Fixture) -> Verdict {
    let volume = f.published().await?;
    f.twice(f.unpublish_request(&volume, "target")).await.map(|_| ())
}
