//! Volumes that nobody attaches: `attach = "none"`.

use std::fs;

use holdfast_csi_driver::{Attach, Config, PoolConfig};
use holdfast_proto::csi::{
    self, controller_service_capability, controller_service_capability::rpc,
    volume_capability::access_mode::Mode,
};
use tonic::Code;

use crate::harness::{Driver, MIB, NODE, Scratch, assert_code, block, mounted, needs, volume};

async fn without_attach() -> Driver {
    let scratch = Scratch::new();
    let pool = PoolConfig::image("default", scratch.path().join("pool"));
    let mut config = Config::new(NODE, scratch.path().join("csi.sock"), vec![pool]);
    config.attach = Attach::None;
    Driver::start(scratch, config).await
}

impl Driver {
    async fn declares(&mut self, wanted: rpc::Type) -> bool {
        let request = csi::ControllerGetCapabilitiesRequest::default();
        let declared = self.controller.controller_get_capabilities(request).await.unwrap().into_inner();
        declared.capabilities.iter().any(|capability| match &capability.r#type {
            Some(controller_service_capability::Type::Rpc(rpc)) => rpc.r#type() == wanted,
            None => false,
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_whole_life_without_it() {
    needs!();
    let mut driver = without_attach().await;
    for undeclared in [rpc::Type::PublishUnpublishVolume, rpc::Type::ListVolumesPublishedNodes] {
        assert!(!driver.declares(undeclared).await, "{undeclared:?}");
    }
    for capability in [mounted(""), block(Mode::SingleNodeMultiWriter)] {
        let id = driver.create(volume("v", 16 * MIB, &capability)).await.unwrap().volume_id;
        assert_code(driver.attach(&id, &capability).await, Code::Unimplemented, "PUBLISH_UNPUBLISH_VOLUME");
        assert_code(driver.detach(&id).await, Code::Unimplemented, "PUBLISH_UNPUBLISH_VOLUME");
        driver.stage(&id, &capability).await.unwrap();
        driver.publish(&id, "pod", &capability).await.unwrap();
        // Nobody says that it is attached: what is in use is seen all the same.
        assert_code(driver.delete(&id).await, Code::FailedPrecondition, "still mounted or attached");
        driver.restart().await;
        assert_code(driver.delete(&id).await, Code::FailedPrecondition, "still mounted or attached");
        driver.unpublish(&id, "pod").await.unwrap();
        assert_code(driver.delete(&id).await, Code::FailedPrecondition, "still mounted or attached");
        driver.unstage(&id).await.unwrap();
        driver.delete(&id).await.unwrap();
    }
    driver.assert_nothing_left("pool").await;
    driver.end().await;
}

/// The setting can change between two starts, with volumes attached and staged.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_attached_before_does_not_hold_a_volume() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted("");
    let id = driver.bring_up("v", 16 * MIB, &capability, "pod").await;
    fs::write(driver.path("pod/file"), "kept").unwrap();
    driver.config.attach = Attach::None;
    driver.restart().await;
    driver.stage(&id, &capability).await.unwrap();
    driver.publish(&id, "pod", &capability).await.unwrap();
    assert_eq!(fs::read_to_string(driver.path("pod/file")).unwrap(), "kept");
    let listed =
        driver.controller.list_volumes(csi::ListVolumesRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.entries[0].status.clone().unwrap().published_node_ids, Vec::<String>::new());
    driver.unpublish(&id, "pod").await.unwrap();
    driver.unstage(&id).await.unwrap();

    driver.config.attach = Attach::Required;
    driver.restart().await;
    assert!(driver.declares(rpc::Type::PublishUnpublishVolume).await);
    assert_code(driver.delete(&id).await, Code::FailedPrecondition, "still published to node");
    driver.config.attach = Attach::None;
    driver.restart().await;
    driver.delete(&id).await.unwrap();
    driver.assert_nothing_left("pool").await;
    driver.end().await;
}
