//! A server of one's own for each test, and a plain way to ask it.

use std::path::PathBuf;
use std::time::Duration;

use holdfast_volume_controller::apiserver::{self, Server};
use holdfast_volume_controller::store::{self, Store};
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt;
use kube::Client;
use kube::client::Body;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

/// How long anything may take before a test fails.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) const PODS: &str = "/api/v1/namespaces/default/pods";
pub(crate) const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
pub(crate) const MAPS: &str = "/api/v1/namespaces/default/configmaps";
pub(crate) const CLASSES: &str = "/apis/storage.k8s.io/v1/storageclasses";

pub(crate) struct Cluster {
    pub(crate) client: Client,
    pub(crate) store: Store,
    pub(crate) kubeconfig: PathBuf,
    pub(crate) stop: CancellationToken,
    pub(crate) server: Server,
    pub(crate) folder: TempDir,
}

pub(crate) struct Answer {
    pub(crate) code: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) bytes: Vec<u8>,
    /// The bytes as text, where they are text.
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    /// The object, which must have been answered with this code.
    #[track_caller]
    pub(crate) fn expect(&self, code: u16) -> Value {
        assert_eq!(self.code, code, "{}", self.text);
        self.json()
    }

    /// The message of a refusal with this code and reason.
    #[track_caller]
    pub(crate) fn refused(&self, code: u16, reason: &str) -> String {
        let status = self.expect(code);
        assert_eq!(status["kind"], "Status");
        assert_eq!(status["status"], "Failure");
        assert_eq!(status["code"], code);
        assert_eq!(status["reason"], reason, "{status}");
        status["message"].as_str().unwrap().to_owned()
    }
}

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), |_| {}).await
    }

    /// A server on a store whose limits are changed first.
    pub(crate) async fn start_with(change: impl FnOnce(&mut store::Config)) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), change).await
    }

    pub(crate) async fn start_in(folder: TempDir, change: impl FnOnce(&mut store::Config)) -> Self {
        Self::start_as(folder, change, |_| {}).await
    }

    /// A server whose own settings are changed as well.
    pub(crate) async fn start_as(
        folder: TempDir,
        change: impl FnOnce(&mut store::Config),
        set: impl FnOnce(&mut apiserver::Config),
    ) -> Self {
        let mut limits = store::Config::new(folder.path().join("state.db"));
        limits.progress = Duration::from_millis(20);
        change(&mut limits);
        let store = Store::open(limits).await.unwrap();
        let mut config = apiserver::Config::new(store.clone(), folder.path());
        config.bookmark_interval = Duration::from_millis(50);
        set(&mut config);
        let stop = CancellationToken::new();
        let server = apiserver::serve(config, stop.clone()).await.unwrap();
        let kubeconfig = server.kubeconfig.clone();
        let config = Kubeconfig::read_from(&kubeconfig).unwrap();
        let mut config =
            kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await.unwrap();
        // A refusal is what was asked for.
        config.default_retry = false;
        let client = Client::try_from(config).unwrap();
        Self { client, store, kubeconfig, stop, server, folder }
    }

    /// Stops everything; the folder stays.
    pub(crate) async fn stop(self) -> TempDir {
        self.stop.cancel();
        tokio::time::timeout(PATIENCE, self.server.stopped()).await.expect("the server did not stop");
        self.store.close().await;
        self.folder
    }

    /// Asks with headers and bytes of one's own.
    pub(crate) async fn raw(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::from(body.into())).unwrap();
        let sent = tokio::time::timeout(PATIENCE, self.client.send(request));
        let response = sent.await.expect("no answer in time").unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        Answer {
            code: parts.status.as_u16(),
            headers: parts.headers,
            text: String::from_utf8_lossy(&bytes).into_owned(),
            bytes: bytes.to_vec(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.raw(Method::GET, path, &[], "").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.raw(Method::DELETE, path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.raw(Method::POST, path, &[("content-type", "application/json")], body.to_string()).await
    }

    pub(crate) async fn put(&self, path: &str, body: &Value) -> Answer {
        self.raw(Method::PUT, path, &[("content-type", "application/json")], body.to_string()).await
    }

    /// A merge patch.
    pub(crate) async fn merge(&self, path: &str, body: &Value) -> Answer {
        let media = [("content-type", "application/merge-patch+json")];
        self.raw(Method::PATCH, path, &media, body.to_string()).await
    }
}

pub(crate) fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

pub(crate) fn claim(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    })
}

pub(crate) fn class(name: &str) -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {"name": name},
        "provisioner": "csi.holdfast.dev",
    })
}

pub(crate) fn pod(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {"containers": [{"name": "main", "image": "busybox"}]},
    })
}
