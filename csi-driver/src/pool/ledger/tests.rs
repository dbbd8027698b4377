use super::*;
use crate::size::GIB;

fn free(free: u64) -> impl Fn(&BTreeMap<VolumeId, Promise>) -> Result<Free, Error> {
    move |sizes| Ok(Free { free, unwritten: sizes.values().map(|promise| promise.bytes).sum() })
}

fn holding(limit: Option<u64>, volumes: &[(&str, u64)]) -> Ledger {
    let promise = |bytes| Promise { bytes, shares: false };
    let volumes = volumes.iter().map(|(name, bytes)| (id(name), promise(*bytes))).collect();
    Ledger::new("p", limit, volumes, BTreeMap::new())
}

#[test]
fn snapshots_count_until_they_are_gone() {
    let ledger = holding(Some(10 * GIB), &[("a", 4 * GIB)]);
    let cut = SnapshotId::derive("p", "s");
    let bytes = BTreeMap::from([(cut.clone(), 5 * GIB)]);
    drop(ledger.reserve_snapshots(bytes.clone(), &free(100 * GIB)).unwrap());
    ledger.reserve_snapshots(bytes.clone(), &free(100 * GIB)).unwrap().keep();
    assert_eq!(ledger.available(&free(100 * GIB)).unwrap(), GIB);
    let more = BTreeMap::from([(SnapshotId::derive("p", "t"), 2 * GIB)]);
    assert!(matches!(ledger.reserve_snapshots(more, &free(100 * GIB)), Err(Error::Exhausted(_))));
    ledger.release_snapshot(&cut);
    assert_eq!(ledger.available(&free(100 * GIB)).unwrap(), 6 * GIB);
}

fn id(name: &str) -> VolumeId {
    VolumeId::derive("p", name)
}

#[test]
fn never_more_than_the_limit_or_the_disk() {
    let ledger = holding(Some(10 * GIB), &[("old", 4 * GIB)]);
    assert_eq!(ledger.available(&free(100 * GIB)).unwrap(), 6 * GIB);
    ledger.reserve(&id("a"), 4 * GIB, &free(100 * GIB)).unwrap().keep();
    let error = ledger.reserve(&id("b"), 3 * GIB, &free(100 * GIB)).unwrap_err();
    assert!(
        matches!(&error, Error::Exhausted(text) if text.contains("2Gi") && text.contains("3Gi")),
        "{error}"
    );
    ledger.release(&id("old"), None);
    assert!(ledger.reserve(&id("b"), 3 * GIB, &free(100 * GIB)).is_ok());

    let small = holding(None, &[("old", 4 * GIB)]);
    assert_eq!(small.available(&free(5 * GIB)).unwrap(), GIB);
    assert!(small.reserve(&id("a"), 2 * GIB, &free(5 * GIB)).is_err());
}

#[test]
fn a_dropped_reservation_takes_nothing() {
    let ledger = holding(Some(10 * GIB), &[("a", GIB)]);
    drop(ledger.reserve(&id("a"), 9 * GIB, &free(100 * GIB)).unwrap());
    assert_eq!(ledger.available(&free(100 * GIB)).unwrap(), 9 * GIB);
    drop(ledger.reserve(&id("b"), 9 * GIB, &free(100 * GIB)).unwrap());
    assert_eq!(ledger.available(&free(100 * GIB)).unwrap(), 9 * GIB);
}

#[test]
fn promises_between_two_measurements_count() {
    let ledger = holding(None, &[]);
    let stale = |_: &BTreeMap<VolumeId, Promise>| Ok(Free { free: 10 * GIB, unwritten: 0 });
    ledger.reserve(&id("a"), 6 * GIB, &stale).unwrap().keep();
    assert!(ledger.reserve(&id("b"), 6 * GIB, &stale).is_err());
}

