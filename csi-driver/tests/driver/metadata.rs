//! The SnapshotMetadata service: its streams compared with the bytes of the snapshots.

use std::{fs, os::unix::fs::FileExt as _, time::Duration};

use holdfast_proto::csi::{
    self, BlockMetadata, BlockMetadataType, GetMetadataAllocatedRequest, GetMetadataDeltaRequest,
    plugin_capability::{Service, Type, service},
    snapshot_metadata_client::SnapshotMetadataClient,
    volume_capability::access_mode::Mode,
};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::{
    Code, Status,
    transport::{Channel, Endpoint},
};

use crate::{
    harness::{Driver, MIB, Scratch, assert_code, block, channel, filesystem, mounted, needs, volume},
    snapshots::pool_on,
};
use holdfast_csi_driver::PoolConfig;

/// The unit in which the pools' file systems share blocks.
const BLOCK: usize = 4096;
const SIZE: usize = 64 << 20;

async fn service(driver: &Driver) -> SnapshotMetadataClient<Channel> {
    SnapshotMetadataClient::new(channel(&driver.config.endpoint).await)
}

/// One message: its kind, the capacity it tells, and its runs.
type Part = (BlockMetadataType, i64, Vec<BlockMetadata>);

async fn allocated(driver: &Driver, request: GetMetadataAllocatedRequest) -> Result<Vec<Part>, Status> {
    let mut stream = service(driver).await.get_metadata_allocated(request).await?.into_inner();
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await? {
        parts.push((part.block_metadata_type(), part.volume_capacity_bytes, part.block_metadata));
    }
    Ok(parts)
}

async fn delta(driver: &Driver, request: GetMetadataDeltaRequest) -> Result<Vec<Part>, Status> {
    let mut stream = service(driver).await.get_metadata_delta(request).await?.into_inner();
    let mut parts = Vec::new();
    while let Some(part) = stream.message().await? {
        parts.push((part.block_metadata_type(), part.volume_capacity_bytes, part.block_metadata));
    }
    Ok(parts)
}

fn of(snapshot: &str) -> GetMetadataAllocatedRequest {
    GetMetadataAllocatedRequest { snapshot_id: snapshot.to_owned(), ..Default::default() }
}

fn between(base: &str, target: &str) -> GetMetadataDeltaRequest {
    GetMetadataDeltaRequest {
        base_snapshot_id: base.to_owned(),
        target_snapshot_id: target.to_owned(),
        ..Default::default()
    }
}

/// Which blocks the runs cover; they ascend, overlap nowhere and keep to `most` a message.
fn blocks(parts: &[Part], most: usize) -> Vec<bool> {
    let mut covered = vec![false; SIZE / BLOCK];
    let mut end = 0;
    assert!(!parts.is_empty());
    for (kind, capacity, runs) in parts {
        assert_eq!((*kind, *capacity), (BlockMetadataType::VariableLength, SIZE as i64));
        assert!(most == 0 || runs.len() <= most, "{} runs", runs.len());
        for run in runs {
            assert!(run.byte_offset >= end && run.size_bytes > 0, "{run:?} after {end}");
            end = run.byte_offset + run.size_bytes;
            assert!(end <= SIZE as i64);
            assert_eq!((run.byte_offset as usize % BLOCK, end as usize % BLOCK), (0, 0), "{run:?}");
            covered[run.byte_offset as usize / BLOCK..end as usize / BLOCK].fill(true);
        }
    }
    covered
}

/// Numbers that look random and are the same in each run (xorshift64).
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }
}

/// Writes runs of bytes of any length anywhere; each differs from all others.
fn scribble(device: &str, numbers: &mut Numbers, times: usize) {
    let file = fs::File::options().write(true).open(device).unwrap();
    for _ in 0..times {
        let length = 1 + numbers.below(3 * BLOCK);
        let at = numbers.below(SIZE - length);
        let byte = 1 + numbers.below(255) as u8;
        file.write_all_at(&vec![byte; length], at as u64).unwrap();
    }
    file.sync_all().unwrap();
}

