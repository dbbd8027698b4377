//! Secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use super::check::{Checks, entries, text};
use super::columns::{AGE, NAME, cell_text, column};
use super::data;
use super::defaults::{fill, fill_text, nothing, remove, set};
use super::fields::field;
use super::kind::{Cause, Column, Field, Kind, Model, Scope};

/// The kind.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Secret",
    plural: "secrets",
    singular: "secret",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    model: Model::of::<Secret>(),
    has_status: false,
    is_graceful: false,
    returns_deleted: false,
    columns: COLUMNS,
    fields: FIELDS,
    default,
    prepare_create: nothing,
    validate,
    validate_update,
};

const COLUMNS: &[Column] = &[
    NAME,
    column("Type", "", |secret, _| cell_text(&secret["type"])).described("What the secret is for."),
    column("Data", "", |secret, _| entries(&secret["data"]).count().into())
        .described("How many keys there are."),
    AGE,
];

const FIELDS: &[Field] = &[field!("type")];

/// `stringData` exists in requests only: it is another way to write `data`.
fn default(secret: &mut Value) {
    fill_text(secret, &["type"], "Opaque");
    for (key, value) in remove(secret, &["stringData"]).iter().flat_map(entries) {
        fill(secret, &["data"], serde_json::Map::new());
        set(secret, &["data", key.as_str()], STANDARD.encode(text(value)));
    }
}

/// The keys without which a secret of a type is of no use.
fn needed(kind: &str) -> &'static [&'static str] {
    match kind {
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        _ => &[],
    }
}

fn validate(secret: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    data::check(&mut checks, secret, &[], &["data"]);
    for key in needed(text(&secret["type"])).iter().filter(|key| secret["data"][**key].is_null()) {
        checks.required(format!("data[{key}]"), "");
    }
    check_type(&mut checks, secret);
    checks.into_causes()
}

/// What a type asks for besides keys. Nothing of the content is told.
fn check_type(checks: &mut Checks, secret: &Value) {
    let data = &secret["data"];
    match text(&secret["type"]) {
        "kubernetes.io/service-account-token" => {
            const ACCOUNT: &str = "kubernetes.io/service-account.name";
            if text(&secret["metadata"]["annotations"][ACCOUNT]).is_empty() {
                checks.required(format!("metadata.annotations[{ACCOUNT}]"), "");
            }
        }
        "kubernetes.io/basic-auth" if data["username"].is_null() && data["password"].is_null() => {
            checks.required("data[username]", "");
            checks.required("data[password]", "");
        }
        kind => {
            for key in needed(kind).iter().filter(|key| key.starts_with(".docker")) {
                let bytes = STANDARD.decode(text(&data[*key])).unwrap_or_default();
                if !data[*key].is_null() && serde_json::from_slice::<serde::de::IgnoredAny>(&bytes).is_err() {
                    checks.invalid_text(
                        format!("data[{key}]"),
                        "<secret contents redacted>",
                        "must be valid JSON",
                    );
                }
            }
        }
    }
}

/// Why something is no Secret, without any of its values: those of refusals are logged, shown and kept.
pub(crate) fn misfit(value: &Value) -> String {
    for field in ["data", "stringData"] {
        for (key, value) in entries(&value[field]) {
            match value.as_str() {
                None => return format!("{field}[{key}] must be text"),
                Some(text) if field == "data" && STANDARD.decode(text).is_err() => {
                    return format!("{field}[{key}] must be base64");
                }
                Some(_) => {}
            }
        }
    }
    "a field does not have the type that it should have".to_owned()
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    checks.immutable("type", &new["type"], &old["type"]);
    data::check_update(&mut checks, new, old, &["data"]);
    checks.into_causes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::check::lines;
    use serde_json::json;

    #[test]
    fn string_data() {
        let mut secret = json!({"data": {"a": "eA==", "b": "eQ=="}, "stringData": {"a": "new"}});
        default(&mut secret);
        assert_eq!(secret, json!({"data": {"a": "bmV3", "b": "eQ=="}, "type": "Opaque"}));
    }

    #[test]
    fn rules() {
        assert_eq!(
            lines(&validate(&json!({"type": "kubernetes.io/tls", "data": {"tls.crt": ""}}))),
            ["data[tls.key]: Required: "]
        );
        for (kind, data, expected) in [
            ("kubernetes.io/basic-auth", json!({"username": ""}), vec![]),
            (
                "kubernetes.io/basic-auth",
                json!({}),
                vec!["data[username]: Required: ", "data[password]: Required: "],
            ),
            ("kubernetes.io/dockerconfigjson", json!({".dockerconfigjson": "e30="}), vec![]),
            (
                "kubernetes.io/dockerconfigjson",
                json!({".dockerconfigjson": "eA=="}),
                vec![r#"data[.dockerconfigjson]: Invalid: "<secret contents redacted>": must be valid JSON"#],
            ),
            (
                "kubernetes.io/service-account-token",
                json!({}),
                vec!["metadata.annotations[kubernetes.io/service-account.name]: Required: "],
            ),
        ] {
            let secret = json!({"type": kind, "data": data});
            assert_eq!(lines(&validate(&secret)), expected, "{secret}");
        }
        for (secret, expected) in [
            (json!({"data": {"a": 5}}), "data[a] must be text"),
            (json!({"data": {"a": "eA==", "b": "plain!"}}), "data[b] must be base64"),
            (json!({"stringData": {"port": 5432}}), "stringData[port] must be text"),
            (json!({"data": "plain"}), "a field does not have the type that it should have"),
        ] {
            assert_eq!(misfit(&secret), expected);
        }
        let opaque = json!({"type": "Opaque", "data": {"a": "eA=="}});
        assert_eq!(validate(&opaque), []);
        assert_eq!(
            lines(&validate_update(&json!({"type": "x"}), &opaque)),
            [r#"type: Invalid: "x": field is immutable"#]
        );
    }
}
