//! The window of changes: where watches can start, when they are too slow, what
//! the disk keeps.

use super::*;
use holdfast_volume_controller::store::{Expired, WatchError};

in_every_place! {
    a_watch_starts_at_the_compacted_revision_and_not_before,
    a_slow_watch_ends_and_a_quiet_one_does_not,
    a_watch_without_changes_tells_how_far_it_is,
    a_watch_from_a_revision_to_come_waits_for_it,
    the_window_is_bounded_by_bytes_and_age_as_well,
    what_was_just_committed_is_never_too_much,
    the_disk_keeps_the_window_and_what_lives,
}

async fn with_window(place: &Place, changes: usize) -> (Config, Store) {
    let mut config = place.config();
    config.log.changes = changes;
    let store = Store::open(config.clone()).await.unwrap();
    (config, store)
}

async fn a_watch_starts_at_the_compacted_revision_and_not_before(place: Place) {
    let (config, store) = with_window(&place, 10).await;
    for value in 0..50 {
        put(&store, key(&format!("claim-{}", value % 7)), body("x", value)).await;
    }
    store.close().await;
    let reopened = Store::open(config).await.unwrap();
    for store in [&store, &reopened] {
        let oldest = store.compacted();
        assert_eq!((oldest, store.revision()), (41, 51));
        let changes = changes_until(&mut store.watch(&[], oldest).unwrap(), 51).await;
        let revisions: Vec<u64> = changes.iter().map(|change| change.revision).collect();
        assert_eq!(revisions, (42..=51).collect::<Vec<_>>());
        // What came before the window is known, too, after a restart as well.
        assert_eq!(changes[0].previous.as_ref().map(|previous| previous.revision), Some(35));
        assert_eq!(store.watch(&[], oldest - 1).unwrap_err(), Expired { from: oldest - 1, oldest });
    }
    reopened.close().await;
}

async fn a_slow_watch_ends_and_a_quiet_one_does_not(place: Place) {
    let (_config, store) = with_window(&place, 10).await;
    let start = store.revision();
    let mut slow = store.watch(&[CLAIMS], start).unwrap();
    let mut quiet = store.watch(&["nodes"], start).unwrap();
    for value in 0..50 {
        put(&store, key("a"), body("a", value)).await;
    }
    for _ in 0..2 {
        assert_eq!(slow.next().await.unwrap_err(), WatchError::TooSlow);
    }
    put(&store, Key::new("nodes", "", "one"), json!({})).await;
    let change = next_change(&mut quiet).await;
    assert_eq!((change.revision, &*change.object.key.name), (52, "one"));
    store.close().await;
}

async fn a_watch_without_changes_tells_how_far_it_is(place: Place) {
    let mut config = place.config();
    config.progress = Duration::from_millis(20);
    let store = Store::open(config).await.unwrap();
    let mut quiet = store.watch(&["nodes"], store.revision()).unwrap();
    let revision = put(&store, key("a"), body("a", 1)).await;
    assert!(matches!(next(&mut quiet).await, Next::Progress(at) if at == revision));
    let silence = tokio::time::timeout(Duration::from_millis(200), quiet.next()).await;
    assert!(silence.is_err(), "the same is told once: {silence:?}");
    let last = put(&store, Key::new("nodes", "", "one"), json!({})).await;
    assert!(matches!(next(&mut quiet).await, Next::Change(change) if change.revision == last));
    store.close().await;
}

async fn a_watch_from_a_revision_to_come_waits_for_it(place: Place) {
    let store = place.open().await;
    let mut watch = store.watch(&[CLAIMS], store.revision() + 2).unwrap();
    for value in 0..4 {
        put(&store, key("a"), body("a", value)).await;
    }
    assert_eq!(next_change(&mut watch).await.revision, 4);
    assert_eq!(next_change(&mut watch).await.revision, 5);
    store.close().await;
}

async fn the_window_is_bounded_by_bytes_and_age_as_well(place: Place) {
    let mut config = place.config();
    config.log.bytes = 20_000;
    config.log.age = Duration::from_millis(300);
    let store = Store::open(config).await.unwrap();
    for value in 0..20 {
        put(&store, key("a"), json!({"text": "x".repeat(3_000), "value": value})).await;
    }
    let kept = store.revision() - store.compacted();
    assert!((1..=6).contains(&kept), "{kept} changes of 3,000 bytes in a window of 20,000");
    let old = store.revision();
    while store.compacted() < old {
        tokio::time::sleep(Duration::from_millis(20)).await;
        put(&store, key("b"), body("b", 0)).await;
    }
    store.close().await;
}

