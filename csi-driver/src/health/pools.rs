//! How pools are: what goes for all their volumes, and what is measured of them.

use std::{sync::Arc, time::Duration};

use rustix::fs::{self as rfs, AtFlags, StatxFlags};
use tokio_util::sync::CancellationToken;

use super::Examination;
use crate::{
    error::{Error, Tried as _},
    kernel::{damage, mountinfo},
    metrics::{Metrics, PoolFigures},
    pool::Pool,
    server::Driver,
};

/// How often a pool is looked at for the metrics and the log.
const PERIOD: Duration = Duration::from_secs(30);
/// A pool that has not answered after so long is reported as hanging.
const PATIENCE: Duration = Duration::from_secs(10);

/// What is wrong with the pool; one line each.
pub(super) fn ailments(pool: &Pool) -> Vec<String> {
    let mut ailments = Vec::new();
    let mut note = |found: Result<Vec<String>, Error>| match found {
        Ok(found) => ailments.extend(found),
        Err(error) => ailments.push(format!("pool {:?}: {error}", pool.name)),
    };
    note(pool.expect_in_place().map(|()| Vec::new()));
    note(of_file_system(pool));
    note(fill(pool).map(|fill| fill.complaint(pool).into_iter().collect()));
    ailments
}

fn of_file_system(pool: &Pool) -> Result<Vec<String>, Error> {
    let stat = rfs::statx(pool.root(), c"", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID)
        .tried(|| format!("looking at {}", pool.path().display()))?;
    // Unmounted, it is in no table: that is said by whether it is in place.
    let Some(mount) = mountinfo::by_id(stat.stx_mnt_id)? else { return Ok(Vec::new()) };
    Ok(damage::of(&mount)?.into_iter().map(|line| format!("pool {:?}: {line}", pool.name)).collect())
}

/// How full a pool's file system is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fill {
    used: u64,
    /// Free for this process.
    free: u64,
}

fn fill(pool: &Pool) -> Result<Fill, Error> {
    let stat = rfs::fstatvfs(pool.root()).tried(|| format!("asking {} for room", pool.path().display()))?;
    Ok(Fill {
        used: stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize),
        free: stat.f_bavail.saturating_mul(stat.f_frsize),
    })
}

impl Fill {
    fn size(self) -> u64 {
        self.used.saturating_add(self.free)
    }

    /// As df has it: of what can be used at all, rounded up.
    fn percent(self) -> u64 {
        match self.size() {
            0 => 100,
            size => u64::try_from((u128::from(self.used) * 100).div_ceil(u128::from(size))).unwrap_or(100),
        }
    }

    fn complaint(self, pool: &Pool) -> Option<String> {
        let limit = pool.limits.nearly_full_percent;
        (self.percent() >= u64::from(limit)).then(|| {
            format!(
                "pool {:?} is nearly full: {} % of its file system are used, and {limit} % are the limit \
                 (limits.nearly_full_percent); what its volumes have not written yet may find no room, free some",
                pool.name,
                self.percent()
            )
        })
    }
}

/// Measures one pool until `stop`, and logs when something is wrong with it and when it is
/// well again. A pool that hangs holds one thread here, and is reported.
pub(crate) async fn watch(driver: Arc<Driver>, name: String, metrics: Metrics, stop: CancellationToken) {
    let mut known = Vec::new();
    loop {
        let (looking, pool) = (driver.clone(), name.clone());
        let mut looked = tokio::task::spawn_blocking(move || look(&looking, &pool));
        let found = tokio::select! {
            () = stop.cancelled() => return,
            looked = &mut looked => looked,
            () = tokio::time::sleep(PATIENCE) => {
                tracing::error!(pool = %name, "the pool does not answer; what needs it waits");
                metrics.pool_hangs(&name);
                known.clear();
                tokio::select! {
                    () = stop.cancelled() => return,
                    looked = looked => looked,
                }
            }
        };
        match found {
            Ok((ailments, figures)) => {
                if let Some(figures) = figures {
                    metrics.note_pool(&name, figures);
                } else {
                    metrics.pool_hangs(&name);
                }
                match ailments.as_slice() {
                    now if now == known.as_slice() => {}
                    [] => tracing::info!(pool = %name, "the pool is healthy again"),
                    now => tracing::warn!(pool = %name, "{}", now.join("; ")),
                }
                known = ailments;
            }
            Err(error) => tracing::error!(pool = %name, %error, "looking at the pool ended badly"),
        }
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(PERIOD) => {}
        }
    }
}

fn look(driver: &Driver, name: &str) -> (Vec<String>, Option<PoolFigures>) {
    let Some(pool) = driver.pools.get(name) else { return Default::default() };
    let ailments = Examination::begin().of_pool(pool).to_vec();
    let figures = fill(pool).ok().map(|fill| PoolFigures {
        size: fill.size(),
        free: fill.free,
        promised: pool.promised(),
        healthy: ailments.is_empty(),
    });
    (ailments, figures)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_is_rounded_up_and_an_empty_one_is_full() {
        for (used, free, percent) in [(0, 100, 0), (1, 999, 1), (90, 10, 90), (899, 101, 90), (0, 0, 100)] {
            assert_eq!(Fill { used, free }.percent(), percent, "{used} of {free}");
        }
        assert_eq!(Fill { used: u64::MAX, free: 0 }.percent(), 100);
    }
}
