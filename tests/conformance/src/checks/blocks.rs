//! The SnapshotMetadata service: which blocks a snapshot has, compared with what was written.

use holdfast_proto::csi::{
    BlockMetadata, BlockMetadataType, GetMetadataAllocatedRequest, GetMetadataAllocatedResponse,
    GetMetadataDeltaRequest, GetMetadataDeltaResponse, plugin_capability::service::Type as Plugin,
    volume_capability::access_mode::Mode,
};
use tonic::Code;

use super::existing::{cut, cut_in_use};
use crate::{
    capability,
    check::{Check, check},
    failure::{Failure, Verdict, must},
    fixture::{Fixture, Volume, local::SLOT, local::pattern, requests::NO_SUCH_ID},
    need::{BLOCK, LOCAL, Need, SNAPSHOT},
    rows::{
        UNIMPLEMENTED,
        group::{BAD_ARGUMENT, BAD_OFFSET, NO_BASE, NO_SNAPSHOT, RANGES},
    },
};

const METADATA: &[Need] = &[Need::Plugin(Plugin::SnapshotMetadataService)];
const CHANGES: &[Need] = &[Need::Changes];
const UNDECLARED: &[Need] = &[Need::NoPlugin(Plugin::SnapshotMetadataService)];

/// A stream that is refused with a code of the row.
macro_rules! stream {
    ($id:literal, $rpc:ident, $condition:expr, $needs:expr, |$f:ident| $request:expr) => {
        Check {
            id: $id,
            rpc: Some(crate::rpc::Rpc::$rpc),
            condition: $condition,
            needs: &$needs,
            run: |$f| {
                Box::pin(async move {
                    let request = $request;
                    $f.stream_refused(request).await
                })
            },
        }
    };
}

