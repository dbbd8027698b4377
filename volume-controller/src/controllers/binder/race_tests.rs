//! Whatever the order in which claims and volumes come and go, decisions are made on
//! old views, and actions are done late, twice or never: a volume has one owner.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{
    apply::apply,
    decide::{Keys, decide},
};
use crate::{
    controllers::{
        cluster::Cluster,
        view::{CLAIMS, VOLUMES, View, fixture::*},
    },
    store::{ChangeKind, Key, Next, Precondition, Watch, Write},
};

#[derive(Debug, Clone)]
enum Step {
    CreateClaim {
        name: &'static str,
        volume: Option<&'static str>,
        size: &'static str,
    },
    DeleteClaim(&'static str),
    CreateVolume {
        name: &'static str,
        kept_for: Option<&'static str>,
        size: &'static str,
    },
    DeleteVolume(&'static str),
    /// The old view takes in so many changes.
    See(usize),
    Decide {
        of_claim: bool,
        name: &'static str,
    },
    /// Does one of the actions that were decided on at some time.
    Act {
        which: prop::sample::Index,
        and_forget: bool,
    },
}

fn any_step() -> impl Strategy<Value = Step> {
    let claims = || prop::sample::select(vec!["a", "b", "c"]);
    let volumes = || prop::sample::select(vec!["v", "w"]);
    let sizes = || prop::sample::select(vec!["1Gi", "2Gi"]);
    let named = prop::option::weighted(0.2, volumes());
    let kept = prop::option::weighted(0.2, claims());
    prop_oneof![
        3 => (claims(), named, sizes()).prop_map(|(name, volume, size)| Step::CreateClaim { name, volume, size }),
        1 => claims().prop_map(Step::DeleteClaim),
        2 => (volumes(), kept, sizes()).prop_map(|(name, kept_for, size)| Step::CreateVolume { name, kept_for, size }),
        1 => volumes().prop_map(Step::DeleteVolume),
        4 => (0..6usize).prop_map(Step::See),
        4 => claims().prop_map(|name| Step::Decide { of_claim: true, name }),
        3 => volumes().prop_map(|name| Step::Decide { of_claim: false, name }),
        6 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, and_forget)| Step::Act { which, and_forget }),
    ]
}

async fn write(cluster: &Cluster, write: Write) {
    // What is there already, or not there, is no step.
    let _ = cluster.store.commit(vec![write]).await;
}

async fn create(cluster: &Cluster, made: Made) {
    write(cluster, Write { key: made.key(), precondition: Precondition::Absent, body: Some(made.0) }).await;
}

async fn delete(cluster: &Cluster, key: Key) {
    write(cluster, Write { key, precondition: Precondition::Present, body: None }).await;
}

async fn see(view: &mut View, watch: &mut Watch, until: u64, mut changes: usize) {
    while view.revision < until && changes > 0 {
        if let Next::Change(change) = watch.next().await.unwrap() {
            view.apply(change.kind, change.revision, &change.object);
            changes -= 1;
        }
    }
}

async fn live(steps: Vec<Step>) {
    let cluster = Cluster::new(&[]).await;
    let (io, feeding) = cluster.io().await;
    let start = cluster.store.revision();
    let mut audit = cluster.store.watch(&[CLAIMS, VOLUMES], start).unwrap();
    let mut watch = cluster.store.watch(&[CLAIMS, VOLUMES], start).unwrap();
    let mut old_view = View::default();
    let mut decided = Vec::new();
    for (number, step) in steps.into_iter().enumerate() {
        let uid = format!("uid-{number}");
        match step {
            Step::CreateClaim { name, volume, size } => {
                let made = claim(name).uid(&uid).size(size);
                let made = volume.map_or(made.clone(), |volume| made.set("spec.volumeName", volume));
                create(&cluster, made).await;
            }
            Step::CreateVolume { name, kept_for, size } => {
                let made = volume(name).uid(&uid).size(size).phase("Pending");
                create(&cluster, kept_for.map_or(made.clone(), |claim| made.kept_for(claim, ""))).await;
            }
            Step::DeleteClaim(name) => delete(&cluster, of_claim(name)).await,
            Step::DeleteVolume(name) => delete(&cluster, of_volume(name)).await,
            Step::See(changes) => {
                let claims_and_volumes = last_revision(&cluster);
                see(&mut old_view, &mut watch, claims_and_volumes, changes).await;
            }
            Step::Decide { of_claim: is_claim, name } => {
                let key = if is_claim { of_claim(name) } else { of_volume(name) };
                decided.extend(decide(&old_view, &Keys::new(), &key));
            }
            Step::Act { which, and_forget } => {
                if !decided.is_empty() {
                    let at = which.index(decided.len());
                    apply(&io, decided[at].clone()).await;
                    if and_forget {
                        decided.swap_remove(at);
                    }
                }
            }
        }
    }
    let end = last_revision(&cluster);
    let mut history: Vec<(u64, ChangeKind, Key, Value)> = Vec::new();
    while history.last().is_none_or(|(revision, ..)| *revision < end) && end > start {
        if let Next::Change(change) = audit.next().await.unwrap() {
            let body: Value = change.object.decode().unwrap();
            history.push((change.revision, change.kind, change.object.key.clone(), body));
        }
    }
    check(&history);
    feeding.abort();
}

fn last_revision(cluster: &Cluster) -> u64 {
    // Deletions have no object: the store's own revision would count events, which are not watched.
    let mut revision = 0;
    for resource in [CLAIMS, VOLUMES] {
        let objects = cluster.store.list(resource, None, None, None).objects;
        revision = objects.iter().map(|object| object.revision).max().unwrap_or(0).max(revision);
    }
    revision
}

/// Every claim that becomes bound owns its volume at that moment, no volume ever passes from
/// one owner to another, and no claim from one volume to another.
fn check(history: &[(u64, ChangeKind, Key, Value)]) {
    let mut volumes: BTreeMap<String, Value> = BTreeMap::new();
    let mut claims: BTreeMap<String, Value> = BTreeMap::new();
    for (revision, kind, key, body) in history {
        let name = key.name.to_string();
        let all = if *key.resource == *VOLUMES { &mut volumes } else { &mut claims };
        if *kind == ChangeKind::Deleted {
            all.remove(&name);
            continue;
        }
        let before = all.insert(name.clone(), body.clone()).unwrap_or_default();
        if *key.resource == *VOLUMES {
            let owner = |volume: &Value| volume["spec"]["claimRef"]["uid"].clone();
            let (was, is) = (owner(&before), owner(body));
            assert!(was.is_null() || was == is, "{revision}: {name} passed from {was} to {is}");
            continue;
        }
        let of = |claim: &Value| claim["spec"]["volumeName"].clone();
        assert!(of(&before).is_null() || of(&before) == of(body), "{revision}: {name} changed its volume");
        if body["status"]["phase"] == "Bound" && before["status"]["phase"] != "Bound" {
            let volume = &volumes[of(body).as_str().unwrap()];
            assert_eq!(volume["spec"]["claimRef"]["uid"], body["metadata"]["uid"], "{revision}: {name}");
            assert_eq!(volume["status"]["phase"], "Bound");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn a_volume_has_one_owner(steps in prop::collection::vec(any_step(), 10..80)) {
        Runtime::new().unwrap().block_on(live(steps));
    }
}
