//! The names that the driver goes by: its own, and that of its node. Pure.

use super::{ConfigError, TOPOLOGY_NODE};

const MOST: usize = 63;

/// CSI v1.12, GetPluginInfo: domain name notation (RFC 1035, section 2.3.1).
pub(super) fn check_driver_name(name: &str) -> Result<(), ConfigError> {
    if name.len() <= MOST && name.split('.').all(|label| is_between_alphanumerics(label, "-")) {
        return Ok(());
    }
    let reason = format!(
        "{name:?} is no domain name of 1 to {MOST} characters: letters, digits and -, in parts with a dot between them, \
         each of which begins and ends with a letter or digit"
    );
    Err(ConfigError::value("driver_name", reason))
}

/// CSI v1.12, Topology: the id is the value of [`TOPOLOGY_NODE`], which orchestrators are told of
/// every volume, and Kubernetes keeps as a label.
pub(super) fn check_node_id(id: &str) -> Result<(), ConfigError> {
    if id.len() <= MOST && is_between_alphanumerics(id, "-_.") {
        return Ok(());
    }
    let reason = format!(
        "{id:?} cannot be the value of the topology key {TOPOLOGY_NODE}; give 1 to {MOST} letters, digits, -, _ and ., \
         of which the first and the last are letters or digits"
    );
    Err(ConfigError::value("node_id", reason))
}

/// Whether the text consists of letters, digits and `others`, which are at neither end.
fn is_between_alphanumerics(text: &str, others: &str) -> bool {
    let at_ends = |c: char| c.is_ascii_alphanumeric();
    text.starts_with(at_ends)
        && text.ends_with(at_ends)
        && text.chars().all(|c| at_ends(c) || others.contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_driver_is_called_as_a_domain() {
        let longest = format!("{}.x", "a".repeat(61));
        for good in ["csi.holdfast.dev", "a", "1.2", "A-b.C", &longest] {
            assert!(check_driver_name(good).is_ok(), "{good}");
        }
        let too_long = format!("{longest}y");
        for bad in
            ["", ".", "a.", ".a", "a..b", "-a", "a-", "a.-b", "a_b", "a b", "a/b", "a\n", "ä.b", &too_long]
        {
            let said = check_driver_name(bad).unwrap_err().to_string();
            assert!(said.starts_with("driver_name: ") && said.contains("domain name"), "{said}");
        }
    }

    #[test]
    fn a_node_is_called_as_a_label_can_be() {
        let longest = "n".repeat(63);
        for good in ["node-1", "N", "10.0.0.1", "a_b.c-d", &longest] {
            assert!(check_node_id(good).is_ok(), "{good}");
        }
        let too_long = "n".repeat(64);
        for bad in ["", "-n", "n-", "n.", "_n", "a b", "a/b", "a\0b", "a\nb", "a\u{1b}[31m", "nöd", &too_long]
        {
            let said = check_node_id(bad).unwrap_err().to_string();
            assert!(said.starts_with("node_id: ") && said.contains("topology key"), "{said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
    }
}
