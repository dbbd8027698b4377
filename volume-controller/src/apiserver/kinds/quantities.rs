//! Sizes in claims, volumes and capacities.

use holdfast_api::quantity::{self, QuantityError};
use serde_json::Value;

use super::check::Checks;
use super::columns;

/// A size that must be more than nothing and no more than a quantity can say
/// (2^63 - 1 bytes). Says one thing that is wrong, at `field`.
pub(crate) fn check_positive(checks: &mut Checks, field: &str, value: &Value) {
    match bytes(value) {
        Ok(0) => checks.invalid_text(field, &columns::quantity(value), "must be greater than zero"),
        Ok(_) => {}
        Err(error) => refuse(checks, field, value, &error, "must be greater than zero"),
    }
}

/// A size that may be zero.
pub(crate) fn check_not_negative(checks: &mut Checks, field: &str, value: &Value) {
    if let Err(error) = bytes(value) {
        refuse(checks, field, value, &error, "must be greater than or equal to 0");
    }
}

fn refuse(checks: &mut Checks, field: &str, value: &Value, error: &QuantityError, too_small: &str) {
    let detail = match error {
        QuantityError::Negative(_) => too_small,
        QuantityError::TooLarge(_) => "must be no more than 9223372036854775807 bytes (8Ei - 1)",
        QuantityError::Malformed(_) => {
            "must be a number with an optional suffix (Ki Mi Gi Ti Pi Ei, k M G T P E), such as 10Gi"
        }
    };
    checks.invalid_text(field, &columns::quantity(value), detail);
}

/// A quantity as bytes.
pub(crate) fn bytes(value: &Value) -> Result<i64, QuantityError> {
    quantity::parse_bytes(&columns::quantity(value))
}

/// A size as Kubernetes prints it: the largest suffix of its own kind, binary or
/// decimal, that leaves a whole number. What is no whole number of bytes stays
/// as it was written.
pub(crate) fn printed(value: &Value) -> String {
    let text = columns::quantity(value);
    let Ok(bytes) = quantity::parse_bytes(&text) else { return text };
    match text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.') {
        "Ki" | "Mi" | "Gi" | "Ti" | "Pi" | "Ei" => quantity::format_bytes(bytes),
        "" | "k" | "M" | "G" | "T" | "P" | "E" => {
            const SUFFIXES: [&str; 7] = ["", "k", "M", "G", "T", "P", "E"];
            let (mut number, mut step) = (bytes, 0);
            while number != 0 && number % 1000 == 0 && step + 1 < SUFFIXES.len() {
                number /= 1000;
                step += 1;
            }
            format!("{number}{}", SUFFIXES[step])
        }
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_form() {
        for (written, expected) in [
            ("1Gi", "1Gi"),
            ("1024Mi", "1Gi"),
            ("1.5Gi", "1536Mi"),
            ("1000M", "1G"),
            ("1073741824", "1073741824"),
            ("5000", "5k"),
            ("0", "0"),
            ("100m", "100m"),
            ("many", "many"),
        ] {
            assert_eq!(printed(&written.into()), expected, "{written}");
        }
        assert_eq!(printed(&5000.into()), "5k");
        assert_eq!(printed(&Value::Null), "");
    }
}
