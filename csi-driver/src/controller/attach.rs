//! ControllerPublishVolume and ControllerUnpublishVolume: which node has a volume.
//! Nothing moves, for the storage is on the node; what is written down is what keeps
//! two nodes from using one volume.

use std::collections::HashMap;

use holdfast_proto::csi::{
    ControllerPublishVolumeRequest, ControllerPublishVolumeResponse, ControllerUnpublishVolumeRequest,
    ControllerUnpublishVolumeResponse,
};

use super::check_use;
use crate::{capability::Capability, error::Error, server::Driver, volume::Attachment, volume_id::VolumeId};

/// CSI v1.12, ControllerPublishVolume.
pub(super) fn attach(
    driver: &Driver,
    request: &ControllerPublishVolumeRequest,
) -> Result<ControllerPublishVolumeResponse, Error> {
    let node = &request.node_id;
    if node.is_empty() {
        return Err(Error::Invalid("node_id is required".to_owned()));
    }
    // Only for drivers with the capability PUBLISH_READONLY (CSI v1.12, ControllerPublishVolumeRequest): taken, it
    // would promise what nothing here holds to.
    if request.readonly {
        return Err(Error::Invalid(
            "readonly is set, but this driver does not declare PUBLISH_READONLY; leave it out, and set readonly in \
             NodePublishVolume or use SINGLE_NODE_READER_ONLY"
                .to_owned(),
        ));
    }
    let id = VolumeId::parse(&request.volume_id);
    let capability = Capability::required(request.volume_capability.as_ref())?;
    let id = id?;
    let pool = driver.pool_of(&id)?;
    let _guard = driver.guards.take(&id)?;
    let folder = pool.folder(&id)?;
    let mut volume = folder.read_volume()?;
    if *node != driver.node_id {
        return Err(Error::NotFound(format!(
            "node {node:?} is not known; this driver serves {:?}",
            driver.node_id
        )));
    }
    check_use(pool.backend.as_ref(), volume.content, &capability)?;

    if let Some(other) = volume.attachments.keys().find(|other| *other != node) {
        return Err(Error::Precondition(format!(
            "volume {id} is published to node {other:?} and can be at one node only; unpublish it there first"
        )));
    }
    let wanted = Attachment { mode: capability.mode, readonly: request.readonly };
    let answer = ControllerPublishVolumeResponse { publish_context: HashMap::new() };
    match volume.attachments.get(node) {
        Some(attachment) if *attachment == wanted => return Ok(answer),
        Some(attachment) => {
            return Err(Error::Exists(format!(
                "volume {id} is published to node {node:?} already, differently: {:?}, readonly {}",
                attachment.mode, attachment.readonly
            )));
        }
        None => {}
    }
    pool.expect_in_place()?;
    volume.attachments.insert(node.clone(), wanted);
    folder.write_volume(&volume)?;
    Ok(answer)
}

/// CSI v1.12, ControllerUnpublishVolume: a volume or node that does not exist is not
/// published. No node named means every node.
pub(super) fn detach(
    driver: &Driver,
    request: &ControllerUnpublishVolumeRequest,
) -> Result<ControllerUnpublishVolumeResponse, Error> {
    let answer = ControllerUnpublishVolumeResponse {};
    let id = match VolumeId::parse(&request.volume_id) {
        Err(Error::VolumeNotFound(_)) => return Ok(answer),
        parsed => parsed?,
    };
    let pool = driver.pool_of(&id)?;
    let _guard = driver.guards.take(&id)?;
    let Some(folder) = pool.find(&id)? else { return Ok(answer) };
    let Some(mut volume) = folder.read_volume_even_damaged()? else {
        // Where it was attached nobody knows; what is unstaged can go.
        if pool.is_in_use(&folder)? {
            return Err(Error::Precondition(format!(
                "volume {id} is still mounted or attached on this node"
            )));
        }
        return Ok(answer);
    };
    let before = volume.attachments.len();
    volume.attachments.retain(|node, _| !request.node_id.is_empty() && *node != request.node_id);
    if volume.attachments.len() != before {
        folder.write_volume(&volume)?;
    }
    Ok(answer)
}
