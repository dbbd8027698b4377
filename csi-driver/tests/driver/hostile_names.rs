//! Ids, names and messages that no orchestrator would send.

use std::fs;

use holdfast_proto::csi::{self, volume_capability::access_mode::Mode};
use tonic::Code;

use crate::{
    harness::{Driver, MIB, assert_code, block, entries, mounted, needs, parameters, volume},
    raw::send,
};

const LONG: usize = 1 << 20;

fn ids() -> Vec<String> {
    let mut ids: Vec<String> = [
        "..",
        ".",
        "/",
        "/etc",
        "../default.v",
        "default.",
        "default.v/",
        "default.v/disk.img",
        "default./v",
        "default.../trash",
        "default.v\0",
        "default.v\n",
        "default.V",
        ".new-default.v",
        "default.\u{202e}v",
        "default.~",
        "default.~../../../../../../../etc/passwd-aaaaaaaaa",
        "trash",
        "volumes",
        "%2e%2e",
    ]
    .map(str::to_owned)
    .into();
    ids.extend(["x".repeat(LONG), format!("default.{}", "a".repeat(LONG)), "../".repeat(LONG / 3)]);
    ids
}

/// Ids that no volume has are not there, whatever they look like; to undo something of them
/// is done already.
#[tokio::test(flavor = "multi_thread")]
async fn ids_lead_nowhere() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted("ext4");
    driver.create(volume("v", 64 * MIB, &capability)).await.unwrap();
    let before = fs::read_to_string(driver.volume_folder("default.v").join("volume.json")).unwrap();
    for id in ids() {
        driver.delete(&id).await.unwrap();
        driver.detach(&id).await.unwrap();
        for answer in [
            driver.attach(&id, &capability).await,
            driver.expand(&id, 128 * MIB).await.map(drop),
            driver.stats(&id, "pod").await.map(drop),
        ] {
            assert_code(answer, Code::NotFound, "does not exist");
        }
        fs::create_dir_all(driver.path("staging")).unwrap();
        let stage = csi::NodeStageVolumeRequest {
            volume_id: id.clone(),
            staging_target_path: driver.path("staging"),
            volume_capability: Some(capability.clone()),
            ..Default::default()
        };
        assert_code(driver.node.node_stage_volume(stage).await, Code::NotFound, "does not exist");
        let unpublish =
            csi::NodeUnpublishVolumeRequest { volume_id: id.clone(), target_path: driver.path("pod") };
        assert_code(driver.node.node_unpublish_volume(unpublish).await, Code::NotFound, "does not exist");
    }
    assert_eq!(entries(&driver.scratch.path().join("pool/volumes")), ["default.v"]);
    assert_eq!(fs::read_to_string(driver.volume_folder("default.v").join("volume.json")).unwrap(), before);
    driver.delete("default.v").await.unwrap();
    driver.assert_nothing_left("pool").await;
}

/// The caller gets code and advice, however much it sent; not a broken connection.
#[tokio::test(flavor = "multi_thread")]
async fn long_values_are_refused_with_their_code() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted("ext4");
    let long = "ü\n".repeat(LONG / 3);
    let named = |name: &str| volume(name, 64 * MIB, &capability);
    let cases = [
        (named(&long), "128 bytes"),
        (named(&"x".repeat(LONG)), "128 bytes"),
        (csi::CreateVolumeRequest { parameters: parameters(&[(&long, "x")]), ..named("v") }, "is not known"),
        (
            csi::CreateVolumeRequest { parameters: parameters(&[("pool", &long)]), ..named("v") },
            "there are default",
        ),
        (
            csi::CreateVolumeRequest { parameters: parameters(&[("enforceSize", &long)]), ..named("v") },
            "\"false\"",
        ),
        (
            csi::CreateVolumeRequest { mutable_parameters: parameters(&[(&long, "x")]), ..named("v") },
            "parameter",
        ),
        (volume("v", 64 * MIB, &mounted(&long)), "ext4, xfs, btrfs"),
        (
            volume("v", 64 * MIB, &crate::harness::mounted_as("", &[&long], Mode::SingleNodeWriter)),
            "mount flag",
        ),
    ];
    for (request, said) in cases {
        let status = driver.create(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        let message = status.message();
        assert!(
            message.contains(said) && message.len() < 16 << 10,
            "{} bytes: {message:.300}",
            message.len()
        );
        assert!(!message.contains('\n'), "{message:.300}");
    }
    let huge = (0..20_000).map(|n| (format!("csi.storage.k8s.io/{n}"), "x".repeat(100))).collect();
    driver.create(csi::CreateVolumeRequest { parameters: huge, ..named("huge-map") }).await.unwrap();
    let token = csi::ListVolumesRequest { max_entries: 0, starting_token: long };
    assert_code(driver.controller.list_volumes(token).await, Code::Aborted, "starting_token");
    // More than gRPC's usual 4 MiB.
    let answer = driver.create(named(&"x".repeat(5 << 20))).await;
    assert_code(answer, Code::OutOfRange, "");
    driver.delete("default.huge-map").await.unwrap();
    driver.assert_nothing_left("pool").await;
}

