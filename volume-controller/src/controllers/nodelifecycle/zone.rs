//! How many nodes of a zone are silent: many at once say more about the network, or about this server, than
//! about the nodes.

use std::{collections::BTreeMap, time::Duration};

use holdfast_api::nodes;
use k8s_openapi::api::core::v1::Node;

use super::patience::Patience;
use crate::controllers::view::View;

/// From this many nodes on, pods are driven away slowly in a zone of which much is silent; in a smaller one not at
/// all (`--large-cluster-size-threshold`).
const LARGE: usize = 50;
/// That much is silent (`--unhealthy-zone-threshold`), in percent, and at least three nodes.
const MUCH: usize = 55;
/// How much slower then.
const SLOWER: u32 = 10;

/// The nodes of one zone.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Zone {
    pub(crate) size: usize,
    pub(crate) unready: usize,
}

impl Zone {
    fn is_dark(self) -> bool {
        self.unready == self.size
    }

    fn is_half_dark(self) -> bool {
        !self.is_dark() && self.unready > 2 && self.unready * 100 >= self.size * MUCH
    }
}

/// The zones of all nodes, by name.
pub(crate) type Zones = BTreeMap<String, Zone>;

/// The zone that a node says it is in.
pub(crate) fn of(node: &Node) -> &str {
    let labels = node.metadata.labels.as_ref();
    labels.and_then(|labels| labels.get(nodes::ZONE_LABEL)).map_or("", String::as_str)
}

pub(crate) fn survey(view: &View) -> Zones {
    let mut zones = Zones::new();
    for node in view.nodes.iter() {
        let zone = zones.entry(of(node).to_owned()).or_default();
        zone.size += 1;
        zone.unready += usize::from(!nodes::is_ready(node));
    }
    zones
}

/// Whether no node at all is ready. Then it is not the nodes that are at fault, and there is nowhere to go.
pub(crate) fn is_all_dark(zones: &Zones) -> bool {
    !zones.is_empty() && zones.values().all(|zone| zone.is_dark())
}

/// The least time between two nodes of the zone from which pods are driven away; `None`: from none.
pub(crate) fn pace(zones: &Zones, zone: &str, patience: &Patience) -> Option<Duration> {
    let counted = zones.get(zone).copied().unwrap_or_default();
    match counted {
        _ if is_all_dark(zones) => None,
        zone if zone.is_half_dark() && zone.size > LARGE => Some(patience.pace() * SLOWER),
        zone if zone.is_half_dark() => None,
        _ => Some(patience.pace()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_is_silent_the_less_is_done() {
        let zones = |all: &[(&str, usize, usize)]| -> Zones {
            all.iter().map(|&(name, unready, size)| (name.to_owned(), Zone { size, unready })).collect()
        };
        let patience = Patience::default();
        let (usual, slow) = (Some(Duration::from_secs(10)), Some(Duration::from_secs(100)));
        for (number, all, expected) in [
            (1, zones(&[("a", 1, 3)]), usual),
            (2, zones(&[("a", 2, 3)]), usual),
            (3, zones(&[("a", 3, 5)]), None),
            (4, zones(&[("a", 3, 6)]), usual),
            (5, zones(&[("a", 30, 51)]), slow),
            (6, zones(&[("a", 1, 1)]), None),
            (7, zones(&[("a", 3, 3), ("b", 2, 2)]), None),
            (8, zones(&[("a", 3, 3), ("b", 1, 2)]), usual),
        ] {
            assert_eq!(pace(&all, "a", &patience), expected, "case {number}");
        }
        assert!(!is_all_dark(&Zones::new()));
    }
}
