//! NodeGetVolumeStats and NodeExpandVolume.

use holdfast_proto::csi::{
    self, CapacityRange, controller_service_capability::rpc::Type as Controller,
    node_service_capability::rpc::Type as Node, plugin_capability::volume_expansion::Type as Expansion,
    volume_usage::Unit,
};
use tonic::Code;

use crate::{
    capability::{self, is_block},
    check::{Check, check, refuse},
    failure::{Failure, Verdict, describe, must},
    fixture::{Fixture, Volume, local::pattern, requests::NO_SUCH_ID},
    need::{BLOCK, EXPAND, LOCAL, MOUNT, NOTHING, Need},
    rows::{
        EXCEEDS, IDEMPOTENT, INVALID, MISSING, NO_VOLUME, UNIMPLEMENTED,
        node::{BAD_CAPACITY, CONDITION, GROWN, IN_USE, USAGE},
    },
};

const STATS: &[Need] = &[Need::Node(Node::GetVolumeStats)];
const HEALTH: &[Need] = &[Need::Node(Node::VolumeCondition)];
const NO_STATS: &[Need] = &[Need::NoNode(Node::GetVolumeStats), Need::NoNode(Node::VolumeCondition)];
const NODE_EXPAND: &[Need] = &[Need::Node(Node::ExpandVolume)];
const NO_EXPAND: &[Need] = &[Need::NoNode(Node::ExpandVolume)];
const ONLINE: &[Need] = &[Need::Expansion(Expansion::Online), Need::Node(Node::ExpandVolume)];

/// A check about a published volume.
macro_rules! refuse_published {
    ($id:literal, $rpc:ident, $condition:expr, $needs:expr, |$f:ident, $v:ident| $request:expr) => {
        $crate::check::Check {
            id: $id,
            rpc: Some($crate::rpc::Rpc::$rpc),
            condition: $condition,
            needs: &$needs,
            run: |$f| {
                Box::pin(async move {
                    let $v = $f.published().await?;
                    let request = $request;
                    $f.refused(request).await
                })
            },
        }
    };
}

