//! From where a volume must be reachable.
//!
//! Source: "TopologyRequirement" in the CSI specification, and Kubernetes' documentation
//! of `volumeBindingMode` and `allowedTopologies`.

use std::{collections::BTreeMap, sync::Arc};

use holdfast_proto::csi::{Topology, TopologyRequirement};
use k8s_openapi::api::{
    core::v1::{
        Node, NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, TopologySelectorTerm,
        VolumeNodeAffinity,
    },
    storage::v1::CSINode,
};
use kube::ResourceExt;

use crate::Provisioning;

/// One place, as the driver names it: topology key → value.
pub(crate) type Segments = BTreeMap<String, String>;

/// Where one node is, by the driver's own keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NodePlace {
    pub node: String,
    pub segments: Segments,
}

/// Why no requirement can be made now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TopologyError {
    #[error("no node has registered the driver with a topology yet: is a node agent running?")]
    NoNodes,
    #[error(
        "node {0} was chosen, but the driver is not registered there with a topology: is its node agent running?"
    )]
    NodeUnknown(String),
    #[error("node {0} was chosen, but it is outside the class's allowedTopologies")]
    NotAllowed(String),
}

/// The places of all nodes on which `driver` is registered and whose labels have all of
/// its topology keys.
pub(crate) fn places(
    driver: &str,
    csi_nodes: &[Arc<CSINode>],
    nodes: impl Fn(&str) -> Option<Arc<Node>>,
) -> Vec<NodePlace> {
    let mut places: Vec<NodePlace> = csi_nodes
        .iter()
        .filter_map(|csi_node| {
            let registered = csi_node.spec.drivers.iter().find(|entry| entry.name == driver)?;
            let keys = registered.topology_keys.as_ref().filter(|keys| !keys.is_empty())?;
            let name = csi_node.name_any();
            let node = nodes(&name)?;
            let labels = node.labels();
            let segments: Option<Segments> =
                keys.iter().map(|key| Some((key.clone(), labels.get(key)?.clone()))).collect();
            Some(NodePlace { node: name, segments: segments? })
        })
        .collect();
    places.sort_by(|a, b| a.node.cmp(&b.node));
    places
}

/// The requirement for a claim: what is allowed, and what is liked best first.
///
/// With a selected node its place comes first, and is the only one where `how` is strict. Without one the order rotates
/// by the claim's name, so that the claims of a stateful set spread over the places.
pub(crate) fn requirement(
    how: &Provisioning,
    allowed: &[TopologySelectorTerm],
    selected: Option<&str>,
    places: &[NodePlace],
    claim: &str,
) -> Result<Option<TopologyRequirement>, TopologyError> {
    let chosen = match selected {
        Some(node) => Some(
            places
                .iter()
                .find(|place| place.node == node)
                .ok_or_else(|| TopologyError::NodeUnknown(node.to_owned()))?,
        ),
        None => None,
    };
    if let (Some(place), true) = (chosen, how.strict_topology) {
        let only = || to_csi(vec![place.segments.clone()]);
        return Ok(Some(TopologyRequirement { requisite: only(), preferred: only() }));
    }
    if chosen.is_none() && allowed.is_empty() && !how.immediate_topology {
        return Ok(None);
    }
    let mut requisite: Vec<Segments> = if allowed.is_empty() {
        if places.is_empty() {
            return Err(TopologyError::NoNodes);
        }
        places.iter().map(|place| place.segments.clone()).collect()
    } else {
        flatten(allowed)
    };
    requisite.retain(|segments| !segments.is_empty());
    requisite.sort();
    requisite.dedup();
    if requisite.is_empty() {
        // allowedTopologies with empty terms only: no limit.
        return Ok(None);
    }
    let first = match chosen {
        Some(place) => requisite
            .iter()
            .position(|segments| segments.iter().all(|(key, value)| place.segments.get(key) == Some(value)))
            .ok_or_else(|| TopologyError::NotAllowed(place.node.clone()))?,
        None => spread(claim) as usize % requisite.len(),
    };
    let mut preferred = requisite.clone();
    preferred.rotate_left(first);
    Ok(Some(TopologyRequirement { requisite: to_csi(requisite), preferred: to_csi(preferred) }))
}

fn to_csi(all: Vec<Segments>) -> Vec<Topology> {
    all.into_iter().map(|segments| Topology { segments: segments.into_iter().collect() }).collect()
}