/// As many parameters as fit into a message, and pages of every size.
#[tokio::test(flavor = "multi_thread")]
async fn numbers_without_measure() {
    needs!();
    let mut driver = Driver::image().await;
    let capability = mounted("ext4");
    for count in [1, 100_000] {
        let unknown = (0..count).map(|n| (format!("unknown-{n}"), String::new())).collect();
        let request = csi::CreateVolumeRequest { parameters: unknown, ..volume("v", 64 * MIB, &capability) };
        assert_code(driver.create(request).await, Code::InvalidArgument, "is not known");
    }
    let capabilities = vec![capability.clone(); 50_000];
    let request =
        csi::CreateVolumeRequest { volume_capabilities: capabilities, ..volume("v", 64 * MIB, &capability) };
    driver.create(request).await.unwrap();
    for (max_entries, code) in
        [(i32::MAX, Code::Ok), (i32::MIN, Code::InvalidArgument), (-1, Code::InvalidArgument)]
    {
        let request = csi::ListVolumesRequest { max_entries, ..Default::default() };
        let answer = driver.controller.list_volumes(request).await;
        assert_eq!(
            answer.as_ref().err().map_or(Code::Ok, tonic::Status::code),
            code,
            "{max_entries}: {answer:?}"
        );
    }
    for token in ["zz", "0", "64656661756c742e", "ffff", "64656661756c742e2e2e", "ü", "\0"] {
        let request = csi::ListVolumesRequest { max_entries: 1, starting_token: token.to_owned() };
        assert_code(driver.controller.list_volumes(request).await, Code::Aborted, "starting_token");
    }
    for bytes in [i64::MIN, -1, i64::MAX] {
        assert_code(driver.expand("default.v", bytes).await, Code::OutOfRange, "");
    }
    driver.delete("default.v").await.unwrap();
    driver.assert_nothing_left("pool").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn enum_values_that_do_not_exist() {
    needs!();
    let mut driver = Driver::image().await;
    for mode in [-1, 0, 8, 99, i32::MAX, i32::MIN] {
        for mut capability in [mounted("ext4"), block(Mode::SingleNodeWriter)] {
            capability.access_mode = Some(csi::volume_capability::AccessMode { mode });
            let answer = driver.create(volume("v", 64 * MIB, &capability)).await;
            assert_code(answer, Code::InvalidArgument, "access mode");
        }
    }
    driver.assert_nothing_left("pool").await;
}

/// Bytes that are no message of the right kind: an error for this call, and the connection
/// goes on.
#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_no_message() {
    needs!();
    let driver = Driver::image().await;
    let channel = crate::harness::channel(&driver.config.endpoint).await;
    let cases: [(&str, &[u8]); 6] = [
        ("a name that is no UTF-8", b"\x0a\x04\xff\xfe\x80\x81"),
        ("a length beyond the end", b"\x0a\x7f\x61"),
        ("a number that never ends", b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"),
        ("a wrong wire type", b"\x08\x01"),
        ("an end of a group that never began", b"\x0c"),
        ("field number 0", b"\x02\x00"),
    ];
    for method in ["Controller/CreateVolume", "Node/NodePublishVolume", "Controller/DeleteVolume"] {
        for (what, bytes) in cases {
            let status = send(&channel, method, bytes).await.unwrap_err();
            // What gRPC servers answer to what they cannot decode.
            assert_eq!(status.code(), Code::Internal, "{method}, {what}: {status}");
            assert!(status.message().contains("decode"), "{method}, {what}: {status}");
        }
        // A field that this version does not know is no error in itself.
        let status = send(&channel, method, b"\xfa\x3f\x01\x61").await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{method}: {status}");
    }
    assert_code(send(&channel, "Controller/Nonsense", b"").await, Code::Unimplemented, "");
    assert_code(send(&channel, "../etc/passwd", b"").await, Code::Unimplemented, "");
    send(&channel, "Identity/Probe", b"").await.unwrap();
    driver.assert_nothing_left("pool").await;
}
