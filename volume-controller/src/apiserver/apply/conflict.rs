//! What an apply would take from others, in the words that users of kubectl know.

use super::fieldset::Path;
use super::managers::{Manager, Operation};

/// A field that the applier would change and another manager owns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Conflict {
    pub(crate) manager: Manager,
    pub(crate) path: Path,
}

impl Conflict {
    pub(super) fn new(manager: &Manager, path: Path) -> Self {
        Self { manager: manager.clone(), path }
    }

    /// `"kubectl-edit" with subresource "status" using v1`
    fn who(&self, api_version: &str) -> String {
        let mut who = format!("{:?}", self.manager.name);
        if !self.manager.subresource.is_empty() {
            who = format!("{who} with subresource {:?}", self.manager.subresource);
        }
        if self.manager.operation == Operation::Update {
            who = format!("{who} using {api_version}");
        }
        who
    }

    /// The message of this conflict's cause.
    pub(crate) fn cause(&self, api_version: &str) -> String {
        format!("conflict with {}", self.who(api_version))
    }
}

/// The message of the whole refusal. The conflicts are sorted by managers.
pub(crate) fn message(conflicts: &[Conflict], api_version: &str) -> String {
    if let [one] = conflicts {
        return format!("Apply failed with 1 conflict: {}: {}", one.cause(api_version), one.path);
    }
    let mut lines: Vec<String> = Vec::new();
    let mut last = None;
    for conflict in conflicts {
        if last.replace(&conflict.manager) != Some(&conflict.manager) {
            lines.push(format!("conflicts with {}:", conflict.who(api_version)));
        }
        lines.push(format!("- {}", conflict.path));
    }
    format!("Apply failed with {} conflicts: {}", conflicts.len(), lines.join("\n"))
}
