//! Many calls at once: the same call, calls against each other, and many clients.

use std::collections::HashSet;

use futures::future::join_all;
use holdfast_proto::csi;
use tonic::Code;

use crate::{
    check::{Check, check},
    failure::{Failure, Verdict, must},
    fixture::Fixture,
    need::{CREATE, LIST, Need, PUBLISH},
    rows::PENDING,
};

const NODE: &[Need] = &[Need::NodeService];

pub(super) const CHECKS: &[Check] = &[
    check!("create-volume/at-once", CreateVolume, PENDING, [CREATE], create_at_once),
    check!("create-volume/at-once-with-other-sizes", CreateVolume, PENDING, [CREATE], other_sizes),
    check!("create-volume/64-clients", CreateVolume, PENDING, [LIST], clients),
    check!("delete-volume/at-once", DeleteVolume, PENDING, [CREATE], delete_at_once),
    check!("delete-volume/against-create", DeleteVolume, PENDING, [CREATE], create_and_delete),
    check!(
        "controller-publish-volume/at-once",
        ControllerPublishVolume,
        PENDING,
        [PUBLISH, NODE],
        attach_at_once
    ),
];

/// The calls of a storm.
const CALLS: usize = 32;
/// The clients, and how many volumes each makes and deletes.
const CLIENTS: usize = 64;
const ROUNDS: usize = 4;

fn ids(answers: Vec<csi::CreateVolumeResponse>) -> HashSet<String> {
    answers.into_iter().filter_map(|answer| Some(answer.volume?.volume_id)).collect()
}

/// One name, one volume, whoever was first.
async fn create_at_once(f: &Fixture) -> Verdict {
    let request = f.create_request();
    let mut made = ids(f.at_once(vec![request.clone(); CALLS]).await?);
    made.extend(ids(vec![f.ok(request).await?]));
    must!(made.len() == 1, "one volume for the one name", "{made:?}");
    Ok(())
}

/// One name and two sizes: one of them wins, and the other exists already.
async fn other_sizes(f: &Fixture) -> Verdict {
    let small = f.create_request();
    let large =
        csi::CreateVolumeRequest { capacity_range: f.at_least(2 * f.options().size), ..small.clone() };
    let requests = (0..CALLS).map(|n| if n % 2 == 0 { small.clone() } else { large.clone() });
    let codes = [Code::Ok, Code::Aborted, Code::AlreadyExists];
    let answers = join_all(requests.map(|request| f.answers(request, &codes))).await;
    let answers = answers.into_iter().collect::<Verdict<Vec<_>>>()?.into_iter().flatten().collect();
    let mut made = ids(answers);
    // A larger volume is no answer to the range of the smaller, only if that has a limit; here both may fit.
    for request in [small, large] {
        made.extend(ids(f.answers(request, &[Code::Ok, Code::AlreadyExists]).await?.into_iter().collect()));
    }
    must!(made.len() == 1, "one volume for the one name", "{made:?}");
    Ok(())
}

async fn delete_at_once(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    f.at_once(vec![f.delete_request(&volume.id); CALLS]).await?;
    f.ok(f.delete_request(&volume.id)).await?;
    f.answers(f.validate_request(&volume), &[Code::NotFound]).await.map(|_| ())
}

/// Creates and deletes of one name against each other. Whatever the order was, the name can
/// be used afterwards, and its volume be deleted.
async fn create_and_delete(f: &Fixture) -> Verdict {
    let request = f.create_request();
    let id = f.ok(request.clone()).await?.volume.unwrap_or_default().volume_id;
    let calls = (0..CALLS).map(|n| {
        let (create, delete) = (request.clone(), f.delete_request(&id));
        async move {
            match n % 2 {
                0 => f.answers(create, &[Code::Ok, Code::Aborted]).await.map(|_| ()),
                _ => f.answers(delete, &[Code::Ok, Code::Aborted]).await.map(|_| ()),
            }
        }
    });
    join_all(calls).await.into_iter().collect::<Verdict<()>>()?;
    let volume = f.create(request).await?;
    let confirmed = f.ok(f.validate_request(&volume)).await?;
    must!(confirmed.confirmed.is_some(), "a volume that is whole", "{confirmed:?}");
    for id in HashSet::from([id, volume.id.clone()]) {
        f.ok(f.delete_request(&id)).await?;
    }
    f.answers(f.validate_request(&volume), &[Code::NotFound]).await.map(|_| ())
}

/// Many clients, each with volumes of its own: no call is in the way of another's volume.
async fn clients(f: &Fixture) -> Verdict {
    let before = super::listing::all_volumes(f, 0).await?.len();
    let client = || async {
        for _ in 0..ROUNDS {
            let made = f.ok(f.create_request()).await?.volume.unwrap_or_default();
            f.ok(f.delete_request(&made.volume_id)).await?;
        }
        Ok::<_, Failure>(())
    };
    join_all((0..CLIENTS).map(|_| client())).await.into_iter().collect::<Verdict<()>>()?;
    let after = super::listing::all_volumes(f, 0).await?.len();
    must!(before == after, format!("{before} volumes, as before"), "{after} volumes");
    Ok(())
}

async fn attach_at_once(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    f.at_once(vec![f.attach_request(&volume); CALLS]).await?;
    f.ok(f.attach_request(&volume)).await?;
    f.at_once(vec![f.detach_request(&volume.id); CALLS]).await?;
    f.ok(f.detach_request(&volume.id)).await.map(|_| ())
}
