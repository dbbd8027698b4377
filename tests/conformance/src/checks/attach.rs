//! ControllerPublishVolume and ControllerUnpublishVolume.

use holdfast_proto::csi::{self, VolumeCapability, controller_service_capability::rpc::Type as Controller};
use tonic::Code;

use crate::{
    capability,
    check::{Check, check, refuse},
    failure::{Failure, Verdict, must},
    fixture::{Fixture, requests::NO_SUCH_ID},
    need::{BLOCK, LIST, MOUNT, Need, PUBLISH},
    rows::{
        IDEMPOTENT, INVALID, MISSING, NO_VOLUME, PUBLISHED_INCOMPATIBLE, UNIMPLEMENTED,
        controller::{
            ALL_NODES, MAX_ATTACHED, NO_NODE, NO_NODE_UNASSUMED, NO_VOLUME_UNASSUMED, PUBLISHED_NODES,
            UNPUBLISHED,
        },
    },
};

const UNDECLARED: &[Need] = &[Need::NoController(Controller::PublishUnpublishVolume)];
const NODE: &[Need] = &[Need::NodeService];
const READONLY: &[Need] = &[Need::Controller(Controller::PublishReadonly)];
const SMALL: &[Need] = &[Need::SmallNodeLimit];
const NODES: &[Need] = &[Need::Controller(Controller::ListVolumesPublishedNodes)];
const GET: &[Need] = &[Need::Controller(Controller::GetVolume)];

pub(super) const CHECKS: &[Check] = &[
    refuse!(
        "controller-publish-volume/undeclared",
        ControllerPublishVolume,
        UNIMPLEMENTED,
        [UNDECLARED],
        |f| { nowhere(f) }
    ),
    refuse!(
        "controller-publish-volume/missing-volume-id",
        ControllerPublishVolume,
        MISSING,
        [PUBLISH, NODE],
        |f| { csi::ControllerPublishVolumeRequest { volume_id: String::new(), ..nowhere(f) } }
    ),
    refuse!(
        "controller-publish-volume/missing-node-id",
        ControllerPublishVolume,
        MISSING,
        [PUBLISH, NODE],
        |f, v| { csi::ControllerPublishVolumeRequest { node_id: String::new(), ..f.attach_request(&v) } }
    ),
    refuse!(
        "controller-publish-volume/missing-capability",
        ControllerPublishVolume,
        MISSING,
        [PUBLISH, NODE],
        |f, v| { csi::ControllerPublishVolumeRequest { volume_capability: None, ..f.attach_request(&v) } }
    ),
    refuse!(
        "controller-publish-volume/missing-access-mode",
        ControllerPublishVolume,
        MISSING,
        [PUBLISH, NODE],
        |f, v| {
            let volume_capability = Some(VolumeCapability { access_mode: None, ..v.capability.clone() });
            csi::ControllerPublishVolumeRequest { volume_capability, ..f.attach_request(&v) }
        }
    ),
    refuse!(
        "controller-publish-volume/missing-access-type",
        ControllerPublishVolume,
        MISSING,
        [PUBLISH, NODE],
        |f, v| {
            let volume_capability = Some(VolumeCapability { access_type: None, ..v.capability.clone() });
            csi::ControllerPublishVolumeRequest { volume_capability, ..f.attach_request(&v) }
        }
    ),
    refuse!(
        "controller-publish-volume/undefined-access-mode",
        ControllerPublishVolume,
        INVALID,
        [PUBLISH, NODE],
        |f, v| {
            let access_mode = Some(csi::volume_capability::AccessMode { mode: 99 });
            let volume_capability = Some(VolumeCapability { access_mode, ..v.capability.clone() });
            csi::ControllerPublishVolumeRequest { volume_capability, ..f.attach_request(&v) }
        }
    ),
    refuse!(
        "controller-publish-volume/no-such-volume",
        ControllerPublishVolume,
        NO_VOLUME,
        [PUBLISH, NODE],
        |f| { nowhere(f) }
    ),
    refuse!(
        "controller-publish-volume/no-such-node",
        ControllerPublishVolume,
        NO_NODE,
        [PUBLISH, NODE],
        |f, v| {
            csi::ControllerPublishVolumeRequest { node_id: NO_SUCH_ID.to_owned(), ..f.attach_request(&v) }
        }
    ),
    check!(
        "controller-publish-volume/idempotent",
        ControllerPublishVolume,
        IDEMPOTENT,
        [PUBLISH, NODE],
        idempotent
    ),
    check!(
        "controller-publish-volume/other-access-type",
        ControllerPublishVolume,
        PUBLISHED_INCOMPATIBLE,
        [PUBLISH, NODE, MOUNT, BLOCK],
        other_type
    ),
    check!(
        "controller-publish-volume/other-readonly",
        ControllerPublishVolume,
        PUBLISHED_INCOMPATIBLE,
        [PUBLISH, NODE, READONLY],
        other_readonly
    ),
    check!(
        "controller-publish-volume/too-many",
        ControllerPublishVolume,
        MAX_ATTACHED,
        [PUBLISH, NODE, SMALL],
        too_many
    ),
    refuse!(
        "controller-unpublish-volume/undeclared",
        ControllerUnpublishVolume,
        UNIMPLEMENTED,
        [UNDECLARED],
        |f| { f.detach_request(NO_SUCH_ID) }
    ),
    refuse!(
        "controller-unpublish-volume/missing-volume-id",
        ControllerUnpublishVolume,
        MISSING,
        [PUBLISH, NODE],
        |f| { f.detach_request("") }
    ),
    check!(
        "controller-unpublish-volume/idempotent",
        ControllerUnpublishVolume,
        IDEMPOTENT,
        [PUBLISH, NODE],
        detach_twice
    ),
    refuse!(
        "controller-unpublish-volume/not-published",
        ControllerUnpublishVolume,
        UNPUBLISHED,
        [PUBLISH, NODE],
        |f, v| { f.detach_request(&v.id) }
    ),
    check!(
        "controller-unpublish-volume/all-nodes",
        ControllerUnpublishVolume,
        ALL_NODES,
        [PUBLISH, NODE],
        all_nodes
    ),
    refuse!(
        "controller-unpublish-volume/no-such-volume",
        ControllerUnpublishVolume,
        NO_VOLUME_UNASSUMED,
        [PUBLISH, NODE],
        |f| f.detach_request(NO_SUCH_ID)
    ),
    refuse!(
        "controller-unpublish-volume/no-such-node",
        ControllerUnpublishVolume,
        NO_NODE_UNASSUMED,
        [PUBLISH, NODE],
        |f, v| csi::ControllerUnpublishVolumeRequest {
            node_id: NO_SUCH_ID.to_owned(),
            ..f.detach_request(&v.id)
        }
    ),
    check!(
        "list-volumes/published-nodes",
        ListVolumes,
        PUBLISHED_NODES,
        [LIST, PUBLISH, NODE, NODES],
        listed_nodes
    ),
    check!(
        "controller-get-volume/published-nodes",
        ControllerGetVolume,
        PUBLISHED_NODES,
        [GET, PUBLISH, NODE, NODES],
        shown_nodes
    ),
];

