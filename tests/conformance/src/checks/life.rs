//! Whole lives: as they are, with each call repeated, and with a restart between any two.
//! What the plugin does not declare is left out of the life.

use holdfast_proto::csi::{
    self, VolumeCapability, controller_service_capability::rpc::Type as Controller,
    group_controller_service_capability::rpc::Type as Group, node_service_capability::rpc::Type as Node,
    plugin_capability::volume_expansion::Type as Expansion, volume_capability::access_mode::Mode,
};
use tonic::Code;

use super::{
    existing::{cut, cut_in_use, from, snapshot, volume as cloned},
    listing,
};
use crate::{
    capability,
    check::Check,
    failure::{Failure, Verdict, must},
    fixture::{Between, Fixture, Volume, local::pattern},
    need::{BLOCK, CREATE, LOCAL, MOUNT, NOTHING, RESTART},
    rows::general::{RESTARTED, RETRIED, WHOLE_LIFE},
};

/// A life in each of the three ways.
macro_rules! lives {
    ($($name:literal $needs:expr, $life:ident);* $(;)?) => {
        &[$(
            life!(concat!("life/", $name), WHOLE_LIFE, $needs, NOTHING, $life, Nothing),
            life!(concat!("life/", $name, "/repeated"), RETRIED, $needs, NOTHING, $life, Repeat),
            life!(concat!("life/", $name, "/restarted"), RESTARTED, $needs, RESTART, $life, Restart),
        )*]
    };
}

macro_rules! life {
    ($id:expr, $condition:expr, $needs:expr, $also:expr, $life:ident, $between:ident) => {
        Check {
            id: $id,
            rpc: None,
            condition: $condition,
            needs: &[CREATE, $needs.0, $needs.1, $also],
            run: |f| {
                Box::pin(async move {
                    f.after_each_call(Between::$between);
                    $life(f).await
                })
            },
        }
    };
}

pub(super) const CHECKS: &[Check] = lives![
    "controller" (NOTHING, NOTHING), controller;
    "mount" (LOCAL, MOUNT), mount;
    "block" (LOCAL, BLOCK), block;
];

/// The bytes that the lives write.
const LENGTH: usize = 64 << 10;

/// What the Controller alone can do.
async fn controller(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let confirmed = f.ok(f.validate_request(&volume)).await?;
    must!(confirmed.confirmed.is_some(), "the volume's capability to be confirmed", "{confirmed:?}");
    is_listed(f, &volume, true).await?;
    let wanted = 2 * volume.capacity.max(f.options().size);
    if has(f, Controller::ExpandVolume) {
        f.ok(f.expand_request(&volume.id, wanted)).await?;
        if has(f, Controller::GetVolume) {
            let shown = f.ok(listing::get(f, &volume.id)).await?.volume.unwrap_or_default().capacity_bytes;
            must!(shown >= wanted, format!("at least {wanted} bytes"), "{shown} bytes");
        }
    }
    if has(f, Controller::CreateDeleteSnapshot) {
        let id = cut(f, &volume.id).await?;
        let restored = f.create(larger(f, from(f, snapshot(&id)), wanted)).await?;
        f.delete(&restored).await?;
        f.ok(super::snapshots::delete(&id)).await?;
    }
    if f.declared().offers_group(Group::CreateDeleteGetVolumeGroupSnapshot) {
        let group = super::groups::made(f, &[&volume.id]).await?;
        let request = csi::DeleteVolumeGroupSnapshotRequest {
            group_snapshot_id: group.group_snapshot_id,
            snapshot_ids: group.snapshots.into_iter().map(|snapshot| snapshot.snapshot_id).collect(),
            ..Default::default()
        };
        f.ok(request).await?;
    }
    f.delete(&volume).await?;
    f.answers(f.validate_request(&volume), &[Code::NotFound]).await?;
    is_listed(f, &volume, false).await
}

async fn mount(f: &Fixture) -> Verdict {
    on_node(f, capability::mount(&f.options().fs_type, Mode::SingleNodeWriter)).await
}

