//! Volume ids. An id is `<pool>.<name>`, derived from what was asked and nothing
//! else, so that CreateVolume finds its own earlier work without a lookup table.

use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::error::Error;

/// The most bytes of an id (CSI v1.12, "Size Limits").
const MAX_LEN: usize = 128;
/// What marks an id whose name had to be hashed. It cannot begin a readable name.
const HASHED: char = '~';

/// The id of a volume: safe as the name of one folder.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub(crate) struct VolumeId {
    text: String,
    pool_len: usize,
}

impl VolumeId {
    /// The id of the volume `name` in `pool`. Names that are safe as they are stay
    /// readable; others (and those too long) are hashed.
    pub(crate) fn derive(pool: &str, name: &str) -> Self {
        let readable = format!("{pool}.{name}");
        let text = if is_readable_name(name) && readable.len() <= MAX_LEN {
            readable
        } else {
            let mut text = format!("{pool}.{HASHED}");
            for byte in Sha256::digest(name.as_bytes()).iter().take(20) {
                text.push_str(&format!("{byte:02x}"));
            }
            text
        };
        Self { text, pool_len: pool.len() }
    }

    /// Reads an id that came from outside. What cannot be an id of this driver
    /// belongs to no volume, which CSI calls NOT_FOUND; the empty id is a mistake.
    pub(crate) fn parse(text: &str) -> Result<Self, Error> {
        if text.is_empty() {
            return Err(Error::Invalid("volume_id is required".to_owned()));
        }
        Self::read(text).ok_or_else(|| Error::VolumeNotFound(text.chars().take(MAX_LEN).collect()))
    }

    fn read(text: &str) -> Option<Self> {
        let (pool, name) = text.split_once('.')?;
        let hashed = name
            .strip_prefix(HASHED)
            .is_some_and(|hash| hash.len() == 40 && hash.bytes().all(|b| b.is_ascii_hexdigit()));
        (text.len() <= MAX_LEN && is_pool_name(pool) && (hashed || is_readable_name(name)))
            .then(|| Self { text: text.to_owned(), pool_len: pool.len() })
    }

    /// The name of the pool in which the volume lies.
    pub(crate) fn pool(&self) -> &str {
        self.text.get(..self.pool_len).unwrap_or_default()
    }

    /// The id as it goes over the wire and as the volume's folder is called.
    pub(crate) fn as_str(&self) -> &str {
        &self.text
    }
}

impl fmt::Display for VolumeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl From<VolumeId> for String {
    fn from(id: VolumeId) -> Self {
        id.text
    }
}

impl TryFrom<String> for VolumeId {
    type Error = String;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::read(&text).ok_or_else(|| format!("{text:?} is not a volume id"))
    }
}

/// Pool names: as DNS labels, at most 63 bytes, so that ids stay short and readable.
pub(crate) fn is_pool_name(name: &str) -> bool {
    (1..=63).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-')
}

/// Lower case only: two names must not meet on a file system that folds case.
fn is_readable_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && name
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'_' | b'.'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn safe_names_stay_readable() {
        assert_eq!(
            VolumeId::derive("default", "pvc-1b2f").as_str(),
            "default.pvc-1b2f"
        );
        assert_eq!(VolumeId::derive("a", "b.c").pool(), "a");
    }

    #[test]
    fn outside_ids_never_leave_the_pool() {
        for bad in [
            "x", "default.", "default..", "default...", "default.../../etc", "default./etc", "../x.y", ".a",
            "default.~zz", "default.~", "DEFAULT.a", "default.A", "default.a/b", "default.a\0b",
        ] {
            assert!(matches!(VolumeId::parse(bad), Err(Error::VolumeNotFound(_))), "{bad}");
        }
        assert!(matches!(VolumeId::parse(""), Err(Error::Invalid(_))));
    }

    proptest! {
        #[test]
        fn derived_ids_read_back_and_are_one_folder(name in "\\PC{1,200}") {
            let id = VolumeId::derive("fast-pool", &name);
            prop_assert!(id.as_str().len() <= MAX_LEN);
            prop_assert!(!id.as_str().contains('/') && !id.as_str().contains('\0'));
            prop_assert_eq!(id.pool(), "fast-pool");
            prop_assert_eq!(VolumeId::parse(id.as_str()).ok(), Some(id));
        }

        #[test]
        fn different_names_have_different_ids(a in "[a-zA-Z~./-]{1,12}", b in "[a-zA-Z~./-]{1,12}") {
            prop_assume!(a != b);
            prop_assert_ne!(VolumeId::derive("p", &a), VolumeId::derive("p", &b));
        }
    }
}
