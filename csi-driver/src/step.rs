//! Where a crash would matter: each durable or visible step says that it was passed.
//!
//! In a build with debug assertions `HOLDFAST_CRASH_AT_STEP=<n>` ends the process at the
//! n-th step since its start, as kill -9 or the kernel's out-of-memory killer would, and
//! `HOLDFAST_STEPS=<file>` collects the names of the steps passed. The tests go through
//! all of them (`tests/driver/crash.rs`). In a release build nothing is left of it.

/// Says that the step `name` was passed.
#[cfg(not(debug_assertions))]
#[inline]
pub(crate) fn passed(_name: &str) {}

#[cfg(debug_assertions)]
pub(crate) use crashing::passed;

#[cfg(debug_assertions)]
mod crashing {
    use std::{
        env,
        ffi::OsString,
        fs::OpenOptions,
        io::Write as _,
        sync::{
            LazyLock,
            atomic::{AtomicU64, Ordering},
        },
    };

    static PASSED: AtomicU64 = AtomicU64::new(0);
    static CRASH_AT: LazyLock<Option<u64>> =
        LazyLock::new(|| env::var("HOLDFAST_CRASH_AT_STEP").ok()?.parse().ok());
    static NAMES: LazyLock<Option<OsString>> = LazyLock::new(|| env::var_os("HOLDFAST_STEPS"));

    /// Says that the step `name` was passed, and ends the process if it is to end here.
    pub(crate) fn passed(name: &str) {
        if CRASH_AT.is_none() && NAMES.is_none() {
            return;
        }
        let number = PASSED.fetch_add(1, Ordering::SeqCst) + 1;
        if let Some(path) = &*NAMES
            && let Ok(mut file) = OpenOptions::new().create(true).append(true).open(path)
        {
            // Only a test reads it, and that one misses what could not be written.
            let _ = file.write_all(format!("{name}\n").as_bytes());
        }
        if Some(number) == *CRASH_AT {
            let _ = rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::KILL);
            // The signal takes effect before this thread could do anything else.
            loop {
                std::thread::park();
            }
        }
    }
}
