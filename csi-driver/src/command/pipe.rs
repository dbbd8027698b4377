//! Two commands, the second of which reads what the first writes.

use std::{ffi::OsStr, io, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    process::{ChildStdin, ChildStdout, Command},
    time::Instant,
};

use super::{CommandError, Runner, Tool, attend, last_lines, spawn};
use crate::step;

/// How often the caller is told how much went through.
const WORD_EVERY: Duration = Duration::from_secs(5);
/// As much as a pipe holds.
const PIECE: usize = 64 << 10;

/// One end: the tool and its arguments.
pub(crate) struct End<'a> {
    pub(crate) tool: Tool,
    pub(crate) args: &'a [&'a OsStr],
}

impl Runner {
    /// Runs both to their ends and feeds `into` with what `from` writes to its stdout. Done
    /// only when both say so and every byte went through. `allowed` is asked before so many
    /// bytes in all go through, and ends it; `told` is called now and then with the bytes so far.
    ///
    /// The bytes go through this process: when it is killed, the one has nobody to write to
    /// and the other comes to the end of what it reads, so that neither outlives it by more
    /// than the work on a piece.
    pub(crate) fn run_piped(
        &self,
        from: &End<'_>,
        into: &End<'_>,
        allowed: &mut (dyn FnMut(u64) -> bool + Send),
        told: &mut (dyn FnMut(u64) + Send),
    ) -> Result<(), CommandError> {
        let (mut first, from_line) = self.prepare(from.tool, from.args)?;
        let (mut second, into_line) = self.prepare(into.tool, into.args)?;
        first.stdin(Stdio::null());
        second.stdin(Stdio::piped());
        let limit = self.limit(from.tool).min(self.limit(into.tool));
        let ends = [(first, from_line.as_str()), (second, into_line.as_str())];
        let [wrote, read] = self.handle.block_on(connect(ends, limit, allowed, told))?;
        let failed: Vec<_> = [(wrote, &from_line), (read, &into_line)]
            .into_iter()
            .filter(|(out, _)| !out.status.success())
            .collect();
        if failed.is_empty() {
            step::passed(into.tool.name);
            return Ok(());
        }
        let join = |part: &dyn Fn(&(std::process::Output, &String)) -> String| {
            failed.iter().map(part).filter(|text| !text.is_empty()).collect::<Vec<_>>().join("; ")
        };
        Err(CommandError::Failed {
            line: format!("{from_line} | {into_line}"),
            status: join(&|(output, _)| output.status.to_string()),
            stderr: join(&|(output, _)| last_lines(&String::from_utf8_lossy(&output.stderr))),
        })
    }
}

async fn connect(
    [(first, from_line), (second, into_line)]: [(Command, &str); 2],
    limit: Duration,
    allowed: &mut (dyn FnMut(u64) -> bool + Send),
    told: &mut (dyn FnMut(u64) + Send),
) -> Result<[std::process::Output; 2], CommandError> {
    // Where the second of them cannot be started, the first is killed with its handle.
    let mut reader = spawn(second, into_line)?;
    let mut writer = spawn(first, from_line)?;
    let failed = |source| CommandError::Start { line: format!("{from_line} | {into_line}"), source };
    let (Some(output), Some(input)) = (writer.stdout.take(), reader.stdin.take()) else {
        return Err(failed(io::ErrorKind::BrokenPipe.into()));
    };
    let (moved, wrote, read) = tokio::join!(
        // Ends with either of the two, and lets go of both pipes then, so that the other ends.
        transfer(output, input, allowed, told),
        attend(&mut writer, from_line, limit),
        attend(&mut reader, into_line, limit)
    );
    let ends = [wrote?, read?];
    match moved {
        // The end that broke says why.
        Err(source) if ends.iter().all(|end| end.status.success()) => Err(failed(source)),
        _ => Ok(ends),
    }
}

