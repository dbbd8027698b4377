//! A PostgreSQL server of the tests' own: Debian's package, a folder in /tmp, a unix
//! socket, an unprivileged user. It goes when the test's process does, however that ends.

#![expect(clippy::unwrap_used, reason = "a test cannot go on without its server, and shows what was wrong")]

use std::{
    io::{BufRead, BufReader, Write},
    net::TcpListener,
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
bin=$1 settings=$2 secret=$3
export PGPORT="$4"
dir=$(mktemp -d /tmp/holdfast-postgres.XXXXXX)
control() { "$bin/pg_ctl" -w -D "$dir/data" -l "$dir/log" -o "-k $dir -c listen_addresses= $settings" "$@" >/dev/null; }
trap 'trap - EXIT; control -m immediate stop 2>/dev/null || :; rm -rf "$dir"' EXIT
trap 'exit 1' HUP INT TERM
init() { "$bin/initdb" --no-sync --no-locale -E UTF8 -U holdfast -D "$dir/data" "$@" >/dev/null; }
if [ -z "$secret" ]; then
    init -A trust
else
    export PGPASSWORD="$secret"
    printf '%s' "$secret" >"$dir/secret"
    init -A scram-sha-256 --pwfile="$dir/secret"
    echo 'host all all samenet scram-sha-256' >>"$dir/data/pg_hba.conf"
    cd "$dir/data"
    openssl req -x509 -nodes -newkey rsa:2048 -days 2 -subj '/CN=the tests' -keyout ../ca.key -out ../ca.crt 2>../log
    openssl req -new -nodes -newkey rsa:2048 -subj /CN=localhost -keyout server.key -out server.csr 2>>../log
    echo 'subjectAltName=DNS:localhost,IP:127.0.0.1' |
        openssl x509 -req -in server.csr -CA ../ca.crt -CAkey ../ca.key -CAcreateserial -days 2 -extfile /dev/stdin \
        -out server.crt 2>>../log
    chmod 600 server.key
    chmod 711 "$dir"
    settings="$settings -c listen_addresses=0.0.0.0 -c port=$PGPORT -c ssl=on"
fi
control start
echo "$dir"
while read -r order; do
    case $order in
    start) control start ;;
    stop) control -m immediate stop ;;
    restart) control -m immediate restart ;;
    database*) "$bin/createdb" -h "$dir" -U holdfast "${order#database }" ;;
    empty*) "$bin/dropdb" -h "$dir" -U holdfast -f "${order#empty }"; "$bin/createdb" -h "$dir" -U holdfast "${order#empty }" ;;
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
    /// Where it listens, if on the network.
    port: Option<u16>,
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
        match SHARED.get_or_init(|| programs().map(|bin| Self::run(&bin, Durability::None, None))) {
            Some(cluster) => Some(cluster),
            None => cannot_run(),
        }
    }

    /// A server for one test, which may be stopped.
    pub fn start(durability: Durability) -> Option<Self> {
        match programs() {
            Some(bin) => Some(Self::run(&bin, durability, None)),
            None => cannot_run(),
        }
    }

    /// A server for one test that listens on the network, asks for a password and offers TLS.
    pub fn start_on_network(durability: Durability, secret: &str) -> Option<Self> {
        match programs() {
            Some(bin) => Some(Self::run(&bin, durability, Some(secret))),
            None => cannot_run(),
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "the server outlives the runtime of the test that starts it"
    )]
    fn run(bin: &Path, durability: Durability, secret: Option<&str>) -> Self {
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
        // Free a moment ago.
        let port = secret.map(|_| TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port());
        let mut child = command
            .args(["-c", SCRIPT, "sh"])
            .arg(bin)
            .arg(settings)
            .arg(secret.unwrap_or_default())
            .arg(port.unwrap_or(5432).to_string())
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
        Self { folder, port, durability, keeper: Mutex::new(keeper), databases: AtomicU32::new(0) }
    }

    /// The URL of a new, empty database, without a password.
    #[must_use]
    pub fn database(&self) -> String {
        let name = format!("store_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.order(&format!("database {name}"));
        self.url(&name)
    }

    /// Drops the database of this URL and creates it again.
    pub fn empty(&self, url: &str) {
        let path = url.split('?').next().unwrap_or_default();
        self.order(&format!("empty {}", path.rsplit('/').next().unwrap_or_default()));
    }

    /// As it was started.
    #[must_use]
    pub fn durability(&self) -> Durability {
        self.durability
    }

    fn order(&self, order: &str) {
        self.keeper.lock().unwrap_or_else(PoisonError::into_inner).order(order);
    }

    /// The certificate of the authority that signed the server's, where it offers TLS.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.folder.join("ca.crt")
    }

    fn url(&self, database: &str) -> String {
        if let Some(port) = self.port {
            return format!("postgres://holdfast@127.0.0.1:{port}/{database}");
        }
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
