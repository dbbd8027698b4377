//! The CSI conformance suite against `holdfast driver`, which is killed and started between
//! calls, on each kind of pool.

use std::{
    collections::HashMap,
    env,
    fs::OpenOptions,
    io::Write as _,
    os::unix::net::UnixStream,
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Result, ensure};
use holdfast_csi_check::{Finding, Options, Outcome, Restart, run};
use holdfast_test_needs::{Need, missing};
use holdfast_tests::{disk::Disk, driver::Driver, wait::until};

const GIB: u64 = 1 << 30;

/// A driver, and what must have been checked on it: a check that is skipped proves nothing.
struct Case {
    /// The backends of its pools, each a pool of that name. Volumes are made in the first.
    pools: &'static [&'static str],
    /// The file system that they share.
    fs: &'static str,
    checked: &'static [&'static [&'static str]],
    /// What the driver does in another pool only, and says so.
    refused: &'static [&'static str],
}

/// Of every backend.
const USED: &[&str] = &[
    "create-volume/64-clients",
    "node-publish-volume/second/single-node-multi-writer/other-target",
    "controller-expand-volume/grown",
    "node-get-volume-stats/used",
    "data/mounted-through-restart",
    "life/controller/restarted",
    "life/mount/restarted",
];
/// Of those with raw block volumes.
const BLOCK: &[&str] = &["data/kept-when-staged-again-block", "life/block/restarted"];

/// Of those with snapshots and clones.
const COPIED: &[&str] =
    &["data/snapshot", "data/clone", "data/restored-beside-source", "data/restored-larger"];
/// Of those that compress.
const MODIFIED: &[&str] = &[
    "controller-modify-volume/modified",
    "controller-modify-volume/all-or-nothing",
    "controller-modify-volume/idempotent",
    "controller-modify-volume/at-creation",
];
/// Of those whose files can share blocks.
const SHARED: &[&str] = &["data/group", "get-metadata-allocated/written", "get-metadata-delta/changed"];
/// Of memory.
const INLINE: &[&str] = &[
    "inline/full",
    "inline/bad-attributes",
    "inline/stats",
    "inline/through-restart",
    "inline/unpublished-twice",
    "inline/life/restarted",
];

/// The configuration of a pool, of the same name as its backend.
fn pool(backend: &str, disk: &Disk) -> String {
    let place = match backend {
        "tmpfs" => "limits = { capacity = \"1Gi\" }".to_owned(),
        _ => format!("path = \"{}/{backend}\"\ncreate = true", disk.path().display()),
    };
    format!("[[pool]]\nname = \"{backend}\"\nbackend = \"{backend}\"\n{place}\n")
}

/// The parameters of a class. Where there is one pool only, nothing has to name it.
fn class(pool: &str) -> HashMap<String, String> {
    HashMap::from([("pool".to_owned(), pool.to_owned())])
}

