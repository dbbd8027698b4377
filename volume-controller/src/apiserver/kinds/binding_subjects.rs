//! What RoleBinding and ClusterRoleBinding share: who gets which role.
//!
//! Source: "Using RBAC Authorization" in Kubernetes' documentation, and what its API server refuses.

use serde_json::{Value, json};

use super::check::{Checks, list, same, text};
use super::columns::{AGE, NAME, column};
use super::defaults::{each, fill_text};
use super::kind::{Cause, Column};
use super::names::NameRule;
use super::policy_rules::GROUP;

pub(super) const COLUMNS: &[Column] = &[
    NAME,
    column("Role", "", |binding, _| {
        let role = &binding["roleRef"];
        format!("{}/{}", text(&role["kind"]), text(&role["name"])).into()
    })
    .described("The role that the subjects get."),
    AGE,
    column("Users", "", |binding, _| subjects(binding, "User"))
        .wide()
        .described("The users who get the role."),
    column("Groups", "", |binding, _| subjects(binding, "Group"))
        .wide()
        .described("The groups that get the role."),
    column("ServiceAccounts", "", |binding, _| subjects(binding, "ServiceAccount"))
        .wide()
        .described("The service accounts that get the role."),
];

fn subjects(binding: &Value, kind: &str) -> Value {
    let found = list(&binding["subjects"]).iter().filter(|subject| subject["kind"] == kind);
    let names = found.map(|subject| match text(&subject["namespace"]) {
        namespace if kind == "ServiceAccount" && !namespace.is_empty() => {
            format!("{namespace}/{}", text(&subject["name"]))
        }
        _ => text(&subject["name"]).to_owned(),
    });
    names.collect::<Vec<_>>().join(", ").into()
}

/// Groups of APIs that were left out.
pub(super) fn default(binding: &mut Value) {
    fill_text(binding, &["roleRef", "apiGroup"], GROUP);
    for subject in each(binding, "/subjects") {
        if matches!(subject["kind"].as_str(), Some("User" | "Group")) {
            fill_text(subject, &["apiGroup"], GROUP);
        }
    }
}

pub(super) fn validate(binding: &Value, is_namespaced: bool) -> Vec<Cause> {
    let mut checks = Checks::default();
    let role = &binding["roleRef"];
    checks.one_of("roleRef.apiGroup", &role["apiGroup"], &[GROUP]);
    checks.one_of("roleRef.kind", &role["kind"], &["Role", "ClusterRole"][usize::from(!is_namespaced)..]);
    if checks.present("roleRef.name", &role["name"])
        && let Some(why) = wrong_segment(text(&role["name"]))
    {
        checks.invalid("roleRef.name", &role["name"], why);
    }
    for (index, subject) in list(&binding["subjects"]).iter().enumerate() {
        let at = |field: &str| format!("subjects[{index}].{field}");
        let is_named = checks.present(at("name"), &subject["name"]);
        match text(&subject["kind"]) {
            "ServiceAccount" => {
                let wrong = NameRule::Subdomain.problem(text(&subject["name"])).filter(|_| is_named);
                if let Some(why) = wrong {
                    checks.invalid(at("name"), &subject["name"], why);
                }
                checks.one_of(at("apiGroup"), &subject["apiGroup"], &[""]);
                if !is_namespaced {
                    checks.present(at("namespace"), &subject["namespace"]);
                }
            }
            "User" | "Group" => checks.one_of(at("apiGroup"), &subject["apiGroup"], &[GROUP]),
            _ => checks.one_of(
                at("kind"),
                &json!(text(&subject["kind"])),
                &["ServiceAccount", "User", "Group"],
            ),
        }
    }
    checks.into_causes()
}

/// Who has the role may change, the role may not: the name of a binding stays good for
/// the permissions that it was looked at for.
pub(super) fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    if !same(&new["roleRef"], &old["roleRef"]) {
        checks.invalid("roleRef", &new["roleRef"], "cannot change roleRef");
    }
    checks.into_causes()
}

/// A role's name is one segment of a path.
fn wrong_segment(name: &str) -> Option<&'static str> {
    let fits = name != "." && name != ".." && !name.contains(['/', '%']);
    (!fits).then_some("may not be '.' or '..' and may not contain '/' or '%'")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::check::lines;

    fn binding(kind: &str, subjects: &Value) -> Value {
        let mut binding = json!({"roleRef": {"kind": kind, "name": "r"}, "subjects": subjects});
        default(&mut binding);
        binding
    }

    #[test]
    fn rules() {
        let group = |name: &str| json!([{"kind": "Group", "name": name}]);
        assert_eq!(validate(&binding("Role", &group("a")), true), []);
        assert_eq!(
            lines(&validate(&binding("Role", &group("")), false)),
            [
                r#"roleRef.kind: NotSupported: "Role": supported values: "ClusterRole""#,
                "subjects[0].name: Required: "
            ]
        );
        let accounts = json!([{"kind": "ServiceAccount", "name": "A b"}, {"kind": "Robot", "name": "c"}]);
        let fields: Vec<String> = validate(&binding("ClusterRole", &accounts), false)
            .into_iter()
            .map(|cause| cause.field)
            .collect();
        assert_eq!(fields, ["subjects[0].name", "subjects[0].namespace", "subjects[1].kind"]);
        let mut other = binding("Role", &group("a"));
        other["roleRef"]["name"] = json!("../x");
        assert_eq!(validate(&other, true)[0].field, "roleRef.name");
        assert_eq!(
            validate_update(&other, &binding("Role", &group("a")))[0].message.split(": ").last(),
            Some("cannot change roleRef")
        );
        assert_eq!(validate_update(&binding("Role", &group("b")), &binding("Role", &group("a"))), []);
    }

    #[test]
    fn cells() {
        let subjects = json!([
            {"kind": "User", "name": "ann"}, {"kind": "User", "name": "bob"}, {"kind": "Group", "name": "dev"},
            {"kind": "ServiceAccount", "name": "s", "namespace": "n"},
        ]);
        let binding = binding("ClusterRole", &subjects);
        let cells: Vec<Value> =
            COLUMNS[3..].iter().map(|column| (column.cell)(&binding, jiff::Timestamp::UNIX_EPOCH)).collect();
        assert_eq!(cells, ["ann, bob", "dev", "n/s"]);
        assert_eq!((COLUMNS[1].cell)(&binding, jiff::Timestamp::UNIX_EPOCH), "ClusterRole/r");
    }
}