pub(super) const CHECKS: &[Check] = &[
    stream!("get-metadata-allocated/undeclared", GetMetadataAllocated, UNIMPLEMENTED, [UNDECLARED], |_f| {
        allocated(NO_SUCH_ID)
    }),
    stream!("get-metadata-allocated/missing-id", GetMetadataAllocated, BAD_ARGUMENT, [METADATA], |_f| {
        allocated("")
    }),
    stream!(
        "get-metadata-allocated/negative-max-results",
        GetMetadataAllocated,
        BAD_ARGUMENT,
        [METADATA, SNAPSHOT, BLOCK],
        |f| { GetMetadataAllocatedRequest { max_results: -1, ..allocated(&fresh(f).await?.1) } }
    ),
    stream!("get-metadata-allocated/no-such-snapshot", GetMetadataAllocated, NO_SNAPSHOT, [METADATA], |_f| {
        allocated(NO_SUCH_ID)
    }),
    stream!(
        "get-metadata-allocated/negative-offset",
        GetMetadataAllocated,
        BAD_OFFSET,
        [METADATA, SNAPSHOT, BLOCK],
        |f| { GetMetadataAllocatedRequest { starting_offset: -1, ..allocated(&fresh(f).await?.1) } }
    ),
    stream!(
        "get-metadata-allocated/offset-beyond-end",
        GetMetadataAllocated,
        BAD_OFFSET,
        [METADATA, SNAPSHOT, BLOCK],
        |f| {
            let (volume, id) = fresh(f).await?;
            let starting_offset = volume.capacity.max(f.options().size) + 1;
            GetMetadataAllocatedRequest { starting_offset, ..allocated(&id) }
        }
    ),
    check!("get-metadata-allocated/empty", GetMetadataAllocated, RANGES, [METADATA, SNAPSHOT, BLOCK], empty),
    check!(
        "get-metadata-allocated/written",
        GetMetadataAllocated,
        RANGES,
        [METADATA, SNAPSHOT, BLOCK, LOCAL],
        written
    ),
    stream!("get-metadata-delta/undeclared", GetMetadataDelta, UNIMPLEMENTED, [UNDECLARED], |_f| delta(
        NO_SUCH_ID, NO_SUCH_ID
    )),
    stream!(
        "get-metadata-delta/missing-base",
        GetMetadataDelta,
        BAD_ARGUMENT,
        [METADATA, SNAPSHOT, BLOCK],
        |f| { delta("", &fresh(f).await?.1) }
    ),
    stream!(
        "get-metadata-delta/missing-target",
        GetMetadataDelta,
        BAD_ARGUMENT,
        [METADATA, SNAPSHOT, BLOCK],
        |f| { delta(&fresh(f).await?.1, "") }
    ),
    stream!(
        "get-metadata-delta/negative-max-results",
        GetMetadataDelta,
        BAD_ARGUMENT,
        [METADATA, CHANGES, SNAPSHOT, BLOCK],
        |f| {
            let (base, target) = two(f).await?;
            GetMetadataDeltaRequest { max_results: -1, ..delta(&base, &target) }
        }
    ),
    stream!(
        "get-metadata-delta/other-volumes",
        GetMetadataDelta,
        BAD_ARGUMENT,
        [METADATA, SNAPSHOT, BLOCK],
        |f| { delta(&fresh(f).await?.1, &fresh(f).await?.1) }
    ),
    stream!("get-metadata-delta/no-such-base", GetMetadataDelta, NO_BASE, [METADATA, SNAPSHOT, BLOCK], |f| {
        delta(NO_SUCH_ID, &fresh(f).await?.1)
    }),
    stream!(
        "get-metadata-delta/no-such-target",
        GetMetadataDelta,
        NO_BASE,
        [METADATA, SNAPSHOT, BLOCK],
        |f| { delta(&fresh(f).await?.1, NO_SUCH_ID) }
    ),
    stream!(
        "get-metadata-delta/negative-offset",
        GetMetadataDelta,
        BAD_OFFSET,
        [METADATA, CHANGES, SNAPSHOT, BLOCK],
        |f| {
            let (base, target) = two(f).await?;
            GetMetadataDeltaRequest { starting_offset: -1, ..delta(&base, &target) }
        }
    ),
    stream!(
        "get-metadata-delta/offset-beyond-end",
        GetMetadataDelta,
        BAD_OFFSET,
        [METADATA, CHANGES, SNAPSHOT, BLOCK],
        |f| {
            let (base, target) = two(f).await?;
            GetMetadataDeltaRequest { starting_offset: i64::MAX, ..delta(&base, &target) }
        }
    ),
    check!(
        "get-metadata-delta/changed",
        GetMetadataDelta,
        RANGES,
        [METADATA, CHANGES, SNAPSHOT, BLOCK, LOCAL],
        changed
    ),
];

fn allocated(id: &str) -> GetMetadataAllocatedRequest {
    GetMetadataAllocatedRequest { snapshot_id: id.to_owned(), ..Default::default() }
}

fn delta(base: &str, target: &str) -> GetMetadataDeltaRequest {
    let (base_snapshot_id, target_snapshot_id) = (base.to_owned(), target.to_owned());
    GetMetadataDeltaRequest { base_snapshot_id, target_snapshot_id, ..Default::default() }
}

/// A block volume and a snapshot of it.
async fn fresh(f: &Fixture) -> Verdict<(Volume, String)> {
    let volume = f.volume_for(capability::block(Mode::SingleNodeWriter)).await?;
    let id = cut(f, &volume.id).await?;
    Ok((volume, id))
}

/// Two snapshots of one volume, the older first.
async fn two(f: &Fixture) -> Verdict<(String, String)> {
    let (volume, base) = fresh(f).await?;
    Ok((base, cut(f, &volume.id).await?))
}

/// The messages of both streams are of one shape.
struct Part {
    kind: BlockMetadataType,
    capacity: i64,
    ranges: Vec<BlockMetadata>,
}

impl From<GetMetadataAllocatedResponse> for Part {
    fn from(message: GetMetadataAllocatedResponse) -> Self {
        let kind = message.block_metadata_type();
        Self { kind, capacity: message.volume_capacity_bytes, ranges: message.block_metadata }
    }
}

impl From<GetMetadataDeltaResponse> for Part {
    fn from(message: GetMetadataDeltaResponse) -> Self {
        let kind = message.block_metadata_type();
        Self { kind, capacity: message.volume_capacity_bytes, ranges: message.block_metadata }
    }
}

