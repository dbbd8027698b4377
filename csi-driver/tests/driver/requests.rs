//! Wrong requests and the codes that answer them.

use holdfast_csi_driver::PoolConfig;
use holdfast_proto::csi::{
    self, Topology, TopologyRequirement, VolumeContentSource, volume_capability::access_mode::Mode,
};
use tonic::Code;

use crate::harness::{
    Driver, MIB, Scratch, assert_code, block, mounted, mounted_as, needs, parameters, volume,
};

#[tokio::test(flavor = "multi_thread")]
async fn identity() {
    needs!();
    let mut driver = Driver::image().await;
    let info = driver.identity.get_plugin_info(csi::GetPluginInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(
        (info.name.as_str(), info.vendor_version.as_str()),
        ("csi.holdfast.dev", env!("CARGO_PKG_VERSION"))
    );
    let probe = driver.identity.probe(csi::ProbeRequest {}).await.unwrap().into_inner();
    assert_eq!(probe.ready, Some(true));
    let request = csi::GetPluginCapabilitiesRequest {};
    let able = driver.identity.get_plugin_capabilities(request).await.unwrap().into_inner();
    assert_eq!(able.capabilities.len(), 3);
    let request = csi::ControllerGetCapabilitiesRequest {};
    let able = driver.controller.controller_get_capabilities(request).await.unwrap().into_inner();
    assert_eq!(able.capabilities.len(), 13);
    let able =
        driver.node.node_get_capabilities(csi::NodeGetCapabilitiesRequest {}).await.unwrap().into_inner();
    assert_eq!(able.capabilities.len(), 5);
    let node = driver.node.node_get_info(csi::NodeGetInfoRequest {}).await.unwrap().into_inner();
    assert_eq!(node.node_id, "node-1");
    assert_eq!(node.accessible_topology.unwrap().segments["topology.csi.holdfast.dev/node"], "node-1");
    let modify = csi::ControllerModifyVolumeRequest::default();
    let modified = driver.controller.controller_modify_volume(modify).await;
    assert_code(modified, Code::Unimplemented, "MODIFY_VOLUME");
}

#[tokio::test(flavor = "multi_thread")]
async fn create_volume() {
    needs!("xfs");
    let mut driver = Driver::image().await;
    let good = || volume("v", 64 * MIB, &mounted("ext4"));
    let with = |change: &dyn Fn(&mut csi::CreateVolumeRequest)| {
        let mut request = good();
        change(&mut request);
        request
    };
    let elsewhere = TopologyRequirement {
        requisite: vec![Topology { segments: parameters(&[("topology.csi.holdfast.dev/node", "other")]) }],
        preferred: Vec::new(),
    };
    let cases = [
        (with(&|r| r.name.clear()), Code::InvalidArgument, "name"),
        (with(&|r| r.name = "n".repeat(129)), Code::InvalidArgument, "128"),
        (with(&|r| r.volume_capabilities.clear()), Code::InvalidArgument, "volume_capabilities"),
        (with(&|r| r.parameters = parameters(&[("colour", "red")])), Code::InvalidArgument, "\"colour\""),
        (with(&|r| r.parameters = parameters(&[("pool", "gold")])), Code::InvalidArgument, "\"gold\""),
        (
            with(&|r| r.parameters = parameters(&[("enforceSize", "no")])),
            Code::InvalidArgument,
            "enforceSize",
        ),
        (with(&|r| r.mutable_parameters = parameters(&[("iops", "1")])), Code::InvalidArgument, "\"iops\""),
        (
            with(&|r| r.volume_content_source = Some(VolumeContentSource::default())),
            Code::InvalidArgument,
            "volume_content_source",
        ),
        (with(&|r| r.volume_capabilities = vec![mounted("ntfs")]), Code::InvalidArgument, "ntfs"),
        (
            with(&|r| r.volume_capabilities = vec![mounted_as("ext4", &[], Mode::MultiNodeMultiWriter)]),
            Code::InvalidArgument,
            "MULTI_NODE_MULTI_WRITER",
        ),
        (
            with(&|r| r.volume_capabilities.push(block(Mode::SingleNodeWriter))),
            Code::InvalidArgument,
            "different things",
        ),
        (
            with(&|r| {
                r.volume_capabilities = vec![mounted_as("ext4", &["subvol=/"], Mode::SingleNodeWriter)];
            }),
            Code::InvalidArgument,
            "subvol=/",
        ),
        (
            with(&|r| r.accessibility_requirements = Some(elsewhere.clone())),
            Code::ResourceExhausted,
            "node-1",
        ),
    ];
    for (request, code, said) in cases {
        assert_code(driver.create(request).await, code, said);
    }
    driver.assert_nothing_left("pool").await;

    driver.create(good()).await.unwrap();
    for change in [
        &|r: &mut csi::CreateVolumeRequest| r.capacity_range.as_mut().unwrap().required_bytes = 65 * MIB,
        &|r: &mut csi::CreateVolumeRequest| r.volume_capabilities = vec![mounted("xfs")],
        &|r: &mut csi::CreateVolumeRequest| r.volume_capabilities = vec![block(Mode::SingleNodeWriter)],
        &|r: &mut csi::CreateVolumeRequest| r.parameters = parameters(&[("enforceSize", "false")]),
    ] as [&dyn Fn(&mut csi::CreateVolumeRequest); 4]
    {
        assert_code(driver.create(with(change)).await, Code::AlreadyExists, "exists");
    }
    let smaller = with(&|r| r.capacity_range.as_mut().unwrap().required_bytes = MIB);
    assert_eq!(driver.create(smaller).await.unwrap().capacity_bytes, 64 * MIB, "still within the range");
}

/// A name is one volume, in whichever pool: a class that was made anew with another pool
/// must not leave a second one behind.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_in_two_pools() {
    needs!();
    let scratch = Scratch::new();
    let pools = ["first", "second"].map(|name| PoolConfig::image(name, scratch.path().join(name)));
    let mut driver = Driver::with(scratch, pools.to_vec()).await;
    let in_pool = |pool: &str| {
        let mut request = volume("v", 8 * MIB, &mounted("ext4"));
        request.parameters = parameters(&[("pool", pool)]);
        request
    };
    let made = driver.create(in_pool("first")).await.unwrap();
    assert_code(driver.create(in_pool("second")).await, Code::AlreadyExists, "\"first\"");
    driver.delete(&made.volume_id).await.unwrap();
    let made = driver.create(in_pool("second")).await.unwrap();
    driver.delete(&made.volume_id).await.unwrap();
    driver.assert_nothing_left("second").await;
}