/// `allowedTopologies` is an OR of ANDs of ORs of values; CSI wants an OR of ANDs. This
/// distributes the inner ORs: zone in (a, b) and rack in (1, 2) gives four places.
fn flatten(allowed: &[TopologySelectorTerm]) -> Vec<Segments> {
    let mut all = Vec::new();
    for term in allowed {
        let mut places = vec![Segments::new()];
        for expression in term.match_label_expressions.as_deref().unwrap_or_default() {
            places = places
                .iter()
                .flat_map(|place| {
                    expression.values.iter().map(move |value| {
                        let mut place = place.clone();
                        place.insert(expression.key.clone(), value.clone());
                        place
                    })
                })
                .collect();
        }
        all.append(&mut places);
    }
    all
}

/// A number from a claim's name that is the same for all claims of one stateful set plus
/// its ordinal (`data-web-2`: the hash of `web`, plus 2), as Kubernetes spreads them.
fn spread(claim: &str) -> u32 {
    let (stem, ordinal) = match claim.rsplit_once('-').map(|(stem, last)| (stem, last.parse::<u32>())) {
        Some((stem, Ok(ordinal))) => (stem.rsplit_once('-').map_or(stem, |(_, set)| set), ordinal),
        _ => (claim, 0),
    };
    // FNV-1, 32 bits.
    let hash =
        stem.bytes().fold(0x811c_9dc5_u32, |hash, byte| hash.wrapping_mul(0x0100_0193) ^ u32::from(byte));
    hash.wrapping_add(ordinal)
}

