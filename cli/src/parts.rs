//! The parts of a process that run beside its API server, until one of them ends or all are told to.

use std::future::Future;

use anyhow::{Result, anyhow};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// The parts that run, each as a task.
#[derive(Default)]
pub(crate) struct Parts {
    tasks: JoinSet<(&'static str, Result<()>)>,
    /// Cancelled to end them.
    pub(crate) stop: CancellationToken,
}

impl Parts {
    pub(crate) fn spawn<E>(
        &mut self,
        name: &'static str,
        part: impl Future<Output = Result<(), E>> + Send + 'static,
    ) where
        E: std::error::Error + Send + Sync + 'static,
    {
        self.tasks.spawn(async move { (name, part.await.map_err(Into::into)) });
    }

    /// A part that ends although nobody asked takes the whole process down: half
    /// a machine would accept work that nobody does.
    pub(crate) async fn first_to_end(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok((name, Ok(())))) => anyhow!("{name} ended by itself"),
            Some(Ok((name, Err(error)))) => error.context(format!("{name} failed")),
            Some(Err(error)) => anyhow!("a part of the process crashed: {error}"),
            None => anyhow!("no part of the process is running"),
        }
    }

    pub(crate) async fn all_ended(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok((name, Err(error))) = ended {
                tracing::error!("{name} failed while stopping: {error:#}");
            }
        }
    }
}
