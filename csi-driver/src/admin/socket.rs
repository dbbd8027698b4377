//! The socket in a pool's folder on which the driver that has the pool takes orders:
//! one order a connection, a line of JSON each way, with the open stream of those that have one. For root and the driver's own user
//! only.
//!
//! It lies in the pool, so that who knows the pool finds its driver, whichever process
//! that is. A driver that was killed leaves it; the pool's lock says whether it is alive,
//! and the next driver replaces it.

use std::{
    io::ErrorKind,
    os::fd::{AsRawFd as _, OwnedFd},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use rustix::{fs as rfs, io::Errno};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader},
    net::{UnixListener, UnixStream, unix::OwnedWriteHalf},
    sync::mpsc,
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::{Order, Outcome, obey, passing, peer::Peer};
use crate::{
    config::PoolConfig,
    error::{Error, Tried as _},
    operation::Operations,
    pool::{Pool, Progress, Watcher},
    server::Driver,
};

const SOCKET: &str = ".admin.sock";
/// What orders are called in logs and metrics.
const METHOD: &str = "/holdfast/Admin";
/// More than any order or outcome needs.
const MOST: u64 = 1 << 24;
/// How long one who reads nothing is waited for: less than a driver has for its end.
const PATIENCE: Duration = Duration::from_secs(5);

/// What comes back: the outcome, or one line that says why there is none.
#[derive(Debug, Serialize, Deserialize)]
enum Reply {
    /// How far it is; others follow.
    Progress(Progress),
    Done(Outcome),
    Failed(String),
}

/// The socket's path by way of the opened pool: `sun_path` has room for 107 bytes, and
/// a pool's path may have more.
fn path(root: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}/{SOCKET}", root.as_raw_fd()))
}

/// Listens in one pool, or says why not: CSI goes on without it.
pub(crate) fn listen(pool: &Pool) -> Option<UnixListener> {
    bind(pool)
        .inspect_err(|error| {
            tracing::warn!(pool = %pool.name, %error, "no administration while this driver runs");
        })
        .ok()
}

/// The caller has the pool's lock, so what lies there is stale.
fn bind(pool: &Pool) -> Result<UnixListener, Error> {
    match rfs::unlinkat(pool.root(), SOCKET, rfs::AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => {}
        Err(error) => return Err(error).tried(|| format!("removing an old {SOCKET}")),
    }
    UnixListener::bind(path(pool.root())).tried(|| format!("listening on {SOCKET}"))
}

