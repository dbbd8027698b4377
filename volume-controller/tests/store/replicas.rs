//! Three replicas on one PostgreSQL: whoever watches through one sees what is written through the others,
//! each change once and in order, while replicas are killed and the database restarts.

use std::process::Stdio;

use super::*;
use holdfast_test_needs::postgres::{Cluster, Durability};
use holdfast_volume_controller::store::CommitError;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;

/// Tells the child which database to open.
const PLACE: &str = "HOLDFAST_TEST_STORE_REPLICA";
/// Tells the child which replica it is.
const NUMBER: &str = "HOLDFAST_TEST_STORE_REPLICA_NUMBER";

/// Changes to be seen before the next disturbance.
const CALM: u64 = 150;

/// Not a test of its own: one replica. It writes by itself, and watches when told to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "started by the tests of replicas"]
async fn child() {
    let (Ok(place), Ok(number)) = (std::env::var(PLACE), std::env::var(NUMBER)) else { return };
    let mut config = Place::named(&place).config();
    config.log.changes = 1_000_000;
    config.log.bytes = 1 << 30;
    let store = loop {
        match Store::open(config.clone()).await {
            Ok(store) => break store,
            // The database is just down.
            Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
        }
    };
    for name in [format!("own-{number}-a"), format!("own-{number}-b"), "counter".to_owned()] {
        tokio::spawn(count_up(store.clone(), name));
    }
    // This thread may wait: the runtime has others.
    for order in std::io::stdin().lines() {
        let order = order.unwrap();
        let numbers: Vec<u64> = order.split(' ').map(|number| number.parse().unwrap()).collect();
        let [id, from] = numbers[..] else { panic!("{order}") };
        tokio::spawn(tell(store.watch(&[], from).unwrap(), id));
    }
}

