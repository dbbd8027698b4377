//! `kubectl apply --server-side`, as people use it.

use serde_json::{Value, json};

use super::harness::CLAIMS;
use super::kubectl::{Kubectl, MANIFEST, with_each};
use holdfast_test_needs::cannot_run;

const APPLY: [&str; 4] = ["apply", "--server-side", "-f", "-"];

async fn claim(kubectl: &Kubectl<'_>) -> Value {
    let text = kubectl.ok(&["get", "pvc", "data", "-o", "json", "--show-managed-fields"], "").await;
    serde_json::from_str(&text).unwrap()
}

/// `name operation`, in the order of the record.
fn managers(object: &Value) -> Vec<String> {
    let entries = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    entries
        .map(|e| format!("{} {}", e["manager"].as_str().unwrap(), e["operation"].as_str().unwrap()))
        .collect()
}

#[tokio::test]
async fn apply_diff_conflict_force() {
    with_each(async |kubectl| {
        if !kubectl.is_current() {
            cannot_run("kubectl before 1.24 names itself otherwise as the owner of fields");
            return;
        }
        let first = kubectl.ok(&APPLY, MANIFEST).await;
        assert_eq!(first.matches("serverside-applied").count(), 3, "{first}");
        let before = kubectl.cluster.store.revision();
        kubectl.ok(&APPLY, MANIFEST).await;
        assert_eq!(kubectl.cluster.store.revision(), before);
        assert_eq!(managers(&claim(kubectl).await), ["kubectl Apply"]);
        let hidden = kubectl.ok(&["get", "pvc", "data", "-o", "yaml"], "").await;
        assert!(!hidden.contains("managedFields"), "{hidden}");

        let changed = MANIFEST.replace("app: db", "app: web");
        let diff = kubectl.output(&["diff", "--server-side", "-f", "-"], &changed).await;
        let text = String::from_utf8_lossy(&diff.stdout).into_owned();
        assert_eq!(diff.status.code(), Some(1), "{text}{}", String::from_utf8_lossy(&diff.stderr));
        assert!(text.contains("-    app: db") && text.contains("+    app: web"), "{text}");
        let diff = kubectl.output(&["diff", "--server-side", "-f", "-"], MANIFEST).await;
        assert!(diff.status.success(), "{}", String::from_utf8_lossy(&diff.stdout));

        kubectl.ok(&["label", "pvc", "data", "app=other", "--overwrite"], "").await;
        assert_eq!(managers(&claim(kubectl).await), ["kubectl Apply", "kubectl-label Update"]);
        let error = kubectl.fails(&APPLY, MANIFEST).await;
        let conflict = r#"error: Apply failed with 1 conflict: conflict with "kubectl-label" using v1: .metadata.labels.app"#;
        assert!(error.starts_with(conflict), "{error}");
        assert!(error.contains("--force-conflicts"), "{error}");
        let two = MANIFEST.replace("image: busybox", "image: other").replace("provisioner: csi", "provisioner: x");
        let mut other = APPLY.to_vec();
        other.push("--field-manager=ci");
        let error = kubectl.fails(&other, &two).await;
        assert!(
            error.contains(r#"conflict with "kubectl": .spec.containers[name="main"].image"#)
                && error.contains(r#"conflict with "kubectl": .provisioner"#),
            "{error}"
        );
        let mut forced = APPLY.to_vec();
        forced.push("--force-conflicts");
        kubectl.ok(&forced, MANIFEST).await;
        let claim = claim(kubectl).await;
        assert_eq!((&claim["metadata"]["labels"]["app"], managers(&claim)), (&json!("db"), vec!["kubectl Apply".to_owned()]));

        // What the manifest says no more goes.
        kubectl.ok(&APPLY, &MANIFEST.replace("  labels:\n    app: db\n", "")).await;
        let path = format!("{CLAIMS}/data");
        assert!(kubectl.cluster.get(&path).await.expect(200)["metadata"]["labels"].is_null());
        let mut dry = APPLY.to_vec();
        dry.push("--dry-run=server");
        assert!(kubectl.ok(&dry, &changed).await.contains("serverside-applied (server dry run)"));
        let error = kubectl.fails(&APPLY, &MANIFEST.replace("accessModes", "accessNodes")).await;
        assert!(error.contains(".spec.accessNodes: field not declared in schema"), "{error}");
    })
    .await;
}

#[tokio::test]
async fn from_client_side_to_server_side_and_back() {
    with_each(async |kubectl| {
        if !kubectl.is_current() {
            cannot_run("kubectl before 1.24 names itself otherwise as the owner of fields");
            return;
        }
        kubectl.ok(&["apply", "-f", "-"], MANIFEST).await;
        assert_eq!(managers(&claim(kubectl).await), ["kubectl-client-side-apply Update"]);
        // Without --force-conflicts: what was applied on the client's side is kubectl's own.
        kubectl.ok(&APPLY, &MANIFEST.replace("app: db", "app: web")).await;
        let moved = claim(kubectl).await;
        // kubectl sends two requests; in which order they are listed depends on the second of each.
        let mut found = managers(&moved);
        found.sort();
        assert_eq!(found, ["kubectl Apply", "kubectl-last-applied Apply"], "{moved:#}");
        let last = &moved["metadata"]["annotations"]["kubectl.kubernetes.io/last-applied-configuration"];
        assert!(last.as_str().unwrap().contains(r#""app":"web""#), "{last}");
        // It owns all of it now: what is left out goes.
        kubectl.ok(&APPLY, &MANIFEST.replace("  labels:\n    app: db\n", "")).await;
        assert!(claim(kubectl).await["metadata"]["labels"].is_null());
        // And back: the client finds in the annotation what the server was told.
        let back = kubectl.ok(&["apply", "-f", "-"], MANIFEST).await;
        assert!(back.contains("persistentvolumeclaim/data configured"), "{back}");
        assert_eq!(claim(kubectl).await["metadata"]["labels"]["app"], "db");
    })
    .await;
}
