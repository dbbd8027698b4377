//! The names that callers give: CSI v1.12, "Size Limits" and the fields' own rules.

use crate::error::Error;

/// The longest string of a request, in bytes.
const MAX_NAME: usize = 128;

/// Names are required, have 1 to 128 bytes and none of the banned control characters.
pub(crate) fn check_name(name: &str) -> Result<(), Error> {
    if name.is_empty() || name.len() > MAX_NAME {
        return Err(Error::Invalid(format!("name must have 1 to {MAX_NAME} bytes")));
    }
    match name.chars().find(|c| is_banned(*c)) {
        Some(banned) => {
            Err(Error::Invalid(format!("name must not contain the control character {banned:?}")))
        }
        None => Ok(()),
    }
}

fn is_banned(c: char) -> bool {
    matches!(c, '\u{0}'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{7f}'..='\u{9f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_by_the_rules() {
        for good in ["a", "pvc-1", "Ünïcode name\twith tab", &"x".repeat(128)] {
            assert!(check_name(good).is_ok(), "{good:?}");
        }
        for bad in ["", &"x".repeat(129), &"ü".repeat(65), "a\0b", "a\u{7f}", "a\u{85}b", "\u{1b}[31m"] {
            assert!(matches!(check_name(bad), Err(Error::Invalid(_))), "{bad:?}");
        }
    }
}
