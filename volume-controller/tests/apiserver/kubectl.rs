//! The kubectl binaries that the machine has, old and new.

use std::path::Path;
use std::process::{Output, Stdio};
use std::time::Duration;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::Command;

use super::harness::{Cluster, PATIENCE};

const BINARIES: &str = "/usr/bin/kubectl:/opt/kc120/usr/bin/kubectl";
/// Other binaries to use instead, separated by colons.
const OTHERS: &str = "HOLDFAST_KUBECTL";

pub(crate) struct Kubectl<'a> {
    pub(crate) binary: String,
    /// 36 of 1.36.
    pub(crate) minor: u32,
    pub(crate) cluster: &'a Cluster,
}

impl Kubectl<'_> {
    /// Whether it is of the last years: 1.20 lacks what these tests ask of the others.
    pub(crate) fn is_current(&self) -> bool {
        self.minor >= 24
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.binary);
        let home = self.cluster.folder.path();
        command
            .arg("--kubeconfig")
            .arg(&self.cluster.kubeconfig)
            .args(arguments)
            .env("LC_ALL", "C")
            .env("HOME", home)
            // What edits is a file of some objects.
            .env("KUBE_EDITOR", "sed -i s/labelled/edited/")
            .env_remove("KUBECONFIG")
            .kill_on_drop(true)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub(crate) async fn output(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = self.command(arguments);
        command.stdin(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut stdin = child.stdin.take().unwrap();
        // One that fails early does not read all.
        let _ = stdin.write_all(input.as_bytes()).await;
        drop(stdin);
        let output = tokio::time::timeout(PATIENCE * 3, child.wait_with_output());
        output.await.unwrap_or_else(|_| panic!("{} {arguments:?} hangs", self.binary)).unwrap()
    }

    /// What it prints; it must succeed.
    pub(crate) async fn ok(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input).await;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{} {arguments:?}\n{out}{err}", self.binary);
        out
    }

    /// What it complains about; it must fail.
    pub(crate) async fn fails(&self, arguments: &[&str], input: &str) -> String {
        let output = self.output(arguments, input).await;
        assert!(!output.status.success(), "{} {arguments:?} succeeded", self.binary);
        String::from_utf8_lossy(&output.stderr).into_owned()
    }
}

