//! Inline ephemeral volumes: NodePublishVolume makes them, NodeUnpublishVolume ends them.

use std::{
    fs::{self, File},
    io::{self, Write as _},
};

use futures::future::join_all;
use holdfast_proto::csi::{self, node_service_capability::rpc::Type as Node, volume_usage::Unit};

use crate::{
    check::{Check, check, general},
    failure::{Failure, Verdict, must},
    fixture::{Between, Fixture, Volume, blocking, in_a_pod, local::pattern},
    need::{INLINE, Need, RESTART},
    rows::{
        IDEMPOTENT, INVALID, MISSING, PENDING, PUBLISHED_INCOMPATIBLE,
        general::{DATA, RESTARTED, RETRIED, WHOLE_LIFE},
        node::{INLINE_BAD, INLINE_ENDED, INLINE_MADE, PUBLISHED, SECOND_SINGLE, UNPUBLISHED, USAGE},
    },
};

const BAD: &[Need] = &[Need::BadInline];
const STATS: &[Need] = &[Need::Node(Node::GetVolumeStats)];

/// A volume that is published, with one thing wrong in the request.
macro_rules! refuse_inline {
    ($id:literal, $condition:expr, $needs:expr, |$f:ident, $v:ident| $request:expr) => {
        Check {
            id: $id,
            rpc: Some(crate::rpc::Rpc::NodePublishVolume),
            condition: $condition,
            needs: &$needs,
            run: |$f| {
                Box::pin(async move {
                    let $v = $f.inline().await?;
                    let request = $request;
                    $f.refused(request).await?;
                    nothing_at($f, &$v, "target").await
                })
            },
        }
    };
}

pub(super) const CHECKS: &[Check] = &[
    refuse_inline!("inline/missing-volume-id", MISSING, [INLINE], |f, v| csi::NodePublishVolumeRequest {
        volume_id: String::new(),
        ..f.inline_request(&v, "target")
    }),
    refuse_inline!("inline/missing-target-path", MISSING, [INLINE], |f, v| csi::NodePublishVolumeRequest {
        target_path: String::new(),
        ..f.inline_request(&v, "target")
    }),
    refuse_inline!("inline/missing-capability", MISSING, [INLINE], |f, v| csi::NodePublishVolumeRequest {
        volume_capability: None,
        ..f.inline_request(&v, "target")
    }),
    refuse_inline!("inline/relative-target-path", INVALID, [INLINE], |f, v| csi::NodePublishVolumeRequest {
        target_path: "csi-check/target".to_owned(),
        ..f.inline_request(&v, "target")
    }),
    refuse_inline!("inline/bad-attributes", INLINE_BAD, [INLINE, BAD], |f, v| {
        let volume_context = in_a_pod(f.options().bad_ephemeral.clone().unwrap_or_default());
        csi::NodePublishVolumeRequest { volume_context, ..f.inline_request(&v, "target") }
    }),
    check!("inline/published", NodePublishVolume, INLINE_MADE, [INLINE], published),
    check!("inline/full", NodePublishVolume, INLINE_MADE, [INLINE], full),
    check!("inline/apart", NodePublishVolume, INLINE_MADE, [INLINE], apart),
    check!("inline/readonly", NodePublishVolume, PUBLISHED, [INLINE], readonly),
    check!("inline/published-twice", NodePublishVolume, IDEMPOTENT, [INLINE], published_twice),
    check!("inline/other-readonly", NodePublishVolume, PUBLISHED_INCOMPATIBLE, [INLINE], other_readonly),
    check!("inline/other-target", NodePublishVolume, SECOND_SINGLE, [INLINE], other_target),
    check!("inline/published-at-once", NodePublishVolume, PENDING, [INLINE], at_once),
    check!("inline/many-at-once", NodePublishVolume, INLINE_MADE, [INLINE], many),
    check!("inline/stats", NodeGetVolumeStats, USAGE, [INLINE, STATS], stats),
    check!("inline/ended", NodeUnpublishVolume, INLINE_ENDED, [INLINE], ended),
    check!("inline/removed", NodeUnpublishVolume, UNPUBLISHED, [INLINE], removed),
    check!("inline/unpublished-twice", NodeUnpublishVolume, IDEMPOTENT, [INLINE], unpublished_twice),
    general!("inline/through-restart", DATA, [INLINE, RESTART], through_restart),
    general!("inline/life", WHOLE_LIFE, [INLINE], life),
    general!("inline/life/repeated", RETRIED, [INLINE], life_repeated),
    general!("inline/life/restarted", RESTARTED, [INLINE, RESTART], life_restarted),
];

