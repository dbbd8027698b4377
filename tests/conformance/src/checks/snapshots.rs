//! CreateSnapshot, DeleteSnapshot, ListSnapshots, GetSnapshot.

use std::collections::HashSet;

use holdfast_proto::csi::{self, Snapshot, controller_service_capability::rpc::Type as Controller};
use tonic::Code;

use crate::{
    check::{Check, check, refuse},
    failure::{Failure, Verdict, must},
    fixture::{Fixture, requests::NO_SUCH_ID},
    need::{GROUP, Need, SNAPSHOT},
    rows::{
        ANSWER, BAD_TOKEN, IDEMPOTENT, INVALID, MISSING, SNAPSHOT_PENDING, TOO_LONG, UNIMPLEMENTED,
        snapshot::{EXISTS, FILTERED, GONE, IN_GROUP, IN_USE, LISTED, NAMES, NO_SNAPSHOT, NO_SOURCE, PAGES},
    },
};

use super::existing::{cut, from, snapshot};

const UNDECLARED: &[Need] = &[Need::NoController(Controller::CreateDeleteSnapshot)];
const LIST: &[Need] = &[Need::Controller(Controller::ListSnapshots)];
const NO_LIST: &[Need] = &[Need::NoController(Controller::ListSnapshots)];
const GET: &[Need] = &[Need::Controller(Controller::GetSnapshot)];
const NO_GET: &[Need] = &[Need::NoController(Controller::GetSnapshot)];

pub(super) const CHECKS: &[Check] = &[
    refuse!("create-snapshot/undeclared", CreateSnapshot, UNIMPLEMENTED, [UNDECLARED], |f| f
        .snapshot_request(NO_SUCH_ID)),
    refuse!("create-snapshot/missing-source", CreateSnapshot, MISSING, [SNAPSHOT], |f| f
        .snapshot_request("")),
    refuse!("create-snapshot/missing-name", CreateSnapshot, MISSING, [SNAPSHOT], |f, v| named(&v.id, "")),
    refuse!("create-snapshot/no-such-volume", CreateSnapshot, NO_SOURCE, [SNAPSHOT], |f| f
        .snapshot_request(NO_SUCH_ID)),
    refuse!("create-snapshot/name-nul", CreateSnapshot, INVALID, [SNAPSHOT], |f, v| {
        named(&v.id, &format!("{}\0x", f.name()))
    }),
    refuse!("create-snapshot/name-escape", CreateSnapshot, INVALID, [SNAPSHOT], |f, v| {
        named(&v.id, &format!("{}\u{1b}x", f.name()))
    }),
    refuse!("create-snapshot/name-129-bytes", CreateSnapshot, TOO_LONG, [SNAPSHOT], |f, v| {
        named(&v.id, &format!("{:s<129}", f.name()))
    }),
    check!("create-snapshot/names", CreateSnapshot, NAMES, [SNAPSHOT], names),
    check!("create-snapshot/answer", CreateSnapshot, ANSWER, [SNAPSHOT], answer),
    check!("create-snapshot/idempotent", CreateSnapshot, IDEMPOTENT, [SNAPSHOT], idempotent),
    check!("create-snapshot/other-source", CreateSnapshot, EXISTS, [SNAPSHOT], other_source),
    check!("create-snapshot/at-once", CreateSnapshot, SNAPSHOT_PENDING, [SNAPSHOT], create_at_once),
    refuse!("delete-snapshot/undeclared", DeleteSnapshot, UNIMPLEMENTED, [UNDECLARED], |_f| delete(
        NO_SUCH_ID
    )),
    refuse!("delete-snapshot/missing-id", DeleteSnapshot, MISSING, [SNAPSHOT], |_f| delete("")),
    refuse!("delete-snapshot/no-such-snapshot", DeleteSnapshot, GONE, [SNAPSHOT], |_f| delete(NO_SUCH_ID)),
    check!("delete-snapshot/idempotent", DeleteSnapshot, IDEMPOTENT, [SNAPSHOT], delete_twice),
    check!("delete-snapshot/member-of-group", DeleteSnapshot, IN_GROUP, [SNAPSHOT, GROUP], member),
    check!("delete-snapshot/with-volume", DeleteSnapshot, IN_USE, [SNAPSHOT], in_use),
    check!("delete-snapshot/at-once", DeleteSnapshot, SNAPSHOT_PENDING, [SNAPSHOT], delete_at_once),
    refuse!("list-snapshots/undeclared", ListSnapshots, UNIMPLEMENTED, [NO_LIST], |_f| page(0, "")),
    refuse!("list-snapshots/negative-max-entries", ListSnapshots, INVALID, [LIST], |_f| page(-1, "")),
    refuse!("list-snapshots/bad-token", ListSnapshots, BAD_TOKEN, [LIST], |_f| page(
        0,
        "csi-check-no-such-token"
    )),
    refuse!("list-snapshots/bad-token-number", ListSnapshots, BAD_TOKEN, [LIST], |_f| page(
        1,
        "987654321987"
    )),
    refuse!("list-snapshots/bad-token-negative-number", ListSnapshots, BAD_TOKEN, [LIST], |_f| page(1, "-1")),
    check!("list-snapshots/listed", ListSnapshots, LISTED, [SNAPSHOT, LIST], listed),
    check!("list-snapshots/by-id", ListSnapshots, FILTERED, [SNAPSHOT, LIST], by_id),
    check!("list-snapshots/by-source", ListSnapshots, FILTERED, [SNAPSHOT, LIST], by_source),
    check!("list-snapshots/nothing-matches", ListSnapshots, FILTERED, [SNAPSHOT, LIST], nothing_matches),
    check!("list-snapshots/deleted", ListSnapshots, FILTERED, [SNAPSHOT, LIST], deleted),
    check!("list-snapshots/pages", ListSnapshots, PAGES, [SNAPSHOT, LIST], pages),
    refuse!("get-snapshot/undeclared", GetSnapshot, UNIMPLEMENTED, [NO_GET], |_f| get(NO_SUCH_ID)),
    refuse!("get-snapshot/missing-id", GetSnapshot, MISSING, [GET], |_f| get("")),
    refuse!("get-snapshot/no-such-snapshot", GetSnapshot, NO_SNAPSHOT, [GET], |_f| get(NO_SUCH_ID)),
    check!("get-snapshot/deleted", GetSnapshot, NO_SNAPSHOT, [SNAPSHOT, GET], get_deleted),
    check!("get-snapshot/answer", GetSnapshot, ANSWER, [SNAPSHOT, GET], got),
];