async fn block(f: &Fixture) -> Verdict {
    on_node(f, capability::block(Mode::SingleNodeWriter)).await
}

/// Made, attached, staged, published, written; snapshot and clone taken while it is in use;
/// grown; moved away and back; deleted.
async fn on_node(f: &Fixture, use_as: VolumeCapability) -> Verdict {
    let mut volume = f.volume_for(use_as.clone()).await?;
    f.bring_up(&mut volume).await?;
    let (old, new) = (pattern(3, LENGTH), pattern(4, LENGTH));
    f.write(&volume, "target", 0, old.clone()).await?;

    let mut copies = Vec::new();
    if has(f, Controller::CreateDeleteSnapshot) {
        let id = cut_in_use(f, &mut volume).await?;
        f.write(&volume, "target", 0, new.clone()).await?;
        copies.push((from(f, snapshot(&id)), old.clone()));
    } else {
        f.write(&volume, "target", 0, new.clone()).await?;
    }
    let grown = grow(f, &volume).await?;
    f.holds(&volume, "target", 0, &new).await?;
    if f.declared().node.contains(&Node::GetVolumeStats) {
        f.ok(f.stats_request(&volume, "target")).await?;
    }
    f.take_down_to_detached(&volume).await?;
    if has(f, Controller::CloneVolume) {
        copies.push((from(f, cloned(&volume.id)), new.clone()));
    }
    for (request, bytes) in copies {
        let request = csi::CreateVolumeRequest {
            volume_capabilities: vec![use_as.clone()],
            ..larger(f, request, grown)
        };
        let mut copy = f.create(request).await?;
        f.bring_up(&mut copy).await?;
        f.holds(&copy, "target", 0, &bytes).await?;
        f.take_down(&copy).await?;
    }
    f.bring_up(&mut volume).await?;
    f.holds(&volume, "target", 0, &new).await?;
    f.take_down_to_detached(&volume).await?;
    let paths = [volume.path("target"), volume.staging()];
    for path in paths {
        must!(!f.is_mounted(&path).await?, format!("nothing mounted at {path}"), "a mount");
    }
    f.delete(&volume).await
}

/// Grows the volume in use where the plugin and the file system can; gives its size.
async fn grow(f: &Fixture, volume: &Volume) -> Verdict<i64> {
    let size = volume.capacity.max(f.options().size);
    if !has(f, Controller::ExpandVolume) || !f.declared().expansion.contains(&Expansion::Online) {
        return Ok(size);
    }
    let answer = f.ok(f.expand_request(&volume.id, 2 * size)).await?;
    if answer.node_expansion_required {
        let request = f.node_expand_request(volume, "target", 2 * size);
        match f.call(request.clone()).await {
            Ok(_) => f.ok(request).await.map(|_| ())?,
            // CSI v1.12, NodeExpandVolume: the file system does not grow while it is in use.
            Err(status) if status.code() == Code::FailedPrecondition => {}
            Err(status) => return Err(Failure::code(&[Code::Ok, Code::FailedPrecondition], &status)),
        }
    }
    Ok(2 * size)
}

/// A copy is no smaller than what it is made from.
fn larger(f: &Fixture, request: csi::CreateVolumeRequest, bytes: i64) -> csi::CreateVolumeRequest {
    csi::CreateVolumeRequest { capacity_range: f.at_least(bytes), ..request }
}

async fn is_listed(f: &Fixture, volume: &Volume, wanted: bool) -> Verdict {
    if has(f, Controller::ListVolumes) {
        let entries = listing::all_volumes(f, 0).await?;
        let is = entries.iter().any(|entry| entry.volume.as_ref().is_some_and(|v| v.volume_id == volume.id));
        must!(is == wanted, format!("{:?} to be listed: {wanted}", volume.id), "{is}");
    }
    Ok(())
}

fn has(f: &Fixture, capability: Controller) -> bool {
    f.declared().offers(capability)
}
