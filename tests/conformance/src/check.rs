//! A check as data: what it proves, what it needs, and how it is done.

use futures::future::BoxFuture;

use crate::{failure::Verdict, fixture::Fixture, need::Need, rows::Row, rpc::Rpc};

/// One check.
pub(crate) struct Check {
    /// Unique, as `rpc-in-kebab-case/what`.
    pub(crate) id: &'static str,
    /// With `condition`: the row that it proves.
    pub(crate) rpc: Option<Rpc>,
    /// The row's condition.
    pub(crate) condition: &'static str,
    /// Without any of these it is skipped.
    pub(crate) needs: &'static [&'static [Need]],
    /// Does it.
    pub(crate) run: for<'a> fn(&'a Fixture) -> BoxFuture<'a, Verdict>,
}

impl Check {
    /// The row that it proves. A test makes sure that there is one.
    pub(crate) fn row(&self) -> Option<&'static Row> {
        crate::rows::find(self.rpc, self.condition)
    }
}

/// A check whose work is an async function of the fixture.
macro_rules! check {
    ($id:literal, $rpc:ident, $condition:expr, $needs:expr, $run:path) => {
        $crate::check::Check {
            id: $id,
            rpc: Some($crate::rpc::Rpc::$rpc),
            condition: $condition,
            needs: &$needs,
            run: |fixture| Box::pin($run(fixture)),
        }
    };
}

/// A check that one request, made by a function of the fixture, is refused with a code of
/// the row.
macro_rules! refuse {
    ($id:literal, $rpc:ident, $condition:expr, $needs:expr, |$fixture:ident| $request:expr) => {
        $crate::check::Check {
            id: $id,
            rpc: Some($crate::rpc::Rpc::$rpc),
            condition: $condition,
            needs: &$needs,
            run: |$fixture| {
                Box::pin(async move {
                    let request = $request;
                    $fixture.refused(request).await
                })
            },
        }
    };
    // The same about a volume that exists.
    ($id:literal, $rpc:ident, $condition:expr, $needs:expr, |$fixture:ident, $volume:ident| $request:expr) => {
        $crate::check::Check {
            id: $id,
            rpc: Some($crate::rpc::Rpc::$rpc),
            condition: $condition,
            needs: &$needs,
            run: |$fixture| {
                Box::pin(async move {
                    let $volume = $fixture.volume().await?;
                    let request = $request;
                    $fixture.refused(request).await
                })
            },
        }
    };
}

/// A check about all RPCs.
macro_rules! general {
    ($id:literal, $condition:expr, $needs:expr, $run:path) => {
        $crate::check::Check {
            id: $id,
            rpc: None,
            condition: $condition,
            needs: &$needs,
            run: |fixture| Box::pin($run(fixture)),
        }
    };
}

pub(crate) use {check, general, refuse};