fn named(volume_id: &str, name: &str) -> csi::CreateSnapshotRequest {
    csi::CreateSnapshotRequest {
        source_volume_id: volume_id.to_owned(),
        name: name.to_owned(),
        ..Default::default()
    }
}

pub(super) fn delete(id: &str) -> csi::DeleteSnapshotRequest {
    csi::DeleteSnapshotRequest { snapshot_id: id.to_owned(), ..Default::default() }
}

fn get(id: &str) -> csi::GetSnapshotRequest {
    csi::GetSnapshotRequest { snapshot_id: id.to_owned(), ..Default::default() }
}

fn page(max_entries: i32, token: &str) -> csi::ListSnapshotsRequest {
    csi::ListSnapshotsRequest { max_entries, starting_token: token.to_owned(), ..Default::default() }
}

/// A new snapshot of a new volume.
async fn fresh(f: &Fixture) -> Verdict<Snapshot> {
    let volume = f.volume().await?;
    Ok(f.ok(f.snapshot_request(&volume.id)).await?.snapshot.unwrap_or_default())
}

async fn names(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let mut seen = HashSet::new();
    let longest = format!("{:s<127}", f.name());
    for name in [
        format!("{longest}1"),
        format!("{longest}2"),
        format!("{}-Zürich-东京-🦀", f.name()),
        format!("{}/../../x", f.name()),
        format!("../{}", f.name()),
        format!("{}\n", f.name()),
    ] {
        let made = f.ok(named(&volume.id, &name)).await?.snapshot.unwrap_or_default();
        must!(
            (1..=128).contains(&made.snapshot_id.len()),
            "a snapshot_id of 1 to 128 bytes",
            "{:?}",
            made.snapshot_id
        );
        must!(
            seen.insert(made.snapshot_id.clone()),
            "a snapshot for each name",
            "{:?} for two",
            made.snapshot_id
        );
    }
    Ok(())
}