/// Judges a stream by the rules of its fields; gives its ranges.
fn judged<M: Into<Part>>(
    messages: Vec<M>,
    offset: i64,
    max_results: i32,
    size: i64,
) -> Verdict<Vec<BlockMetadata>> {
    let parts: Vec<Part> = messages.into_iter().map(Into::into).collect();
    let most = usize::try_from(max_results).unwrap_or(0);
    let mut ranges: Vec<BlockMetadata> = Vec::new();
    for part in &parts {
        must!(part.kind != BlockMetadataType::Unknown, "a block_metadata_type", "UNKNOWN");
        must!(part.kind == parts[0].kind, "one block_metadata_type in the stream", "two");
        must!(part.capacity >= size, format!("a volume of {size} bytes"), "{} bytes", part.capacity);
        must!(part.capacity == parts[0].capacity, "one capacity in the stream", "two");
        must!(
            most == 0 || part.ranges.len() <= most,
            format!("at most {most} ranges"),
            "{}",
            part.ranges.len()
        );
        ranges.extend(&part.ranges);
    }
    for pair in ranges.windows(2) {
        let [a, b] = pair else { continue };
        must!(
            a.byte_offset + a.size_bytes <= b.byte_offset,
            "ranges that ascend and do not overlap",
            "{a:?}, {b:?}"
        );
    }
    for range in &ranges {
        must!(range.size_bytes > 0, "ranges that are not empty", "{range:?}");
        must!(
            offset < range.byte_offset + range.size_bytes,
            format!("nothing that ends before {offset}"),
            "{range:?}"
        );
        let end = range.byte_offset + range.size_bytes;
        let capacity = parts.first().map_or(0, |part| part.capacity);
        must!(
            range.byte_offset >= 0 && end <= capacity,
            "ranges within the volume",
            "{range:?} of {capacity} bytes"
        );
    }
    let fixed = parts.first().is_some_and(|part| part.kind == BlockMetadataType::FixedLength);
    let one_size = ranges.iter().all(|range| range.size_bytes == ranges[0].size_bytes);
    must!(!fixed || one_size, "one size with FIXED_LENGTH", "{ranges:?}");
    Ok(ranges)
}

fn covers(ranges: &[BlockMetadata], slot: u64) -> Verdict {
    let (mut at, end) = ((slot * SLOT) as i64, (slot * SLOT) as i64 + LENGTH as i64);
    for range in ranges {
        if range.byte_offset <= at && at < range.byte_offset + range.size_bytes {
            at = range.byte_offset + range.size_bytes;
        }
    }
    must!(at >= end, format!("the {LENGTH} bytes of slot {slot}, which were written"), "{ranges:?}");
    Ok(())
}

fn spares(ranges: &[BlockMetadata], slot: u64) -> Verdict {
    let (begin, end) = ((slot * SLOT) as i64, (slot * SLOT) as i64 + LENGTH as i64);
    let inside =
        ranges.iter().find(|range| range.byte_offset <= begin && end <= range.byte_offset + range.size_bytes);
    must!(inside.is_none(), format!("nothing of slot {slot}, which did not change"), "{ranges:?}");
    Ok(())
}

/// What is written to a slot, and the slots that are used: far from each other, so that a
/// plugin with large blocks can tell them apart.
const LENGTH: usize = 64 << 10;
const FIRST: u64 = 0;
const SECOND: u64 = 64;
const THIRD: u64 = 128;

/// A volume that holds the slots of these checks, published as a block device.
async fn roomy(f: &Fixture) -> Verdict<Volume> {
    if f.options().size < (THIRD + 1) as i64 * SLOT as i64 {
        return Err(Failure::Skip(format!("--size is less than {} bytes", (THIRD + 1) * SLOT)));
    }
    f.published_for(capability::block(Mode::SingleNodeWriter)).await
}

async fn all(f: &Fixture, request: GetMetadataAllocatedRequest, size: i64) -> Verdict<Vec<BlockMetadata>> {
    let (offset, most) = (request.starting_offset, request.max_results);
    let messages = f.stream(request).await.map_err(|status| Failure::code(&[Code::Ok], &status))?;
    judged(messages, offset, most, size)
}

