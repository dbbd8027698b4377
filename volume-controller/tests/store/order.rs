//! Revisions are dense and in commit order, and every watch sees every change
//! exactly once, from whatever revision it starts.

use super::*;
use holdfast_volume_controller::store::{CommitError, Committed};
use proptest::prelude::*;

in_every_place! {
    sixty_four_writers(flavor = "multi_thread", worker_threads = 4),
}

const RESOURCES: [&str; 3] = [CLAIMS, "persistentvolumes", "pods"];

fn shared_key(index: usize) -> Key {
    Key::new(RESOURCES[index % 3], ["a", "b"][index % 2], &format!("object-{index}"))
}

/// One step of a writer on keys that all writers share: what it does depends on what it finds.
async fn step(store: &Store, writer: usize, round: usize) -> Option<Vec<Committed>> {
    let mut writes = Vec::new();
    for part in 0..=(writer + round) % 3 {
        let key = shared_key((writer * 7 + round * 3 + part * 5) % 24);
        let body = json!({"metadata": {"uid": format!("{writer}-{round}-{part}")}, "value": round});
        writes.push(match store.get(&key) {
            None => Write { key, precondition: Precondition::Absent, body: Some(body) },
            Some(current) if (writer + round + part).is_multiple_of(5) => {
                Write { key, precondition: Precondition::Uid(current.uid.clone()), body: None }
            }
            Some(current) => {
                Write { key, precondition: Precondition::Revision(current.revision), body: Some(body) }
            }
        });
    }
    match store.commit(writes).await {
        Ok(committed) => Some(committed),
        Err(CommitError::Exists { .. } | CommitError::Missing { .. } | CommitError::Conflict { .. }) => None,
        Err(error) => panic!("{error}"),
    }
}

async fn sixty_four_writers(place: Place) {
    let store = place.open().await;
    let start = store.revision();
    let writers = (0..64).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let mut done = Vec::new();
            for round in 0..25 {
                done.extend(step(&store, writer, round).await);
            }
            done
        })
    });
    let writers: Vec<_> = writers.collect();
    // Watches that run along, of everything and of one resource.
    let live: Vec<_> = [&RESOURCES[..0], &RESOURCES[..1], &RESOURCES[1..]]
        .into_iter()
        .map(|resources| (resources, store.watch(resources, start).unwrap()))
        .collect();
    let mut acknowledged = Vec::new();
    for writer in writers {
        acknowledged.extend(writer.await.unwrap());
    }
    let end = store.revision();

    let all = changes_until(&mut store.watch(&[], start).unwrap(), end).await;
    let revisions: Vec<u64> = all.iter().map(|change| change.revision).collect();
    assert_eq!(revisions, (start + 1..=end).collect::<Vec<_>>(), "dense, in order, each once");
    for transaction in &acknowledged {
        for (offset, one) in transaction.iter().enumerate() {
            assert_eq!(
                one.revision,
                transaction[0].revision + offset as u64,
                "a transaction is in one piece"
            );
            assert_eq!(all[(one.revision - start - 1) as usize].object, one.object);
        }
    }
    let writes: usize = acknowledged.iter().map(Vec::len).sum();
    assert_eq!(writes, all.len(), "every change was acknowledged to somebody, once");
    println!(
        "{} transactions, {writes} writes, {} batches",
        acknowledged.len(),
        store.metrics().batches.get()
    );

    for (resources, mut watch) in live {
        let seen = changes_until(&mut watch, end).await;
        let seen: Vec<u64> = seen.iter().map(|change| change.revision).collect();
        let concerned =
            |change: &&Arc<Change>| resources.is_empty() || resources.contains(&&*change.object.key.resource);
        let expected: Vec<u64> = all.iter().filter(concerned).map(|change| change.revision).collect();
        assert_eq!(seen, expected, "{resources:?}");
    }
    every_start_leads_to_the_list(&store, start, &all).await;
    store.close().await;

    let again = place.open().await;
    assert_eq!(listed(&again, &RESOURCES), listed(&store, &RESOURCES));
    every_start_leads_to_the_list(&again, start, &all).await;
    again.close().await;
}

/// From each revision, the state there and the changes since are the list of now.
async fn every_start_leads_to_the_list(store: &Store, start: u64, all: &[Arc<Change>]) {
    let end = store.revision();
    let now = listed(store, &RESOURCES);
    let mut then = State::new();
    for from in start..=end {
        let mut state = then.clone();
        let rest = &all[(from - start) as usize..];
        assert_eq!(listed_at(store, from), then, "the lists of revision {from}");
        if from.is_multiple_of(16) || end - from < 16 {
            let changes = if rest.is_empty() {
                Vec::new()
            } else {
                changes_until(&mut store.watch(&[], from).unwrap(), end).await
            };
            assert_eq!(changes.len(), rest.len());
            replay(&mut state, &changes);
            assert_eq!(state, now, "from revision {from}");
        }
        if let Some(change) = rest.first() {
            replay(&mut then, std::slice::from_ref(change));
        }
    }
}

