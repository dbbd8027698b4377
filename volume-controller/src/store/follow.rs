//! Learning what other replicas committed. Only the writer makes anything visible, own
//! changes and foreign ones, so a watch has one order: that of the revisions.

use std::time::Duration;

use tokio::time::Instant;

use super::CommitError;
use super::dialect::Foreign;
use super::link::{self, Linked};
use super::writer::Writer;

/// A connection that the server has ended fails within this.
const AT_ONCE: Duration = Duration::from_secs(1);

impl Writer {
    /// Begins a transaction that knows everything that others have committed.
    pub(super) async fn begin(&mut self) -> Result<(), CommitError> {
        let mut begun = self.dialect.begin(self.memory.revision()).await;
        if begun.is_err() && self.dialect.lost().is_none() {
            // The connection may have been the only thing that was wrong.
            begun = self.dialect.begin(self.memory.revision()).await;
        }
        let mut foreign = begun?;
        if matches!(foreign, Foreign::Compacted) {
            self.dialect.rollback().await?;
            self.reload().await.map_err(CommitError::Database)?;
            foreign = self.dialect.begin(self.memory.revision()).await?;
        }
        let learned = self.learn(foreign).map_err(CommitError::Database);
        if learned.is_err() {
            let _ = self.dialect.rollback().await;
        }
        learned
    }

    /// Learns what others have committed, when nothing is to be written.
    pub(super) async fn follow(&mut self) -> Result<(), String> {
        let result = self.try_follow().await;
        self.reached(&result);
        result
    }

    /// Notes whether the database answers. Of many failures in a row the log has the first.
    pub(super) fn reached(&self, result: &Result<(), String>) {
        if !self
            .reachable
            .send_if_modified(|known| std::mem::replace(known, result.is_ok()) != result.is_ok())
        {
            return;
        }
        match result {
            Ok(()) => tracing::info!("the database answers again"),
            Err(error) => {
                tracing::warn!(%error, "the database does not answer; reads and watches show what is known so far");
            }
        }
    }

    pub(super) async fn try_follow(&mut self) -> Result<(), String> {
        // Own changes come before those that others built upon them.
        self.settle().await?;
        let seen = self.memory.revision();
        let started = Instant::now();
        let mut tail = self.dialect.tail(seen).await;
        if tail.is_err() && started.elapsed() < AT_ONCE && self.dialect.lost().is_none() {
            // As in `begin`: who asks for the present is not refused for an old connection. A server that says nothing
            // is not waited for twice.
            tail = self.dialect.tail(seen).await;
        }
        match tail.map_err(|error| error.to_string())? {
            Foreign::Compacted => self.reload().await,
            foreign => self.learn(foreign),
        }
    }

    /// Makes visible what others have committed.
    fn learn(&mut self, foreign: Foreign) -> Result<(), String> {
        let rows = match foreign {
            Foreign::Changes(rows) if rows.is_empty() => return Ok(()),
            Foreign::Changes(rows) => rows,
            Foreign::Compacted => return Err("the change log was compacted again meanwhile".to_owned()),
        };
        let changes = link::foreign(self.memory.revision(), rows, |key| self.memory.get(key))?;
        self.publish(&changes);
        Ok(())
    }

    /// Reads everything anew, when others have compacted what was not yet read here. Watches
    /// that miss something by that are ended; nothing is skipped.
    pub(super) async fn reload(&mut self) -> Result<(), String> {
        let rows = self.dialect.load(self.window).await.map_err(|error| error.to_string())?;
        let compacted = rows.compacted;
        let contents = link::loaded(rows)?;
        let seen = self.memory.revision();
        if let Some(what) = self.contradiction(&contents, seen) {
            self.dialect.contradicted(seen);
            return Err(what);
        }
        tracing::warn!(
            from = seen,
            to = contents.revision,
            "fell behind the compaction of the change log: loaded everything again, watches have to list again"
        );
        self.memory.replace(contents);
        self.compacted = compacted;
        self.tell();
        Ok(())
    }

    /// What of that cannot come after what is in memory. The tokens of the changes between may be compacted;
    /// but what has not changed since `seen` must be here, as it is there.
    fn contradiction(&self, contents: &Linked, seen: u64) -> Option<String> {
        if contents.revision < seen {
            return Some(format!(
                "the database is at revision {}, {seen} was read before",
                contents.revision
            ));
        }
        let unchanged = contents.objects.iter().filter(|object| object.revision <= seen);
        let mut strange = unchanged.filter(|object| {
            self.memory
                .get(&object.key)
                .is_none_or(|known| known.revision != object.revision || known.body != object.body)
        });
        strange.next().map(|object| {
            format!("{} was not at revision {} when that was read before", object.key, object.revision)
        })
    }
}
