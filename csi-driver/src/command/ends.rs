//! One command that writes what this process reads, or reads what it writes.

use std::{
    io::{self, PipeReader, PipeWriter},
    process::Stdio,
    thread,
};

use super::{CommandError, Runner, pipe::End};
use crate::error::Error;

impl Runner {
    /// Runs the tool to its end while `take` reads what it writes to its stdout. Done only when
    /// both say so: the tool that fails ends what is read as the one that does not.
    pub(crate) fn run_into<T: Send>(
        &self,
        from: &End<'_>,
        take: impl FnOnce(PipeReader) -> Result<T, Error> + Send,
    ) -> Result<T, Error> {
        let (reader, writer) = pipe(from)?;
        let (ran, taken) = thread::scope(|scope| {
            let taking = scope.spawn(|| take(reader));
            let ran = self.start(from.tool, from.args, &[0], [Stdio::null(), writer.into()]);
            (ran, taking.join())
        });
        // One that nobody reads from any more fails, and is not why.
        let taken = taken.map_err(|_| Error::Lost("reading from a command".to_owned()))??;
        ran?;
        Ok(taken)
    }

    /// Runs the tool to its end while `give` writes what it reads. Done only when the tool says
    /// so and `give` answers that it gave everything; `false` is for a tool that stopped to read.
    pub(crate) fn run_fed(
        &self,
        into: &End<'_>,
        give: impl FnOnce(PipeWriter) -> Result<bool, Error> + Send,
    ) -> Result<(), Error> {
        let (reader, writer) = pipe(into)?;
        let (ran, given) = thread::scope(|scope| {
            let giving = scope.spawn(|| give(writer));
            let ran = self.start(into.tool, into.args, &[0], [reader.into(), Stdio::piped()]);
            (ran, giving.join())
        });
        // What could not be read ends the tool's input, and the tool may take that for the end.
        if given.map_err(|_| Error::Lost("writing to a command".to_owned()))?? {
            ran?;
            return Ok(());
        }
        Err(match ran {
            Err(error) => error.into(),
            Ok(_) => Error::Invalid(format!("{} ended before it had read everything", into.tool.name)),
        })
    }
}

fn pipe(end: &End<'_>) -> Result<(PipeReader, PipeWriter), CommandError> {
    io::pipe().map_err(|source| CommandError::Start { line: end.tool.name.to_owned(), source })
}