/// The objects as they were, each resource in two pieces.
fn listed_at(store: &Store, at: u64) -> State {
    let list = |resource: &str, namespace: Option<&str>, after: Option<(&str, &str)>| {
        store.list_at(resource, namespace, after, at).unwrap()
    };
    let lists = RESOURCES.iter().flat_map(|resource| {
        let all = list(resource, None, None);
        assert_eq!(all.revision, at);
        let middle = all.objects.get(all.objects.len() / 2).map(|object| object.key.clone());
        let rest = match &middle {
            Some(middle) => list(resource, None, Some((&middle.namespace, &middle.name))).objects,
            None => Vec::new(),
        };
        assert_eq!(all.objects[all.objects.len() - rest.len()..], rest);
        let both: Vec<_> = ["a", "b"].iter().flat_map(|n| list(resource, Some(n), None).objects).collect();
        assert_eq!(all.objects, both);
        all.objects
    });
    lists.map(|object| (object.key.clone(), object)).collect()
}

#[derive(Debug, Clone)]
struct Step {
    key: usize,
    precondition: u8,
    delete: bool,
}

fn transactions() -> impl Strategy<Value = Vec<Vec<Step>>> {
    let step = (0..6usize, 0..5u8, any::<bool>()).prop_map(|(key, precondition, delete)| Step {
        key,
        precondition,
        delete,
    });
    prop::collection::vec(prop::collection::vec(step, 1..4), 1..40)
}

/// What must come of a transaction, said in the simplest way.
fn expected(model: &State, writes: &[Write]) -> bool {
    let mut seen = Vec::new();
    writes.iter().all(|write| {
        let is_first = !seen.contains(&&write.key);
        seen.push(&write.key);
        let current = model.get(&write.key);
        is_first
            && match &write.precondition {
                Precondition::Absent => current.is_none() && write.body.is_some(),
                Precondition::Present => current.is_some(),
                Precondition::Revision(revision) => {
                    current.is_some_and(|current| current.revision == *revision)
                }
                Precondition::Uid(uid) => current.is_some_and(|current| current.uid == *uid),
            }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_transactions_in_a_file(transactions in transactions(), at_once in any::<bool>()) {
        block_on(any_transactions(Place::file(), transactions, at_once));
    }

    #[test]
    fn any_transactions_in_postgres(transactions in transactions(), at_once in any::<bool>()) {
        block_on(async {
            if let Some(place) = Place::postgres().await {
                any_transactions(place, transactions, at_once).await;
            }
        });
    }
}

fn block_on(test: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(test);
}

/// Any transactions, sent one by one or at once, leave what a plain map would hold,
/// in every watch and after a restart.
async fn any_transactions(place: Place, transactions: Vec<Vec<Step>>, at_once: bool) {
    let store = place.open().await;
    let start = store.revision();
    let mut model = State::new();
    let mut pending = Vec::new();
    for (number, steps) in transactions.iter().enumerate() {
        let writes: Vec<Write> = steps
            .iter()
            .map(|step| {
                let key = shared_key(step.key);
                let current = model.get(&key);
                let precondition = match step.precondition {
                    0 => Precondition::Absent,
                    1 => Precondition::Present,
                    2 => Precondition::Revision(current.map_or(1, |current| current.revision)),
                    3 => Precondition::Uid(current.map_or("other".into(), |current| current.uid.clone())),
                    _ => Precondition::Revision(start),
                };
                let body = json!({"metadata": {"uid": format!("{}", number % 3)}, "number": number});
                Write { key, precondition, body: (!step.delete).then_some(body) }
            })
            .collect();
        if at_once {
            let store = store.clone();
            pending.push(tokio::spawn(async move { store.commit(writes).await }));
            continue;
        }
        let is_expected = expected(&model, &writes);
        let result = store.commit(writes.clone()).await;
        assert_eq!(result.is_ok(), is_expected, "{writes:?}: {result:?}");
        for (write, done) in writes.iter().zip(result.unwrap_or_default()) {
            match write.body {
                Some(_) => model.insert(write.key.clone(), done.object),
                None => model.remove(&write.key),
            };
        }
    }
    for commit in pending {
        let _ = commit.await.unwrap();
    }
    if at_once {
        model = listed(&store, &RESOURCES);
    }
    assert_eq!(listed(&store, &RESOURCES), model);
    let all = if store.revision() == start {
        Vec::new()
    } else {
        changes_until(&mut store.watch(&[], start).unwrap(), store.revision()).await
    };
    every_start_leads_to_the_list(&store, start, &all).await;
    store.close().await;
    let again = place.open().await;
    assert_eq!(listed(&again, &RESOURCES), model);
    every_start_leads_to_the_list(&again, start, &all).await;
    again.close().await;
}
