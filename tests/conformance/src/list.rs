//! The checks and rows, for people and for tests.

use crate::{checks, rows as spec};

/// One check, without running it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listed {
    /// The check's id.
    pub id: &'static str,
    /// The RPC, or `every RPC`.
    pub rpc: &'static str,
    /// What it proves.
    pub condition: &'static str,
}

/// How a row is proven.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Proof {
    /// By these checks.
    Checks(Vec<&'static str>),
    /// Not from the outside.
    Untestable(&'static str),
}

/// Every check, in the order of a run.
#[must_use]
pub fn list() -> Vec<Listed> {
    let listed = |check: &'static crate::check::Check| Listed {
        id: check.id,
        rpc: check.rpc.map_or("every RPC", crate::rpc::Rpc::name),
        condition: check.condition,
    };
    checks::all().map(listed).collect()
}

/// Every row of the specification, with what proves it.
#[must_use]
pub fn rows() -> Vec<(&'static spec::Row, Proof)> {
    let proof = |row: &spec::Row| match row.untestable {
        Some(why) => Proof::Untestable(why),
        None => Proof::Checks(
            checks::all()
                .filter(|check| check.rpc == row.rpc && check.condition == row.condition)
                .map(|check| check.id)
                .collect(),
        ),
    };
    spec::all().map(|row| (row, proof(row))).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn no_id_twice() {
        let mut seen = HashSet::new();
        for check in list() {
            assert!(seen.insert(check.id), "two checks are called {}", check.id);
        }
    }

    #[test]
    fn no_row_twice() {
        let mut seen = HashSet::new();
        for (row, _) in rows() {
            assert!(
                seen.insert((row.rpc, row.condition)),
                "{} {:?} is there twice",
                row.rpc_name(),
                row.condition
            );
        }
    }

    #[test]
    fn every_check_proves_a_row() {
        for check in checks::all() {
            let row = check.row();
            assert!(row.is_some(), "{}: there is no row {:?}", check.id, check.condition);
            assert!(row.is_some_and(|row| row.untestable.is_none()), "{} proves what cannot be", check.id);
        }
    }

    #[test]
    fn every_row_is_proven_or_says_why_not() {
        let unproven: Vec<_> = rows()
            .into_iter()
            .filter(|(_, proof)| *proof == Proof::Checks(Vec::new()))
            .map(|(row, _)| format!("{}: {}", row.rpc_name(), row.condition))
            .collect();
        assert!(unproven.is_empty(), "no check for {unproven:#?}");
    }

    #[test]
    fn every_rpc_has_rows() {
        let with_rows: HashSet<_> = rows().iter().filter_map(|(row, _)| row.rpc).collect();
        for check in checks::all().filter_map(|check| check.rpc) {
            assert!(with_rows.contains(&check));
        }
    }
}
