//! The whole way of a plugin over real sockets: found, asked, written into the API, told, and
//! taken out when its socket goes.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use holdfast_proto::registration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
    registration_server::{Registration, RegistrationServer},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{
    net::UnixListener,
    sync::{mpsc, watch},
    time::timeout,
};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status};

use crate::{
    Config,
    layout::Layout,
    plugins::{self, Drivers},
    test_api::{self, Objects},
    volumes::tests::recording_driver::RecordingDriver,
};

const DRIVER: &str = "d.example";

/// A registrar as sidecars run it.
struct Plugin {
    info: PluginInfo,
    told: mpsc::UnboundedSender<RegistrationStatus>,
}

#[tonic::async_trait]
impl Registration for Plugin {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(self.info.clone()))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let _ = self.told.send(request.into_inner());
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}

struct Place {
    folder: TempDir,
    objects: Objects,
    drivers: Drivers,
    identity: watch::Sender<Option<String>>,
    told: mpsc::UnboundedReceiver<RegistrationStatus>,
    tell: mpsc::UnboundedSender<RegistrationStatus>,
    cancel: CancellationToken,
    agent: Option<tokio::task::JoinHandle<Result<(), crate::Error>>>,
}

impl Place {
    /// `before` runs before the agent starts.
    fn new(before: impl FnOnce(&Self)) -> Self {
        let objects: Objects = Arc::new(Mutex::new(Default::default()));
        let node = json!({"metadata": {"name": "n1", "uid": "u1", "resourceVersion": "1", "labels": {}}});
        objects.lock().unwrap().insert("/api/v1/nodes/n1".to_owned(), node);
        let (tell, told) = mpsc::unbounded_channel();
        let mut place = Self {
            folder: tempfile::tempdir().unwrap(),
            objects,
            drivers: Drivers::new(),
            identity: watch::channel(Some("u1".to_owned())).0,
            told,
            tell,
            cancel: CancellationToken::new(),
            agent: None,
        };
        let root = place.folder.path().join("kubelet");
        let layout = Arc::new(Layout::prepare(&root).unwrap());
        before(&place);
        let mut config = Config::new(test_api::client(&place.objects), "n1", root);
        // Long: what these tests see must come from notifications.
        config.rescan_interval = Duration::from_secs(3600);
        let (drivers, identity, cancel) =
            (place.drivers.clone(), place.identity.subscribe(), place.cancel.clone());
        place.agent = Some(tokio::spawn(plugins::run(Arc::new(config), layout, drivers, identity, cancel)));
        place
    }

    fn socket(&self) -> std::path::PathBuf {
        self.folder.path().join("kubelet/plugins_registry/d.example-reg.sock")
    }

    fn driver(&self) -> RecordingDriver {
        RecordingDriver::serve(&self.folder.path().join("csi.sock"), Path::new("/"))
    }

    fn plugin(&self, versions: &[&str]) {
        let info = PluginInfo {
            r#type: "CSIPlugin".into(),
            name: DRIVER.into(),
            endpoint: self.folder.path().join("csi.sock").to_string_lossy().into_owned(),
            supported_versions: versions.iter().map(|&v| v.to_owned()).collect(),
        };
        let listener = UnixListenerStream::new(UnixListener::bind(self.socket()).unwrap());
        let service = RegistrationServer::new(Plugin { info, told: self.tell.clone() });
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(listener));
    }

    async fn told(&mut self) -> RegistrationStatus {
        timeout(Duration::from_secs(20), self.told.recv()).await.unwrap().unwrap()
    }

    fn object(&self, path: &str) -> Value {
        self.objects.lock().unwrap().get(path).cloned().unwrap_or_default()
    }

    fn csinode(&self) -> Value {
        self.object("/apis/storage.k8s.io/v1/csinodes/n1")
    }

    async fn until(&self, what: &str, done: impl Fn() -> bool) {
        let wait = async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        assert!(timeout(Duration::from_secs(20), wait).await.is_ok(), "never: {what}; {}", self.csinode());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_comes_and_goes() {
    let mut place = Place::new(|_| {});
    place.driver();
    place.plugin(&["1.0.0"]);
    let status = place.told().await;
    assert!(status.plugin_registered, "{}", status.error);
    let driver = &place.csinode()["spec"]["drivers"][0];
    assert_eq!(
        *driver,
        json!({"name": DRIVER, "nodeID": "node-id", "topologyKeys": ["zone"], "allocatable": {"count": 3}})
    );
    assert_eq!(place.csinode()["metadata"]["ownerReferences"][0]["uid"], "u1");
    assert_eq!(place.object("/api/v1/nodes/n1")["metadata"]["labels"]["zone"], "a");
    assert!(place.drivers.get(DRIVER).is_some_and(|d| d.capabilities.stage && d.capabilities.expand));

    // The Node is made anew: CSINode is written for the new one.
    place.objects.lock().unwrap().remove("/apis/storage.k8s.io/v1/csinodes/n1");
    place.identity.send(Some("u2".to_owned())).unwrap();
    assert!(place.told().await.plugin_registered);
    assert_eq!(place.csinode()["metadata"]["ownerReferences"][0]["uid"], "u2");

    // The socket is made anew: it is asked again.
    std::fs::remove_file(place.socket()).unwrap();
    place.plugin(&["1.0.0"]);
    assert!(place.told().await.plugin_registered);

    std::fs::remove_file(place.socket()).unwrap();
    place.until("the driver is gone from CSINode", || place.csinode()["spec"]["drivers"] == json!([])).await;
    assert!(place.drivers.get(DRIVER).is_none());
    place.cancel.cancel();
    place.agent.take().unwrap().await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_plugin_that_was_there_first_and_one_that_is_refused() {
    let mut place = Place::new(|place| {
        place.driver();
        place.plugin(&["2.0.0"]);
    });
    let status = place.told().await;
    assert!(!status.plugin_registered && status.error.contains("2.0.0"), "{}", status.error);
    assert_eq!(place.csinode(), Value::Null);
    std::fs::remove_file(place.socket()).unwrap();
    place.plugin(&["1.12.0"]);
    assert!(place.told().await.plugin_registered);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_topology_that_contradicts_the_node_is_refused() {
    let mut place = Place::new(|place| {
        let mut objects = place.objects.lock().unwrap();
        objects.get_mut("/api/v1/nodes/n1").unwrap()["metadata"]["labels"]["zone"] = json!("b");
    });
    place.driver();
    place.plugin(&["1.0.0"]);
    let status = place.told().await;
    assert!(!status.plugin_registered && status.error.contains("zone"), "{}", status.error);
    assert!(place.drivers.get(DRIVER).is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_that_nobody_answers_is_asked_again_when_it_is_made_anew() {
    let mut place = Place::new(|_| {});
    place.driver();
    // What a killed driver leaves: the file is there, nobody answers.
    drop(std::os::unix::net::UnixListener::bind(place.socket()).unwrap());
    place.objects.lock().unwrap().insert(
        "/apis/storage.k8s.io/v1/csinodes/n1".to_owned(),
        json!({"metadata": {"name": "n1", "resourceVersion": "1"}, "spec": {"drivers": [{"name": DRIVER, "nodeID": "x"}]}}),
    );
    std::fs::remove_file(place.socket()).unwrap();
    place.plugin(&["1.0.0"]);
    assert!(place.told().await.plugin_registered, "it comes back under the same name");
    assert_eq!(place.csinode()["spec"]["drivers"][0]["nodeID"], "node-id");
}