const LENGTH: usize = 64 << 10;
/// The volumes that are made at once.
const MANY: u64 = 16;
/// A larger volume is not filled.
const FILLED: i64 = 1 << 30;
const STEP: usize = 1 << 20;

async fn nothing_at(f: &Fixture, volume: &Volume, target: &str) -> Verdict {
    let path = volume.path(target);
    must!(!f.is_mounted(&path).await?, format!("nothing mounted at {path}"), "a mount");
    must!(!f.exists(&path).await?, format!("no {path}"), "it is there");
    Ok(())
}

async fn is_empty(f: &Fixture, volume: &Volume) -> Verdict {
    let path = volume.path("target");
    let files = blocking(f, "the target can be listed", move || {
        fs::read_dir(path)?.map(|entry| Ok(entry?.file_name())).collect::<io::Result<Vec<_>>>()
    })
    .await?;
    must!(files.is_empty(), "a new volume to be empty", "{files:?}");
    Ok(())
}

async fn published(f: &Fixture) -> Verdict {
    let volume = f.inline_published().await?;
    is_empty(f, &volume).await?;
    f.write(&volume, "target", 0, pattern(1, LENGTH)).await?;
    f.holds(&volume, "target", 0, &pattern(1, LENGTH)).await
}

/// The bytes that go into one file until the volume takes no more.
async fn fill(f: &Fixture, volume: &Volume) -> Verdict<i64> {
    let size = f.visible_bytes(volume, "target").await?;
    if size > FILLED {
        return Err(Failure::Skip(format!("--ephemeral gives volumes of {size} bytes, too many to fill")));
    }
    let path = format!("{}/filling", volume.path("target"));
    let bytes = blocking(f, "the volume can be filled", move || {
        let mut file = File::create(&path)?;
        let mut bytes: i64 = 0;
        while bytes <= size {
            match file.write(&vec![7; STEP]) {
                Ok(written) => bytes += i64::try_from(written).unwrap_or(0),
                Err(error)
                    if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) =>
                {
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(bytes)
    })
    .await?;
    must!(bytes <= size, format!("no more than the {size} bytes that the volume shows"), "{bytes} written");
    Ok(bytes)
}

async fn full(f: &Fixture) -> Verdict {
    let volume = f.inline_published().await?;
    let size = f.visible_bytes(&volume, "target").await?;
    let bytes = fill(f, &volume).await?;
    must!(bytes >= size / 10 * 7, format!("about the {size} bytes that the volume shows"), "{bytes}");
    let path = format!("{}/filling", volume.path("target"));
    blocking(f, "a file can be removed from a full volume", move || fs::remove_file(path)).await?;
    f.write(&volume, "target", 0, pattern(2, LENGTH)).await?;
    f.holds(&volume, "target", 0, &pattern(2, LENGTH)).await
}

/// A full one takes nothing from another one.
async fn apart(f: &Fixture) -> Verdict {
    let (one, two) = (f.inline_published().await?, f.inline_published().await?);
    fill(f, &one).await?;
    is_empty(f, &two).await?;
    f.write(&two, "target", 0, pattern(3, LENGTH)).await?;
    f.holds(&two, "target", 0, &pattern(3, LENGTH)).await
}

async fn readonly(f: &Fixture) -> Verdict {
    let volume = f.inline().await?;
    f.ok(csi::NodePublishVolumeRequest { readonly: true, ..f.inline_request(&volume, "target") }).await?;
    must!(
        f.write(&volume, "target", 0, vec![1; 512]).await.is_err(),
        "no writing to a volume that is published readonly",
        "512 bytes written"
    );
    Ok(())
}

async fn published_twice(f: &Fixture) -> Verdict {
    let volume = f.inline_published().await?;
    f.write(&volume, "target", 0, pattern(4, LENGTH)).await?;
    f.ok(f.inline_request(&volume, "target")).await?;
    f.holds(&volume, "target", 0, &pattern(4, LENGTH)).await?;
    // Published twice, gone after once.
    f.unpublish(&volume, "target").await?;
    nothing_at(f, &volume, "target").await
}

async fn other_readonly(f: &Fixture) -> Verdict {
    let volume = f.inline_published().await?;
    f.refused(csi::NodePublishVolumeRequest { readonly: true, ..f.inline_request(&volume, "target") })
        .await?;
    f.write(&volume, "target", 0, pattern(5, LENGTH)).await
}

async fn other_target(f: &Fixture) -> Verdict {
    let volume = f.inline_published().await?;
    f.refused(f.inline_request(&volume, "other")).await?;
    nothing_at(f, &volume, "other").await?;
    f.ok(f.inline_request(&volume, "target")).await.map(|_| ())
}

async fn at_once(f: &Fixture) -> Verdict {
    let volume = f.inline().await?;
    f.at_once(vec![f.inline_request(&volume, "target"); 8]).await?;
    f.ok(f.inline_request(&volume, "target")).await?;
    f.at_once(vec![f.unpublish_request(&volume, "target"); 8]).await?;
    f.ok(f.unpublish_request(&volume, "target")).await?;
    nothing_at(f, &volume, "target").await
}

/// Many pods start and end at once: no volume is in the way of another.
async fn many(f: &Fixture) -> Verdict {
    let one = |number: u64| async move {
        let volume = f.inline_published().await?;
        f.write(&volume, "target", 0, pattern(100 + number, LENGTH)).await?;
        Ok::<_, Failure>((number, volume))
    };
    let volumes = join_all((0..MANY).map(one)).await.into_iter().collect::<Verdict<Vec<_>>>()?;
    let end = |(number, volume): (u64, Volume)| async move {
        f.holds(&volume, "target", 0, &pattern(100 + number, LENGTH)).await?;
        f.unpublish(&volume, "target").await?;
        nothing_at(f, &volume, "target").await
    };
    join_all(volumes.into_iter().map(end)).await.into_iter().collect()
}

async fn used_and_total(f: &Fixture, volume: &Volume) -> Verdict<(i64, i64)> {
    let answer = f.ok(f.inline_stats(volume, "target")).await?;
    let bytes = answer.usage.iter().find(|usage| usage.unit() == Unit::Bytes);
    bytes
        .map(|bytes| (bytes.used, bytes.total))
        .ok_or_else(|| Failure::wrong("a usage in bytes", format!("{answer:?}")))
}

async fn stats(f: &Fixture) -> Verdict {
    let volume = f.inline_published().await?;
    let (before, total) = used_and_total(f, &volume).await?;
    let seen = f.visible_bytes(&volume, "target").await?;
    must!(total == seen, format!("the {seen} bytes that the volume shows"), "{total}");
    let written = 16 * LENGTH;
    f.write(&volume, "target", 0, pattern(6, written)).await?;
    let (after, _) = used_and_total(f, &volume).await?;
    let most = before + 2 * written as i64;
    must!(
        (before + written as i64..=most).contains(&after),
        format!("{written} more bytes used than {before}"),
        "{after}"
    );
    Ok(())
}

/// The same pod's volume once more is a new one.
async fn ended(f: &Fixture) -> Verdict {
    let volume = f.inline_published().await?;
    f.write(&volume, "target", 0, pattern(7, LENGTH)).await?;
    f.unpublish(&volume, "target").await?;
    nothing_at(f, &volume, "target").await?;
    f.ok(f.inline_request(&volume, "target")).await?;
    is_empty(f, &volume).await
}

async fn removed(f: &Fixture) -> Verdict {
    let volume = f.inline_published().await?;
    f.unpublish(&volume, "target").await?;
    nothing_at(f, &volume, "target").await
}

/// A kubelet repeats what it does not know to be done, and waits until it is.
async fn unpublished_twice(f: &Fixture) -> Verdict {
    let volume = f.inline_published().await?;
    f.twice(f.unpublish_request(&volume, "target")).await.map(|_| ())
}

async fn through_restart(f: &Fixture) -> Verdict {
    let volume = f.inline_published().await?;
    f.write(&volume, "target", 0, pattern(8, LENGTH)).await?;
    f.restart().await?;
    f.holds(&volume, "target", 0, &pattern(8, LENGTH)).await?;
    f.write(&volume, "target", 1, pattern(9, LENGTH)).await?;
    f.ok(f.inline_request(&volume, "target")).await?;
    f.holds(&volume, "target", 1, &pattern(9, LENGTH)).await?;
    f.unpublish(&volume, "target").await?;
    nothing_at(f, &volume, "target").await
}

async fn life(f: &Fixture) -> Verdict {
    for seed in [10, 11] {
        let volume = f.inline_published().await?;
        is_empty(f, &volume).await?;
        f.write(&volume, "target", 0, pattern(seed, LENGTH)).await?;
        if f.declared().node.contains(&Node::GetVolumeStats) {
            f.ok(f.inline_stats(&volume, "target")).await?;
        }
        f.holds(&volume, "target", 0, &pattern(seed, LENGTH)).await?;
        f.unpublish(&volume, "target").await?;
        nothing_at(f, &volume, "target").await?;
    }
    Ok(())
}

async fn life_repeated(f: &Fixture) -> Verdict {
    f.after_each_call(Between::Repeat);
    life(f).await
}

async fn life_restarted(f: &Fixture) -> Verdict {
    f.after_each_call(Between::Restart);
    life(f).await
}
