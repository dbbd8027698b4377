//! Secrets reach no log line and no error.

use std::{
    io,
    sync::{Arc, LazyLock},
};

use holdfast_proto::csi;
use parking_lot::Mutex;
use tracing_subscriber::fmt::MakeWriter;

use crate::harness::{Driver, MIB, NODE, mounted, needs, parameters, volume};

/// Everything that this process logs from here on, at every level.
#[derive(Debug, Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

static LOG: LazyLock<Log> = LazyLock::new(|| {
    let log = Log::default();
    tracing_subscriber::fmt().with_max_level(tracing::Level::TRACE).with_writer(log.clone()).init();
    log
});

impl io::Write for Log {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.0.lock().extend_from_slice(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

const SECRET: &str = "hunter2-correct-horse";

/// Every call that carries secrets, once where it works and once where it fails.
#[tokio::test(flavor = "multi_thread")]
async fn are_never_printed() {
    needs!();
    let log = LOG.clone();
    let mut driver = Driver::image().await;
    let secrets = || parameters(&[("password", SECRET), (SECRET, "as a key")]);
    let capability = mounted("ext4");
    let mut messages = Vec::new();
    let mut keep = |message: Option<tonic::Status>| messages.extend(message.map(|status| status.to_string()));
    for (name, id, works) in [("v", "default.v", true), ("", "default.absent", false)] {
        let create = csi::CreateVolumeRequest { secrets: secrets(), ..volume(name, 64 * MIB, &capability) };
        keep(driver.create(create).await.err());
        let attach = csi::ControllerPublishVolumeRequest {
            volume_id: id.to_owned(),
            node_id: NODE.to_owned(),
            volume_capability: Some(capability.clone()),
            secrets: secrets(),
            ..Default::default()
        };
        keep(driver.controller.controller_publish_volume(attach).await.err());
        let validate = csi::ValidateVolumeCapabilitiesRequest {
            volume_id: id.to_owned(),
            volume_capabilities: vec![capability.clone()],
            secrets: secrets(),
            ..Default::default()
        };
        keep(driver.controller.validate_volume_capabilities(validate).await.err());
        let expand = csi::ControllerExpandVolumeRequest {
            volume_id: id.to_owned(),
            capacity_range: Some(csi::CapacityRange { required_bytes: 96 * MIB, limit_bytes: 0 }),
            secrets: secrets(),
            ..Default::default()
        };
        keep(driver.controller.controller_expand_volume(expand).await.err());
        std::fs::create_dir_all(driver.staging(id)).unwrap();
        let stage = csi::NodeStageVolumeRequest {
            volume_id: id.to_owned(),
            staging_target_path: driver.staging(id),
            volume_capability: Some(capability.clone()),
            secrets: secrets(),
            ..Default::default()
        };
        keep(driver.node.node_stage_volume(stage).await.err());
        let publish = csi::NodePublishVolumeRequest {
            secrets: secrets(),
            ..driver.publish_request(id, "pod", &capability)
        };
        keep(driver.node.node_publish_volume(publish).await.err());
        let grow = csi::NodeExpandVolumeRequest {
            volume_id: id.to_owned(),
            volume_path: driver.path("absent"),
            secrets: secrets(),
            ..Default::default()
        };
        keep(driver.node.node_expand_volume(grow).await.err());
        let modify = csi::ControllerModifyVolumeRequest {
            volume_id: id.to_owned(),
            secrets: secrets(),
            mutable_parameters: parameters(&[("nonsense", "1")]),
        };
        keep(driver.controller.controller_modify_volume(modify).await.err());
        let snapshot = csi::CreateSnapshotRequest {
            source_volume_id: id.to_owned(),
            name: String::new(),
            secrets: secrets(),
            ..Default::default()
        };
        keep(driver.controller.create_snapshot(snapshot).await.err());
        let list = csi::ListSnapshotsRequest {
            snapshot_id: "absent".to_owned(),
            secrets: secrets(),
            ..Default::default()
        };
        keep(driver.controller.list_snapshots(list).await.err());
        let delete_snapshot = csi::DeleteSnapshotRequest { snapshot_id: String::new(), secrets: secrets() };
        keep(driver.controller.delete_snapshot(delete_snapshot).await.err());
        let detach = csi::ControllerUnpublishVolumeRequest {
            volume_id: id.to_owned(),
            node_id: NODE.to_owned(),
            secrets: secrets(),
        };
        if works {
            driver.unpublish(id, "pod").await.unwrap();
            driver.unstage(id).await.unwrap();
        }
        keep(driver.controller.controller_unpublish_volume(detach).await.err());
        let delete = csi::DeleteVolumeRequest { volume_id: id.to_owned(), secrets: secrets() };
        keep(driver.controller.delete_volume(delete).await.err());
    }
    driver.assert_nothing_left("pool").await;
    driver.end().await;
    assert!(messages.len() >= 8, "{messages:#?}");
    assert!(!messages.concat().contains(SECRET), "{messages:#?}");
    let log = String::from_utf8_lossy(&log.0.lock()).into_owned();
    for said in ["created", "published", "failed", "deleted"] {
        assert!(log.contains(said), "the log was not caught: it has no {said:?}");
    }
    let told: Vec<&str> = log.lines().filter(|line| line.contains(SECRET)).take(5).collect();
    assert!(told.is_empty(), "{told:#?}");
}
