//! How a check ends when it does not pass.

use tonic::{Code, Status};

use crate::rows::code_name;

/// What a check gives.
pub(crate) type Verdict<T = ()> = Result<T, Failure>;

/// Why a check did not pass.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    /// The plugin did something else than it should.
    #[error("expected {expected}, came {came}")]
    Wrong {
        /// What should have come.
        expected: String,
        /// What came.
        came: String,
    },
    /// Something of this machine failed, on the way to what should be checked.
    #[error("{0}")]
    Local(String),
    /// It turned out on the way that there is nothing to check.
    #[error("{0}")]
    Skip(String),
}

impl Failure {
    pub(crate) fn wrong(expected: impl Into<String>, came: impl Into<String>) -> Self {
        Self::Wrong { expected: expected.into(), came: came.into() }
    }

    pub(crate) fn code(expected: &[Code], status: &Status) -> Self {
        Self::wrong(codes(expected), describe(status))
    }
}

pub(crate) fn codes(expected: &[Code]) -> String {
    expected.iter().map(|code| code_name(*code)).collect::<Vec<_>>().join(" or ")
}

/// A status in one line.
pub(crate) fn describe(status: &Status) -> String {
    format!("{} {:?}", code_name(status.code()), status.message())
}

/// Fails with what was expected, unless the condition holds.
macro_rules! must {
    ($condition:expr, $expected:expr, $($came:tt)+) => {
        if !$condition {
            return Err($crate::failure::Failure::wrong($expected, format!($($came)+)));
        }
    };
}
pub(crate) use must;
