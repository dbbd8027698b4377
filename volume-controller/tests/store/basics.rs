//! Reading, writing, transactions, preconditions, grouping.

use super::*;
use holdfast_volume_controller::store::{CommitError, Level, WatchError};

in_every_place! {
    a_full_store_takes_nothing_new_and_lets_things_go,
    what_is_written_is_read_listed_watched_and_there_after_a_restart,
    a_transaction_is_all_or_none,
    lists_are_in_order_and_in_pieces,
    writes_that_wait_together_are_committed_together,
    what_is_patient_goes_along,
    a_large_batch_is_cut_by_bytes,
    a_write_whose_caller_went_away_still_happens,
    closing_writes_what_waits,
}

async fn what_is_written_is_read_listed_watched_and_there_after_a_restart(place: Place) {
    let store = place.open().await;
    let start = store.revision();
    assert_eq!(start, 1, "revision 0 means `any` to Kubernetes' clients");
    let mut watch = store.watch(&[], start).unwrap();

    let made = store.commit(vec![create("a"), create("b")]).await.unwrap();
    assert_eq!(made.iter().map(|one| one.revision).collect::<Vec<_>>(), [2, 3]);
    let stored: Value = made[0].object.decode().unwrap();
    assert_eq!(stored["metadata"]["resourceVersion"], "2");
    assert_eq!(&*made[0].object.uid, "uid-a");
    let changed = store
        .commit(vec![
            write("a", Precondition::Revision(2), Some(body("a", 7))),
            write("b", Precondition::Uid("uid-b".into()), None),
        ])
        .await
        .unwrap();
    let last: Value = changed[1].object.decode().unwrap();
    assert_eq!(last["metadata"]["resourceVersion"], "5", "a deletion's body carries the deletion's revision");

    for (revision, kind, previous) in [
        (2, ChangeKind::Created, None),
        (3, ChangeKind::Created, None),
        (4, ChangeKind::Updated, Some(2)),
        (5, ChangeKind::Deleted, Some(3)),
    ] {
        let change = next_change(&mut watch).await;
        assert_eq!((change.revision, change.kind), (revision, kind));
        assert_eq!(change.previous.as_ref().map(|previous| previous.revision), previous);
    }
    let before = store.list(CLAIMS, None, None, None);
    store.close().await;
    for _ in 0..2 {
        assert_eq!(watch.next().await.unwrap_err(), WatchError::Closed);
    }
    assert!(matches!(store.commit(vec![create("c")]).await, Err(CommitError::Closed)));

    let store = place.open().await;
    assert_eq!(store.revision(), 5);
    assert_eq!(store.list(CLAIMS, None, None, None).objects, before.objects);
    let mut watch = store.watch(&[CLAIMS], 3).unwrap();
    let change = next_change(&mut watch).await;
    assert_eq!((change.revision, change.previous.as_ref().unwrap().revision), (4, 2), "watches resume");
    store.close().await;
}

async fn a_transaction_is_all_or_none(place: Place) {
    let store = place.open().await;
    store.commit(vec![create("a"), create("b")]).await.unwrap();
    let revision = store.revision();
    let before = listed(&store, &[CLAIMS]);
    let update = || write("a", Precondition::Present, Some(body("a", 9)));
    for (name, bad) in [
        ("exists", create("b")),
        ("missing", write("c", Precondition::Present, Some(body("c", 1)))),
        ("conflict", write("b", Precondition::Revision(1), Some(body("b", 1)))),
        ("twice", update()),
        ("malformed", write("c", Precondition::Absent, Some(json!([])))),
    ] {
        for writes in [vec![update(), bad.clone()], vec![bad.clone(), update()]] {
            store.commit(writes).await.expect_err(name);
            assert_eq!(listed(&store, &[CLAIMS]), before, "{name}");
        }
    }
    assert_eq!(store.revision(), revision, "what is refused takes no revision");
    assert!(store.commit(Vec::new()).await.unwrap().is_empty());
    assert_eq!(store.commit(vec![update()]).await.unwrap()[0].revision, revision + 1);
    store.close().await;
}

async fn lists_are_in_order_and_in_pieces(place: Place) {
    let store = place.open().await;
    let names = [("", "z"), ("a", "b"), ("a", "c"), ("a-b", "a"), ("a.b", "a"), ("b", "a"), ("b", "é")];
    for (namespace, name) in names.iter().rev() {
        put(&store, Key::new("pods", namespace, name), json!({})).await;
    }
    put(&store, Key::new("pod", "a", "other"), json!({})).await;
    let all = |list: Vec<Arc<Object>>| -> Vec<(String, String)> {
        list.iter().map(|object| (object.key.namespace.to_string(), object.key.name.to_string())).collect()
    };
    let expected: Vec<(String, String)> = names.iter().map(|(a, b)| (a.to_string(), b.to_string())).collect();
    let list = store.list("pods", None, None, None);
    assert_eq!(list.revision, store.revision());
    assert_eq!(all(list.objects), expected);
    for size in 1..=8 {
        let mut pieces = Vec::new();
        loop {
            let after = pieces.last().map(|(namespace, name): &(String, String)| (&**namespace, &**name));
            let piece = all(store.list("pods", None, after, Some(size)).objects);
            if piece.is_empty() {
                break;
            }
            pieces.extend(piece);
        }
        assert_eq!(pieces, expected, "in pieces of {size}");
    }
    let of = |namespace, after, limit| all(store.list("pods", Some(namespace), after, limit).objects).len();
    assert_eq!(of("a", None, None), 2);
    assert_eq!(of("", None, None), 1, "the empty namespace is that of kinds without");
    assert_eq!(of("a", Some(("a", "b")), None), 1);
    assert_eq!(of("b", Some(("a", "b")), None), 2, "what comes before the namespace skips nothing");
    assert_eq!(of("a", Some(("b", "a")), None), 0);
    assert_eq!(of("c", None, None), 0);
    assert!(store.list("nodes", None, None, None).objects.is_empty());
    store.close().await;
}

