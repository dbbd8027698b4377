//! Which size a volume gets, in bytes. Pure.

use std::fmt;

use holdfast_proto::csi::CapacityRange;

use crate::error::Error;

/// Bytes in one mebibyte: sizes are rounded up to it, so that every file system
/// and every block size divides them.
pub(crate) const MIB: u64 = 1 << 20;
/// Bytes in one gibibyte.
pub(crate) const GIB: u64 = 1 << 30;
/// What is rounded to where the asked limit leaves no room for [`MIB`].
const PAGE: u64 = 4096;

/// The sizes that a backend can make, in bytes, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// The smallest volume.
    pub(crate) min: u64,
    /// The largest volume.
    pub(crate) max: u64,
    /// The size of a volume for which nothing was asked.
    pub(crate) default: u64,
}

/// What was asked for, with the wire's zero for "not given" taken out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Wanted {
    /// At least so many bytes.
    pub(crate) required: Option<u64>,
    /// At most so many bytes.
    pub(crate) limit: Option<u64>,
}

impl Wanted {
    /// Reads a `CapacityRange`; both fields are optional there and must not be negative.
    pub(crate) fn from_range(range: Option<&CapacityRange>) -> Result<Self, Error> {
        let Some(range) = range else { return Ok(Self::default()) };
        let read = |name: &str, value: i64| match u64::try_from(value) {
            Ok(0) => Ok(None),
            Ok(bytes) => Ok(Some(bytes)),
            Err(_) => Err(Error::OutOfRange(format!("capacity_range.{name} is negative ({value})"))),
        };
        let wanted = Self {
            required: read("required_bytes", range.required_bytes)?,
            limit: read("limit_bytes", range.limit_bytes)?,
        };
        if let (Some(required), Some(limit)) = (wanted.required, wanted.limit)
            && limit < required
        {
            return Err(Error::OutOfRange(format!(
                "limit_bytes ({limit}) is less than required_bytes ({required})"
            )));
        }
        Ok(wanted)
    }

    /// Whether a volume of `bytes` is what was asked for.
    pub(crate) fn admits(&self, bytes: u64) -> bool {
        self.required.is_none_or(|required| bytes >= required)
            && self.limit.is_none_or(|limit| bytes <= limit)
    }
}

/// The size of a new volume.
pub(crate) fn choose(wanted: Wanted, bounds: Bounds) -> Result<u64, Error> {
    let floor = match wanted.required {
        Some(required) if required > bounds.max => {
            return Err(Error::OutOfRange(format!(
                "{} is more than the largest volume possible here, {}",
                Bytes(required),
                Bytes(bounds.max)
            )));
        }
        Some(required) => required.max(bounds.min),
        None => bounds.default.min(wanted.limit.unwrap_or(u64::MAX)).min(bounds.max).max(bounds.min),
    };
    let ceiling = wanted.limit.unwrap_or(u64::MAX).min(bounds.max);
    if floor > ceiling {
        return Err(Error::OutOfRange(format!(
            "limit_bytes ({}) is less than the smallest volume possible here, {}",
            Bytes(ceiling),
            Bytes(bounds.min)
        )));
    }
    // Nothing was required: a limit that is no whole number of MiB is rounded down.
    if wanted.required.is_none() && floor > bounds.min {
        return Ok((floor / MIB * MIB).max(bounds.min));
    }
    [MIB, PAGE]
        .into_iter()
        .filter_map(|unit| floor.checked_next_multiple_of(unit))
        .find(|size| *size <= ceiling)
        .ok_or_else(|| {
            Error::OutOfRange(format!(
                "between {floor} and {ceiling} bytes there is no multiple of {PAGE}; widen the range"
            ))
        })
}

/// Prints bytes with the largest binary unit that divides them, else with one decimal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bytes(pub u64);

impl fmt::Display for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(&str, u64); 5] =
            [("Pi", 1 << 50), ("Ti", 1 << 40), ("Gi", GIB), ("Mi", MIB), ("Ki", 1 << 10)];
        for (unit, bytes) in UNITS {
            if self.0 >= bytes {
                let whole = self.0 / bytes;
                return if self.0.is_multiple_of(bytes) {
                    write!(f, "{whole}{unit}")
                } else {
                    write!(f, "{whole}.{}{unit}", self.0 % bytes / (bytes / 10).max(1))
                };
            }
        }
        write!(f, "{}", self.0)
    }
}

/// Reads a size as people write it: plain bytes, or with one of Ki, Mi, Gi, Ti, Pi.
pub(crate) fn parse_bytes(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let shift = match unit.trim() {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        "Ti" => 40,
        "Pi" => 50,
        _ => return None,
    };
    number.checked_mul(1 << shift)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOUNDS: Bounds = Bounds { min: 16 * MIB, max: 100 * GIB, default: GIB };

    fn asked(required: i64, limit: i64) -> Result<u64, Error> {
        choose(
            Wanted::from_range(Some(&CapacityRange { required_bytes: required, limit_bytes: limit }))?,
            BOUNDS,
        )
    }

    #[test]
    fn sizes() {
        let (mib, gib) = (MIB as i64, GIB as i64);
        let cases: [(i64, i64, Option<u64>); 14] = [
            (0, 0, Some(GIB)),
            (1, 0, Some(16 * MIB)),
            (gib, 0, Some(GIB)),
            (gib + 1, 0, Some(GIB + MIB)),
            (gib, gib, Some(GIB)),
            (gib + 1, gib + 5000, Some(GIB + 4096)),
            (gib + 1, gib + 2, None),
            (gib, gib - 1, None),
            (0, 512 * mib + 7, Some(512 * MIB)),
            (0, 1, None),
            (0, 16 * mib, Some(16 * MIB)),
            (100 * gib, 0, Some(100 * GIB)),
            (100 * gib + 1, 0, None),
            (-1, 0, None),
        ];
        for (required, limit, expected) in cases {
            let got = asked(required, limit);
            assert_eq!(got.as_ref().ok().copied(), expected, "{required}..{limit}: {got:?}");
            if let Err(error) = got {
                assert!(matches!(error, Error::OutOfRange(_)), "{error:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_chosen_size_is_within_what_was_asked(required in 0_i64.., limit in 0_i64..) {
            let wanted = Wanted::from_range(Some(&CapacityRange {
                required_bytes: required, limit_bytes: limit }));
            if let Ok(wanted) = wanted && let Ok(size) = choose(wanted, BOUNDS) {
                prop_assert!(wanted.admits(size));
                prop_assert!((BOUNDS.min..=BOUNDS.max).contains(&size));
                prop_assert_eq!(size % PAGE, 0);
            }
        }
    }

    #[test]
    fn bytes_are_read_and_written() {
        for (text, bytes) in [("0", 0), ("512", 512), ("1Ki", 1024), ("10 Gi", 10 * GIB), ("3Ti", 3 << 40)] {
            assert_eq!(parse_bytes(text), Some(bytes), "{text}");
        }
        for bad in ["", "Gi", "1G", "-1", "1.5Gi", "99999999999Pi"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
        assert_eq!(Bytes(GIB).to_string(), "1Gi");
        assert_eq!(Bytes(GIB + GIB / 2).to_string(), "1.5Gi");
        assert_eq!(Bytes(17).to_string(), "17");
    }
}
