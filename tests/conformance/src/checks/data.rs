//! What is in the volumes.

use holdfast_proto::csi::{
    self, controller_service_capability::rpc::Type as Controller, volume_capability::access_mode::Mode,
};

use super::existing::{cut_in_use, from, snapshot, volume as cloned};
use crate::{
    capability,
    check::{Check, general},
    failure::{Failure, Verdict, must},
    fixture::{Fixture, Volume, local::pattern},
    need::{BLOCK, CLONE, GROUP, LOCAL, MOUNT, Need, RESTART, SNAPSHOT},
    rows::general::DATA,
};

const SEVERAL: &[Need] = &[Need::Mode(Mode::SingleNodeMultiWriter)];

pub(super) const CHECKS: &[Check] = &[
    general!("data/kept-when-staged-again", DATA, [LOCAL, MOUNT], kept),
    general!("data/kept-when-staged-again-block", DATA, [LOCAL, BLOCK], kept_block),
    general!("data/new-volume-is-empty", DATA, [LOCAL], empty),
    general!("data/name-used-again-is-empty", DATA, [LOCAL], used_again),
    general!("data/snapshot", DATA, [LOCAL, SNAPSHOT, MOUNT], snapshot_mount),
    general!("data/snapshot-block", DATA, [LOCAL, SNAPSHOT, BLOCK], snapshot_block),
    general!("data/snapshot-not-changed-by-restored", DATA, [LOCAL, SNAPSHOT], restored_apart),
    general!("data/clone", DATA, [LOCAL, CLONE, MOUNT], clone_mount),
    general!("data/clone-block", DATA, [LOCAL, CLONE, BLOCK], clone_block),
    general!("data/restored-beside-source", DATA, [LOCAL, SNAPSHOT, MOUNT], beside),
    general!("data/restored-larger", DATA, [LOCAL, SNAPSHOT, MOUNT], restored_larger),
    general!("data/group", DATA, [LOCAL, GROUP], group),
    general!("data/two-targets", DATA, [LOCAL, SEVERAL], two_targets),
    general!("data/mounted-through-restart", DATA, [LOCAL, RESTART], through_restart),
];

const LENGTH: usize = 64 << 10;

/// Published anew after all was undone.
async fn anew(f: &Fixture, volume: &mut Volume) -> Verdict {
    f.take_down_to_detached(volume).await?;
    f.bring_up(volume).await
}

async fn kept_as(f: &Fixture, use_as: csi::VolumeCapability) -> Verdict {
    let mut volume = f.published_for(use_as).await?;
    for slot in 0..3 {
        f.write(&volume, "target", slot, pattern(slot + 1, LENGTH)).await?;
    }
    anew(f, &mut volume).await?;
    for slot in 0..3 {
        f.holds(&volume, "target", slot, &pattern(slot + 1, LENGTH)).await?;
    }
    Ok(())
}

async fn kept(f: &Fixture) -> Verdict {
    kept_as(f, f.capability()).await
}

async fn kept_block(f: &Fixture) -> Verdict {
    kept_as(f, capability::block(Mode::SingleNodeWriter)).await
}

/// Nothing of anybody: no files, or zeroes.
async fn is_empty(f: &Fixture, volume: &Volume) -> Verdict {
    if capability::is_block(&volume.capability) {
        return f.holds(volume, "target", 0, &[0; LENGTH]).await;
    }
    let path = volume.path("target");
    let files = crate::fixture::blocking(f, "the target can be listed", move || {
        let names = std::fs::read_dir(path)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
        Ok(names.filter(|name| name != "lost+found").collect::<Vec<_>>())
    })
    .await?;
    must!(files.is_empty(), "a new volume to be empty", "{files:?}");
    Ok(())
}

async fn empty(f: &Fixture) -> Verdict {
    is_empty(f, &f.published().await?).await
}

/// A volume of a name that was deleted is not that volume.
async fn used_again(f: &Fixture) -> Verdict {
    let request = f.create_request();
    for _ in 0..2 {
        let mut volume = f.create(request.clone()).await?;
        f.bring_up(&mut volume).await?;
        is_empty(f, &volume).await?;
        f.write(&volume, "target", 0, pattern(5, LENGTH)).await?;
        f.take_down(&volume).await?;
    }
    Ok(())
}

/// A volume from a source, published.
async fn copy(f: &Fixture, source: csi::VolumeContentSource, like: &Volume) -> Verdict<Volume> {
    let request =
        csi::CreateVolumeRequest { volume_capabilities: vec![like.capability.clone()], ..from(f, source) };
    let mut copy = f.create(request).await?;
    f.bring_up(&mut copy).await?;
    Ok(copy)
}

/// Written, cut, written again: the snapshot has what was there first.
async fn snapshot_of(f: &Fixture, use_as: csi::VolumeCapability) -> Verdict {
    let mut volume = f.published_for(use_as).await?;
    let (old, new) = (pattern(6, LENGTH), pattern(7, LENGTH));
    f.write(&volume, "target", 0, old.clone()).await?;
    let id = cut_in_use(f, &mut volume).await?;
    f.write(&volume, "target", 0, new.clone()).await?;
    f.holds(&volume, "target", 0, &new).await?;
    f.take_down_to_detached(&volume).await?;
    let restored = copy(f, snapshot(&id), &volume).await?;
    f.holds(&restored, "target", 0, &old).await
}