pub(super) const CHECKS: &[Check] = &[
    refuse!("node-get-volume-stats/undeclared", NodeGetVolumeStats, UNIMPLEMENTED, [NO_STATS], |_f| stats(
        NO_SUCH_ID, "/"
    )),
    refuse_published!(
        "node-get-volume-stats/missing-volume-id",
        NodeGetVolumeStats,
        MISSING,
        [LOCAL, STATS],
        |_f, v| { stats("", &v.path("target")) }
    ),
    refuse_published!(
        "node-get-volume-stats/missing-volume-path",
        NodeGetVolumeStats,
        MISSING,
        [LOCAL, STATS],
        |_f, v| { stats(&v.id, "") }
    ),
    refuse_published!(
        "node-get-volume-stats/relative-path",
        NodeGetVolumeStats,
        INVALID,
        [LOCAL, STATS],
        |_f, v| { stats(&v.id, "csi-check/target") }
    ),
    refuse_published!(
        "node-get-volume-stats/no-such-volume",
        NodeGetVolumeStats,
        NO_VOLUME,
        [LOCAL, STATS],
        |_f, v| { stats(NO_SUCH_ID, &v.path("target")) }
    ),
    refuse_published!(
        "node-get-volume-stats/no-such-path",
        NodeGetVolumeStats,
        NO_VOLUME,
        [LOCAL, STATS],
        |_f, v| { stats(&v.id, &v.path("no-such-path")) }
    ),
    refuse_published!(
        "node-get-volume-stats/not-at-this-path",
        NodeGetVolumeStats,
        NO_VOLUME,
        [LOCAL, STATS],
        |_f, v| { stats(&v.id, &crate::fixture::requests::text(&v.folder)) }
    ),
    check!("node-get-volume-stats/usage", NodeGetVolumeStats, USAGE, [LOCAL, STATS], usage),
    check!("node-get-volume-stats/block", NodeGetVolumeStats, USAGE, [LOCAL, STATS, BLOCK], usage_of_block),
    check!("node-get-volume-stats/used", NodeGetVolumeStats, USAGE, [LOCAL, STATS, MOUNT], used),
    check!("node-get-volume-stats/condition", NodeGetVolumeStats, CONDITION, [LOCAL, HEALTH], condition),
    refuse!("node-expand-volume/undeclared", NodeExpandVolume, UNIMPLEMENTED, [NO_EXPAND], |f| {
        csi::NodeExpandVolumeRequest {
            volume_id: NO_SUCH_ID.to_owned(),
            volume_path: "/".to_owned(),
            capacity_range: f.at_least(f.options().size),
            ..Default::default()
        }
    }),
    refuse_published!(
        "node-expand-volume/missing-volume-id",
        NodeExpandVolume,
        MISSING,
        [LOCAL, NODE_EXPAND],
        |f, v| { csi::NodeExpandVolumeRequest { volume_id: String::new(), ..expand(f, &v) } }
    ),
    refuse_published!(
        "node-expand-volume/missing-volume-path",
        NodeExpandVolume,
        MISSING,
        [LOCAL, NODE_EXPAND],
        |f, v| { csi::NodeExpandVolumeRequest { volume_path: String::new(), ..expand(f, &v) } }
    ),
    refuse_published!(
        "node-expand-volume/relative-path",
        NodeExpandVolume,
        INVALID,
        [LOCAL, NODE_EXPAND],
        |f, v| {
            csi::NodeExpandVolumeRequest { volume_path: "csi-check/target".to_owned(), ..expand(f, &v) }
        }
    ),
    refuse_published!(
        "node-expand-volume/no-such-volume",
        NodeExpandVolume,
        NO_VOLUME,
        [LOCAL, NODE_EXPAND],
        |f, v| { csi::NodeExpandVolumeRequest { volume_id: NO_SUCH_ID.to_owned(), ..expand(f, &v) } }
    ),
    refuse_published!(
        "node-expand-volume/no-such-path",
        NodeExpandVolume,
        NO_VOLUME,
        [LOCAL, NODE_EXPAND],
        |f, v| { csi::NodeExpandVolumeRequest { volume_path: v.path("no-such-path"), ..expand(f, &v) } }
    ),
    refuse_published!(
        "node-expand-volume/other-access-type",
        NodeExpandVolume,
        EXCEEDS,
        [LOCAL, NODE_EXPAND, MOUNT, BLOCK],
        |f, v| csi::NodeExpandVolumeRequest {
            volume_capability: Some(capability::opposite(&v.capability)),
            ..expand(f, &v)
        }
    ),
    refuse_published!(
        "node-expand-volume/too-large",
        NodeExpandVolume,
        BAD_CAPACITY,
        [LOCAL, NODE_EXPAND],
        |f, v| { f.node_expand_request(&v, "target", i64::MAX) }
    ),
    refuse_published!(
        "node-expand-volume/limit-below-size",
        NodeExpandVolume,
        BAD_CAPACITY,
        [LOCAL, NODE_EXPAND],
        |f, v| {
            let capacity_range =
                Some(CapacityRange { required_bytes: 0, limit_bytes: v.capacity.max(2) / 2 });
            csi::NodeExpandVolumeRequest { capacity_range, ..expand(f, &v) }
        }
    ),
    check!("node-expand-volume/online", NodeExpandVolume, GROWN, [EXPAND, LOCAL, ONLINE], online),
    check!(
        "node-expand-volume/online-block",
        NodeExpandVolume,
        GROWN,
        [EXPAND, LOCAL, ONLINE, BLOCK],
        online_block
    ),
    check!("node-expand-volume/offline", NodeExpandVolume, GROWN, [EXPAND, LOCAL, NOTHING], offline),
    check!("node-expand-volume/idempotent", NodeExpandVolume, IDEMPOTENT, [LOCAL, NODE_EXPAND], twice),
    check!("node-expand-volume/published", NodeExpandVolume, IN_USE, [EXPAND, LOCAL, ONLINE], in_use),
];