/// The affinity that keeps users of a volume where the driver says it is reachable.
pub(crate) fn node_affinity(accessible: &[Topology]) -> Option<VolumeNodeAffinity> {
    let terms: Vec<NodeSelectorTerm> = accessible
        .iter()
        .filter(|topology| !topology.segments.is_empty())
        .map(|topology| {
            let sorted: BTreeMap<_, _> = topology.segments.iter().collect();
            let expressions = sorted
                .into_iter()
                .map(|(key, value)| NodeSelectorRequirement {
                    key: key.clone(),
                    operator: "In".to_owned(),
                    values: Some(vec![value.clone()]),
                })
                .collect();
            NodeSelectorTerm { match_expressions: Some(expressions), match_fields: None }
        })
        .collect();
    (!terms.is_empty())
        .then_some(VolumeNodeAffinity { required: Some(NodeSelector { node_selector_terms: terms }) })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::TopologySelectorLabelRequirement;

    use super::*;

    fn at(node: &str, zone: &str) -> NodePlace {
        NodePlace { node: node.to_owned(), segments: [("zone".to_owned(), zone.to_owned())].into() }
    }

    fn zones(list: &[Topology]) -> Vec<&str> {
        list.iter().map(|topology| topology.segments["zone"].as_str()).collect()
    }

    fn allow(values: &[&str]) -> Vec<TopologySelectorTerm> {
        vec![TopologySelectorTerm {
            match_label_expressions: Some(vec![TopologySelectorLabelRequirement {
                key: "zone".to_owned(),
                values: values.iter().map(ToString::to_string).collect(),
            }]),
        }]
    }

    #[test]
    fn requirements() {
        let nodes = [at("n1", "a"), at("n2", "b"), at("n3", "c"), at("n4", "b")];
        type Row<'a> = (u32, &'a [&'a str], Option<&'a str>, Result<(&'a [&'a str], &'a str), TopologyError>);
        let table: [Row; 6] = [
            (1, &[], Some("n2"), Ok((&["a", "b", "c"], "b"))),
            (2, &[], Some("n9"), Err(TopologyError::NodeUnknown("n9".to_owned()))),
            (3, &["b", "c"], Some("n3"), Ok((&["b", "c"], "c"))),
            (4, &["b"], Some("n1"), Err(TopologyError::NotAllowed("n1".to_owned()))),
            (5, &["x"], None, Ok((&["x"], "x"))),
            (6, &[], Some("n1"), Ok((&["a", "b", "c"], "a"))),
        ];
        for (number, allowed, selected, wanted) in table {
            let allowed = if allowed.is_empty() { Vec::new() } else { allow(allowed) };
            let found = requirement(&Provisioning::default(), &allowed, selected, &nodes, "claim");
            match (found, wanted) {
                (Ok(Some(found)), Ok((requisite, first))) => {
                    assert_eq!(zones(&found.requisite), requisite, "row {number}");
                    assert_eq!(zones(&found.preferred)[0], first, "row {number}");
                    assert_eq!(found.preferred.len(), found.requisite.len(), "row {number}");
                }
                (found, wanted) => assert_eq!(found.err(), wanted.err(), "row {number}"),
            }
        }
        let usual = Provisioning::default();
        assert_eq!(requirement(&usual, &[], None, &[], "claim"), Err(TopologyError::NoNodes));
    }

    #[test]
    fn strict_and_no_immediate_topology() {
        let nodes = [at("n1", "a"), at("n2", "b")];
        let strict = Provisioning { strict_topology: true, ..Provisioning::default() };
        for allowed in [Vec::new(), allow(&["b", "c"])] {
            let found = requirement(&strict, &allowed, Some("n2"), &nodes, "claim").expect("a place");
            let found = found.expect("a requirement");
            assert_eq!((zones(&found.requisite), zones(&found.preferred)), (vec!["b"], vec!["b"]));
        }
        let found = requirement(&strict, &[], None, &nodes, "claim").expect("places").expect("a requirement");
        assert_eq!(zones(&found.requisite), ["a", "b"], "nothing was chosen");
        let free = Provisioning { immediate_topology: false, ..Provisioning::default() };
        assert_eq!(requirement(&free, &[], None, &nodes, "claim"), Ok(None));
        assert_eq!(requirement(&free, &[], None, &[], "claim"), Ok(None), "no node has to be there");
        assert!(requirement(&free, &[], Some("n1"), &nodes, "claim").is_ok_and(|found| found.is_some()));
        assert!(requirement(&free, &allow(&["a"]), None, &nodes, "claim").is_ok_and(|found| found.is_some()));
    }

    #[test]
    fn the_claims_of_a_stateful_set_spread() {
        let nodes = [at("n1", "a"), at("n2", "b"), at("n3", "c")];
        let mut firsts: Vec<String> = (0..3)
            .map(|ordinal| {
                let found =
                    requirement(&Provisioning::default(), &[], None, &nodes, &format!("data-web-{ordinal}"))
                        .expect("places");
                zones(&found.expect("a requirement").preferred)[0].to_owned()
            })
            .collect();
        firsts.sort();
        assert_eq!(firsts, ["a", "b", "c"]);
        assert_eq!(spread("data-web-1"), spread("logs-web-1"));
    }

    #[test]
    fn terms_with_two_keys_multiply() {
        let mut allowed = allow(&["a", "b"]);
        if let Some(expressions) = allowed[0].match_label_expressions.as_mut() {
            expressions.push(TopologySelectorLabelRequirement {
                key: "rack".to_owned(),
                values: vec!["1".to_owned(), "2".to_owned()],
            });
        }
        assert_eq!(flatten(&allowed).len(), 4);
    }

    #[test]
    fn only_nodes_with_the_driver_and_all_labels_count() {
        let csi_node = |name: &str, driver: &str| {
            let value = serde_json::json!({"metadata": {"name": name}, "spec": {"drivers": [
                {"name": driver, "nodeID": name, "topologyKeys": ["zone"]}]}});
            Arc::new(serde_json::from_value::<CSINode>(value).expect("a CSINode"))
        };
        let node = |name: &str| {
            let labels = match name {
                "n1" => serde_json::json!({"zone": "a"}),
                _ => serde_json::json!({}),
            };
            let value = serde_json::json!({"metadata": {"name": name, "labels": labels}});
            Some(Arc::new(serde_json::from_value::<Node>(value).expect("a Node")))
        };
        let all = [csi_node("n1", "d"), csi_node("n2", "d"), csi_node("n3", "other")];
        assert_eq!(places("d", &all, node), [at("n1", "a")]);
    }

    #[test]
    fn affinity_follows_what_the_driver_says() {
        assert_eq!(node_affinity(&[]), None);
        let topology = Topology { segments: [("zone".to_owned(), "a".to_owned())].into() };
        let affinity = node_affinity(&[topology]).and_then(|a| a.required).expect("required");
        assert_eq!(affinity.node_selector_terms.len(), 1);
    }
}
