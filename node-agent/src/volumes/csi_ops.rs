//! Stage, publish and their undoing, as a kubelet asks a CSI driver for them.
//!
//! The folders: we make the staging folder and the *parent* of the target; the driver makes and
//! removes the target itself (CSI, `NodePublishVolume`).

use std::{
    collections::{BTreeMap, HashMap},
    path::{Path, PathBuf},
};

use holdfast_api::attachment::attachment_name;
use holdfast_proto::csi::{
    CapacityRange, NodeExpandVolumeRequest, NodePublishVolumeRequest, NodeStageVolumeRequest,
    NodeUnpublishVolumeRequest, NodeUnstageVolumeRequest,
};

use super::{
    api,
    apply::{Change, Io},
    folders,
    journal::{self, Journal},
    mountinfo::Mounts,
    view::{Attach, CsiVolume, Device, Growth, Plugin, PodKey, Publication, PublicationId, State, VolumeId},
};
use crate::{csi::capability::capability, error::Error, layout::Layout};

fn device_paths(layout: &Layout, id: &VolumeId, pv: &str, block: bool) -> (PathBuf, PathBuf) {
    if block {
        (layout.block_staging(pv), layout.block_device_journal(pv))
    } else {
        (layout.global_mount(&id.driver, &id.handle), layout.device_journal(&id.driver, &id.handle))
    }
}

fn publication_paths(layout: &Layout, pod: &str, pv: &str, block: bool) -> (PathBuf, PathBuf) {
    if block {
        (layout.block_target(pv, pod), layout.block_publication_journal(pv, pod))
    } else {
        (layout.csi_target(pod, pv), layout.csi_publication_journal(pod, pv))
    }
}

