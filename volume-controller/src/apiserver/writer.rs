//! Who makes a write: the name under which an object's fields are recorded.

use http::{HeaderMap, header};

use super::apply::{Reach, Writer};
use super::kinds::{Cause, CauseReason, Kind};
use super::options::Options;
use super::route::{Part, Target};
use super::status::{ApiError, Resource};

/// The longest name of a manager, in bytes; upstream's limit.
const MAX_NAME: usize = 128;

/// The manager that a request names, or the program that sent it.
pub(crate) fn name(options: &Options, headers: &HeaderMap) -> String {
    if !options.field_manager.is_empty() {
        return options.field_manager.clone();
    }
    let agent = headers.get(header::USER_AGENT).map(|agent| String::from_utf8_lossy(agent.as_bytes()));
    let program = agent.as_deref().and_then(|agent| agent.split('/').next()).unwrap_or_default();
    let mut name = String::new();
    for letter in program.chars().filter(|letter| is_printable(*letter)) {
        if name.len() + letter.len_utf8() > MAX_NAME {
            break;
        }
        name.push(letter);
    }
    name
}

/// The writer of a request that is no apply.
pub(crate) fn writer<'a>(target: &'a Target, name: &'a str) -> Writer<'a> {
    Writer { name, subresource: target.part.name(), reach: reach(target) }
}

/// What of the object this part of the API changes.
pub(crate) fn reach(target: &Target) -> Reach {
    match target.part {
        Part::Status if is_custom_upstream(target.stored) => Reach::OnlyStatus,
        Part::Status => Reach::Status,
        _ => Reach::Main,
    }
}

/// Kinds that upstream defines by CustomResourceDefinition: their `/status`
/// takes the status only, where that of built-in kinds takes metadata as well.
pub(crate) fn is_custom_upstream(kind: &Kind) -> bool {
    matches!(kind.group, "snapshot.storage.k8s.io" | "groupsnapshot.storage.k8s.io")
}

/// Refuses names that cannot be recorded. `options` is what upstream calls the
/// parameters: `PatchOptions`.
pub(crate) fn check(options: &'static str, given: &Options, is_apply: bool) -> Result<(), ApiError> {
    let mut causes = Vec::new();
    let mut wrong = |field: &str, reason: CauseReason, message: String| {
        causes.push(Cause { field: field.to_owned(), reason, message });
    };
    let name = &given.field_manager;
    if is_apply && name.is_empty() {
        wrong("fieldManager", CauseReason::Required, "is required for apply patch".to_owned());
    }
    if !is_apply && given.force.is_some() {
        wrong("force", CauseReason::Forbidden, "may not be specified for non-apply patch".to_owned());
    }
    if name.len() > MAX_NAME {
        wrong("fieldManager", CauseReason::TooLong, format!("may not be more than {MAX_NAME} bytes"));
    }
    for (at, letter) in name.char_indices().filter(|(_, letter)| !is_printable(*letter)) {
        let message = format!("{name:?}: invalid character U+{:04X} (at position {at})", u32::from(letter));
        wrong("fieldManager", CauseReason::Invalid, message);
    }
    if causes.is_empty() {
        return Ok(());
    }
    let resource = Resource { group: "meta.k8s.io", plural: "", kind: options };
    Err(ApiError::Invalid { resource, name: String::new(), causes })
}

/// Letters, marks, numbers, signs and the plain space.
fn is_printable(letter: char) -> bool {
    letter == ' ' || !(letter.is_control() || letter.is_whitespace() || is_invisible(letter))
}

/// Format characters and what Unicode has left open for private use.
fn is_invisible(letter: char) -> bool {
    matches!(u32::from(letter),
        0xAD | 0x600..=0x605 | 0x61C | 0x6DD | 0x70F | 0x180E | 0x200B..=0x200F | 0x2028..=0x202E
        | 0x2060..=0x206F | 0xFEFF | 0xFFF9..=0xFFFB | 0xE000..=0xF8FF | 0xE0000..=0xE007F
        | 0xF0000..=0x0010_FFFF)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let named = |manager: &str, agent: Option<&str>| {
            let options = Options { field_manager: manager.to_owned(), ..Options::default() };
            let mut headers = HeaderMap::new();
            if let Some(agent) = agent {
                headers.insert(header::USER_AGENT, agent.parse().unwrap());
            }
            name(&options, &headers)
        };
        assert_eq!(named("me", Some("kubectl/v1")), "me");
        assert_eq!(named("", Some("kubectl/v1.32.4 (linux/amd64)")), "kubectl");
        assert_eq!(named("", Some("a\tb/1")), "ab");
        assert_eq!(named("", Some(&"x".repeat(200))).len(), MAX_NAME);
        assert_eq!(named("", None), "");
    }

    #[test]
    fn refusals() {
        let refused = |manager: &str, force: Option<bool>, is_apply: bool| {
            let options = Options { field_manager: manager.to_owned(), force, ..Options::default() };
            check("PatchOptions", &options, is_apply).map_err(|error| error.to_string())
        };
        assert_eq!(refused("me", Some(true), true), Ok(()));
        assert_eq!(refused("", None, false), Ok(()));
        for (manager, force, is_apply, expected) in [
            ("", None, true, "fieldManager: Required value: is required for apply patch"),
            ("me", Some(false), false, "force: Forbidden: may not be specified for non-apply patch"),
            (&"x".repeat(129), None, false, "fieldManager: Too long: may not be more than 128 bytes"),
            (
                "a\nb",
                None,
                true,
                r#"fieldManager: Invalid value: "a\nb": invalid character U+000A (at position 1)"#,
            ),
        ] {
            let expected = format!(r#"PatchOptions.meta.k8s.io "" is invalid: {expected}"#);
            assert_eq!(refused(manager, force, is_apply), Err(expected));
        }
    }
}
