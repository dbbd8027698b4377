//! Quantities of storage, as Kubernetes writes them: `1Gi`, `500M`, `1.5Ti`, `1e9`.
//!
//! Source of the rules: the documentation of `resource.Quantity` in
//! `k8s.io/apimachinery`.

use thiserror::Error;

/// Why a quantity cannot be used as a number of bytes.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum QuantityError {
    /// Not of the form number + suffix.
    #[error(
        "{0:?} is not a quantity: write a number with an optional suffix (Ki Mi Gi Ti Pi Ei, k M G T P E, m), such as 10Gi"
    )]
    Malformed(String),
    /// Below zero.
    #[error("{0:?} is negative")]
    Negative(String),
    /// More than 2^63 - 1 bytes, the most that a quantity or a CSI size can say.
    #[error("{0:?} is more than 9223372036854775807 bytes (8Ei - 1)")]
    TooLarge(String),
}

/// Reads a quantity as whole bytes; fractions of a byte are rounded up.
///
/// # Errors
/// See [`QuantityError`]; never a guess.
pub fn parse_bytes(text: &str) -> Result<i64, QuantityError> {
    let malformed = || QuantityError::Malformed(text.to_owned());
    let too_large = || QuantityError::TooLarge(text.to_owned());
    let (negative, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let end = unsigned.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(unsigned.len());
    let (number, suffix) = unsigned.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return Err(malformed());
    }
    let (base, exponent) = scale(suffix).ok_or_else(malformed)?;
    if negative && number.bytes().any(|b| b.is_ascii_digit() && b != b'0') {
        return Err(QuantityError::Negative(text.to_owned()));
    }

    // value = digits / 10^fraction.len() × base^exponent, rounded up.
    let digits: String = [whole, fraction].concat();
    let digits = digits.trim_start_matches('0');
    if digits.is_empty() {
        return Ok(0);
    }
    // More digits than this are either too large or far below a byte.
    if digits.len() > 30 || fraction.len() > 30 {
        return Err(too_large());
    }
    let mut numerator: u128 = digits.parse().map_err(|_| malformed())?;
    let mut denominator: u128 = 10u128.pow(u32::try_from(fraction.len()).map_err(|_| malformed())?);
    for _ in 0..exponent.unsigned_abs() {
        if exponent > 0 {
            numerator = numerator.checked_mul(base).ok_or_else(too_large)?;
        } else {
            match denominator.checked_mul(base) {
                Some(larger) => denominator = larger,
                None => return Ok(1), // below a byte, rounded up
            }
        }
    }
    i64::try_from(numerator.div_ceil(denominator)).map_err(|_| too_large())
}

/// A suffix as base and exponent.
fn scale(suffix: &str) -> Option<(u128, i32)> {
    Some(match suffix {
        "" => (10, 0),
        "n" => (10, -9),
        "u" => (10, -6),
        "m" => (10, -3),
        "k" => (10, 3),
        "M" => (10, 6),
        "G" => (10, 9),
        "T" => (10, 12),
        "P" => (10, 15),
        "E" => (10, 18),
        "Ki" => (1024, 1),
        "Mi" => (1024, 2),
        "Gi" => (1024, 3),
        "Ti" => (1024, 4),
        "Pi" => (1024, 5),
        "Ei" => (1024, 6),
        other => {
            let exponent = other.strip_prefix(['e', 'E'])?;
            let digits = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
            if digits.is_empty() || digits.len() > 2 || !digits.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            (10, exponent.trim_start_matches('+').parse().ok()?)
        }
    })
}

/// Writes bytes in canonical form: the largest binary suffix that leaves a whole number.
#[must_use]
pub fn format_bytes(bytes: i64) -> String {
    const SUFFIXES: [&str; 7] = ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    let mut value = bytes;
    let mut step = 0;
    while value != 0 && value % 1024 == 0 && step + 1 < SUFFIXES.len() {
        value /= 1024;
        step += 1;
    }
    format!("{value}{}", SUFFIXES[step])
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn table() {
        for (text, bytes) in [
            ("0", 0),
            ("1", 1),
            ("1Ki", 1024),
            ("1Gi", 1 << 30),
            ("1.5Gi", 3 << 29),
            ("500M", 500_000_000),
            ("1k", 1000),
            ("1e3", 1000),
            ("1E3", 1000),
            ("1E", 1_000_000_000_000_000_000),
            ("12e-1", 2),
            ("100m", 1),
            ("1n", 1),
            ("-0", 0),
            (".5Ki", 512),
            ("5.", 5),
            ("+2Mi", 2 << 20),
            ("7Ei", 7 << 60),
            ("9223372036854775807", i64::MAX),
        ] {
            assert_eq!(parse_bytes(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn refused() {
        for text in
            ["", "Gi", "1GiB", "1 Gi", "1gb", "1.2.3", "e", "1e", "1e+", "1e123", "--1", ".", "1i", "０"]
        {
            assert_eq!(parse_bytes(text), Err(QuantityError::Malformed(text.into())), "{text}");
        }
        for text in ["8Ei", "9223372036854775808", "10E", "1e19", "99999999999999999999999999999999999"] {
            assert_eq!(parse_bytes(text), Err(QuantityError::TooLarge(text.into())), "{text}");
        }
        assert_eq!(parse_bytes("-1Gi"), Err(QuantityError::Negative("-1Gi".into())));
    }

    proptest! {
        #[test]
        fn formatted_reads_back(bytes in 0..=i64::MAX) {
            prop_assert_eq!(parse_bytes(&format_bytes(bytes)), Ok(bytes));
        }

        #[test]
        fn never_panics(text in ".{0,40}") {
            let _ = parse_bytes(&text);
        }
    }
}
