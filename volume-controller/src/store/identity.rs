//! Which store it is: what ties a root folder to its database.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// Names one store for as long as it lives, wherever its database moves. Random.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreId(Uuid);

impl StoreId {
    /// That of a store which is still to be made.
    #[must_use]
    pub fn random() -> Self {
        Self(Uuid::new_v4())
    }
}

impl fmt::Display for StoreId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.hyphenated().fmt(f)
    }
}

impl FromStr for StoreId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, uuid::Error> {
        text.parse().map(Self)
    }
}

/// Which store a PostgreSQL database must have. An SQLite file is not asked: it moves with its folder.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Expected {
    /// Any; where there is none, one is made.
    #[default]
    Any,
    /// This one; where there is none, it is made.
    Mine(StoreId),
    /// This one, and it must be there: a database without it was emptied, or is another.
    Existing(StoreId),
}