/// Takes orders for one pool until `stop`; then the socket goes.
pub(crate) async fn serve(
    driver: Arc<Driver>,
    pool: String,
    listener: UnixListener,
    operations: Operations,
    stop: CancellationToken,
) {
    let Some(opened) = driver.pools.get(&pool) else { return };
    let talks = TaskTracker::new();
    loop {
        let accepted = tokio::select! {
            () = stop.cancelled() => break,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                talks.spawn(talk(stream, driver.clone(), pool.clone(), operations.clone(), stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%pool, %error, "cannot take a connection");
                // Out of descriptors, most likely: not again at once.
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    talks.close();
    talks.wait().await;
    if let Err(error) = rfs::unlinkat(opened.root(), SOCKET, rfs::AtFlags::empty()) {
        tracing::warn!(%pool, error = %std::io::Error::from(error), "cannot remove {SOCKET}");
    }
}

async fn talk(
    stream: UnixStream,
    driver: Arc<Driver>,
    pool: String,
    operations: Operations,
    stop: CancellationToken,
) {
    let answered = async {
        let user = stream.peer_cred()?.uid();
        if user != 0 && user != rustix::process::geteuid().as_raw() {
            let refused = format!("user {user} may not give orders to this driver; use root");
            return say(&mut stream.into_split().1, &Reply::Failed(refused)).await;
        }
        let heard = async {
            let (begun, passed) = passing::first(&stream).await?;
            let (from, to) = stream.into_split();
            let mut line = String::new();
            let mut from = BufReader::new(begun.chain(from).take(MOST));
            from.read_line(&mut line).await?;
            std::io::Result::Ok((line, passed, from, to))
        };
        let (line, passed, mut from, mut to) = tokio::select! {
            // One that says nothing must not keep the driver.
            () = stop.cancelled() => return Ok(()),
            heard = heard => heard?,
        };
        let reply = match serde_json::from_str::<Order>(&line) {
            Err(error) => Reply::Failed(format!("the order cannot be read: {error}")),
            Ok(order) => {
                let scope = format!("{pool}.");
                // Who does not read what is said is told less, never waited for.
                let (told, mut news) = mpsc::channel(1);
                let is_transfer = order.is_transfer();
                let ended = stop.child_token();
                let _ends_with_this = ended.clone().drop_guard();
                let passed = passed.map(|stream| Peer::new(stream, ended.clone())).transpose()?;
                let work = move || {
                    let pool = driver.pools.get(&pool).ok_or_else(|| Error::Lost(pool.clone()))?;
                    obey(pool, &driver.guards, Some(&driver.node_id), &order, passed, &|progress| {
                        let _ = told.try_send(progress);
                    })
                };
                let running = async {
                    if is_transfer {
                        operations.transfer(METHOD, &scope, work).await
                    } else {
                        operations.run(METHOD, &scope, work).await
                    }
                };
                let mut running = std::pin::pin!(running);
                let done = loop {
                    tokio::select! {
                        done = &mut running => break done,
                        // What is left of it, nobody waits for.
                        _ = from.read_u8(), if is_transfer && !ended.is_cancelled() => ended.cancel(),
                        Some(progress) = news.recv() => say(&mut to, &Reply::Progress(progress)).await?,
                    }
                };
                match done {
                    Ok(outcome) => Reply::Done(outcome.into_inner()),
                    Err(status) => Reply::Failed(status.message().to_owned()),
                }
            }
        };
        say(&mut to, &reply).await
    };
    if let Err(error) = answered.await {
        // What was ordered is done; only the answer is lost.
        tracing::debug!(%error, "the one who gave an order went away");
    }
}

async fn say(to: &mut OwnedWriteHalf, reply: &Reply) -> std::io::Result<()> {
    let mut line = serde_json::to_vec(reply)?;
    line.push(b'\n');
    tokio::time::timeout(PATIENCE, to.write_all(&line)).await?
}

/// Gives the order to the driver that has the pool.
/// `None` when nobody listens: it has not begun to, it is ending, or it is no driver but
/// another order that is carried out.
pub(super) async fn ask(
    pool: &PoolConfig,
    order: &Order,
    passed: Option<&OwnedFd>,
    watcher: Watcher<'_>,
) -> Result<Option<Outcome>, Error> {
    let (shown, root) = crate::pool::open_root(pool)?;
    let failed = |error: std::io::Error| Error::Io {
        tried: format!("asking the driver that uses {} ({SOCKET} in it)", shown.display()),
        source: error,
    };
    let mut stream = match UnixStream::connect(path(&root)).await {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
            return Ok(None);
        }
        connected => connected.map_err(failed)?,
    };
    let mut line = serde_json::to_vec(order).map_err(|error| Error::Lost(error.to_string()))?;
    line.push(b'\n');
    let begun = passing::send(&stream, &line, passed).await.map_err(failed)?;
    stream.write_all(line.get(begun..).unwrap_or_default()).await.map_err(failed)?;
    let mut answers = BufReader::new(stream.take(MOST));
    loop {
        let mut answer = String::new();
        answers.read_line(&mut answer).await.map_err(failed)?;
        match serde_json::from_str(&answer) {
            Ok(Reply::Progress(progress)) => watcher(progress),
            Ok(Reply::Done(outcome)) => return Ok(Some(outcome)),
            Ok(Reply::Failed(why)) => return Err(Error::Precondition(why)),
            Err(_) => {
                return Err(Error::Lost(format!(
                    "the driver that uses {} ended before it answered; look what it did, with `trash list` or by the \
                     volume's id, and repeat the order",
                    shown.display()
                )));
            }
        }
    }
}
