//! The GroupController service.

use std::collections::HashSet;

use holdfast_proto::csi::{
    self, VolumeGroupSnapshot, controller_service_capability::rpc::Type as Controller,
    plugin_capability::service::Type as Plugin,
};
use tonic::Code;

use crate::{
    check::{Check, check, refuse},
    failure::{Verdict, must},
    fixture::{Fixture, requests::NO_SUCH_ID},
    need::{GROUP, Need},
    rows::{
        ANSWER, IDEMPOTENT, MISSING, TOO_LONG, UNIMPLEMENTED,
        group::{EXISTS, GONE, IN_USE, MEMBERS_GO, MISMATCH, NO_GROUP, NO_SOURCE},
    },
};

use super::existing::{from, snapshot};

const UNDECLARED: &[Need] = &[Need::NoPlugin(Plugin::GroupControllerService)];
const GET_SNAPSHOT: &[Need] = &[Need::Controller(Controller::GetSnapshot)];

pub(super) const CHECKS: &[Check] = &[
    refuse!(
        "create-volume-group-snapshot/undeclared",
        CreateVolumeGroupSnapshot,
        UNIMPLEMENTED,
        [UNDECLARED],
        |f| { create(f, &[NO_SUCH_ID]) }
    ),
    refuse!(
        "create-volume-group-snapshot/missing-name",
        CreateVolumeGroupSnapshot,
        MISSING,
        [GROUP],
        |f, v| { csi::CreateVolumeGroupSnapshotRequest { name: String::new(), ..create(f, &[&v.id]) } }
    ),
    refuse!(
        "create-volume-group-snapshot/missing-sources",
        CreateVolumeGroupSnapshot,
        MISSING,
        [GROUP],
        |f| { create(f, &[]) }
    ),
    refuse!(
        "create-volume-group-snapshot/name-129-bytes",
        CreateVolumeGroupSnapshot,
        TOO_LONG,
        [GROUP],
        |f, v| {
            csi::CreateVolumeGroupSnapshotRequest {
                name: format!("{:g<129}", f.name()),
                ..create(f, &[&v.id])
            }
        }
    ),
    refuse!(
        "create-volume-group-snapshot/no-such-volume",
        CreateVolumeGroupSnapshot,
        NO_SOURCE,
        [GROUP],
        |f, v| { create(f, &[&v.id, NO_SUCH_ID]) }
    ),
    check!("create-volume-group-snapshot/answer", CreateVolumeGroupSnapshot, ANSWER, [GROUP], answer),
    check!("create-volume-group-snapshot/restored", CreateVolumeGroupSnapshot, ANSWER, [GROUP], restored),
    check!(
        "create-volume-group-snapshot/idempotent",
        CreateVolumeGroupSnapshot,
        IDEMPOTENT,
        [GROUP],
        idempotent
    ),
    check!(
        "create-volume-group-snapshot/other-sources",
        CreateVolumeGroupSnapshot,
        EXISTS,
        [GROUP],
        other_sources
    ),
    refuse!(
        "delete-volume-group-snapshot/undeclared",
        DeleteVolumeGroupSnapshot,
        UNIMPLEMENTED,
        [UNDECLARED],
        |_f| { delete(NO_SUCH_ID, &[NO_SUCH_ID]) }
    ),
    refuse!("delete-volume-group-snapshot/missing-id", DeleteVolumeGroupSnapshot, MISSING, [GROUP], |_f| {
        delete("", &[NO_SUCH_ID])
    }),
    refuse!("delete-volume-group-snapshot/no-such-group", DeleteVolumeGroupSnapshot, GONE, [GROUP], |_f| {
        delete(NO_SUCH_ID, &[NO_SUCH_ID])
    }),
    check!(
        "delete-volume-group-snapshot/idempotent",
        DeleteVolumeGroupSnapshot,
        IDEMPOTENT,
        [GROUP],
        delete_twice
    ),
    check!(
        "delete-volume-group-snapshot/members",
        DeleteVolumeGroupSnapshot,
        MEMBERS_GO,
        [GROUP, GET_SNAPSHOT],
        members_go
    ),
    check!(
        "delete-volume-group-snapshot/mismatch",
        DeleteVolumeGroupSnapshot,
        MISMATCH,
        [GROUP],
        delete_mismatch
    ),
    check!("delete-volume-group-snapshot/with-volume", DeleteVolumeGroupSnapshot, IN_USE, [GROUP], in_use),
    refuse!(
        "get-volume-group-snapshot/undeclared",
        GetVolumeGroupSnapshot,
        UNIMPLEMENTED,
        [UNDECLARED],
        |_f| { get(NO_SUCH_ID, &[NO_SUCH_ID]) }
    ),
    refuse!("get-volume-group-snapshot/missing-id", GetVolumeGroupSnapshot, MISSING, [GROUP], |_f| get(
        "",
        &[NO_SUCH_ID]
    )),
    refuse!("get-volume-group-snapshot/no-such-group", GetVolumeGroupSnapshot, NO_GROUP, [GROUP], |_f| {
        get(NO_SUCH_ID, &[NO_SUCH_ID])
    }),
    check!("get-volume-group-snapshot/deleted", GetVolumeGroupSnapshot, NO_GROUP, [GROUP], get_deleted),
    check!("get-volume-group-snapshot/mismatch", GetVolumeGroupSnapshot, MISMATCH, [GROUP], get_mismatch),
    check!("get-volume-group-snapshot/answer", GetVolumeGroupSnapshot, ANSWER, [GROUP], got),
];