fn stats(volume_id: &str, volume_path: &str) -> csi::NodeGetVolumeStatsRequest {
    let (volume_id, volume_path) = (volume_id.to_owned(), volume_path.to_owned());
    csi::NodeGetVolumeStatsRequest { volume_id, volume_path, staging_target_path: String::new() }
}

fn expand(f: &Fixture, volume: &Volume) -> csi::NodeExpandVolumeRequest {
    f.node_expand_request(volume, "target", volume.capacity.max(f.options().size))
}

async fn usage_at(f: &Fixture, volume: &Volume) -> Verdict<Vec<csi::VolumeUsage>> {
    let answer = f.ok(f.stats_request(volume, "target")).await?;
    for usage in &answer.usage {
        must!(usage.unit() != Unit::Unknown, "a unit", "none: {usage:?}");
        let negative = usage.available < 0 || usage.total < 0 || usage.used < 0;
        must!(!negative, "numbers that are not negative", "{usage:?}");
        must!(usage.total >= usage.used, "no more used than there is", "{usage:?}");
    }
    Ok(answer.usage)
}

fn bytes(usage: &[csi::VolumeUsage]) -> Verdict<csi::VolumeUsage> {
    let found = usage.iter().find(|usage| usage.unit() == Unit::Bytes).copied();
    found.ok_or_else(|| Failure::wrong("a usage in bytes", format!("{usage:?}")))
}

async fn usage(f: &Fixture) -> Verdict {
    let volume = f.published().await?;
    let usage = bytes(&usage_at(f, &volume).await?)?;
    let seen = f.visible_bytes(&volume, "target").await?;
    // A quota may limit the volume to its size where the path shows all of a file system.
    must!(
        usage.total == seen || (usage.total == volume.capacity && usage.total < seen),
        format!("a total of the {seen} bytes that the path shows, or of the volume's {}", volume.capacity),
        "{usage:?}"
    );
    // Without where it is staged, for orchestrators of before that field.
    let answer = f.ok(stats(&volume.id, &volume.path("target"))).await?;
    must!(
        bytes(&answer.usage)?.total == usage.total,
        "the same total without staging_target_path",
        "{answer:?}"
    );
    Ok(())
}

async fn usage_of_block(f: &Fixture) -> Verdict {
    use holdfast_proto::csi::volume_capability::access_mode::Mode;
    let volume = f.published_for(capability::block(Mode::SingleNodeWriter)).await?;
    let usage = bytes(&usage_at(f, &volume).await?)?;
    let seen = f.visible_bytes(&volume, "target").await?;
    must!(usage.total == seen, format!("a total of the {seen} bytes of the device"), "{usage:?}");
    Ok(())
}

/// What is written is used.
async fn used(f: &Fixture) -> Verdict {
    const WRITTEN: usize = 4 << 20;
    if f.options().size < 4 * WRITTEN as i64 {
        return Err(Failure::Skip("--size is too small to write 4 MiB".to_owned()));
    }
    let volume = f.published().await?;
    let before = bytes(&usage_at(f, &volume).await?)?;
    f.write(&volume, "target", 0, pattern(1, WRITTEN)).await?;
    // btrfs counts what it has committed.
    f.commit(&volume, "target").await?;
    let after = bytes(&usage_at(f, &volume).await?)?;
    let grown = after.used - before.used;
    must!(grown >= WRITTEN as i64 / 2, format!("about {WRITTEN} bytes more in use"), "{grown} bytes more");
    Ok(())
}

async fn condition(f: &Fixture) -> Verdict {
    let volume = f.published().await?;
    let answer = f.ok(f.stats_request(&volume, "target")).await?;
    let Some(condition) = answer.volume_condition else {
        return Err(Failure::wrong("a volume_condition with VOLUME_CONDITION", "none"));
    };
    must!(!condition.abnormal, "the condition of a healthy volume", "{condition:?}");
    Ok(())
}