async fn snapshot_mount(f: &Fixture) -> Verdict {
    snapshot_of(f, f.capability()).await
}

async fn snapshot_block(f: &Fixture) -> Verdict {
    snapshot_of(f, capability::block(Mode::SingleNodeWriter)).await
}

async fn restored_apart(f: &Fixture) -> Verdict {
    let mut volume = f.published().await?;
    let old = pattern(8, LENGTH);
    f.write(&volume, "target", 0, old.clone()).await?;
    let id = cut_in_use(f, &mut volume).await?;
    f.take_down(&volume).await?;
    let first = copy(f, snapshot(&id), &volume).await?;
    f.write(&first, "target", 0, pattern(9, LENGTH)).await?;
    f.take_down(&first).await?;
    let second = copy(f, snapshot(&id), &volume).await?;
    f.holds(&second, "target", 0, &old).await
}

async fn clone_of(f: &Fixture, use_as: csi::VolumeCapability) -> Verdict {
    let volume = f.published_for(use_as).await?;
    let old = pattern(10, LENGTH);
    f.write(&volume, "target", 0, old.clone()).await?;
    f.take_down_to_detached(&volume).await?;
    let copied = copy(f, cloned(&volume.id), &volume).await?;
    f.holds(&copied, "target", 0, &old).await?;
    f.write(&copied, "target", 0, pattern(11, LENGTH)).await?;
    f.take_down(&copied).await?;
    let mut volume = volume;
    f.bring_up(&mut volume).await?;
    f.holds(&volume, "target", 0, &old).await
}

async fn clone_mount(f: &Fixture) -> Verdict {
    clone_of(f, f.capability()).await
}

async fn clone_block(f: &Fixture) -> Verdict {
    clone_of(f, capability::block(Mode::SingleNodeWriter)).await
}

/// Source and restored volume on one node at once: two file systems with one UUID cannot.
async fn beside(f: &Fixture) -> Verdict {
    let mut volume = f.published().await?;
    let (old, new) = (pattern(12, LENGTH), pattern(13, LENGTH));
    f.write(&volume, "target", 0, old.clone()).await?;
    let id = cut_in_use(f, &mut volume).await?;
    let restored = copy(f, snapshot(&id), &volume).await?;
    f.write(&restored, "target", 0, new.clone()).await?;
    f.holds(&volume, "target", 0, &old).await?;
    f.holds(&restored, "target", 0, &new).await
}

async fn restored_larger(f: &Fixture) -> Verdict {
    let mut volume = f.published().await?;
    let old = pattern(14, LENGTH);
    f.write(&volume, "target", 0, old.clone()).await?;
    let id = cut_in_use(f, &mut volume).await?;
    let wanted = 2 * volume.capacity.max(f.options().size);
    let request = csi::CreateVolumeRequest { capacity_range: f.at_least(wanted), ..from(f, snapshot(&id)) };
    let mut restored = f.create(request).await?;
    f.bring_up(&mut restored).await?;
    f.holds(&restored, "target", 0, &old).await?;
    let seen = f.visible_bytes(&restored, "target").await?;
    must!(seen >= wanted / 10 * 7, format!("a file system of about {wanted} bytes"), "{seen} bytes");
    Ok(())
}

/// Each member has what its volume had.
async fn group(f: &Fixture) -> Verdict {
    let (one, two) = (f.published().await?, f.published().await?);
    f.write(&one, "target", 0, pattern(15, LENGTH)).await?;
    f.write(&two, "target", 0, pattern(16, LENGTH)).await?;
    let made = super::groups::made(f, &[&one.id, &two.id]).await?;
    for (volume, seed) in [(&one, 15), (&two, 16)] {
        f.write(volume, "target", 0, pattern(17, LENGTH)).await?;
        let member = made.snapshots.iter().find(|member| member.source_volume_id == volume.id);
        let Some(member) = member else {
            return Err(Failure::wrong("a snapshot of each volume", format!("{made:?}")));
        };
        let restored = copy(f, snapshot(&member.snapshot_id), volume).await?;
        f.holds(&restored, "target", 0, &pattern(seed, LENGTH)).await?;
    }
    Ok(())
}

async fn two_targets(f: &Fixture) -> Verdict {
    let volume = f.published_for(capability::with_mode(&f.capability(), Mode::SingleNodeMultiWriter)).await?;
    f.publish(&volume, "other").await?;
    f.write(&volume, "target", 0, pattern(18, LENGTH)).await?;
    f.holds(&volume, "other", 0, &pattern(18, LENGTH)).await?;
    f.write(&volume, "other", 1, pattern(19, LENGTH)).await?;
    f.holds(&volume, "target", 1, &pattern(19, LENGTH)).await?;
    f.unpublish(&volume, "target").await?;
    f.holds(&volume, "other", 1, &pattern(19, LENGTH)).await
}

/// A mounted volume works while the plugin is away, and is known when it is back.
async fn through_restart(f: &Fixture) -> Verdict {
    let volume = f.published().await?;
    f.write(&volume, "target", 0, pattern(20, LENGTH)).await?;
    f.restart().await?;
    f.holds(&volume, "target", 0, &pattern(20, LENGTH)).await?;
    f.write(&volume, "target", 1, pattern(21, LENGTH)).await?;
    if f.declared().controller.contains(&Controller::ListVolumes) {
        super::listing::all_volumes(f, 0).await?;
    }
    f.take_down(&volume).await
}
