//! Values of columns, the same in every dialect: revisions and kinds of change as integers.

use crate::store::ChangeKind;

pub(super) fn kind_to_sql(kind: ChangeKind) -> i16 {
    match kind {
        ChangeKind::Created => 0,
        ChangeKind::Updated => 1,
        ChangeKind::Deleted => 2,
    }
}

pub(super) fn kind_from_sql(kind: i16) -> sqlx::Result<ChangeKind> {
    match kind {
        0 => Ok(ChangeKind::Created),
        1 => Ok(ChangeKind::Updated),
        2 => Ok(ChangeKind::Deleted),
        other => Err(sqlx::Error::Decode(format!("there is no kind {other} of change").into())),
    }
}

pub(super) fn to_sql(revision: u64) -> sqlx::Result<i64> {
    i64::try_from(revision).map_err(|error| sqlx::Error::Encode(error.into()))
}

pub(super) fn from_sql(revision: i64) -> sqlx::Result<u64> {
    u64::try_from(revision).map_err(|error| sqlx::Error::Decode(error.into()))
}
