//! kill -9 under load: what was acknowledged is there, what is there is whole.

use std::collections::HashMap;
use std::io::Write as _;
use std::process::Stdio;

use super::*;
use holdfast_volume_controller::store::OpenError;
use tokio::io::{AsyncBufReadExt, BufReader};

in_every_place! {
    kill_loses_nothing,
}

/// Tells the child where to write to: a file, or the URL of a database.
const PLACE: &str = "HOLDFAST_TEST_STORE_CRASH";
const WRITERS: u64 = 8;

/// Not a test of its own: the process that `kill_loses_nothing` starts and kills.
#[tokio::test]
#[ignore = "started by kill_loses_nothing"]
async fn child() {
    let Ok(place) = std::env::var(PLACE) else { return };
    let mut config = Place::named(&place).config();
    // Small, so that compaction and checkpoints are interrupted as well.
    config.log.changes = 700;
    let store = Store::open(config).await.unwrap();
    let writers = (0..WRITERS).map(|writer| {
        let store = store.clone();
        tokio::spawn(async move {
            let [left, right] = pair(writer);
            let mut value = store.get(&left).map_or(0, |object| value_of(&object));
            loop {
                value += 1;
                let precondition =
                    if store.get(&left).is_some() { Precondition::Present } else { Precondition::Absent };
                let padding = "x".repeat((value % 7 * 900) as usize);
                let writes = [&left, &right].map(|key| Write {
                    key: key.clone(),
                    precondition: precondition.clone(),
                    body: Some(json!({"value": value, "padding": padding})),
                });
                let done = store.commit(Vec::from(writes)).await.unwrap();
                // One write call: the parent sees all of it or nothing.
                let line = format!("\nack {writer} {value} {}\n", done[1].revision);
                std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
            }
        })
    });
    futures::future::join_all(writers.collect::<Vec<_>>()).await;
}

/// Two objects that are always written together.
fn pair(writer: u64) -> [Key; 2] {
    ["left", "right"].map(|side| Key::new(CLAIMS, "default", &format!("{writer}-{side}")))
}

/// When the child is killed.
#[derive(Debug, Clone, Copy)]
enum Moment {
    /// Once it has acknowledged so many writes.
    Acknowledged(usize),
    /// So long after it was started, whatever it is at: it may still be opening the store, or recovering it.
    After(Duration),
}

/// Runs the child, kills it, and returns the last acknowledged value and revision of each writer.
async fn run_and_kill(place: &Place, moment: Moment) -> HashMap<u64, (u64, u64)> {
    let mut child = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "crash::child", "--ignored", "--nocapture", "--test-threads=1"])
        .env(PLACE, place.name())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut acknowledged = HashMap::new();
    let mut seen = 0;
    let count = match moment {
        Moment::Acknowledged(count) => count,
        Moment::After(time) => {
            tokio::time::sleep(time).await;
            child.start_kill().unwrap();
            0
        }
    };
    while let Some(line) = lines.next_line().await.unwrap() {
        let Some(rest) = line.strip_prefix("ack ") else { continue };
        let numbers: Vec<u64> = rest.split(' ').map(|number| number.parse().unwrap()).collect();
        acknowledged.insert(numbers[0], (numbers[1], numbers[2]));
        seen += 1;
        if seen == count {
            // SIGKILL; what is already in the pipe was acknowledged, too.
            child.start_kill().unwrap();
        }
    }
    child.wait().await.unwrap();
    assert!(seen >= count, "the child ended by itself after {seen} writes");
    acknowledged
}

async fn kill_loses_nothing(place: Place) {
    // Opening an SQLite file is what recovers it, so that it is killed a hundred times, in every fourth round early.
    let rounds = if matches!(place, Place::File { .. }) { 100 } else { 8 };
    let moments = [1, 13, 150, 37, 400, 5, 90, 250].map(Moment::Acknowledged);
    let mut total = 0;
    let mut promised: HashMap<u64, (u64, u64)> = HashMap::new();
    for round in 0..rounds {
        let moment = match round % 4 {
            3 if rounds == 100 => Moment::After(Duration::from_millis(10 + round * 7 % 60)),
            // A step that goes through all of them although every fourth is left out.
            _ => moments[(round * 3 + round / 4) as usize % moments.len()],
        };
        promised.extend(run_and_kill(&place, moment).await);
        let store = loop {
            match Store::open(place.config()).await {
                Ok(store) => break store,
                // The kernel frees the lock when the last thread is gone, a moment after `wait`.
                Err(OpenError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
                Err(error) => panic!("round {round}: {error}"),
            }
        };
        // One list, as of one revision: what the killed process had under way may still come about.
        let objects = listed(&store, &[CLAIMS]);
        for (writer, &(value, revision)) in &promised {
            let [left, right] = pair(*writer).map(|key| objects.get(&key).expect("an acknowledged object"));
            assert!(value_of(left) >= value, "round {round}: {} < {value}", value_of(left));
            assert_eq!(value_of(left), value_of(right), "round {round}: half a transaction");
            assert_eq!(left.revision + 1, right.revision);
            assert!(store.revision() >= revision);
        }
        let (oldest, revision) = (store.compacted(), store.revision());
        let changes = changes_until(&mut store.watch(&[], oldest).unwrap(), revision).await;
        let revisions: Vec<u64> = changes.iter().map(|change| change.revision).collect();
        assert_eq!(revisions, (oldest + 1..=revision).collect::<Vec<_>>(), "the log has no gap");
        total = revision;
        store.close().await;
    }
    println!("{rounds} kills, {total} revisions");
}