async fn what_was_just_committed_is_never_too_much(place: Place) {
    let mut config = place.config();
    (config.log.bytes, config.log.changes) = (1_000, 3);
    let store = Store::open(config).await.unwrap();
    let mut watch = store.watch(&[CLAIMS], store.revision()).unwrap();
    for round in 0..3 {
        let create = |n: usize| {
            let body = json!({"text": "x".repeat(3_000)});
            write(&format!("claim-{round}-{n}"), Precondition::Absent, Some(body))
        };
        store.commit((0..5).map(create).collect::<Vec<_>>()).await.unwrap();
        for n in 0..5 {
            assert_eq!(*next_change(&mut watch).await.object.key.name, *format!("claim-{round}-{n}"));
        }
        assert_eq!(store.revision() - store.compacted(), 5, "only this is kept");
    }
    store.close().await;
}

async fn the_disk_keeps_the_window_and_what_lives(place: Place) {
    let (config, store) = with_window(&place, 100).await;
    for name in ["old-1", "old-2", "gone"] {
        put(&store, key(name), body(name, 0)).await;
    }
    store.commit(vec![write("gone", Precondition::Present, None)]).await.unwrap();
    let objects = 20;
    for value in 0..2_000 {
        put(&store, key(&format!("claim-{}", value % objects)), body("x", value)).await;
    }
    // The writer compacts in the background, and at the latest at its next tick.
    eventually("the disk is compacted", || {
        store.metrics().compacted.get() == i64::try_from(store.compacted()).unwrap()
    })
    .await;
    let before = listed(&store, &[CLAIMS]);
    store.close().await;
    let rows = place.number("SELECT count(*) FROM change").await;
    // The window, what its first changes replaced, and the two that nobody touched.
    assert_eq!(rows, 100 + 20 + 2);
    let store = Store::open(config).await.unwrap();
    assert_eq!(listed(&store, &[CLAIMS]), before);
    store.close().await;
}

#[tokio::test]
async fn the_file_gets_smaller_when_objects_go() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.log.changes = 100;
    let store = Store::open(config).await.unwrap();
    let names: Vec<String> = (0..40).map(|number| format!("claim-{number}")).collect();
    for names in names.chunks(10) {
        let text = "x".repeat(200_000);
        let create = |name: &String| write(name, Precondition::Absent, Some(json!({"text": text})));
        store.commit(names.iter().map(create).collect::<Vec<_>>()).await.unwrap();
    }
    assert!(store.bytes() > 8_000_000, "{}", store.bytes());
    for names in names.chunks(10) {
        let delete = |name: &String| write(name, Precondition::Present, None);
        store.commit(names.iter().map(delete).collect::<Vec<_>>()).await.unwrap();
    }
    assert_eq!(store.bytes(), 0);
    // What was deleted is in the log until others take its place.
    for value in 0..100 {
        put(&store, key("a"), body("a", value)).await;
    }
    let file = folder.path().join("state.db");
    let size = || std::fs::metadata(&file).unwrap().len();
    eventually("the file gets smaller", || size() < 3 << 20).await;
    assert!(value_of(&store.get(&key("a")).unwrap()) == 99);
    eventually("the size is told", || store.metrics().database_bytes.get() < 3 << 20).await;
    store.close().await;
    let store = Store::open(Config::new(&*file)).await.unwrap();
    assert_eq!(listed(&store, &[CLAIMS]).len(), 1);
    store.close().await;
}

#[tokio::test]
async fn the_wal_stays_bounded() {
    let (folder, store) = fresh().await;
    let text = "x".repeat(50_000);
    for value in 0..600 {
        put(&store, key("a"), json!({"value": value, "text": text})).await;
    }
    let wal = std::fs::metadata(folder.path().join("state.db-wal")).unwrap().len();
    assert!(wal < 12 << 20, "30 MB were written and the WAL has {wal} bytes");
    store.close().await;
    assert!(!folder.path().join("state.db-wal").exists(), "closing leaves one file");
}