fn create(f: &Fixture, sources: &[&str]) -> csi::CreateVolumeGroupSnapshotRequest {
    csi::CreateVolumeGroupSnapshotRequest {
        name: f.name(),
        source_volume_ids: owned(sources),
        ..Default::default()
    }
}

fn delete(id: &str, members: &[&str]) -> csi::DeleteVolumeGroupSnapshotRequest {
    let (group_snapshot_id, snapshot_ids) = (id.to_owned(), owned(members));
    csi::DeleteVolumeGroupSnapshotRequest { group_snapshot_id, snapshot_ids, ..Default::default() }
}

fn get(id: &str, members: &[&str]) -> csi::GetVolumeGroupSnapshotRequest {
    let (group_snapshot_id, snapshot_ids) = (id.to_owned(), owned(members));
    csi::GetVolumeGroupSnapshotRequest { group_snapshot_id, snapshot_ids, ..Default::default() }
}

fn owned(ids: &[&str]) -> Vec<String> {
    ids.iter().map(|id| (*id).to_owned()).collect()
}

fn members(group: &VolumeGroupSnapshot) -> Vec<&str> {
    group.snapshots.iter().map(|snapshot| snapshot.snapshot_id.as_str()).collect()
}

/// A group snapshot of these volumes.
pub(super) async fn made(f: &Fixture, sources: &[&str]) -> Verdict<VolumeGroupSnapshot> {
    Ok(f.ok(create(f, sources)).await?.group_snapshot.unwrap_or_default())
}

/// A group snapshot of two new volumes.
async fn of_two(f: &Fixture) -> Verdict<VolumeGroupSnapshot> {
    let (one, two) = (f.volume().await?, f.volume().await?);
    made(f, &[&one.id, &two.id]).await
}

async fn answer(f: &Fixture) -> Verdict {
    let (one, two) = (f.volume().await?, f.volume().await?);
    let group = made(f, &[&one.id, &two.id]).await?;
    must!(
        (1..=128).contains(&group.group_snapshot_id.len()),
        "a group_snapshot_id of 1 to 128 bytes",
        "{group:?}"
    );
    must!(group.creation_time.is_some(), "a creation_time", "none");
    let sources: HashSet<_> =
        group.snapshots.iter().map(|snapshot| snapshot.source_volume_id.clone()).collect();
    let wanted = HashSet::from([one.id, two.id]);
    must!(
        sources == wanted && group.snapshots.len() == 2,
        format!("one snapshot of each of {wanted:?}"),
        "{group:?}"
    );
    for snapshot in &group.snapshots {
        must!(
            snapshot.group_snapshot_id == group.group_snapshot_id,
            format!("group_snapshot_id {:?} in each snapshot", group.group_snapshot_id),
            "{:?}",
            snapshot.group_snapshot_id
        );
        must!(
            !group.ready_to_use || snapshot.ready_to_use,
            "a group that is ready only when all are",
            "{group:?}"
        );
        must!(snapshot.creation_time.is_some(), "a creation_time in each snapshot", "none");
    }
    Ok(())
}

