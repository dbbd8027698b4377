//! Strategic merge patches as Kubernetes' own code does them: `kubectl patch --local` has it
//! inside. `recorded.json` holds what version 1.32 answered.

use std::io::Write;
use std::process::{Command, Stdio};

use holdfast_test_needs::{Need, missing};
use serde::Deserialize;

use super::*;
use crate::apiserver::kinds;

#[derive(Deserialize)]
struct Case {
    name: String,
    object: Value,
    patch: Value,
    #[serde(flatten)]
    outcome: Outcome,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Outcome {
    Result(Value),
    Error(String),
}

/// What is refused here, and overlooked by upstream: see `docs/compatibility.md`.
const REFUSED: &[&str] = &["deletion list that is no list"];

/// What is knowingly different: see `docs/compatibility.md`.
const DIFFERENT: &[(&str, &str)] = &[
    // Upstream forgets the object.
    ("$patch replace of what is not there", r#"{"labels": {"c": "1"}, "name": "a"}"#),
    // Upstream leaves an element without content.
    ("atomic list with a replacement", r#"{"tolerations": [{"key": "c"}]}"#),
    ("atomic list with a deletion", r#"{"tolerations": [{"key": "c"}]}"#),
    // Upstream refuses them, the last but one in words that name no mistake.
    ("order beside null", "{}"),
    ("the whole object deleted", "{}"),
];

fn cases() -> Vec<Case> {
    serde_json::from_str(include_str!("recorded.json")).unwrap()
}

/// As typed objects are: nulls are no values, and what begins with `$` is no field.
fn typed(value: &Value) -> Value {
    match value {
        Value::Object(fields) => fields
            .iter()
            .filter(|(name, value)| !value.is_null() && !name.starts_with('$'))
            .map(|(name, value)| (name.clone(), typed(value)))
            .collect(),
        Value::Array(list) => list.iter().map(typed).collect(),
        other => other.clone(),
    }
}

#[test]
fn as_kubernetes_does() {
    for Case { name, object, patch, outcome } in cases() {
        let kind = kinds::ALL.iter().find(|kind| object["kind"] == kind.kind).unwrap();
        let done = strategic(kind, &object, &patch);
        if let Some((_, expected)) = DIFFERENT.iter().find(|(other, _)| *other == name) {
            let expected: Value = serde_json::from_str(expected).unwrap();
            let done = done.unwrap();
            assert!(
                [&done, &done["metadata"], &done["spec"]].contains(&&expected),
                "{name}: {done} is no longer different in the known way"
            );
            continue;
        }
        if REFUSED.contains(&name.as_str()) {
            assert!(matches!(done, Err(PatchError::Malformed(_))), "{name}: {done:?}");
            continue;
        }
        match outcome {
            Outcome::Result(expected) => assert_eq!(done, Ok(typed(&expected)), "{name}"),
            Outcome::Error(why) => {
                assert!(matches!(done, Err(PatchError::Malformed(_))), "{name}: {done:?}, not {why}");
            }
        }
    }
}

/// What was recorded is what kubectl does.
#[test]
#[allow(clippy::disallowed_methods, reason = "kubectl is asked, not run for the server")]
fn kubectl_does_so() {
    if missing(&[Need::Program("kubectl")]) {
        return;
    }
    for Case { name, object, patch, outcome } in cases() {
        let mut kubectl = Command::new("kubectl")
            .args([
                "patch",
                "--local",
                "-f",
                "-",
                "--type",
                "strategic",
                "-o",
                "json",
                "-p",
                &patch.to_string(),
            ])
            .env("KUBECONFIG", "/dev/null")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        kubectl.stdin.take().unwrap().write_all(object.to_string().as_bytes()).unwrap();
        let output = kubectl.wait_with_output().unwrap();
        match outcome {
            Outcome::Result(expected) => {
                let done: Value = serde_json::from_slice(&output.stdout)
                    .unwrap_or_else(|_| panic!("{name}: {}", String::from_utf8_lossy(&output.stderr)));
                assert_eq!(done, expected, "{name}");
            }
            Outcome::Error(_) => assert!(!output.status.success(), "{name}"),
        }
    }
}
