//! The present, where others write to the same database: who asks for it must see what any of them has acknowledged,
//! which this process may not have heard of yet.

use tokio::sync::oneshot;

use super::Store;
use super::writer::Writer;

/// Somebody who waits until the present is known.
pub(crate) type Asked = oneshot::Sender<Result<(), String>>;

/// The database could not be asked for what others have written, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("whether there is something newer is not known: {0}")]
pub struct PresentError(String);

impl Store {
    /// Returns when all is visible here that was acknowledged before the call, by whichever process. Whoever waits at
    /// the same time is answered by the same question to the database. At once where nobody else writes: with SQLite,
    /// and with [`super::Sharing::Alone`].
    ///
    /// # Errors
    /// When the database does not answer, or the store is closed. What is visible may then be of some time ago.
    pub async fn catch_up(&self) -> Result<(), PresentError> {
        let Some(present) = &self.present else { return Ok(()) };
        let closed = || PresentError("the store is closed".to_owned());
        let (answer, known) = oneshot::channel();
        present.send(answer).await.map_err(|_| closed())?;
        known.await.map_err(|_| closed())?.map_err(PresentError)
    }
}

impl Writer {
    /// Who waits for the present, up to now. To be called before the database is asked.
    pub(super) fn waiting_for_present(&mut self) -> Vec<Asked> {
        std::iter::from_fn(|| self.present.try_recv().ok()).collect()
    }

    /// Answers `first` and all others that wait.
    pub(super) async fn catch_up(&mut self, first: Asked) {
        let mut waiting = self.waiting_for_present();
        waiting.push(first);
        let known = self.follow().await;
        answer(waiting, &known);
    }
}

/// Tells all that waited.
pub(super) fn answer(waiting: Vec<Asked>, known: &Result<(), String>) {
    for asked in waiting {
        // Who does not wait any more needs no answer.
        let _ = asked.send(known.clone());
    }
}