async fn answer(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let made = f.ok(f.snapshot_request(&volume.id)).await?.snapshot.unwrap_or_default();
    must!(!made.snapshot_id.is_empty(), "a snapshot_id", "none");
    must!(
        made.source_volume_id == volume.id,
        format!("source_volume_id {:?}", volume.id),
        "{:?}",
        made.source_volume_id
    );
    must!(
        made.creation_time.is_some_and(|time| time.seconds > 0),
        "a creation_time",
        "{:?}",
        made.creation_time
    );
    must!(made.size_bytes >= 0, "a size that is not negative", "{}", made.size_bytes);
    must!(made.group_snapshot_id.is_empty(), "no group_snapshot_id", "{:?}", made.group_snapshot_id);
    Ok(())
}

/// What may change between two looks at a snapshot is whether it is ready.
fn same(first: Snapshot, again: Option<Snapshot>) -> Verdict {
    let again = again.map(|again| Snapshot { ready_to_use: first.ready_to_use, ..again });
    must!(again.as_ref() == Some(&first), format!("{first:?}"), "{again:?}");
    Ok(())
}

async fn idempotent(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let (first, again) = f.twice(f.snapshot_request(&volume.id)).await?;
    same(first.snapshot.unwrap_or_default(), again.snapshot)
}

async fn other_source(f: &Fixture) -> Verdict {
    let (one, two) = (f.volume().await?, f.volume().await?);
    let request = f.snapshot_request(&one.id);
    let first = f.ok(request.clone()).await?.snapshot.unwrap_or_default();
    f.refused(csi::CreateSnapshotRequest { source_volume_id: two.id, ..request.clone() }).await?;
    same(first, f.ok(request).await?.snapshot)
}

/// The same name at once: one snapshot.
async fn create_at_once(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let request = f.snapshot_request(&volume.id);
    let answers = f.at_once(vec![request.clone(); 16]).await?;
    let last = f.ok(request).await?.snapshot.unwrap_or_default().snapshot_id;
    for id in answers.into_iter().filter_map(|answer| Some(answer.snapshot?.snapshot_id)) {
        must!(id == last, format!("{last:?}, the one snapshot of the name"), "{id:?}");
    }
    Ok(())
}

async fn delete_twice(f: &Fixture) -> Verdict {
    let made = fresh(f).await?;
    f.twice(delete(&made.snapshot_id)).await.map(|_| ())
}

async fn delete_at_once(f: &Fixture) -> Verdict {
    let made = fresh(f).await?;
    f.at_once(vec![delete(&made.snapshot_id); 16]).await?;
    f.ok(delete(&made.snapshot_id)).await.map(|_| ())
}

async fn member(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let group = super::groups::made(f, &[&volume.id]).await?;
    let id = group.snapshots.first().map(|snapshot| snapshot.snapshot_id.clone()).unwrap_or_default();
    f.refused(delete(&id)).await
}

/// The snapshot of a volume that was made from it: refused, or gone while the volume lives.
async fn in_use(f: &Fixture) -> Verdict {
    let source = f.volume().await?;
    let id = cut(f, &source.id).await?;
    let made = f.create(from(f, snapshot(&id))).await?;
    f.answers(delete(&id), &[Code::Ok, Code::FailedPrecondition]).await?;
    let confirmed = f.ok(f.validate_request(&made)).await?;
    must!(confirmed.confirmed.is_some(), "the volume as it was", "{confirmed:?}");
    Ok(())
}

/// More pages than this are no list.
const MANY_PAGES: usize = 100_000;