async fn restored(f: &Fixture) -> Verdict {
    let group = of_two(f).await?;
    for member in members(&group) {
        f.ok(from(f, snapshot(member))).await?;
    }
    Ok(())
}

async fn idempotent(f: &Fixture) -> Verdict {
    let (one, two) = (f.volume().await?, f.volume().await?);
    let request = create(f, &[&one.id, &two.id]);
    let (first, again) = f.twice(request.clone()).await?;
    let id = |answer: &csi::CreateVolumeGroupSnapshotResponse| {
        let group = answer.group_snapshot.clone().unwrap_or_default();
        (
            members(&group).into_iter().map(str::to_owned).collect::<HashSet<_>>(),
            group.group_snapshot_id.clone(),
        )
    };
    must!(id(&first) == id(&again), format!("the first answer again: {first:?}"), "{again:?}");
    // The order of the volumes says nothing.
    let source_volume_ids = vec![two.id, one.id];
    let reordered = f.ok(csi::CreateVolumeGroupSnapshotRequest { source_volume_ids, ..request }).await?;
    must!(id(&first) == id(&reordered), format!("the first answer again: {first:?}"), "{reordered:?}");
    Ok(())
}

async fn other_sources(f: &Fixture) -> Verdict {
    let (one, two) = (f.volume().await?, f.volume().await?);
    let request = create(f, &[&one.id]);
    f.ok(request.clone()).await?;
    f.refused(csi::CreateVolumeGroupSnapshotRequest { source_volume_ids: vec![one.id, two.id], ..request })
        .await
}

async fn delete_twice(f: &Fixture) -> Verdict {
    let group = of_two(f).await?;
    f.twice(delete(&group.group_snapshot_id, &members(&group))).await.map(|_| ())
}

async fn members_go(f: &Fixture) -> Verdict {
    let group = of_two(f).await?;
    f.ok(delete(&group.group_snapshot_id, &members(&group))).await?;
    for member in members(&group) {
        let request = csi::GetSnapshotRequest { snapshot_id: member.to_owned(), ..Default::default() };
        f.answers(request, &[Code::NotFound]).await?;
    }
    Ok(())
}

async fn delete_mismatch(f: &Fixture) -> Verdict {
    let group = of_two(f).await?;
    let all = members(&group);
    f.refused(delete(&group.group_snapshot_id, &all[..1])).await?;
    f.refused(delete(&group.group_snapshot_id, &[all[0], NO_SUCH_ID])).await?;
    f.ok(get(&group.group_snapshot_id, &all)).await.map(|_| ())
}

async fn in_use(f: &Fixture) -> Verdict {
    let group = of_two(f).await?;
    let member = members(&group).first().copied().unwrap_or_default();
    let volume = f.create(from(f, snapshot(member))).await?;
    f.answers(delete(&group.group_snapshot_id, &members(&group)), &[Code::Ok, Code::FailedPrecondition])
        .await?;
    let confirmed = f.ok(f.validate_request(&volume)).await?;
    must!(confirmed.confirmed.is_some(), "the volume as it was", "{confirmed:?}");
    Ok(())
}

async fn get_deleted(f: &Fixture) -> Verdict {
    let group = of_two(f).await?;
    f.ok(delete(&group.group_snapshot_id, &members(&group))).await?;
    f.refused(get(&group.group_snapshot_id, &members(&group))).await
}

async fn get_mismatch(f: &Fixture) -> Verdict {
    let group = of_two(f).await?;
    f.refused(get(&group.group_snapshot_id, &[NO_SUCH_ID])).await
}

async fn got(f: &Fixture) -> Verdict {
    let group = of_two(f).await?;
    let answer =
        f.ok(get(&group.group_snapshot_id, &members(&group))).await?.group_snapshot.unwrap_or_default();
    must!(
        answer.group_snapshot_id == group.group_snapshot_id,
        format!("{:?}", group.group_snapshot_id),
        "{answer:?}"
    );
    let (mut came, mut wanted) = (members(&answer), members(&group));
    came.sort_unstable();
    wanted.sort_unstable();
    must!(came == wanted, format!("the snapshots {wanted:?}"), "{came:?}");
    Ok(())
}