async fn conforms(case: Case) -> Result<()> {
    let mkfs = match case.fs {
        "ext4" => "mkfs.ext4",
        "xfs" => "mkfs.xfs",
        _ => "mkfs.btrfs",
    };
    if missing(&[
        Need::Root,
        Need::LoopDevices,
        Need::FileSystem(case.fs),
        Need::Program(mkfs),
        Need::FileSystem("ext4"),
        Need::Program("mkfs.ext4"),
    ]) {
        return Ok(());
    }
    // Sparse; 64 clients make as many volumes.
    let disk = Disk::new(case.fs, 64 * GIB)?;
    let config: String = case.pools.iter().map(|backend| pool(backend, &disk)).collect();
    let driver = Arc::new(Mutex::new(Driver::start(&disk.beside("driver")?, &config)?));
    let mut options = Options::new(driver.lock().map_err(poisoned)?.socket());
    // The images' file system is the disk's, so that each kind is checked.
    if case.pools == ["image"] {
        case.fs.clone_into(&mut options.fs_type);
        if case.fs != "ext4" {
            // xfs takes no less than 300 MiB, btrfs 256.
            options.size = 320 << 20;
        }
    }
    if case.checked.contains(&MODIFIED) {
        options.mutable_parameters.insert("compression".to_owned(), "zstd".to_owned());
    }
    if let [first, second, ..] = case.pools {
        options.parameters = class(first);
        options.other_parameters = Some(class(second));
    }
    if case.pools.contains(&"tmpfs") {
        let size = |size: &str| Some(HashMap::from([("size".to_owned(), size.to_owned())]));
        (options.ephemeral, options.bad_ephemeral) = (size("16Mi"), size("many"));
    }
    options.staging_dir = Some(disk.beside("staging")?);
    // The machine may be busy with other tests.
    options.call_timeout = Duration::from_secs(120);
    options.restart = Some(Restart::Hook(Arc::new({
        let driver = driver.clone();
        move || {
            let restarted = driver
                .lock()
                .map_err(poisoned)
                .and_then(|mut driver| driver.restart())
                .map_err(|e| e.to_string());
            Box::pin(async move { restarted })
        }
    })));
    until("the driver serves", || async { Ok(Some(UnixStream::connect(&options.socket)?)) }).await?;

    let report = run(options).await?;
    let failed: Vec<String> =
        report.findings.iter().filter(|f| is_failed(f)).map(ToString::to_string).collect();
    let log = driver.lock().map_err(poisoned)?.log();
    ensure!(failed.is_empty(), "{}\n--- the driver's log ---\n{log}", failed.join("\n"));
    for id in case.checked.iter().copied().flatten() {
        let found = report.findings.iter().find(|finding| finding.id == *id);
        let passed = found.is_some_and(|finding| finding.outcome == Outcome::Passed);
        ensure!(
            passed,
            "{id} was not checked: {}",
            found.map_or("no such check".to_owned(), ToString::to_string)
        );
    }
    for id in case.refused {
        let found = report.findings.iter().find(|finding| finding.id == *id);
        let refused = found.is_some_and(|finding| {
            matches!(&finding.outcome, Outcome::Skipped { reason } if reason.contains("refuses it here"))
        });
        ensure!(
            refused,
            "{id} was not refused: {}",
            found.map_or("no such check".to_owned(), ToString::to_string)
        );
    }
    let left = disk.leftovers();
    ensure!(left.is_empty(), "left behind: {left:?}");
    tell_totals(&format!(
        "CSI conformance of {} on {}: {} passed, {} failed, {} not applicable\n",
        case.pools.join(", "),
        case.fs,
        report.passed(),
        report.failed(),
        report.skipped()
    ))
}

fn is_failed(finding: &Finding) -> bool {
    matches!(finding.outcome, Outcome::Failed { .. })
}

fn poisoned<T>(_: std::sync::PoisonError<T>) -> anyhow::Error {
    anyhow::anyhow!("another thread panicked while it held the driver")
}

/// A runner hides what a passing test prints: `make test` shows this file at its end.
#[expect(clippy::print_stdout, reason = "for who runs this test alone")]
fn tell_totals(line: &str) -> Result<()> {
    print!("{line}");
    if let Some(path) = env::var_os("HOLDFAST_TOTALS") {
        OpenOptions::new().create(true).append(true).open(path)?.write_all(line.as_bytes())?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn image_on_ext4() -> Result<()> {
    conforms(Case { pools: &["image"], fs: "ext4", checked: &[USED, BLOCK, COPIED], refused: &[] }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn image_on_xfs() -> Result<()> {
    let checked = &[USED, BLOCK, COPIED, SHARED];
    conforms(Case { pools: &["image"], fs: "xfs", checked, refused: &[] }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn image_on_btrfs() -> Result<()> {
    let checked = &[USED, BLOCK, COPIED, SHARED];
    conforms(Case { pools: &["image"], fs: "btrfs", checked, refused: &[] }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn directory_on_btrfs() -> Result<()> {
    conforms(Case { pools: &["directory"], fs: "btrfs", checked: &[USED, MODIFIED], refused: &[] }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn btrfs() -> Result<()> {
    conforms(Case { pools: &["btrfs"], fs: "btrfs", checked: &[USED, COPIED, MODIFIED], refused: &[] }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn tmpfs() -> Result<()> {
    conforms(Case { pools: &["tmpfs"], fs: "ext4", checked: &[INLINE], refused: &[] }).await
}

/// One driver declares what any of its pools can do; what this pool cannot do is refused in its
/// own words, and nothing of the other pools is in the way.
#[tokio::test(flavor = "multi_thread")]
async fn several_pools() -> Result<()> {
    conforms(Case {
        pools: &["btrfs", "image", "tmpfs"],
        fs: "btrfs",
        checked: &[
            USED,
            COPIED,
            INLINE,
            &["create-volume/exists-other-parameters", "node-unpublish-volume/no-such-volume"],
        ],
        refused: &["create-volume-group-snapshot/answer", "data/group"],
    })
    .await
}