/// Adds one to an object's value, again and again, in a way that loses nothing that others add.
async fn count_up(store: Store, name: String) {
    loop {
        let (precondition, value) = match store.get(&key(&name)) {
            Some(object) => (Precondition::Revision(object.revision), value_of(&object) + 1),
            None => (Precondition::Absent, 1),
        };
        match store.commit(vec![write(&name, precondition, Some(body(&name, value)))]).await {
            Ok(done) => say(&format!("ack {name} {value} {}", done[0].revision)),
            Err(CommitError::Exists { .. } | CommitError::Conflict { .. }) => {}
            Err(error @ CommitError::Unknown(_)) => say(&format!("unknown {name} {value} {error}")),
            Err(CommitError::Database(_)) => tokio::time::sleep(Duration::from_millis(20)).await,
            Err(error) => panic!("{error}"),
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

async fn tell(mut watch: Watch, id: u64) {
    loop {
        if let Next::Change(change) = watch.next().await.unwrap() {
            let previous = change.previous.as_ref().map_or(0, |previous| previous.revision);
            let (name, value) = (&change.object.key.name, value_of(&change.object));
            say(&format!("saw {id} {} {previous} {name} {value}", change.revision));
        }
    }
}

/// One write call: the parent sees all of a line or nothing.
fn say(line: &str) {
    use std::io::Write as _;
    std::io::stdout().lock().write_all(format!("\n{line}\n").as_bytes()).unwrap();
}

struct Replica {
    process: Child,
    orders: ChildStdin,
}

/// What all replicas say, and what is concluded from it.
struct Client {
    place: String,
    replicas: Vec<Replica>,
    said: mpsc::UnboundedReceiver<String>,
    ears: mpsc::UnboundedSender<String>,
    /// The replica that it watches through.
    at: usize,
    /// Names the watch, so that the words of an earlier one are not taken for its own.
    watch: u64,
    /// All changes up to here were seen.
    last: u64,
    /// The objects as seen: revision and value.
    objects: BTreeMap<String, (u64, u64)>,
    /// Every change as seen, by revision.
    seen: BTreeMap<u64, (String, u64)>,
    acknowledged: Vec<(u64, String, u64)>,
    unknown: usize,
}

impl Client {
    async fn start(place: &Place, count: usize) -> Self {
        let (ears, said) = mpsc::unbounded_channel();
        let mut client = Self {
            place: place.name(),
            replicas: Vec::new(),
            said,
            ears,
            at: 0,
            watch: 0,
            last: 1,
            objects: BTreeMap::new(),
            seen: BTreeMap::new(),
            acknowledged: Vec::new(),
            unknown: 0,
        };
        for number in 0..count {
            let replica = client.spawn(number);
            client.replicas.push(replica);
        }
        client.watch_through(0).await;
        client
    }

    fn spawn(&self, number: usize) -> Replica {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "replicas::child", "--ignored", "--nocapture", "--test-threads=1"])
            .env(PLACE, &self.place)
            .env(NUMBER, number.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let ears = self.ears.clone();
        tokio::spawn(async move {
            while let Ok(Some(line)) = lines.next_line().await {
                let _ = ears.send(line);
            }
        });
        let orders = process.stdin.take().unwrap();
        Replica { process, orders }
    }

    /// Goes on watching where it was, through this replica.
    async fn watch_through(&mut self, number: usize) {
        self.at = number;
        self.watch += 1;
        let order = format!("{} {}\n", self.watch, self.last);
        self.replicas[number].orders.write_all(order.as_bytes()).await.unwrap();
    }

    /// kill -9, and a new process in its place.
    async fn kill(&mut self, number: usize) {
        self.replicas[number].process.kill().await.unwrap();
        self.replicas[number] = self.spawn(number);
        if self.at == number {
            self.watch_through((number + 1) % self.replicas.len()).await;
        }
    }

    /// Until `holds`, of all that was heard since it was called.
    async fn listen_until(&mut self, what: &str, holds: impl Fn(&Self) -> bool) {
        let deadline = tokio::time::Instant::now() + Duration::from_secs(120);
        while !holds(self) {
            let line = tokio::time::timeout_at(deadline, self.said.recv()).await;
            self.hear(&line.unwrap_or_else(|_| panic!("{what}: last seen {}", self.last)).unwrap());
        }
    }

    /// Until changes of every replica were seen that were acknowledged after now.
    async fn calm(&mut self, what: &str) {
        let (changes, acknowledged) = (self.last + CALM, self.acknowledged.len());
        let writers: Vec<String> = (0..self.replicas.len()).map(|number| format!("own-{number}-a")).collect();
        self.listen_until(what, |client| {
            let fresh = &client.acknowledged[acknowledged..];
            client.last >= changes
                && writers.iter().all(|writer| {
                    fresh.iter().any(|(revision, name, _)| name == writer && *revision <= client.last)
                })
        })
        .await;
    }

    fn hear(&mut self, line: &str) {
        let words: Vec<&str> = line.split(' ').collect();
        let number = |index: usize| words[index].parse::<u64>().unwrap();
        match words[0] {
            "ack" => self.acknowledged.push((number(3), words[1].to_owned(), number(2))),
            "unknown" => self.unknown += 1,
            "saw" if number(1) == self.watch => {
                let (revision, previous, name, value) = (number(2), number(3), words[4], number(5));
                assert_eq!(revision, self.last + 1, "each change once, in order");
                let before = self.objects.insert(name.to_owned(), (revision, value));
                assert_eq!(previous, before.map_or(0, |(revision, _)| revision), "what it replaced");
                assert_eq!(
                    value,
                    before.map_or(0, |(_, value)| value) + 1,
                    "no write is built on an old one"
                );
                self.seen.insert(revision, (name.to_owned(), value));
                self.last = revision;
            }
            _ => {}
        }
    }

    /// Ends the replicas; then what was seen, what was acknowledged and what the database has must agree.
    async fn conclude(mut self, place: &Place) {
        // What is in the pipes and under way is heard to its end; the watch stays, on a store of this process.
        for replica in &mut self.replicas {
            replica.process.kill().await.unwrap();
        }
        drop(std::mem::replace(&mut self.ears, mpsc::unbounded_channel().0));
        while let Some(line) = self.said.recv().await {
            self.hear(&line);
        }
        let mut config = place.config();
        config.log.changes = 1_000_000;
        config.log.bytes = 1 << 30;
        let store = Store::open(config).await.unwrap();
        let mut watch = store.watch(&[], self.last).unwrap();
        // A transaction of a killed replica that the server still had to end comes before this one.
        let end = put(&store, key("end"), body("end", 1)).await;
        for change in changes_until(&mut watch, end).await {
            let previous = change.previous.as_ref().map_or(0, |previous| previous.revision);
            let (name, value) = (&change.object.key.name, value_of(&change.object));
            self.hear(&format!("saw {} {} {previous} {name} {value}", self.watch, change.revision));
        }
        assert_eq!(self.last, end);
        let listed: BTreeMap<String, (u64, u64)> = listed(&store, &[CLAIMS])
            .values()
            .map(|object| (object.key.name.to_string(), (object.revision, value_of(object))))
            .collect();
        assert_eq!(listed, self.objects, "what was seen leads to what is there");
        for (revision, name, value) in &self.acknowledged {
            assert_eq!(self.seen.get(revision), Some(&(name.clone(), *value)), "acknowledged as {revision}");
        }
        let (counter, lost) = (self.objects["counter"].1, self.unknown);
        println!(
            "{} changes seen once and in order, {} acknowledged, {lost} of unknown outcome, counter {counter}",
            self.seen.len(),
            self.acknowledged.len()
        );
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_replicas_are_one_store() {
    // Restarts of the server are crashes here, so it has to keep what it acknowledged.
    let Some(cluster) = Cluster::start(Durability::Full) else { return };
    let place = Place::on(&cluster).await;
    let mut client = Client::start(&place, 3).await;
    client.calm("at the beginning").await;
    client.kill(0).await;
    client.calm("after the replica that was watched through was killed").await;
    cluster.restart();
    client.calm("after a crash of the database").await;
    client.kill(2).await;
    client.kill(1).await;
    client.calm("after two replicas were killed").await;
    for _ in 0..5 {
        place.end_sessions().await;
        client.calm("after all connections were cut").await;
    }
    cluster.stop();
    let next = (client.at + 1) % 3;
    client.kill(next).await;
    cluster.start_again();
    client.calm("after the database was down").await;
    client.watch_through(next).await;
    cluster.restart();
    client.kill((next + 1) % 3).await;
    client.calm("after both at once").await;
    client.conclude(&place).await;
}

#[tokio::test]
async fn who_only_watches_is_told_at_once_and_misses_nothing_when_cut_off() {
    let Some(place) = Place::postgres().await else { return };
    let (writer, reader) = (place.open().await, place.open().await);
    let mut watch = reader.watch(&[], 1).unwrap();
    // The reader's ear may still be on its way.
    put(&writer, key("first"), body("first", 0)).await;
    next_change(&mut watch).await;
    tokio::time::timeout(Duration::from_secs(15), async {
        for value in 1..=60 {
            let revision = put(&writer, key("a"), body("a", value)).await;
            assert_eq!(next_change(&mut watch).await.revision, revision);
        }
    })
    .await
    .expect("60 changes one after the other would take the poll a minute");
    for value in 0..5 {
        place.end_sessions().await;
        let revision = put(&writer, key("b"), body("b", value)).await;
        assert_eq!(next_change(&mut watch).await.revision, revision, "although nobody was told of it");
    }
    assert_eq!(listed(&reader, &[CLAIMS]), listed(&writer, &[CLAIMS]));
    writer.close().await;
    reader.close().await;
}
