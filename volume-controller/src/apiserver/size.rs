//! How large an object may be, and what is done about much work.

use std::io;
use std::num::NonZero;
use std::time::Duration;

use serde_json::Value;
use tokio::runtime::{Handle, RuntimeFlavor};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::task::block_in_place;
use tokio::time::timeout;

use super::status::ApiError;

/// The most bytes that an object may have as it is stored: etcd's limit for one request, and so
/// upstream's. Else patches would make of it what the store's window of changes cannot hold.
pub(crate) const MAX_OBJECT: usize = 3 * 512 * 1024;

/// Work on more bytes than this is not done where other tasks wait for it.
const AT_ONCE: usize = 64 * 1024;

/// How long one waits for a turn.
const PATIENCE: Duration = Duration::from_secs(30);

/// Turns at much work: what is read of a body may take dozens of times its bytes, so only as many large ones
/// are in memory as there are processors to work on them.
pub(crate) struct Turns(Semaphore);

impl Turns {
    pub(crate) fn new() -> Self {
        Self(Semaphore::new(std::thread::available_parallelism().map_or(1, NonZero::get).max(2)))
    }

    /// Waits for a turn, where there are many bytes. It ends when what is returned is dropped. Where those
    /// before do not come to an end, as while the database does not answer, the client is told to come again.
    pub(crate) async fn wait(&self, bytes: usize) -> Result<Option<SemaphorePermit<'_>>, ApiError> {
        self.wait_within(PATIENCE, bytes).await
    }

    async fn wait_within(
        &self,
        patience: Duration,
        bytes: usize,
    ) -> Result<Option<SemaphorePermit<'_>>, ApiError> {
        if bytes <= AT_ONCE {
            return Ok(None);
        }
        match timeout(patience, self.0.acquire()).await {
            // It is never closed.
            Ok(turn) => Ok(turn.ok()),
            Err(_) => Err(ApiError::TooManyRequests),
        }
    }
}

/// Refuses an object that is too large. One that was already may be changed while it does not grow.
pub(crate) fn check(old: Option<&Value>, new: &Value) -> Result<(), ApiError> {
    let size = measure(new)?;
    if size <= MAX_OBJECT {
        return Ok(());
    }
    match old.map(measure).transpose()? {
        Some(before) if size <= before => Ok(()),
        _ => Err(ApiError::ObjectTooLarge(size)),
    }
}

/// The bytes of a value as JSON.
fn measure(value: &Value) -> Result<usize, ApiError> {
    let mut counted = Counted(0);
    serde_json::to_writer(&mut counted, value).map_err(|error| ApiError::Internal(error.to_string()))?;
    Ok(counted.0)
}

/// Counts what is written.
struct Counted(usize);

impl io::Write for Counted {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Does work on so many bytes. If they are many, what else waits for this thread of the runtime
/// goes on in another one meanwhile.
pub(crate) fn aside<R>(bytes: usize, work: impl FnOnce() -> R) -> R {
    let has_threads =
        Handle::try_current().is_ok_and(|runtime| runtime.runtime_flavor() == RuntimeFlavor::MultiThread);
    if bytes > AT_ONCE && has_threads { block_in_place(work) } else { work() }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;
    use serde_json::json;

    #[test]
    fn objects_have_a_limit() {
        let of = |size: usize| json!({"a": "x".repeat(size - r#"{"a":""}"#.len())});
        assert_eq!(measure(&of(100)).unwrap(), 100);
        check(None, &of(MAX_OBJECT)).unwrap();
        let error = check(None, &of(MAX_OBJECT + 1)).unwrap_err();
        assert_eq!(error.code().0, 413);
        check(Some(&of(MAX_OBJECT)), &of(MAX_OBJECT + 1)).unwrap_err();
        check(Some(&of(MAX_OBJECT + 9)), &of(MAX_OBJECT + 9)).unwrap();
    }

    /// The one thread of the runtime does something else while there is much work.
    #[tokio::test(flavor = "multi_thread", worker_threads = 1)]
    async fn much_work_holds_nobody_up() {
        let done = tokio::spawn(async {
            let (tell, told) = mpsc::channel();
            tokio::spawn(async move { tell.send(()).unwrap() });
            aside(AT_ONCE + 1, || told.recv_timeout(Duration::from_secs(20)))
        });
        done.await.unwrap().unwrap();
    }

    #[tokio::test]
    async fn large_ones_take_turns_and_small_ones_do_not_wait() {
        let turns = Turns::new();
        let patience = Duration::from_millis(50);
        let mut held = Vec::new();
        while let Ok(turn) = turns.wait_within(patience, AT_ONCE + 1).await {
            held.push(turn.unwrap());
            assert!(held.len() <= 1024, "they do not wait");
        }
        assert!(matches!(turns.wait_within(patience, AT_ONCE + 1).await, Err(ApiError::TooManyRequests)));
        assert!(turns.wait(AT_ONCE).await.unwrap().is_none());
        held.pop();
        assert!(turns.wait(AT_ONCE + 1).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn one_thread_does_it_itself() {
        assert_eq!(aside(AT_ONCE + 1, || 1), 1);
    }
}