/// Runs a test with each kubectl there is, each against a cluster of its own.
pub(crate) async fn with_each(test: impl AsyncFn(&Kubectl<'_>)) {
    let mut found = 0;
    for binary in std::env::var(OTHERS).as_deref().unwrap_or(BINARIES).split(':') {
        if !Path::new(binary).exists() {
            println!("NOT RUN with {binary}: it is not installed (Debian's kubernetes-client)");
            continue;
        }
        found += 1;
        let cluster = Cluster::start().await;
        let mut kubectl = Kubectl { binary: binary.to_owned(), minor: 0, cluster: &cluster };
        let version = kubectl.ok(&["version", "--client", "-o", "json"], "").await;
        let version: serde_json::Value = serde_json::from_str(&version).unwrap();
        // Some write `28+`.
        let minor = version["clientVersion"]["minor"].as_str().unwrap();
        kubectl.minor = minor.trim_end_matches('+').parse().unwrap();
        test(&kubectl).await;
        cluster.stop().await;
    }
    if found == 0 {
        println!("NOT RUN: no kubectl on this machine");
    }
}

pub(crate) const MANIFEST: &str = "
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata:
  name: fast
provisioner: csi.holdfast.dev
allowVolumeExpansion: true
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: data
  labels:
    app: db
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: fast
  resources:
    requests:
      storage: 1Gi
---
apiVersion: v1
kind: Pod
metadata:
  name: db
spec:
  containers:
  - name: main
    image: busybox
    volumeMounts:
    - name: data
      mountPath: /data
  volumes:
  - name: data
    persistentVolumeClaim:
      claimName: data
";

#[tokio::test]
async fn apply_get_describe_delete() {
    with_each(async |kubectl| {
        let created = kubectl.ok(&["apply", "-f", "-"], MANIFEST).await;
        for line in [
            "storageclass.storage.k8s.io/fast created",
            "persistentvolumeclaim/data created",
            "pod/db created",
        ] {
            assert!(created.contains(line), "{created}");
        }
        let again = kubectl.ok(&["apply", "-f", "-"], MANIFEST).await;
        assert_eq!(again.matches("unchanged").count(), 3, "{again}");
        let changed = MANIFEST.replace("app: db", "app: web");
        let diff = kubectl.output(&["diff", "-f", "-"], &changed).await;
        let text = String::from_utf8_lossy(&diff.stdout).into_owned();
        assert_eq!(diff.status.code(), Some(1), "{text}{}", String::from_utf8_lossy(&diff.stderr));
        assert!(text.contains("-    app: db") && text.contains("+    app: web"), "{text}");
        let configured = kubectl.ok(&["apply", "-f", "-"], &changed).await;
        assert!(configured.contains("persistentvolumeclaim/data configured"), "{configured}");

        let table = kubectl.ok(&["get", "pvc"], "").await;
        let mut lines = table.lines();
        let header = lines.next().unwrap();
        assert!(header.starts_with("NAME") && header.contains("STORAGECLASS"), "{table}");
        assert!(lines.next().unwrap().contains("Pending"), "{table}");
        assert!(kubectl.ok(&["get", "pvc", "-o", "wide"], "").await.contains("VOLUMEMODE"));
        assert!(kubectl.ok(&["get", "sc"], "").await.contains("csi.holdfast.dev"));
        let all = kubectl.ok(&["get", "sc,pv,pvc,pods,volumeattachments,csinodes,events"], "").await;
        assert!(all.contains("storageclass.storage.k8s.io/fast") && all.contains("pod/db"), "{all}");
        let labelled = kubectl.ok(&["get", "pvc", "-l", "app=web", "-o", "name"], "").await;
        assert_eq!(labelled, "persistentvolumeclaim/data\n");
        let path = kubectl.ok(&["get", "pvc", "data", "-o", "jsonpath={.spec.storageClassName}"], "").await;
        assert_eq!(path, "fast");
        let yaml = kubectl.ok(&["get", "pvc", "data", "-o", "yaml"], "").await;
        assert!(yaml.contains("kind: PersistentVolumeClaim"), "{yaml}");
        for (kind, expected) in
            [("pvc/data", "StorageClass:  fast"), ("sc/fast", "Provisioner:"), ("pod/db", "ClaimName:")]
        {
            let text = kubectl.ok(&["describe", kind], "").await;
            assert!(text.contains(expected), "{text}");
        }
        kubectl.ok(&["label", "pvc", "data", "tier=gold"], "").await;
        kubectl.ok(&["annotate", "pvc", "data", "x=y"], "").await;
        kubectl.ok(&["patch", "pvc", "data", "-p", r#"{"metadata":{"labels":{"tier":null}}}"#], "").await;
        let gone = kubectl.ok(&["delete", "pod", "db"], "").await;
        assert!(gone.contains(r#"pod "db" deleted"#), "{gone}");
        kubectl.ok(&["delete", "pvc", "data", "--wait=false"], "").await;
        kubectl
            .ok(&["patch", "pvc", "data", "--type=merge", "-p", r#"{"metadata":{"finalizers":null}}"#], "")
            .await;
        if kubectl.is_current() {
            // The old one calls it an error when everything is gone already.
            kubectl.ok(&["wait", "--for=delete", "pvc/data", "--timeout=20s"], "").await;
        }
        kubectl.ok(&["delete", "-f", "-", "--ignore-not-found"], MANIFEST).await;
    })
    .await;
}

#[tokio::test]
async fn what_goes_wrong_is_one_clear_line() {
    with_each(async |kubectl| {
        kubectl.ok(&["apply", "-f", "-"], MANIFEST).await;
        let error = kubectl.fails(&["get", "pvc", "none"], "").await;
        assert_eq!(error.trim(), r#"Error from server (NotFound): persistentvolumeclaims "none" not found"#);
        let error = kubectl.fails(&["create", "-f", "-"], MANIFEST).await;
        assert!(error.contains(r#"storageclasses.storage.k8s.io "fast" already exists"#), "{error}");
        let unknown = MANIFEST
            .replace("storageClassName", "storageKlassName")
            .replace("name: data\n  labels", "name: other\n  labels");
        let error = kubectl.fails(&["apply", "-f", "-"], &unknown).await;
        assert!(error.contains("storageKlassName"), "{error}");
        let zero = MANIFEST
            .replace("storage: 1Gi", "storage: \"0\"")
            .replace("name: data\n  labels", "name: other\n  labels");
        let error = kubectl.fails(&["apply", "-f", "-"], &zero).await;
        assert!(error.contains(r#"PersistentVolumeClaim "other" is invalid: spec.resources"#), "{error}");
        let error = kubectl.fails(&["apply", "-n", "nowhere", "-f", "-"], MANIFEST).await;
        assert!(error.contains(r#"namespaces "nowhere" not found"#), "{error}");
    })
    .await;
}

#[tokio::test]
async fn explain_and_resources() {
    with_each(async |kubectl| {
        let resources = kubectl.ok(&["api-resources"], "").await;
        for expected in ["persistentvolumeclaims", "storageclasses", "volumeattachments"] {
            assert!(resources.contains(expected), "{resources}");
        }
        assert!(kubectl.ok(&["api-versions"], "").await.contains("storage.k8s.io/v1"));
        let text = kubectl.ok(&["explain", "pvc.spec"], "").await;
        assert!(text.contains("accessModes"), "{text}");
        // Also what is answered and not stored.
        for (review, field) in [
            ("selfsubjectreviews", "userInfo"),
            ("tokenreviews", "audiences"),
            ("localsubjectaccessreviews", "resourceAttributes"),
            ("selfsubjectaccessreviews", "nonResourceAttributes"),
            ("selfsubjectrulesreviews", "incomplete"),
            ("subjectaccessreviews", "evaluationError"),
        ] {
            let text = kubectl.ok(&["explain", "--recursive", review], "").await;
            assert!(text.contains(field), "{review}: {text}");
        }
        assert!(kubectl.ok(&["version"], "").await.contains("holdfast"));
        assert_eq!(kubectl.ok(&["auth", "can-i", "create", "pvc"], "").await.trim(), "yes");
    })
    .await;
}

#[tokio::test]
async fn objects_without_manifests() {
    with_each(async |kubectl| {
        kubectl.ok(&["create", "namespace", "dev"], "").await;
        kubectl.ok(&["-n", "dev", "create", "configmap", "settings", "--from-literal=a=b"], "").await;
        kubectl.ok(&["-n", "dev", "create", "secret", "generic", "key", "--from-literal=a=b"], "").await;
        kubectl.ok(&["-n", "dev", "create", "serviceaccount", "robot"], "").await;
        kubectl.ok(&["-n", "dev", "run", "one", "--image=busybox"], "").await;
        let all = kubectl
            .ok(&["-n", "dev", "get", "configmaps,secrets,serviceaccounts,pods", "-o", "name"], "")
            .await;
        for expected in ["configmap/settings", "secret/key", "serviceaccount/robot", "pod/one"] {
            assert!(all.contains(expected), "{all}");
        }
    })
    .await;
}

#[tokio::test]
async fn watching_prints_changes() {
    with_each(async |kubectl| {
        kubectl.ok(&["apply", "-f", "-"], MANIFEST).await;
        let mut watch = kubectl.command(&["get", "pvc", "-w"]).spawn().unwrap();
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        let mut next = async || {
            tokio::time::timeout(PATIENCE, lines.next_line())
                .await
                .expect("nothing printed")
                .unwrap()
                .unwrap()
        };
        assert!(next().await.starts_with("NAME"));
        assert!(next().await.contains("Pending"));
        let status = r#"{"status":{"phase":"Bound"}}"#;
        let path = format!("{}/data/status", super::harness::CLAIMS);
        kubectl.cluster.merge(&path, &serde_json::from_str(status).unwrap()).await.expect(200);
        assert!(next().await.contains("Bound"));
        watch.kill().await.unwrap();
        let wait = ["wait", "pvc/data", "--for=jsonpath={.status.phase}=Bound", "--timeout=20s"];
        if kubectl.is_current() {
            kubectl.ok(&wait, "").await;
        }
    })
    .await;
}

#[tokio::test]
async fn deletion_waits_for_the_end() {
    with_each(async |kubectl| {
        kubectl.ok(&["apply", "-f", "-"], MANIFEST).await;
        let mut deletion = kubectl.command(&["delete", "pvc", "data", "--timeout=20s"]).spawn().unwrap();
        let path = format!("{}/data", super::harness::CLAIMS);
        while kubectl.cluster.get(&path).await.expect(200)["metadata"]["deletionTimestamp"].is_null() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(deletion.try_wait().unwrap().is_none(), "it did not wait for the finalizer");
        kubectl
            .cluster
            .merge(&path, &serde_json::json!({"metadata": {"finalizers": null}}))
            .await
            .expect(200);
        assert!(tokio::time::timeout(PATIENCE, deletion.wait()).await.unwrap().unwrap().success());
    })
    .await;
}