/// A request about a volume that there is not.
fn nowhere(f: &Fixture) -> csi::ControllerPublishVolumeRequest {
    csi::ControllerPublishVolumeRequest {
        volume_id: NO_SUCH_ID.to_owned(),
        node_id: f.declared().node_id.clone(),
        volume_capability: Some(f.capability()),
        ..Default::default()
    }
}

async fn idempotent(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let (first, again) = f.twice(f.attach_request(&volume)).await?;
    must!(first == again, format!("the first answer again: {first:?}"), "{again:?}");
    Ok(())
}

/// Attached, and then asked for with something else.
async fn differently(
    f: &Fixture,
    change: impl FnOnce(csi::ControllerPublishVolumeRequest) -> csi::ControllerPublishVolumeRequest,
    codes: &[Code],
) -> Verdict {
    let volume = f.volume().await?;
    f.ok(f.attach_request(&volume)).await?;
    f.answers(change(f.attach_request(&volume)), codes).await?;
    // It is attached as it was.
    f.ok(f.attach_request(&volume)).await.map(|_| ())
}

async fn other_type(f: &Fixture) -> Verdict {
    let other = capability::opposite(&f.capability());
    // A use that the volume never has is an invalid field as well.
    let codes = [Code::AlreadyExists, Code::InvalidArgument];
    differently(
        f,
        |request| csi::ControllerPublishVolumeRequest { volume_capability: Some(other), ..request },
        &codes,
    )
    .await
}

async fn other_readonly(f: &Fixture) -> Verdict {
    let codes = [Code::AlreadyExists];
    differently(
        f,
        |request| csi::ControllerPublishVolumeRequest { readonly: !request.readonly, ..request },
        &codes,
    )
    .await
}

async fn too_many(f: &Fixture) -> Verdict {
    for _ in 0..f.declared().max_volumes {
        let volume = f.volume().await?;
        match f.call(f.attach_request(&volume)).await {
            Ok(_) => {}
            // Others may have volumes at this node.
            Err(status) if status.code() == Code::ResourceExhausted => return Ok(()),
            Err(status) => return Err(Failure::code(&[Code::Ok, Code::ResourceExhausted], &status)),
        }
    }
    let volume = f.volume().await?;
    f.refused(f.attach_request(&volume)).await
}

async fn detach_twice(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    f.ok(f.attach_request(&volume)).await?;
    f.twice(f.detach_request(&volume.id)).await.map(|_| ())
}

async fn all_nodes(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    f.ok(f.attach_request(&volume)).await?;
    let everywhere =
        csi::ControllerUnpublishVolumeRequest { node_id: String::new(), ..f.detach_request(&volume.id) };
    f.ok(everywhere).await?;
    if f.declared().controller.contains(&Controller::ListVolumesPublishedNodes) {
        let nodes = published_nodes(f, &volume.id).await?;
        must!(nodes.is_empty(), "no node", "{nodes:?}");
    }
    Ok(())
}

async fn published_nodes(f: &Fixture, id: &str) -> Verdict<Vec<String>> {
    let entries = super::listing::all_volumes(f, 0).await?;
    let entry = entries.into_iter().find(|entry| entry.volume.as_ref().is_some_and(|v| v.volume_id == id));
    let Some(entry) = entry else {
        return Err(Failure::wrong(format!("{id:?} in the list"), "a list without it"));
    };
    Ok(entry.status.unwrap_or_default().published_node_ids)
}

async fn listed_nodes(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let node = &f.declared().node_id;
    let before = published_nodes(f, &volume.id).await?;
    must!(before.is_empty(), "no node before it is published", "{before:?}");
    f.ok(f.attach_request(&volume)).await?;
    let during = published_nodes(f, &volume.id).await?;
    must!(during.contains(node), format!("{node:?}"), "{during:?}");
    f.ok(f.detach_request(&volume.id)).await?;
    let after = published_nodes(f, &volume.id).await?;
    must!(!after.contains(node), "no node after it was unpublished", "{after:?}");
    Ok(())
}

async fn shown_nodes(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let node = &f.declared().node_id;
    f.ok(f.attach_request(&volume)).await?;
    let shown = f.ok(super::listing::get(f, &volume.id)).await?.status.unwrap_or_default().published_node_ids;
    must!(shown.contains(node), format!("{node:?}"), "{shown:?}");
    Ok(())
}
