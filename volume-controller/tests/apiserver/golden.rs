//! Sessions with kubectl as people have them at a terminal: every command of `golden/*.txt`, and all that it prints.
//! `HOLDFAST_WRITE_GOLDEN=1` writes down what is printed now; read the difference before you keep it.
//!
//! A file begins with comments (`#`), the first of which names the version of kubectl that it was made with: others
//! word some things differently. `$ ` begins a command of the shell, `> ` goes on with it, and then comes what it prints, with
//! `[exit N]` at the end of one that fails. What is never twice the same (ages, uids, times, …) is replaced as
//! `golden/normalise.sed` says.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use futures::future::join_all;
use holdfast_test_needs::cannot_run;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;
use tokio::time::timeout;

use super::harness::{Cluster, PATIENCE};
use super::kubectl::{Kubectl, with_each};

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/apiserver/golden");
const WRITE: &str = "HOLDFAST_WRITE_GOLDEN";

struct Session {
    path: PathBuf,
    /// The comments at the beginning.
    head: String,
    steps: Vec<Step>,
}

struct Step {
    command: String,
    output: String,
}

impl Session {
    fn read(path: &Path) -> Self {
        let text = std::fs::read_to_string(path).unwrap();
        let mut session = Self { path: path.to_owned(), head: String::new(), steps: Vec::new() };
        for line in text.lines() {
            if let Some(command) = line.strip_prefix("$ ") {
                session.steps.push(Step { command: command.to_owned(), output: String::new() });
                continue;
            }
            let Some(step) = session.steps.last_mut() else {
                writeln!(session.head, "{line}").unwrap();
                continue;
            };
            match line.strip_prefix("> ").or((line == ">").then_some("")) {
                Some(more) if step.output.is_empty() => write!(step.command, "\n{more}").unwrap(),
                _ => writeln!(step.output, "{line}").unwrap(),
            }
        }
        session
    }

    /// 32 of `# kubectl 1.32`.
    fn minor(&self) -> u32 {
        let first = self.head.lines().next().unwrap_or_default();
        let minor = first.strip_prefix("# kubectl 1.").and_then(|minor| minor.parse().ok());
        minor.unwrap_or_else(|| panic!("{}: it does not begin with `# kubectl 1.N`", self.path.display()))
    }

    fn name(&self) -> String {
        self.path.file_name().unwrap().to_string_lossy().into_owned()
    }

    fn text(&self) -> String {
        let mut text = self.head.clone();
        for Step { command, output } in &self.steps {
            write!(text, "$ {}\n{output}", command.replace('\n', "\n> ").replace("\n> \n", "\n>\n")).unwrap();
        }
        text
    }

    /// Runs every command, and says where it printed something else.
    async fn run(mut self, binary: &str, minor: u32) -> String {
        let cluster = Cluster::start().await;
        let mut differences = String::new();
        for step in &mut self.steps {
            let printed = run(&cluster, binary, &step.command).await;
            if printed != step.output {
                let Step { command, output } = &step;
                let name = self.path.display();
                writeln!(differences, "{name}\n$ {command}\n--- as it was\n{output}--- now\n{printed}")
                    .unwrap();
            }
            step.output = printed;
        }
        if std::env::var_os(WRITE).is_some() {
            let rest = self.head.lines().skip(1).fold(String::new(), |rest, line| rest + line + "\n");
            self.head = format!("# kubectl 1.{minor}\n{rest}");
            std::fs::write(&self.path, self.text()).unwrap();
            differences.clear();
        }
        cluster.stop().await;
        differences
    }
}

async fn run(cluster: &Cluster, binary: &str, command: &str) -> String {
    let folder = Path::new(binary).parent().unwrap().display().to_string();
    let path = std::env::var("PATH").unwrap_or_default();
    let mut shell = Command::new("/bin/sh");
    shell
        .args(["-c", &format!("exec 2>&1\n{command}")])
        .current_dir(FOLDER)
        .env("PATH", format!("{folder}:{path}"))
        .env("KUBECONFIG", &cluster.kubeconfig)
        .env("HOME", cluster.folder.path())
        .env("LC_ALL", "C")
        .env("TZ", "UTC");
    let output = finished(shell, &[], command).await;
    let mut printed = output.stdout;
    if !printed.is_empty() && !printed.ends_with(b"\n") {
        printed.extend_from_slice(b"[no newline]\n");
    }
    if let Some(code) = output.status.code().filter(|code| *code != 0) {
        printed.extend_from_slice(format!("[exit {code}]\n").as_bytes());
    }
    let mut sed = Command::new("sed");
    sed.args(["-E", "-f", "normalise.sed"]).current_dir(FOLDER);
    let normal = finished(sed, &printed, "sed").await;
    assert!(normal.status.success(), "sed: {}", String::from_utf8_lossy(&normal.stderr));
    String::from_utf8(normal.stdout).unwrap()
}

async fn finished(mut command: Command, input: &[u8], what: &str) -> std::process::Output {
    command.kill_on_drop(true).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let done = async {
        let write = async move {
            // One that does not read has no input.
            let _ = stdin.write_all(input).await;
        };
        tokio::join!(write, child.wait_with_output()).1.unwrap()
    };
    timeout(PATIENCE * 3, done).await.unwrap_or_else(|_| panic!("{what} hangs"))
}

fn sessions() -> Vec<Session> {
    let files = std::fs::read_dir(FOLDER).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        files.filter(|path| path.extension().is_some_and(|end| end == "txt")).collect();
    files.sort();
    files.iter().map(|path| Session::read(path)).collect()
}

#[test]
fn a_session_is_written_as_it_was_read() {
    let all = sessions();
    assert!(all.len() >= 5, "{FOLDER} has too few");
    for session in all {
        assert_eq!(session.text(), std::fs::read_to_string(&session.path).unwrap());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_people_see() {
    with_each(async |kubectl| {
        let Kubectl { binary, minor, .. } = kubectl;
        let writes = std::env::var_os(WRITE).is_some();
        let (known, others): (Vec<Session>, Vec<Session>) =
            sessions().into_iter().partition(|session| writes || session.minor() == *minor);
        for other in others {
            cannot_run(&format!("{} is of kubectl 1.{}, not of 1.{minor}", other.name(), other.minor()));
        }
        let differences = join_all(known.into_iter().map(|session| session.run(binary, *minor))).await;
        let differences = differences.concat();
        assert!(differences.is_empty(), "{differences}\nIf that is right: {WRITE}=1");
    })
    .await;
}
