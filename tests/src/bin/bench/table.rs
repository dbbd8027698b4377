//! The table that a benchmark prints, and how its figures are written.

use std::{
    fs::File,
    io::Write as _,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};

/// The median of small durable writes on the file system that holds the roots.
pub(crate) fn fsync(folder: &Path) -> Result<Duration> {
    let file = tempfile::NamedTempFile::new_in(folder)?;
    let mut handle = File::create(file.path())?;
    let mut times = Vec::new();
    for _ in 0..200 {
        let start = Instant::now();
        handle.write_all(&[7; 4096])?;
        handle.sync_data()?;
        times.push(start.elapsed());
    }
    times.sort();
    Ok(times[times.len() / 2])
}

/// Resident memory of a process, in bytes.
pub(crate) fn resident(pid: u32) -> Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).context("a process has VmRSS")?;
    let kib: u64 = line.split_whitespace().nth(1).context("VmRSS has a value")?.parse()?;
    Ok(kib * 1024)
}

pub(crate) fn ratio(a: Duration, b: Duration) -> f64 {
    a.as_secs_f64() / b.as_secs_f64()
}

pub(crate) fn millis(duration: Duration) -> String {
    format!("{:.2} ms", duration.as_secs_f64() * 1000.0)
}

pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}

/// Rows of: what, how much, beside what. Each is printed as soon as it is known.
pub(crate) struct Table;

impl Table {
    pub(crate) fn start(title: &str) -> Self {
        print(&format!("\n{title}\n\n| what | measured | beside |\n|---|---|---|"));
        Self
    }

    pub(crate) fn row(&self, what: &str, value: &str, beside: &str) {
        print(&format!("| {what} | {value} | {beside} |"));
    }
}

#[expect(clippy::print_stdout, reason = "the table is what this program is for")]
fn print(line: &str) {
    println!("{line}");
}