/// Names of every kind make volumes, each its own.
#[tokio::test(flavor = "multi_thread")]
async fn strange_names() {
    needs!();
    let mut driver = Driver::image().await;
    let mut ids = std::collections::HashSet::new();
    for name in ["../../etc", "a/b", "UPPER", "upper", ".new-x", "ünïcode ☃", "~", &"n".repeat(128)] {
        let made = driver.create(volume(name, 8 * MIB, &mounted(""))).await.unwrap();
        assert!(made.volume_id.len() <= 128 && ids.insert(made.volume_id.clone()), "{name}");
        assert!(driver.volume_folder(&made.volume_id).join("disk.img").exists());
        assert_eq!(driver.create(volume(name, 8 * MIB, &mounted(""))).await.unwrap(), made);
    }
    for id in ids {
        driver.delete(&id).await.unwrap();
    }
    driver.assert_nothing_left("pool").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_that_are_not_there() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted("ext4");
    for id in ["default.none", "nonsense", "../../etc/passwd"] {
        assert_code(driver.attach(id, &capability).await, Code::NotFound, "does not exist");
        assert_code(driver.expand(id, MIB).await, Code::NotFound, "does not exist");
        assert_code(driver.stage("default.none", &capability).await, Code::NotFound, "does not exist");
        assert_code(driver.publish(id, "pod", &capability).await, Code::NotFound, "does not exist");
        assert_code(driver.unpublish(id, "pod").await, Code::NotFound, "does not exist");
        assert_code(driver.node_expand(id, "pod").await, Code::NotFound, "does not exist");
        assert_code(driver.stats(id, "pod").await, Code::NotFound, "does not exist");
        let get = csi::ControllerGetVolumeRequest { volume_id: id.to_owned() };
        assert_code(driver.controller.controller_get_volume(get).await, Code::NotFound, "does not exist");
    }
    driver.delete("default.none").await.unwrap();
    driver.detach("nonsense").await.unwrap();
    // A pool that is not configured may still hold it.
    assert_code(driver.delete("other.none").await, Code::FailedPrecondition, "\"other\"");
    assert_code(driver.unpublish("other.none", "pod").await, Code::FailedPrecondition, "\"other\"");
    assert_code(driver.unstage("other.none").await, Code::FailedPrecondition, "\"other\"");
    assert_code(driver.attach("other.none", &capability).await, Code::FailedPrecondition, "\"other\"");
    assert_code(driver.expand("other.none", MIB).await, Code::FailedPrecondition, "\"other\"");
    assert_code(driver.stage("other.none", &capability).await, Code::FailedPrecondition, "\"other\"");
    assert_code(
        driver.publish("other.none", "pod", &capability).await,
        Code::FailedPrecondition,
        "\"other\"",
    );
    assert_code(driver.node_expand("other.none", "pod").await, Code::FailedPrecondition, "\"other\"");
    assert_code(driver.stats("other.none", "pod").await, Code::FailedPrecondition, "\"other\"");
    let get = csi::ControllerGetVolumeRequest { volume_id: "other.none".to_owned() };
    let got = driver.controller.controller_get_volume(get).await;
    assert_code(got, Code::FailedPrecondition, "\"other\"");
    for id in ["", "default.v"] {
        let code = if id.is_empty() { Code::InvalidArgument } else { Code::Ok };
        assert_eq!(driver.delete(id).await.map_or_else(|status| status.code(), |()| Code::Ok), code);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn attaching() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted("ext4");
    let id = driver.create(volume("v", 64 * MIB, &capability)).await.unwrap().volume_id;
    let attach = |node: &str, readonly: bool| csi::ControllerPublishVolumeRequest {
        volume_id: "default.v".to_owned(),
        node_id: node.to_owned(),
        volume_capability: Some(mounted("ext4")),
        readonly,
        ..Default::default()
    };
    let answer = driver.controller.controller_publish_volume(attach("other", false)).await;
    assert_code(answer, Code::NotFound, "\"other\"");
    let answer = driver.controller.controller_publish_volume(attach("", false)).await;
    assert_code(answer, Code::InvalidArgument, "node_id");
    driver.attach(&id, &capability).await.unwrap();
    let other = driver.attach(&id, &mounted_as("ext4", &[], Mode::SingleNodeWriter)).await;
    assert_code(other, Code::AlreadyExists, "differently");
    let answer = driver.controller.controller_publish_volume(attach("node-1", true)).await;
    assert_code(answer, Code::InvalidArgument, "PUBLISH_READONLY");

    // The same storage, seen from another node.
    driver.end().await;
    driver.config.node_id = "node-2".to_owned();
    driver.restart().await;
    let answer = driver.controller.controller_publish_volume(attach("node-2", false)).await;
    assert_code(answer, Code::FailedPrecondition, "\"node-1\"");
    let listed =
        driver.controller.list_volumes(csi::ListVolumesRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.entries[0].status.as_ref().unwrap().published_node_ids, ["node-1"]);
    let everywhere = csi::ControllerUnpublishVolumeRequest { volume_id: id.clone(), ..Default::default() };
    driver.controller.controller_unpublish_volume(everywhere).await.unwrap();
    driver.controller.controller_publish_volume(attach("node-2", false)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn listing() {
    needs!();
    let scratch = Scratch::new();
    let pools = ["a", "a-b", "z"].map(|name| PoolConfig::image(name, scratch.path().join(name)));
    let mut driver = Driver::with(scratch, pools.to_vec()).await;
    let refused = driver.create(volume("v", 8 * MIB, &mounted(""))).await;
    assert_code(refused, Code::InvalidArgument, "a, a-b, z");
    let mut made = Vec::new();
    for number in 0..9 {
        let request = csi::CreateVolumeRequest {
            parameters: parameters(&[("pool", ["a", "a-b", "z"][number % 3])]),
            ..volume(&format!("v{number}"), 8 * MIB, &mounted(""))
        };
        made.push(driver.create(request).await.unwrap().volume_id);
    }
    made.sort();
    let (mut seen, mut token) = (Vec::new(), String::new());
    loop {
        let request = csi::ListVolumesRequest { max_entries: 2, starting_token: token };
        let page = driver.controller.list_volumes(request).await.unwrap().into_inner();
        seen.extend(page.entries.into_iter().map(|entry| entry.volume.unwrap().volume_id));
        token = page.next_token;
        if seen.len() == 4 {
            // The volume at the token's place goes away: the next page is not disturbed.
            driver.delete(&seen[3].clone()).await.unwrap();
        }
        if token.is_empty() {
            break;
        }
    }
    assert_eq!(seen, made);
    for token in ["nonsense", "zz", "61", "☃"] {
        let request = csi::ListVolumesRequest { max_entries: 0, starting_token: token.to_owned() };
        assert_code(driver.controller.list_volumes(request).await, Code::Aborted, "starting_token");
    }
    let negative = csi::ListVolumesRequest { max_entries: -1, ..Default::default() };
    assert_code(driver.controller.list_volumes(negative).await, Code::InvalidArgument, "max_entries");
}

#[tokio::test(flavor = "multi_thread")]
async fn validating() {
    needs!("xfs");
    let mut driver = Driver::image().await;
    let made = driver.create(volume("v", 64 * MIB, &mounted("ext4"))).await.unwrap();
    let ask = |capability: csi::VolumeCapability| csi::ValidateVolumeCapabilitiesRequest {
        volume_id: made.volume_id.clone(),
        volume_context: made.volume_context.clone(),
        volume_capabilities: vec![capability],
        ..Default::default()
    };
    let mut validate = async |request| {
        driver.controller.validate_volume_capabilities(request).await.map(|answer| answer.into_inner())
    };
    assert!(validate(ask(mounted("ext4"))).await.unwrap().confirmed.is_some());
    assert!(validate(ask(mounted(""))).await.unwrap().confirmed.is_some());
    for other in
        [mounted("xfs"), block(Mode::SingleNodeWriter), mounted_as("", &[], Mode::MultiNodeReaderOnly)]
    {
        let answer = validate(ask(other)).await.unwrap();
        assert!(answer.confirmed.is_none() && !answer.message.is_empty());
    }
    let mut context = ask(mounted("ext4"));
    context.volume_context = parameters(&[("pool", "other")]);
    assert!(validate(context).await.unwrap().confirmed.is_none());
    let mut nothing = ask(mounted("ext4"));
    nothing.volume_capabilities.clear();
    assert_code(validate(nothing).await, Code::InvalidArgument, "volume_capabilities");
}