/// Grows a published volume on both sides. A file system that cannot grow while it is
/// mounted has its own row, and ends the check here.
async fn grow(f: &Fixture, volume: &Volume) -> Verdict<i64> {
    let wanted = 2 * volume.capacity.max(f.options().size);
    let answer = f.ok(f.expand_request(&volume.id, wanted)).await?;
    if answer.node_expansion_required {
        match f.call(f.node_expand_request(volume, "target", wanted)).await {
            Ok(node) => {
                let bytes = node.capacity_bytes;
                must!(bytes == 0 || bytes >= wanted, format!("at least {wanted} bytes"), "{bytes} bytes");
            }
            Err(status) if status.code() == Code::FailedPrecondition => {
                return Err(Failure::Skip(format!(
                    "this file system does not grow in use: {}",
                    describe(&status)
                )));
            }
            Err(status) => return Err(Failure::code(&[Code::Ok], &status)),
        }
    }
    Ok(wanted)
}

/// The volume shows its new size (a file system: most of it), and has its data.
async fn shows(f: &Fixture, volume: &Volume, wanted: i64) -> Verdict {
    let seen = f.visible_bytes(volume, "target").await?;
    let least = if is_block(&volume.capability) { wanted } else { wanted / 10 * 7 };
    must!(seen >= least, format!("at least {least} bytes to be seen"), "{seen} bytes");
    f.holds(volume, "target", 0, &pattern(2, 64 << 10)).await
}

async fn online(f: &Fixture) -> Verdict {
    let volume = f.published().await?;
    f.write(&volume, "target", 0, pattern(2, 64 << 10)).await?;
    let wanted = grow(f, &volume).await?;
    shows(f, &volume, wanted).await
}

async fn online_block(f: &Fixture) -> Verdict {
    use holdfast_proto::csi::volume_capability::access_mode::Mode;
    let volume = f.published_for(capability::block(Mode::SingleNodeWriter)).await?;
    f.write(&volume, "target", 0, pattern(2, 64 << 10)).await?;
    let wanted = grow(f, &volume).await?;
    shows(f, &volume, wanted).await
}

/// Grown while it is nowhere, the volume has its new size where it is published next, after
/// NodeExpandVolume where that is asked for.
async fn offline(f: &Fixture) -> Verdict {
    let mut volume = f.published().await?;
    f.write(&volume, "target", 0, pattern(2, 64 << 10)).await?;
    f.unpublish(&volume, "target").await?;
    f.unstage(&volume).await?;
    f.detach(&volume).await?;
    let wanted = 2 * volume.capacity.max(f.options().size);
    let answer = f.ok(f.expand_request(&volume.id, wanted)).await?;
    f.attach(&mut volume).await?;
    f.stage(&volume).await?;
    f.publish(&volume, "target").await?;
    if answer.node_expansion_required && f.declared().node.contains(&Node::ExpandVolume) {
        let request = f.node_expand_request(&volume, "target", wanted);
        if let Err(status) = f.call(request).await {
            let why = format!("this file system does not grow in use: {}", describe(&status));
            return Err(match status.code() {
                Code::FailedPrecondition => Failure::Skip(why),
                _ => Failure::code(&[Code::Ok], &status),
            });
        }
    }
    shows(f, &volume, wanted).await
}

async fn twice(f: &Fixture) -> Verdict {
    let volume = f.published().await?;
    let (first, again) = f.twice(expand(f, &volume)).await?;
    must!(first == again, format!("{first:?} again"), "{again:?}");
    Ok(())
}

/// OK, or FAILED_PRECONDITION where the file system cannot: never a broken volume.
async fn in_use(f: &Fixture) -> Verdict {
    let volume = f.published().await?;
    f.write(&volume, "target", 0, pattern(2, 64 << 10)).await?;
    let wanted = 2 * volume.capacity.max(f.options().size);
    if f.declared().controller.contains(&Controller::ExpandVolume) {
        f.ok(f.expand_request(&volume.id, wanted)).await?;
    }
    f.refused(f.node_expand_request(&volume, "target", wanted)).await?;
    f.holds(&volume, "target", 0, &pattern(2, 64 << 10)).await
}
