//! The connection to PostgreSQL is lost in the middle of COMMIT. Whatever became of it, whoever
//! waits for the commit is told the truth.

use std::path::Path;

use super::*;
use holdfast_volume_controller::store::{CommitError, WatchError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;

/// What happens to the next COMMIT that comes along.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    /// The server does it, and its answer is lost.
    AnswerIsLost,
    /// It is lost, and the server notices that the client is gone.
    CommitIsLost,
    /// The client is cut off at once, its COMMIT arrives a second later.
    CommitIsLate,
    /// It is lost, and the server does not notice that the client is gone.
    CommitIsLostQuietly,
    /// Nothing goes through any more.
    Down,
}

/// The simple query `COMMIT` (PostgreSQL, section 55.7): type, length, text, zero.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

/// Stands between the store and the server.
struct Network {
    folder: TempDir,
    trouble: watch::Sender<Trouble>,
}

impl Network {
    fn to(server: &Path) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(folder.path().join(".s.PGSQL.5432")).unwrap();
        let trouble = watch::Sender::new(Trouble::None);
        let (sender, server) = (trouble.clone(), server.to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *sender.borrow() == Trouble::Down {
                    continue;
                }
                let server = UnixStream::connect(&server).await.unwrap();
                tokio::spawn(connection(client, server, sender.clone()));
            }
        });
        Self { folder, trouble }
    }
}

async fn connection(client: UnixStream, server: UnixStream, trouble: watch::Sender<Trouble>) {
    let (mut from_client, to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let back = tokio::spawn(copy(from_server, to_client));
    let mut buffer = vec![0; 1 << 16];
    let mut orders = trouble.subscribe();
    loop {
        let length = tokio::select! {
            length = from_client.read(&mut buffer) => length.unwrap_or_default(),
            _ = orders.wait_for(|trouble| *trouble == Trouble::Down) => 0,
        };
        if length == 0 {
            back.abort();
            return;
        }
        let is_commit = buffer[..length].ends_with(COMMIT);
        let what = if is_commit { trouble.send_replace(Trouble::None) } else { Trouble::None };
        if what == Trouble::None {
            to_server.write_all(&buffer[..length]).await.unwrap();
            continue;
        }
        // The client sees the end of the connection, in both directions; the server sees nothing yet.
        back.abort();
        let _ = back.await;
        drop(from_client);
        match what {
            Trouble::AnswerIsLost => to_server.write_all(&buffer[..length]).await.unwrap(),
            Trouble::CommitIsLate => {
                tokio::time::sleep(Duration::from_secs(1)).await;
                to_server.write_all(&buffer[..length]).await.unwrap();
            }
            Trouble::CommitIsLostQuietly => std::future::pending().await,
            Trouble::CommitIsLost | Trouble::Down | Trouble::None => {}
        }
        return;
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf) {
    let _ = tokio::io::copy(&mut from, &mut to).await;
}

/// Cuts the store off in the middle of a commit. Returns what the caller was told, the store, and a
/// watch from before it.
async fn commit_in(trouble: Trouble, sharing: Sharing) -> Option<(Result<u64, CommitError>, Store, Watch)> {
    let place = Place::postgres().await?;
    let network = Network::to(&place.socket());
    let mut config = place.through(network.folder.path()).config();
    config.sharing = sharing;
    let store = Store::open(config).await.unwrap();
    put(&store, key("before"), body("before", 1)).await;
    let watch = store.watch(&[], store.revision()).unwrap();
    network.trouble.send_replace(trouble);
    let result = store.commit(vec![create("a"), create("b")]).await.map(|done| done[1].revision);
    assert_eq!(*network.trouble.borrow(), Trouble::None, "it met the trouble");
    // Somebody else, on a straight way, sees what was told.
    let other = place.open().await;
    assert_eq!(other.get(&key("b")).is_some(), result.is_ok(), "{trouble:?}: {result:?}");
    other.close().await;
    Some((result, store, watch))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_happened_is_a_success() {
    for trouble in [Trouble::AnswerIsLost, Trouble::CommitIsLate] {
        for sharing in [Sharing::Anybody, Sharing::Servers(Vec::new()), Sharing::Alone] {
            let Some((result, store, mut watch)) = commit_in(trouble, sharing).await else { return };
            assert_eq!(result.unwrap(), 4, "{trouble:?}");
            assert_eq!(put(&store, key("c"), body("c", 1)).await, 5);
            let names: Vec<String> = changes_until(&mut watch, 5)
                .await
                .iter()
                .map(|change| format!("{} {}", change.revision, change.object.key.name))
                .collect();
            assert_eq!(names, ["3 a", "4 b", "5 c"], "each once, in order");
            store.close().await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_commit_that_did_not_happen_is_none() {
    for trouble in [Trouble::CommitIsLost, Trouble::CommitIsLostQuietly] {
        let Some((result, store, mut watch)) = commit_in(trouble, Sharing::Anybody).await else { return };
        let error = result.unwrap_err();
        assert!(matches!(error, CommitError::Database(_)), "{trouble:?}: it is known: {error}");
        assert!(error.is_retryable());
        assert!(store.get(&key("a")).is_none());
        assert_eq!(put(&store, key("c"), body("c", 1)).await, 3, "no revision was taken");
        assert_eq!(next_change(&mut watch).await.object.key, key("c"));
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_was_cut_off_for_longer_than_the_log_reaches_back_starts_again() {
    let Some(place) = Place::postgres().await else { return };
    let network = Network::to(&place.socket());
    let cut_off = Store::open(place.through(network.folder.path()).config()).await.unwrap();
    let mut config = place.config();
    config.log.changes = 10;
    let other = Store::open(config).await.unwrap();
    put(&other, key("a"), body("a", 1)).await;
    let mut watch = cut_off.watch(&[], 1).unwrap();
    assert_eq!(next_change(&mut watch).await.object.key, key("a"));

    network.trouble.send_replace(Trouble::Down);
    let error = cut_off.commit(vec![create("b")]).await.unwrap_err();
    assert!(matches!(error, CommitError::Database(_)) && error.is_retryable(), "{error}");
    assert!(cut_off.get(&key("a")).is_some(), "reads go on");
    for value in 0..1_100 {
        put(&other, key(&format!("claim-{}", value % 7)), body("x", value)).await;
    }
    eventually("the log is compacted", || other.metrics().compacted.get() > 1_000).await;
    network.trouble.send_replace(Trouble::None);

    let last = put(&other, key("last"), body("last", 1)).await;
    eventually("it has caught up", || cut_off.revision() >= last).await;
    assert_eq!(watch.next().await.unwrap_err(), WatchError::TooSlow, "it skips nothing in silence");
    assert_eq!(listed(&cut_off, &[CLAIMS]), listed(&other, &[CLAIMS]));
    let mut watch = cut_off.watch(&[], last).unwrap();
    put(&cut_off, key("b"), body("b", 1)).await;
    assert_eq!(next_change(&mut watch).await.revision, last + 1);
    cut_off.close().await;
    other.close().await;
}