async fn transfer(
    mut from: ChildStdout,
    mut into: ChildStdin,
    allowed: &mut (dyn FnMut(u64) -> bool + Send),
    told: &mut (dyn FnMut(u64) + Send),
) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let (mut moved, mut last_word) = (0_u64, Instant::now());
    loop {
        let length = from.read(&mut piece).await?;
        if length == 0 {
            return into.shutdown().await;
        }
        moved = moved.saturating_add(length as u64);
        // It waits for a disk now and then.
        if !tokio::task::block_in_place(|| allowed(moved)) {
            return Err(io::ErrorKind::QuotaExceeded.into());
        }
        into.write_all(piece.get(..length).unwrap_or_default()).await?;
        step::passed("piece passed on from one command to another");
        if last_word.elapsed() >= WORD_EVERY {
            last_word = Instant::now();
            told(moved);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, time::Instant};

    use super::*;
    use crate::command::tests::with_tools;

    const WRITES: Tool = Tool { name: "writes", package: "none", seconds: 60 };
    const READS: Tool = Tool { name: "reads", package: "none", seconds: 60 };
    const HANGS: Tool = Tool { name: "hangs", package: "none", seconds: 1 };

    fn run(runner: &Runner, from: (Tool, &[&str]), into: (Tool, &[&str])) -> Result<(), CommandError> {
        let args = |args: &[&str]| args.iter().map(|arg| OsStr::new(arg).to_owned()).collect::<Vec<_>>();
        let (first, second) = (args(from.1), args(into.1));
        let first: Vec<_> = first.iter().map(AsRef::as_ref).collect();
        let second: Vec<_> = second.iter().map(AsRef::as_ref).collect();
        let (from, into) = (End { tool: from.0, args: &first }, End { tool: into.0, args: &second });
        runner.run_piped(&from, &into, &mut |_| true, &mut |_| ())
    }

    /// What is written is `$1` mebibytes; both end with what they were told to end with.
    const SCRIPTS: [(&str, &str); 3] = [
        ("writes", "head -c $1M /dev/zero | tr '\\0' x; echo wrote >&2; exit $2"),
        ("reads", "head -c $1 >\"$3\"; echo read >&2; exit $2"),
        ("hangs", "sleep 600 & wait"),
    ];

    #[test]
    fn every_byte_goes_through() {
        with_tools(&SCRIPTS, |runner, folder| {
            let file = folder.join("file");
            let to = ["10000000", "0", file.to_str().unwrap()];
            run(runner, (WRITES, &["3", "0"]), (READS, &to)).unwrap();
            assert!(fs::read(&file).unwrap() == vec![b'x'; 3 << 20]);
        });
    }

    #[test]
    fn either_can_fail_and_both_end() {
        with_tools(&SCRIPTS, |runner, folder| {
            let file = folder.join("file").to_str().unwrap().to_owned();
            let all = "10000000";
            let cases: [(&[&str], &[&str], &str); 3] = [
                // The one that reads sees a plain end: that the other failed must not be lost.
                (&["1", "3"], &[all, "0", &file], "wrote"),
                (&["1", "0"], &[all, "4", &file], "read"),
                // It stops reading: the other is not left with a full pipe.
                (&["30", "0"], &["10", "5", &file], "read"),
            ];
            for (from, into, said) in cases {
                let error = run(runner, (WRITES, from), (READS, into)).unwrap_err();
                let text = error.to_string();
                assert!(matches!(error, CommandError::Failed { .. }) && text.contains(said), "{text}");
            }
            let absent = Tool { name: "absent", package: "the-package", seconds: 1 };
            let missing = run(runner, (WRITES, &["1", "0"]), (absent, &[])).unwrap_err();
            assert!(matches!(missing, CommandError::Missing { .. }), "{missing}");
        });
    }

    #[test]
    fn either_that_hangs_is_killed() {
        with_tools(&SCRIPTS, |runner, folder| {
            let file = folder.join("file").to_str().unwrap().to_owned();
            let started = Instant::now();
            for result in [
                run(runner, (HANGS, &[]), (READS, &["10000000", "0", &file])),
                run(runner, (WRITES, &["30", "0"]), (HANGS, &[])),
            ] {
                assert!(matches!(result, Err(CommandError::TimedOut { .. })), "{result:?}");
            }
            assert!(started.elapsed() < Duration::from_secs(60));
        });
    }
}
