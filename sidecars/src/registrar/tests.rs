use std::sync::Arc;

use holdfast_proto::registration::{
    InfoRequest, RegistrationStatus, registration_client::RegistrationClient,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint};

use super::*;

struct Bench {
    _folder: tempfile::TempDir,
    socket: PathBuf,
    cancel: CancellationToken,
    task: tokio::task::JoinHandle<Result<(), RegistrarError>>,
}

fn start() -> Bench {
    let folder = tempfile::tempdir().expect("a folder");
    let announcement = Announcement {
        driver: "d.example.com".to_owned(),
        endpoint: PathBuf::from("/run/csi.sock"),
        folder: folder.path().join("plugins_registry"),
    };
    let socket = announcement.socket();
    let cancel = CancellationToken::new();
    let backoff = Backoff::with_random(Duration::from_millis(5), Duration::from_millis(5), || 0.0);
    let task = tokio::spawn(run(announcement, backoff, cancel.clone()));
    Bench { _folder: folder, socket, cancel, task }
}

/// Waits until `met`; the test runner's own limit ends a wait in vain.
async fn until(met: impl Fn() -> bool) {
    while !met() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

impl Bench {
    async fn client(&self) -> RegistrationClient<Channel> {
        until(|| self.socket.exists()).await;
        let socket = Arc::new(self.socket.clone());
        loop {
            let socket = Arc::clone(&socket);
            let connected = Endpoint::from_static("http://localhost")
                .connect_with_connector(tower::service_fn(move |_: http::Uri| {
                    let socket = Arc::clone(&socket);
                    async move { UnixStream::connect(&*socket).await.map(TokioIo::new) }
                }))
                .await;
            match connected {
                Ok(channel) => return RegistrationClient::new(channel),
                Err(_) => tokio::time::sleep(Duration::from_millis(2)).await,
            }
        }
    }
}

#[tokio::test]
async fn a_node_agent_learns_of_the_driver_and_the_socket_goes_with_us() {
    let bench = start();
    let mut client = bench.client().await;
    let info = client.get_info(InfoRequest {}).await.expect("answers").into_inner();
    assert_eq!(info.r#type, "CSIPlugin");
    assert_eq!(info.name, "d.example.com");
    assert_eq!(info.endpoint, "/run/csi.sock");
    assert_eq!(info.supported_versions, ["1.0.0"]);
    let status = RegistrationStatus { plugin_registered: true, error: String::new() };
    client.notify_registration_status(status).await.expect("answers");
    assert!(bench.socket.exists(), "a driver that is registered stays announced");
    bench.cancel.cancel();
    bench.task.await.expect("no panic").expect("no error");
    assert!(!bench.socket.exists());
}

#[tokio::test]
async fn a_refused_driver_is_announced_again() {
    let bench = start();
    let mut client = bench.client().await;
    // A folder may give a new socket the old one's inode; the time of its making tells them apart.
    let made = || {
        let meta = std::fs::symlink_metadata(&bench.socket).ok()?;
        Some((meta.ino(), meta.mtime(), meta.mtime_nsec()))
    };
    let before = made();
    let status = RegistrationStatus { plugin_registered: false, error: "no such version".to_owned() };
    client.notify_registration_status(status).await.expect("answers");
    until(|| made().is_some_and(|now| Some(now) != before)).await;
    let mut client = bench.client().await;
    assert_eq!(client.get_info(InfoRequest {}).await.expect("answers").into_inner().name, "d.example.com");
    bench.cancel.cancel();
    bench.task.await.expect("no panic").expect("no error");
}

#[tokio::test]
async fn a_socket_that_is_removed_comes_back() {
    let bench = start();
    drop(bench.client().await);
    std::fs::remove_file(&bench.socket).expect("removed");
    until(|| bench.socket.exists()).await;
    let mut client = bench.client().await;
    assert_eq!(client.get_info(InfoRequest {}).await.expect("answers").into_inner().name, "d.example.com");
    bench.cancel.cancel();
    bench.task.await.expect("no panic").expect("no error");
}