async fn all(f: &Fixture, request: csi::ListSnapshotsRequest) -> Verdict<Vec<Snapshot>> {
    let most = usize::try_from(request.max_entries).unwrap_or(0);
    let (mut snapshots, mut token) = (Vec::new(), String::new());
    for _ in 0..MANY_PAGES {
        let answer =
            f.ok(csi::ListSnapshotsRequest { starting_token: token.clone(), ..request.clone() }).await?;
        must!(
            most == 0 || answer.entries.len() <= most,
            format!("at most {most} entries"),
            "{}",
            answer.entries.len()
        );
        snapshots.extend(answer.entries.into_iter().filter_map(|entry| entry.snapshot));
        if answer.next_token.is_empty() {
            return Ok(snapshots);
        }
        must!(answer.next_token != token, "the next page", "the token of this one again");
        token = answer.next_token;
    }
    Err(Failure::wrong("a last page", format!("{MANY_PAGES} pages that lead on")))
}

async fn listed(f: &Fixture) -> Verdict {
    let made = fresh(f).await?;
    let found = all(f, page(0, "")).await?.into_iter().find(|other| other.snapshot_id == made.snapshot_id);
    same(made, found)
}

async fn by_id(f: &Fixture) -> Verdict {
    let (made, _) = (fresh(f).await?, fresh(f).await?);
    let filter = csi::ListSnapshotsRequest { snapshot_id: made.snapshot_id.clone(), ..page(0, "") };
    let found = all(f, filter).await?;
    must!(found.len() == 1, "the one snapshot of this id", "{found:?}");
    same(made, found.into_iter().next())
}

async fn by_source(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let mut made = HashSet::new();
    for _ in 0..3 {
        made.insert(f.ok(f.snapshot_request(&volume.id)).await?.snapshot.unwrap_or_default().snapshot_id);
    }
    fresh(f).await?;
    for max_entries in [0, 1, 2] {
        let filter =
            csi::ListSnapshotsRequest { source_volume_id: volume.id.clone(), ..page(max_entries, "") };
        let found: Vec<_> = all(f, filter).await?.into_iter().map(|snapshot| snapshot.snapshot_id).collect();
        let unique: HashSet<_> = found.iter().cloned().collect();
        must!(unique == made && found.len() == made.len(), format!("{made:?}, each once"), "{found:?}");
    }
    Ok(())
}

async fn nothing_matches(f: &Fixture) -> Verdict {
    fresh(f).await?;
    for filter in [
        csi::ListSnapshotsRequest { snapshot_id: NO_SUCH_ID.to_owned(), ..page(0, "") },
        csi::ListSnapshotsRequest { source_volume_id: NO_SUCH_ID.to_owned(), ..page(0, "") },
    ] {
        let found = all(f, filter).await?;
        must!(found.is_empty(), "an empty list", "{found:?}");
    }
    Ok(())
}

async fn deleted(f: &Fixture) -> Verdict {
    let made = fresh(f).await?;
    f.ok(delete(&made.snapshot_id)).await?;
    let found = all(f, csi::ListSnapshotsRequest { snapshot_id: made.snapshot_id, ..page(0, "") }).await?;
    must!(found.is_empty(), "an empty list", "{found:?}");
    Ok(())
}

async fn pages(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(f.ok(f.snapshot_request(&volume.id)).await?.snapshot.unwrap_or_default().snapshot_id);
    }
    for max_entries in [1, 2, i32::MAX] {
        let found = all(f, page(max_entries, "")).await?;
        for id in &made {
            let times = found.iter().filter(|snapshot| snapshot.snapshot_id == *id).count();
            must!(times == 1, format!("{id:?} once, while nothing changes"), "{times} times");
        }
    }
    Ok(())
}

async fn get_deleted(f: &Fixture) -> Verdict {
    let made = fresh(f).await?;
    f.ok(delete(&made.snapshot_id)).await?;
    f.refused(get(&made.snapshot_id)).await
}

async fn got(f: &Fixture) -> Verdict {
    let made = fresh(f).await?;
    let (first, again) = f.twice(get(&made.snapshot_id)).await?;
    same(made.clone(), first.snapshot)?;
    same(made, again.snapshot)
}