async fn writes_that_wait_together_are_committed_together(place: Place) {
    let store = place.open().await;
    let names: Vec<String> = (0..400).map(|index| format!("claim-{index}")).collect();
    let done = futures::future::join_all(names.iter().map(|name| store.commit(vec![create(name)]))).await;
    assert!(done.iter().all(Result::is_ok));
    let batches = store.metrics().batches.get();
    assert!(batches <= 20, "400 writes at once took {batches} SQL transactions");
    println!("400 writes at once: {batches} SQL transactions");
    store.close().await;
}

async fn what_is_patient_goes_along(place: Place) {
    const ROUNDS: u64 = 20;
    let store = place.open().await;
    let before = store.metrics().batches.get();
    for round in 0..ROUNDS {
        let names = [format!("patient-{round}"), format!("other-{round}")];
        let patient =
            Transaction { writes: vec![create(&names[0])], is_patient: true, ..Transaction::default() };
        let other = async {
            // The writer has taken the patient one by now.
            for _ in 0..8 {
                tokio::task::yield_now().await;
            }
            store.commit(vec![create(&names[1])]).await
        };
        let (patient, other) = futures::future::join(store.commit(patient), other).await;
        assert!(patient.unwrap()[0].revision < other.unwrap()[0].revision);
    }
    // Where the machine was busy with something else for longer than the patience lasts, one has waited in vain.
    let batches = store.metrics().batches.get() - before;
    assert!(
        2 * batches < 3 * ROUNDS,
        "{ROUNDS} patient writes and as many others took {batches} transactions"
    );
    // Alone they do not wait for ever, and what waits at the end is written.
    let alone = |name| Transaction { writes: vec![create(name)], is_patient: true, ..Transaction::default() };
    store.commit(alone("alone")).await.unwrap();
    let (last, ()) = futures::future::join(store.commit(alone("last")), store.close()).await;
    assert!(last.is_ok());
}

async fn a_large_batch_is_cut_by_bytes(place: Place) {
    let mut config = place.config();
    config.batch.bytes = 10_000;
    let store = Store::open(config).await.unwrap();
    let commits = (0..40).map(|index| {
        let text = json!({"text": "x".repeat(6_000)});
        store.commit(vec![write(&format!("claim-{index}"), Precondition::Absent, Some(text))])
    });
    assert!(futures::future::join_all(commits).await.iter().all(Result::is_ok));
    assert!(store.metrics().batches.get() >= 20, "{}", store.metrics().batches.get());
    assert_eq!(store.list(CLAIMS, None, None, None).objects.len(), 40);
    store.close().await;
}

async fn a_write_whose_caller_went_away_still_happens(place: Place) {
    let store = place.open().await;
    let mut watch = store.watch(&[], store.revision()).unwrap();
    let mut commit = Box::pin(store.commit(vec![create("a")]));
    assert!(futures::poll!(&mut commit).is_pending());
    drop(commit);
    assert_eq!(next_change(&mut watch).await.object.key, key("a"));
    store.close().await;
}

async fn closing_writes_what_waits(place: Place) {
    let store = place.open().await;
    let names: Vec<String> = (0..100).map(|index| format!("claim-{index}")).collect();
    let mut commits: Vec<_> = names.iter().map(|name| Box::pin(store.commit(vec![create(name)]))).collect();
    for commit in &mut commits {
        assert!(futures::poll!(commit).is_pending());
    }
    store.close().await;
    assert!(futures::future::join_all(commits).await.iter().all(Result::is_ok));
    let store = place.open().await;
    assert_eq!(store.list(CLAIMS, None, None, None).objects.len(), 100);
    store.close().await;
}

async fn a_full_store_takes_nothing_new_and_lets_things_go(place: Place) {
    let mut config = place.config();
    config.quota = Some(10_000);
    let store = Store::open(config.clone()).await.unwrap();
    let big = |name: &str, size: usize| {
        let body = json!({"metadata": {"name": name}, "text": "x".repeat(size)});
        vec![write(name, Precondition::Absent, Some(body))]
    };
    assert_eq!(*store.level().borrow(), Level::Low);
    store.commit(big("a", 4_500)).await.unwrap();
    store.commit(big("b", 4_500)).await.unwrap();
    assert_eq!(*store.level().borrow(), Level::High);
    let before = (store.revision(), store.bytes());
    let error = store.commit(big("c", 4_500)).await.unwrap_err();
    assert!(matches!(&error, CommitError::Full(why) if why.contains("quota is 10000")), "{error}");
    assert_eq!((store.revision(), store.bytes()), before, "nothing happened");
    // The same after a restart, and in the same batch as others.
    store.close().await;
    let store = Store::open(config).await.unwrap();
    assert_eq!((store.revision(), store.bytes()), before);
    let small = |name: &str| store.commit(vec![create(name)]);
    let (refused, admitted) = futures::join!(store.commit(big("c", 4_500)), small("d"));
    assert!(matches!(refused, Err(CommitError::Full(_))), "{refused:?}");
    admitted.unwrap();
    store.commit(vec![write("a", Precondition::Present, None)]).await.unwrap();
    assert_eq!(*store.level().borrow(), Level::Low);
    store.commit(big("c", 4_500)).await.unwrap();
    store.close().await;
}