#[test]
fn room_for_snapshots_being_cut_is_taken_at_once() {
    let ledger = holding(None, &[]);
    let stale = |_: &BTreeMap<VolumeId, Promise>| Ok(Free { free: 10 * GIB, unwritten: 0 });
    let cut = |name| BTreeMap::from([(SnapshotId::derive("p", name), 6 * GIB)]);
    let _first = ledger.reserve_snapshots(cut("s"), &stale).unwrap();
    assert!(ledger.reserve_snapshots(cut("t"), &stale).is_err());
}

/// A disk of so many bytes on which nothing is written, and which is slow to answer.
fn slow_disk(bytes: u64) -> impl Fn(&BTreeMap<VolumeId, Promise>) -> Result<Free, Error> + Copy {
    move |sizes| {
        (0..100).for_each(|_| std::thread::yield_now());
        Ok(Free { free: bytes, unwritten: sizes.values().map(|promise| promise.bytes).sum() })
    }
}

#[test]
fn many_at_once_are_never_promised_more_than_there_is() {
    let disk = slow_disk(20 * GIB);
    let ledger = holding(None, &[]);
    std::thread::scope(|scope| {
        for client in 0..8 {
            let ledger = &ledger;
            scope.spawn(move || {
                for round in 0..20 {
                    let id = id(&format!("{client}-{round}"));
                    match ledger.reserve(&id, GIB, &disk) {
                        Ok(promise) if round % 3 == 0 => drop(promise),
                        Ok(promise) => promise.keep(),
                        Err(Error::Exhausted(_)) => {}
                        Err(error) => panic!("{error}"),
                    }
                    let promised = ledger.inner.lock().promised();
                    assert!(promised <= 20 * GIB, "{} are promised", Bytes(promised));
                    if round % 4 == 0 {
                        ledger.release(&id, None);
                    }
                    ledger.note_sharing(&id);
                }
            });
        }
    });
    let promised = ledger.inner.lock().promised();
    assert!(promised > 15 * GIB, "the pool stays empty: {}", Bytes(promised));
}

#[test]
fn what_comes_to_be_shared_while_the_disk_answers_counts() {
    let ledger = holding(None, &[("a", 4 * GIB)]);
    let answer = |sizes: &BTreeMap<VolumeId, Promise>| {
        // All of it is written, and to change what is shared takes room anew.
        let unwritten = sizes.values().filter(|promise| promise.shares).map(|promise| promise.bytes).sum();
        if unwritten == 0 {
            ledger.note_sharing(&id("a"));
        }
        Ok(Free { free: 5 * GIB, unwritten })
    };
    assert!(ledger.reserve(&id("b"), 3 * GIB, &answer).is_err());
    assert!(ledger.reserve(&id("b"), GIB, &answer).is_ok());
}

#[test]
fn a_disk_that_hangs_holds_only_those_who_ask_it() {
    let ledger = holding(Some(10 * GIB), &[("a", GIB)]);
    let (release, hung) = std::sync::mpsc::channel::<()>();
    let (asked, begun) = std::sync::mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let measuring = scope.spawn({
            let ledger = &ledger;
            move || {
                let hanging = |sizes: &BTreeMap<VolumeId, Promise>| {
                    asked.send(()).unwrap();
                    let _ = hung.recv();
                    free(100 * GIB)(sizes)
                };
                ledger.reserve(&id("b"), GIB, &hanging).map(Reservation::keep)
            }
        });
        begun.recv().unwrap();
        ledger.release(&id("a"), Some("a.1-1"));
        ledger.hold("old", GIB);
        ledger.let_go("old");
        ledger.note_sharing(&id("a"));
        assert_eq!(ledger.inner.lock().trashed(), GIB);
        release.send(()).unwrap();
        measuring.join().unwrap().unwrap();
    });
    assert_eq!(ledger.inner.lock().promised(), GIB);
}

#[test]
fn an_error_is_no_room_and_no_absence() {
    let ledger = holding(None, &[]);
    let failing = |_: &BTreeMap<VolumeId, Promise>| Err(Error::Lost("disk".to_owned()));
    assert!(ledger.reserve(&id("a"), 1, &failing).is_err());
    assert_eq!(ledger.available(&free(GIB)).unwrap(), GIB);
}