fn image(driver: &Driver, snapshot: &str) -> Vec<u8> {
    fs::read(driver.scratch.path().join("pool/snapshots").join(snapshot).join("disk.img")).unwrap()
}

/// Random writes, and between them snapshots: a delta has every block that differs, and none
/// that nobody wrote to; what is allocated has every byte that is not zero.
async fn agrees_with_the_bytes(fs_name: &str) {
    let mut driver = pool_on(fs_name).await;
    let capability = block(Mode::SingleNodeWriter);
    let id = driver.bring_up("v", SIZE as i64, &capability, "device").await;
    let device = driver.path("device");
    let mut numbers = Numbers(0x9E37_79B9_7F4A_7C15);
    let mut cuts: Vec<(String, Vec<u8>)> = Vec::new();
    for round in 0..4 {
        scribble(&device, &mut numbers, if round == 2 { 0 } else { 60 });
        let snapshot = driver.snapshot(&format!("s{round}"), &id).await.unwrap().snapshot_id;
        let bytes = image(&driver, &snapshot);
        assert_eq!(bytes.len(), SIZE);
        cuts.push((snapshot, bytes));
    }
    for (snapshot, bytes) in &cuts {
        for most in [0, 1, 7] {
            let request = GetMetadataAllocatedRequest { max_results: most, ..of(snapshot) };
            let there = blocks(&allocated(&driver, request).await.unwrap(), most as usize);
            for (number, content) in bytes.chunks(BLOCK).enumerate() {
                assert!(there[number] || content.iter().all(|byte| *byte == 0), "block {number} is not told");
            }
            let told = there.iter().filter(|told| **told).count();
            assert!(told < SIZE / BLOCK / 2, "{told} blocks of a volume that is mostly empty");
        }
    }
    for (base, old) in &cuts {
        for (target, new) in &cuts {
            let changed = blocks(&delta(&driver, between(base, target)).await.unwrap(), 0);
            let mut differ = 0;
            for (number, (old, new)) in old.chunks(BLOCK).zip(new.chunks(BLOCK)).enumerate() {
                assert!(changed[number] || old == new, "block {number} differs and is not told");
                differ += usize::from(old != new);
            }
            // A byte written over by the same one is all that may be told besides.
            let told = changed.iter().filter(|told| **told).count();
            assert!(told >= differ && told <= differ + 10, "{told} blocks told, {differ} differ");
            let request = GetMetadataDeltaRequest { max_results: 3, ..between(base, target) };
            assert_eq!(blocks(&delta(&driver, request).await.unwrap(), 3), changed);
            // Resumed anywhere, the rest is the same.
            let from = SIZE / BLOCK / 3;
            let starting_offset = (from * BLOCK) as i64;
            let request = GetMetadataDeltaRequest { starting_offset, ..between(base, target) };
            let rest = blocks(&delta(&driver, request).await.unwrap(), 0);
            assert_eq!(rest[from..], changed[from..]);
            assert!(!rest[..from].contains(&true));
        }
    }
    assert_eq!(
        delta(&driver, between(&cuts[1].0, &cuts[2].0)).await.unwrap()[0].2,
        [],
        "nothing was written"
    );
    driver.unpublish(&id, "device").await.unwrap();
    driver.unstage(&id).await.unwrap();
    driver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_xfs() {
    needs!("xfs");
    agrees_with_the_bytes("xfs").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn on_btrfs() {
    needs!("btrfs");
    agrees_with_the_bytes("btrfs").await;
}

/// Space that is set aside and was never written to reads as zeros and is not told; what was
/// written and taken back (discard) is told as a change.
async fn holes_and_reserved_space(fs_name: &str) {
    use rustix::fs::{FallocateFlags, fallocate};
    let mut driver = pool_on(fs_name).await;
    let id = driver.create(volume("v", SIZE as i64, &block(Mode::SingleNodeWriter))).await.unwrap().volume_id;
    let disk = fs::File::options().write(true).open(driver.volume_folder(&id).join("disk.img")).unwrap();
    disk.write_all_at(&[7; 4 * BLOCK], 0).unwrap();
    fallocate(&disk, FallocateFlags::empty(), 8 << 20, 1 << 20).unwrap();
    let base = driver.snapshot("base", &id).await.unwrap().snapshot_id;
    let there = blocks(&allocated(&driver, of(&base)).await.unwrap(), 0);
    assert_eq!(there.iter().filter(|told| **told).count(), 4, "space that was only set aside is told");
    let punch = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    fallocate(&disk, punch, BLOCK as u64, BLOCK as u64).unwrap();
    disk.write_all_at(&[8; BLOCK], 8 << 20).unwrap();
    let target = driver.snapshot("target", &id).await.unwrap().snapshot_id;
    let changed = blocks(&delta(&driver, between(&base, &target)).await.unwrap(), 0);
    let told: Vec<usize> = (0..changed.len()).filter(|number| changed[*number]).collect();
    assert_eq!(told, [1, (8 << 20) / BLOCK]);
    driver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn holes_on_xfs() {
    needs!("xfs");
    holes_and_reserved_space("xfs").await;
}

/// Here the copy of a file has the space set aside as well.
#[tokio::test(flavor = "multi_thread")]
async fn holes_on_btrfs() {
    needs!("btrfs");
    holes_and_reserved_space("btrfs").await;
}

/// A client that is sent no more of a stream than 64 KiB before it reads.
async fn slow_service(driver: &Driver) -> SnapshotMetadataClient<Channel> {
    let socket = driver.config.endpoint.clone();
    let endpoint = Endpoint::from_static("http://csi.sock").initial_stream_window_size(65_535_u32);
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
    });
    SnapshotMetadataClient::new(endpoint.connect_with_connector(connect).await.unwrap())
}

/// What nobody reads stays in memory: there are so many streams of a pool, and another one when one
/// of them ends.
#[tokio::test(flavor = "multi_thread")]
async fn streams_that_nobody_reads() {
    const STREAMS: usize = 32;
    const RUNS: usize = 16 << 10;
    needs!("xfs");
    let mut driver = pool_on("xfs").await;
    let bytes = 2 * RUNS * BLOCK;
    let request = volume("v", bytes as i64, &block(Mode::SingleNodeWriter));
    let id = driver.create(request).await.unwrap().volume_id;
    // Every other block, so that the stream is longer than what is sent ahead.
    let disk = fs::File::options().write(true).open(driver.volume_folder(&id).join("disk.img")).unwrap();
    for number in 0..RUNS {
        disk.write_all_at(&[7; BLOCK], (2 * number * BLOCK) as u64).unwrap();
    }
    let snapshot = driver.snapshot("s", &id).await.unwrap().snapshot_id;
    let request = GetMetadataAllocatedRequest { max_results: 64, ..of(&snapshot) };
    let mut client = slow_service(&driver).await;
    let mut unread = Vec::new();
    for _ in 0..STREAMS {
        unread.push(client.get_metadata_allocated(request.clone()).await.unwrap().into_inner());
    }
    let refused = client.get_metadata_allocated(request.clone()).await;
    assert_code(refused.map(drop), Code::ResourceExhausted, "read one of them to its end");
    let refused = client.get_metadata_delta(between(&snapshot, &snapshot)).await;
    assert_code(refused.map(drop), Code::ResourceExhausted, "32 streams");

    // One that is read to its end makes room, and so does one that is cancelled.
    let mut read = unread.pop().unwrap();
    let mut runs = 0;
    while let Some(part) = read.message().await.unwrap() {
        runs += part.block_metadata.len();
    }
    assert_eq!(runs, RUNS);
    for _ in 0..2 {
        // The driver hears of it a moment later.
        let mut tries = 0;
        let more = loop {
            match client.get_metadata_allocated(request.clone()).await {
                Ok(more) => break more.into_inner(),
                Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
            }
            tries += 1;
            assert!(tries < 6000, "no stream ended in a minute");
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        unread.push(more);
        drop(unread.remove(0));
    }
    drop(unread);
    driver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_has_its_code() {
    needs!("btrfs", "xfs");
    let scratch = Scratch::new();
    let (xfs, btrfs) = (filesystem(&scratch, "xfs"), filesystem(&scratch, "btrfs"));
    let ext4 = filesystem(&scratch, "ext4");
    let pools = vec![
        PoolConfig::image("default", xfs.join("pool")),
        PoolConfig::btrfs("trees", btrfs.join("pool")),
        PoolConfig::image("copies", ext4.join("pool")),
    ];
    let mut driver = Driver::with(scratch, pools).await;
    let capabilities = driver.identity.get_plugin_capabilities(csi::GetPluginCapabilitiesRequest {}).await;
    let declared = Type::Service(Service { r#type: service::Type::SnapshotMetadataService.into() });
    let capabilities = capabilities.unwrap().into_inner().capabilities;
    assert!(capabilities.iter().any(|capability| capability.r#type.as_ref() == Some(&declared)));

    let mut made = Vec::new();
    for (name, pool, capability) in [
        ("a", "default", block(Mode::SingleNodeWriter)),
        ("b", "default", block(Mode::SingleNodeWriter)),
        ("c", "trees", mounted("")),
        ("d", "copies", block(Mode::SingleNodeWriter)),
    ] {
        let request = csi::CreateVolumeRequest {
            parameters: crate::harness::parameters(&[("pool", pool)]),
            ..volume(name, 16 * MIB, &capability)
        };
        let id = driver.create(request).await.unwrap().volume_id;
        made.push(driver.snapshot(&format!("s-{name}"), &id).await.unwrap().snapshot_id);
    }
    let [a, b, tree, copy] = &made[..] else { panic!("{made:?}") };
    let full = 16 * MIB;
    let empty =
        allocated(&driver, GetMetadataAllocatedRequest { starting_offset: full, ..of(a) }).await.unwrap();
    assert_eq!(empty, [(BlockMetadataType::VariableLength, full, Vec::new())]);
    for (request, code, said) in [
        (of(""), Code::InvalidArgument, "snapshot_id is required"),
        (of("default.none"), Code::NotFound, "default.none"),
        (of("nothing"), Code::NotFound, "nothing"),
        (of(tree), Code::InvalidArgument, "tree of files"),
        (GetMetadataAllocatedRequest { starting_offset: -1, ..of(a) }, Code::OutOfRange, "-1"),
        (GetMetadataAllocatedRequest { starting_offset: full + 1, ..of(a) }, Code::OutOfRange, "16777217"),
        (GetMetadataAllocatedRequest { max_results: -1, ..of(a) }, Code::InvalidArgument, "max_results"),
    ] {
        assert_code(allocated(&driver, request).await, code, said);
    }
    for (request, code, said) in [
        (between("", a), Code::InvalidArgument, "base_snapshot_id is required"),
        (between(a, ""), Code::InvalidArgument, "target_snapshot_id is required"),
        (between("default.none", a), Code::NotFound, "default.none"),
        (between(a, b), Code::InvalidArgument, "two of one volume"),
        (between(copy, copy), Code::FailedPrecondition, "use a pool on xfs (reflink) or btrfs"),
        (
            GetMetadataDeltaRequest { starting_offset: full + 1, ..between(a, a) },
            Code::OutOfRange,
            "16777217",
        ),
    ] {
        assert_code(delta(&driver, request).await, code, said);
    }
    assert_eq!(blocks_of_copy(&driver, copy).await, 0, "an empty copy has no blocks");
    driver.end().await;

    let driver = pool_on("ext4").await;
    assert_code(allocated(&driver, of("x")).await, Code::Unimplemented, "SNAPSHOT_METADATA_SERVICE");
}

async fn blocks_of_copy(driver: &Driver, copy: &str) -> usize {
    allocated(driver, of(copy)).await.unwrap().iter().map(|(_, _, runs)| runs.len()).sum()
}