fn new_journal(io: &Io, id: &VolumeId, pv: &str, block: bool) -> Journal {
    let mut journal = Journal {
        spec_vol_id: pv.to_owned(),
        volume_handle: id.handle.clone(),
        driver_name: id.driver.clone(),
        node_name: io.node.clone(),
        attachment_id: attachment_name(&id.driver, &id.handle, &io.node),
        volume_lifecycle_mode: "Persistent".to_owned(),
        ..Journal::default()
    };
    journal.set_block(block);
    journal
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

fn hash(map: &BTreeMap<String, String>) -> HashMap<String, String> {
    map.iter().map(|(k, v)| (k.clone(), v.clone())).collect()
}

pub(crate) async fn stage(
    io: &Io,
    volume: &CsiVolume,
    pod: &PodKey,
    changes: &mut Vec<Change>,
) -> Result<(), Error> {
    let driver = io.driver(&volume.id.driver)?;
    // Asked of the server itself and after volumesInUse was confirmed: from here on the
    // attach-detach controller cannot detach, and what it detached before is seen.
    let publish_context = publish_context(io, volume).await?;
    let secrets = api::secrets(io, volume.stage_secret.as_ref()).await?;
    let block = volume.shape.block;
    let (path, journal_path) = device_paths(&io.layout, &volume.id, &volume.pv, block);
    let mut journal = new_journal(io, &volume.id, &volume.pv, block);
    journal.fs_type.clone_from(&volume.shape.fs_type);

    // A crash after this leaves a journal without a staging: it is unstaged or staged again.
    let (begun, to, staging) = (journal.clone().begun(), journal_path.clone(), path.clone());
    let mut device = Device { pv: volume.pv.clone(), block, state: State::Uncertain };
    io.blocking(move |_, _| {
        begun.write(&to)?;
        journal::make_folder(&staging)
    })
    .await?;
    changes.push(Change::Device(volume.id.clone(), Some(device.clone())));

    if driver.capabilities.stage {
        let request = NodeStageVolumeRequest {
            volume_id: volume.id.handle.clone(),
            publish_context,
            staging_target_path: text(&path),
            volume_capability: Some(capability(&volume.shape, driver.capabilities.multi_writer)),
            secrets,
            volume_context: hash(&volume.attributes),
        };
        driver
            .call("NodeStageVolume", request, |mut c, r| async move { c.node_stage_volume(r).await })
            .await?;
    }
    io.blocking(move |_, boot_id| {
        let mounted = Mounts::read()?.is_mounted(&path);
        journal.done(boot_id, mounted).write(&journal_path)
    })
    .await?;
    device.state = State::Done;
    changes.push(Change::Device(volume.id.clone(), Some(device)));
    if driver.capabilities.stage {
        io.tell(pod, false, "SuccessfulMountVolume", &format!("volume {} is staged on this node", volume.pv))
            .await;
    }
    Ok(())
}

pub(crate) async fn publish(
    io: &Io,
    volume: &CsiVolume,
    pod: &PodKey,
    changes: &mut Vec<Change>,
) -> Result<(), Error> {
    let driver = io.driver(&volume.id.driver)?;
    let publish_context = publish_context(io, volume).await?;
    let secrets = api::secrets(io, volume.publish_secret.as_ref()).await?;
    let block = volume.shape.block;
    let (staging, _) = device_paths(&io.layout, &volume.id, &volume.pv, block);
    let (target, journal_path) = publication_paths(&io.layout, &pod.uid, &volume.pv, block);
    let id = PublicationId { pod: pod.uid.clone(), plugin: Plugin::Csi, name: volume.pv.clone() };
    let mut publication =
        Publication { volume: Some(volume.id.clone()), block, state: State::Uncertain, owner: pod.clone() };
    let mut journal = new_journal(io, &volume.id, &volume.pv, block);
    journal.fs_type.clone_from(&volume.shape.fs_type);
    journal.read_only = volume.read_only.to_string();
    journal.pod_namespace.clone_from(&pod.namespace);
    journal.pod_name.clone_from(&pod.name);
    journal.pod_uid.clone_from(&pod.uid);

    let (begun, to, parent) =
        (journal.clone().begun(), journal_path.clone(), target.parent().map(PathBuf::from));
    io.blocking(move |_, _| {
        begun.write(&to)?;
        parent.map_or(Ok(()), |p| journal::make_folder(&p))
    })
    .await?;
    changes.push(Change::Publication(id.clone(), Some(publication.clone())));

    let mut volume_context = hash(&volume.attributes);
    if let Some(service_account) = &volume.pod_info {
        for (key, value) in [
            ("csi.storage.k8s.io/pod.name", pod.name.as_str()),
            ("csi.storage.k8s.io/pod.namespace", &pod.namespace),
            ("csi.storage.k8s.io/pod.uid", &pod.uid),
            ("csi.storage.k8s.io/serviceAccount.name", service_account),
            ("csi.storage.k8s.io/ephemeral", "false"),
        ] {
            volume_context.insert(key.to_owned(), value.to_owned());
        }
    }
    let request = NodePublishVolumeRequest {
        volume_id: volume.id.handle.clone(),
        publish_context,
        staging_target_path: if driver.capabilities.stage { text(&staging) } else { String::new() },
        target_path: text(&target),
        volume_capability: Some(capability(&volume.shape, driver.capabilities.multi_writer)),
        readonly: volume.read_only,
        secrets,
        volume_context,
    };
    driver
        .call("NodePublishVolume", request, |mut c, r| async move { c.node_publish_volume(r).await })
        .await?;

    let (uid, pv) = (pod.uid.clone(), volume.pv.clone());
    io.blocking(move |layout, boot_id| {
        if block {
            folders::link(&target, &layout.pod_device(&uid, Plugin::Csi.folder(), &pv))?;
        }
        let mounted = Mounts::read()?.is_mounted(&target);
        journal.done(boot_id, mounted).write(&journal_path)
    })
    .await?;
    publication.state = State::Done;
    changes.push(Change::Publication(id, Some(publication)));
    io.tell(pod, false, "SuccessfulMountVolume", &format!("volume {} is published to the pod", volume.pv))
        .await;
    Ok(())
}

/// What `ControllerPublishVolume` answered, as the attacher recorded it.
async fn publish_context(io: &Io, volume: &CsiVolume) -> Result<HashMap<String, String>, Error> {
    match volume.attach {
        Attach::NotNeeded => Ok(HashMap::new()),
        Attach::Pending | Attach::Attached => api::attachment_metadata(io, &volume.id, &volume.pv).await,
    }
}

pub(crate) async fn unpublish(
    io: &Io,
    id: &PublicationId,
    publication: &Publication,
    volume: &VolumeId,
    changes: &mut Vec<Change>,
) -> Result<(), Error> {
    let driver = io.driver(&volume.driver)?;
    let block = publication.block;
    let (target, journal_path) = publication_paths(&io.layout, &id.pod, &id.name, block);
    let uncertain = Publication { state: State::Uncertain, ..publication.clone() };
    changes.push(Change::Publication(id.clone(), Some(uncertain)));
    let (to, uid, pv) = (journal_path.clone(), id.pod.clone(), id.name.clone());
    io.blocking(move |layout, _| {
        if let Some(journal) = Journal::read(&to)? {
            journal.begun().write(&to)?;
        }
        if block {
            folders::unlink(&layout.pod_device(&uid, Plugin::Csi.folder(), &pv))?;
        }
        Ok(())
    })
    .await?;

    let request = NodeUnpublishVolumeRequest { volume_id: volume.handle.clone(), target_path: text(&target) };
    let answer = driver
        .call("NodeUnpublishVolume", request, |mut c, r| async move { c.node_unpublish_volume(r).await })
        .await;
    let gone = volume_gone(answer)?;

    let (uid, name) = (id.pod.clone(), id.name.clone());
    let left = io
        .blocking(move |layout, _| {
            refuse_if_mounted(&target, "NodeUnpublishVolume", gone)?;
            let mut left = folders::remove_empty(&target)?;
            Journal::remove(&journal_path)?;
            if block {
                folders::tidy(&[&layout.block().join("publish").join(&name)])?;
                folders::tidy(&[&layout.block_data(&name), &layout.block().join(&name)])?;
            } else {
                let folder = layout.pod_volume(&uid, Plugin::Csi.folder(), &name);
                left.extend(folders::remove_empty(&folder)?);
            }
            folders::tidy_pod(layout, &uid, Plugin::Csi)?;
            Ok(left)
        })
        .await?;
    changes.push(Change::Publication(id.clone(), None));
    let owner = Some(&publication.owner).filter(|o| !o.name.is_empty());
    io.tell_left(owner, &left).await;
    Ok(())
}

/// NOT_FOUND, the driver's word that there is no such volume (CSI, `NodeUnpublishVolume` and
/// `NodeUnstageVolume`), is no failure by itself: asking again would never end.
fn volume_gone<T>(answer: Result<T, Error>) -> Result<Option<Error>, Error> {
    match answer {
        Ok(_) => Ok(None),
        Err(Error::Csi { driver, method, status }) if status.code() == tonic::Code::NotFound => {
            Ok(Some(Error::Csi { driver, method, status }))
        }
        Err(error) => Err(error),
    }
}

/// The kernel's word counts, whether the driver says "done" or "no such volume".
fn refuse_if_mounted(path: &Path, after: &str, gone: Option<Error>) -> Result<(), Error> {
    match (folders::refuse_if_mounted(path, after), gone) {
        (Err(Error::Refused(mounted)), Some(gone)) => {
            Err(Error::Refused(format!("{gone}; yet {mounted}: unmount it by hand")))
        }
        (Ok(()), Some(gone)) => {
            tracing::warn!(error = %gone, path = %path.display(), "nothing is mounted there; taken for released");
            Ok(())
        }
        (refused, _) => refused,
    }
}

pub(crate) async fn unstage(
    io: &Io,
    id: &VolumeId,
    device: &Device,
    changes: &mut Vec<Change>,
) -> Result<(), Error> {
    let driver = io.driver(&id.driver)?;
    let (path, journal_path) = device_paths(&io.layout, id, &device.pv, device.block);
    changes.push(Change::Device(id.clone(), Some(Device { state: State::Uncertain, ..device.clone() })));
    let to = journal_path.clone();
    io.blocking(move |_, _| match Journal::read(&to)? {
        Some(journal) => journal.begun().write(&to),
        None => Ok(()),
    })
    .await?;

    let mut gone = None;
    if driver.capabilities.stage {
        let request =
            NodeUnstageVolumeRequest { volume_id: id.handle.clone(), staging_target_path: text(&path) };
        let answer = driver
            .call("NodeUnstageVolume", request, |mut c, r| async move { c.node_unstage_volume(r).await })
            .await;
        gone = volume_gone(answer)?;
    }
    let (block, pv) = (device.block, device.pv.clone());
    let left = io
        .blocking(move |layout, _| {
            refuse_if_mounted(&path, "NodeUnstageVolume", gone)?;
            let left = folders::remove_empty(&path)?;
            Journal::remove(&journal_path)?;
            if block {
                folders::tidy(&[&layout.block_data(&pv), &layout.block().join(&pv)])?;
            } else if let Some(folder) = path.parent() {
                folders::tidy(&[folder])?;
            }
            Ok(left)
        })
        .await?;
    changes.push(Change::Device(id.clone(), None));
    io.tell_left(None, &left).await;
    Ok(())
}

/// `NodeExpandVolume`: a file system by its staging path, a raw device by the pod's path.
pub(crate) async fn expand(io: &Io, volume: &CsiVolume, growth: &Growth, pod: &PodKey) -> Result<(), Error> {
    let driver = io.driver(&volume.id.driver)?;
    if !driver.capabilities.expand {
        return Ok(());
    }
    let block = volume.shape.block;
    let (staging, _) = device_paths(&io.layout, &volume.id, &volume.pv, block);
    let (target, _) = publication_paths(&io.layout, &pod.uid, &volume.pv, block);
    let by_staging = driver.capabilities.stage && !block;
    let request = NodeExpandVolumeRequest {
        volume_id: volume.id.handle.clone(),
        volume_path: text(if by_staging { &staging } else { &target }),
        capacity_range: Some(CapacityRange { required_bytes: growth.bytes, limit_bytes: 0 }),
        staging_target_path: if driver.capabilities.stage { text(&staging) } else { String::new() },
        volume_capability: Some(capability(&volume.shape, driver.capabilities.multi_writer)),
        secrets: api::secrets(io, volume.expand_secret.as_ref()).await?,
    };
    let answer = driver
        .call("NodeExpandVolume", request, |mut c, r| async move { c.node_expand_volume(r).await })
        .await?;
    // 0 means that the driver does not say (CSI, NodeExpandVolumeResponse).
    if answer.capacity_bytes != 0 && answer.capacity_bytes < growth.bytes {
        return Err(Error::Refused(format!(
            "NodeExpandVolume of driver {} gave {} bytes instead of {}",
            driver.name, answer.capacity_bytes, growth.bytes
        )));
    }
    Ok(())
}