async fn empty(f: &Fixture) -> Verdict {
    let (_, id) = fresh(f).await?;
    all(f, allocated(&id), f.options().size).await.map(|_| ())
}

async fn written(f: &Fixture) -> Verdict {
    let mut volume = roomy(f).await?;
    for slot in [FIRST, SECOND, THIRD] {
        f.write(&volume, "target", slot, pattern(slot + 1, LENGTH)).await?;
    }
    let id = cut_in_use(f, &mut volume).await?;
    let size = f.options().size;
    let whole = all(f, allocated(&id), size).await?;
    for slot in [FIRST, SECOND, THIRD] {
        covers(&whole, slot)?;
    }
    // Small messages tell the same.
    let small = all(f, GetMetadataAllocatedRequest { max_results: 1, ..allocated(&id) }, size).await?;
    for slot in [FIRST, SECOND, THIRD] {
        covers(&small, slot)?;
    }
    // Resumed in the middle of a slot, the rest of it is there.
    let starting_offset = (SECOND * SLOT) as i64 + LENGTH as i64 / 2;
    let rest = all(f, GetMetadataAllocatedRequest { starting_offset, ..allocated(&id) }, size).await?;
    covers(&rest, THIRD)?;
    let half = rest
        .iter()
        .any(|r| r.byte_offset <= starting_offset && starting_offset < r.byte_offset + r.size_bytes);
    must!(half, format!("the byte at {starting_offset}, which was written"), "{rest:?}");
    Ok(())
}

async fn changed(f: &Fixture) -> Verdict {
    let mut volume = roomy(f).await?;
    f.write(&volume, "target", FIRST, pattern(1, LENGTH)).await?;
    f.write(&volume, "target", SECOND, pattern(2, LENGTH)).await?;
    let base = cut_in_use(f, &mut volume).await?;
    f.write(&volume, "target", SECOND, pattern(3, LENGTH)).await?;
    f.write(&volume, "target", THIRD, pattern(4, LENGTH)).await?;
    let target = cut_in_use(f, &mut volume).await?;
    let size = f.options().size;
    for max_results in [0, 1] {
        let request = GetMetadataDeltaRequest { max_results, ..delta(&base, &target) };
        let messages = f.stream(request).await.map_err(|status| Failure::code(&[Code::Ok], &status))?;
        let ranges = judged(messages, 0, max_results, size)?;
        covers(&ranges, SECOND)?;
        covers(&ranges, THIRD)?;
        spares(&ranges, FIRST)?;
    }
    let starting_offset = (THIRD * SLOT) as i64;
    let request = GetMetadataDeltaRequest { starting_offset, ..delta(&base, &target) };
    let messages = f.stream(request).await.map_err(|status| Failure::code(&[Code::Ok], &status))?;
    covers(&judged(messages, starting_offset, 0, size)?, THIRD)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn part(ranges: &[(i64, i64)]) -> GetMetadataAllocatedResponse {
        GetMetadataAllocatedResponse {
            block_metadata_type: BlockMetadataType::VariableLength.into(),
            volume_capacity_bytes: 1000,
            block_metadata: ranges
                .iter()
                .map(|&(byte_offset, size_bytes)| BlockMetadata { byte_offset, size_bytes })
                .collect(),
        }
    }

    #[test]
    fn streams_are_judged() {
        assert!(judged(vec![part(&[(0, 10), (10, 10)]), part(&[(30, 1)])], 0, 2, 1000).is_ok());
        for (name, ranges, offset, most) in [
            ("overlap", vec![(0, 10), (9, 10)], 0, 0),
            ("descend", vec![(20, 10), (0, 10)], 0, 0),
            ("empty", vec![(0, 0)], 0, 0),
            ("before the offset", vec![(0, 10), (20, 5)], 10, 0),
            ("too many", vec![(0, 1), (2, 1)], 0, 1),
            ("beyond the end", vec![(990, 11)], 0, 0),
            ("negative", vec![(-1, 11)], 0, 0),
        ] {
            assert!(judged(vec![part(&ranges)], offset, most, 1000).is_err(), "{name}");
        }
    }
}
