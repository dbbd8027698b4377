//! A PostgreSQL server of the tests' own: Debian's package, a folder in /tmp, a unix
//! socket, an unprivileged user. It goes when the test's process does, however that ends.

#![expect(clippy::unwrap_used, reason = "a test cannot go on without its server, and shows what was wrong")]

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    sync::{
        Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
};

/// Runs the server until its standard input ends, and takes orders from there.
const SCRIPT: &str = r#"
set -eu
bin=$1 settings=$2
dir=$(mktemp -d /tmp/holdfast-postgres.XXXXXX)
control() { "$bin/pg_ctl" -w -D "$dir/data" -l "$dir/log" -o "-k $dir -c listen_addresses= $settings" "$@" >/dev/null; }
trap 'trap - EXIT; control -m immediate stop 2>/dev/null || :; rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
"$bin/initdb" --no-sync --no-locale -E UTF8 -A trust -U holdfast -D "$dir/data" >/dev/null
control start
echo "$dir"
while read -r order; do
    case $order in
    start) control start ;;
    stop) control -m immediate stop ;;
    restart) control -m immediate restart ;;
    database*) "$bin/createdb" -h "$dir" -U holdfast "${order#database }" ;;
    esac
    echo done
done
"#;

/// Whether a server is as safe as in production or as quick as can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// `fsync=on`.
    Full,
    /// `fsync=off`.
    None,
}

/// A running server.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    durability: Durability,
    keeper: Mutex<Keeper>,
    databases: AtomicU32,
}

/// The process that runs [`SCRIPT`]. It ends with its standard input, that is with this process.
#[derive(Debug)]
struct Keeper {
    child: Child,
    answers: BufReader<ChildStdout>,
}

impl Cluster {
    /// The server that the tests of this process share; `None` when there can be none, which was said.
    pub fn shared() -> Option<&'static Self> {
        static SHARED: OnceLock<Option<Cluster>> = OnceLock::new();
        match SHARED.get_or_init(|| programs().map(|bin| Self::run(&bin, Durability::None))) {
            Some(cluster) => Some(cluster),
            None => cannot_run(),
        }
    }

    /// A server for one test, which may be stopped.
    pub fn start(durability: Durability) -> Option<Self> {
        match programs() {
            Some(bin) => Some(Self::run(&bin, durability)),
            None => cannot_run(),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the server outlives the runtime of the test that starts it"
    )]
    fn run(bin: &Path, durability: Durability) -> Self {
        let mut command = if rustix::process::geteuid().is_root() {
            // The server refuses to run as root.
            let mut command = Command::new("setpriv");
            command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups", "sh"]);
            command
        } else {
            Command::new("sh")
        };
        let settings = match durability {
            Durability::Full => "",
            Durability::None => "-c fsync=off",
        };
        let mut child = command
            .args(["-c", SCRIPT, "sh"])
            .arg(bin)
            .arg(settings)
            .current_dir("/")
            // What ends the tests as a group must leave it the time to clean up.
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let answers = BufReader::new(child.stdout.take().unwrap());
        let mut keeper = Keeper { child, answers };
        let folder = keeper.answer().into();
        Self { folder, durability, keeper: Mutex::new(keeper), databases: AtomicU32::new(0) }
    }

    /// The URL of a new, empty database.
    #[must_use]
    pub fn database(&self) -> String {
        let name = format!("store_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.order(&format!("database {name}"));
        self.url(&name)
    }

    /// As it was started.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    fn order(&self, order: &str) {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).order(order);
    }

    fn url(&self, database: &str) -> String {
        format!("postgres:///{database}?host={}&port=5432&user=holdfast", self.folder.display())
    }

    /// `pg_ctl restart -m immediate`: as after a crash of the server. Returns when it takes connections again.
    pub fn restart(&self) {
        self.order("restart");
    }

    /// `pg_ctl stop -m immediate`.
    pub fn stop(&self) {
        self.order("stop");
    }

    /// After [`Cluster::stop`].
    pub fn start_again(&self) {
        self.order("start");
    }
}

impl Keeper {
    fn order(&mut self, order: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{order}").unwrap();
        assert_eq!(self.answer(), "done", "{order}");
    }

    fn answer(&mut self) -> String {
        let mut line = String::new();
        self.answers.read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "PostgreSQL's server did not start or stop; see above");
        line.trim_end().to_owned()
    }
}

/// Waits until the server is gone and its folder removed.
impl Drop for Keeper {
    fn drop(&mut self) {
        drop(self.child.stdin.take());
        let _ = self.child.wait();
    }
}

/// The folder of the newest server's programs.
fn programs() -> Option<PathBuf> {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let debian = versions
        .filter_map(|entry| {
            Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path().join("bin")))
        })
        .filter(|(_, bin)| bin.join("initdb").is_file());
    debian.max().map(|(_, bin)| bin)
}

fn cannot_run<T>() -> Option<T> {
    super::cannot_run("it needs PostgreSQL's server programs below /usr/lib/postgresql (make setup)");
    None
}
