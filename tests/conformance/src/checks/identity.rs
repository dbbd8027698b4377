//! The Identity service, and NodeGetInfo.

use holdfast_proto::csi;

use crate::{
    check::{Check, check},
    failure::{Verdict, must},
    fixture::Fixture,
    need::{NOTHING, Need},
    rows::{ANSWER, general},
};

pub(super) const CHECKS: &[Check] = &[
    check!("get-plugin-info/name", GetPluginInfo, general::INFO, [NOTHING], name),
    check!("get-plugin-info/answer", GetPluginInfo, ANSWER, [NOTHING], answer),
    check!("probe/ok", Probe, general::HEALTHY, [NOTHING], probe),
    check!("node-get-info/answer", NodeGetInfo, ANSWER, [NODE], node_info),
];

/// The Node service is there, wherever that is.
const NODE: &[Need] = &[Need::NodeService];

/// The longest name of a plugin, in characters (CSI v1.12, GetPluginInfo).
const NAME: usize = 63;
/// The general limit of a string, in bytes (CSI v1.12, "Size Limits").
const STRING: usize = 128;
/// The general limit of a map, in bytes (the same).
const MAP: usize = 4096;
/// The longest id of a node, in bytes (CSI v1.12, NodeGetInfo).
const NODE_ID: usize = 256;

async fn name(fixture: &Fixture) -> Verdict {
    let info = fixture.ok(csi::GetPluginInfoRequest {}).await?;
    let edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    let fits = info.name.len() <= NAME
        && edge(info.name.chars().next())
        && edge(info.name.chars().last())
        && info.name.chars().all(|c| c.is_ascii_alphanumeric() || c == '-' || c == '.');
    must!(
        fits,
        format!("at most {NAME} letters, digits, dashes and dots, with a letter or digit at both ends"),
        "{:?}",
        info.name
    );
    Ok(())
}

async fn answer(fixture: &Fixture) -> Verdict {
    let (info, again) = fixture.twice(csi::GetPluginInfoRequest {}).await?;
    must!(!info.vendor_version.is_empty(), "a vendor_version", "none");
    must!(
        info.vendor_version.len() <= STRING,
        format!("at most {STRING} bytes"),
        "{:?}",
        info.vendor_version
    );
    let manifest: usize = info.manifest.iter().map(|(key, value)| key.len() + value.len()).sum();
    must!(manifest <= MAP, format!("a manifest of at most {MAP} bytes"), "{manifest} bytes");
    must!(info == again, format!("the first answer again: {info:?}"), "{again:?}");
    Ok(())
}

async fn probe(fixture: &Fixture) -> Verdict {
    let (_, again) = fixture.twice(csi::ProbeRequest {}).await?;
    must!(again.ready != Some(false), "ready", "not ready, when other calls are answered");
    Ok(())
}

async fn node_info(fixture: &Fixture) -> Verdict {
    use csi::plugin_capability::service::Type::VolumeAccessibilityConstraints;
    let (info, again) = fixture.twice(csi::NodeGetInfoRequest {}).await?;
    must!(!info.node_id.is_empty(), "a node_id", "none");
    must!(
        info.node_id.len() <= NODE_ID,
        format!("a node_id of at most {NODE_ID} bytes"),
        "{:?}",
        info.node_id
    );
    must!(
        info.max_volumes_per_node >= 0,
        "max_volumes_per_node that is not negative",
        "{}",
        info.max_volumes_per_node
    );
    must!(info == again, format!("the first answer again: {info:?}"), "{again:?}");
    if fixture.declared().services.contains(&VolumeAccessibilityConstraints) {
        let segments = info.accessible_topology.unwrap_or_default().segments;
        must!(
            !segments.is_empty(),
            "where the node is, with VOLUME_ACCESSIBILITY_CONSTRAINTS",
            "no segments"
        );
        for (key, value) in &segments {
            let name = key.rsplit_once('/').map_or(key.as_str(), |(_, name)| name);
            must!(
                (1..=63).contains(&name.len()) && value.len() <= 63,
                "topology keys with names, and values, of at most 63 characters",
                "{key:?}: {value:?}"
            );
        }
    }
    Ok(())
}
