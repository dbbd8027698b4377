//! CreateVolume: the fields, the name, the size.

use std::collections::{HashMap, HashSet};

use holdfast_proto::csi::{
    self, CapacityRange, VolumeCapability,
    controller_service_capability::rpc::Type as Controller,
    plugin_capability::service::Type as Plugin,
    volume_capability::{AccessMode, access_mode::Mode},
};
use tonic::Code;

use crate::{
    capability,
    check::{Check, check, refuse},
    failure::{Verdict, must},
    fixture::Fixture,
    need::{BLOCK, CREATE, MOUNT, Need},
    rows::{
        ANSWER, BAD_CAPACITY, IDEMPOTENT, INVALID, MISSING, TOO_LONG, UNIMPLEMENTED,
        controller::{CAPACITY, ELSEWHERE, NAMES, REVERSED_RANGE, SEVERAL, SILENT_RANGE, TOPOLOGY},
    },
};

const UNDECLARED: &[Need] = &[Need::NoController(Controller::CreateDeleteVolume)];
const IN_TOPOLOGY: &[Need] = &[Need::Topology];

pub(super) const CHECKS: &[Check] = &[
    refuse!("create-volume/undeclared", CreateVolume, UNIMPLEMENTED, [UNDECLARED], |f| f.create_request()),
    refuse!("create-volume/missing-name", CreateVolume, MISSING, [CREATE], |f| f.create_named("")),
    refuse!("create-volume/missing-capabilities", CreateVolume, MISSING, [CREATE], |f| with(f, vec![])),
    refuse!("create-volume/missing-access-type", CreateVolume, MISSING, [CREATE], |f| with(
        f,
        vec![VolumeCapability { access_type: None, ..f.capability() }]
    )),
    refuse!("create-volume/missing-access-mode", CreateVolume, MISSING, [CREATE], |f| with(
        f,
        vec![VolumeCapability { access_mode: None, ..f.capability() }]
    )),
    refuse!("create-volume/unknown-access-mode", CreateVolume, INVALID, [CREATE], |f| with(
        f,
        vec![mode(f, 0)]
    )),
    refuse!("create-volume/undefined-access-mode", CreateVolume, INVALID, [CREATE], |f| with(
        f,
        vec![mode(f, 99)]
    )),
    refuse!("create-volume/unknown-fs-type", CreateVolume, INVALID, [CREATE, MOUNT], |f| with(
        f,
        vec![capability::mount("csi-check-no-such-fs", Mode::SingleNodeWriter)]
    )),
    refuse!("create-volume/one-bad-capability-of-two", CreateVolume, INVALID, [CREATE], |f| with(
        f,
        vec![f.capability(), mode(f, 99)]
    )),
    refuse!("create-volume/unknown-mutable-parameter", CreateVolume, INVALID, [CREATE], |f| {
        let mutable_parameters = pair("csi-check/no-such-parameter", "x");
        csi::CreateVolumeRequest { mutable_parameters, ..f.create_request() }
    }),
    refuse!("create-volume/name-nul", CreateVolume, INVALID, [CREATE], |f| f.create_named(&odd(f, "\0"))),
    refuse!("create-volume/name-control-first", CreateVolume, INVALID, [CREATE], |f| f
        .create_named(&odd(f, "\u{1}"))),
    refuse!("create-volume/name-vertical-tab", CreateVolume, INVALID, [CREATE], |f| f
        .create_named(&odd(f, "\u{b}"))),
    refuse!("create-volume/name-escape", CreateVolume, INVALID, [CREATE], |f| f
        .create_named(&odd(f, "\u{1b}"))),
    refuse!("create-volume/name-delete", CreateVolume, INVALID, [CREATE], |f| f
        .create_named(&odd(f, "\u{7f}"))),
    refuse!("create-volume/name-control-last", CreateVolume, INVALID, [CREATE], |f| f
        .create_named(&odd(f, "\u{9f}"))),
    refuse!("create-volume/name-129-bytes", CreateVolume, TOO_LONG, [CREATE], |f| f
        .create_named(&filled(f, "n", 129))),
    refuse!("create-volume/name-129-bytes-of-128-characters", CreateVolume, TOO_LONG, [CREATE], |f| {
        f.create_named(&format!("{}ü", filled(f, "n", 127)))
    }),
    refuse!("create-volume/name-1-mib", CreateVolume, TOO_LONG, [CREATE], |f| f.create_named(&filled(
        f,
        "n",
        1 << 20
    ))),
    refuse!("create-volume/parameters-too-long", CreateVolume, TOO_LONG, [CREATE], |f| {
        let mut parameters = f.options().parameters.clone();
        parameters.insert("csi-check".to_owned(), "x".repeat(5000));
        csi::CreateVolumeRequest { parameters, ..f.create_request() }
    }),
    check!("create-volume/name-128-bytes", CreateVolume, NAMES, [CREATE], name_longest),
    check!("create-volume/name-unicode", CreateVolume, NAMES, [CREATE], name_unicode),
    check!("create-volume/name-like-a-path", CreateVolume, NAMES, [CREATE], name_path),
    check!("create-volume/name-white-space", CreateVolume, NAMES, [CREATE], name_white_space),
    check!("create-volume/names-nearly-the-same", CreateVolume, NAMES, [CREATE], names_nearly_the_same),
    check!("create-volume/answer", CreateVolume, ANSWER, [CREATE], answer),
    check!("create-volume/idempotent", CreateVolume, IDEMPOTENT, [CREATE], idempotent),
    check!("create-volume/idempotent-within-range", CreateVolume, IDEMPOTENT, [CREATE], within_range),
    check!("create-volume/both-access-types", CreateVolume, SEVERAL, [CREATE, MOUNT, BLOCK], both),
    check!("create-volume/two-access-modes", CreateVolume, SEVERAL, [CREATE], two_modes),
    check!("create-volume/range-empty", CreateVolume, SILENT_RANGE, [CREATE], silent_range),
    refuse!("create-volume/range-reversed", CreateVolume, REVERSED_RANGE, [CREATE], |f| {
        sized(f, f.options().size, f.options().size - 1)
    }),
    refuse!("create-volume/range-negative-required", CreateVolume, REVERSED_RANGE, [CREATE], |f| sized(
        f, -1, 0
    )),
    refuse!("create-volume/range-negative-limit", CreateVolume, REVERSED_RANGE, [CREATE], |f| sized(
        f, 0, -1
    )),
    refuse!("create-volume/range-smallest-number", CreateVolume, REVERSED_RANGE, [CREATE], |f| sized(
        f,
        i64::MIN,
        i64::MIN
    )),
    refuse!("create-volume/too-large", CreateVolume, BAD_CAPACITY, [CREATE], |f| sized(f, i64::MAX, 0)),
    refuse!("create-volume/too-small", CreateVolume, BAD_CAPACITY, [CREATE], |f| sized(f, 0, 1)),
    check!("create-volume/range-omitted", CreateVolume, CAPACITY, [CREATE], range_omitted),
    check!("create-volume/range-exact", CreateVolume, CAPACITY, [CREATE], range_exact),
    check!("create-volume/range-odd", CreateVolume, CAPACITY, [CREATE], range_odd),
    check!("create-volume/range-limit-only", CreateVolume, CAPACITY, [CREATE], range_limit),
    check!("create-volume/topology-here", CreateVolume, TOPOLOGY, [CREATE, IN_TOPOLOGY], topology_here),
    check!(
        "create-volume/topology-preferred",
        CreateVolume,
        TOPOLOGY,
        [CREATE, IN_TOPOLOGY],
        topology_preferred
    ),
    refuse!("create-volume/topology-elsewhere", CreateVolume, ELSEWHERE, [CREATE, IN_TOPOLOGY], |f| {
        csi::CreateVolumeRequest { accessibility_requirements: requisite(elsewhere(f)), ..f.create_request() }
    }),
];

fn with(f: &Fixture, volume_capabilities: Vec<VolumeCapability>) -> csi::CreateVolumeRequest {
    csi::CreateVolumeRequest { volume_capabilities, ..f.create_request() }
}

/// Refused, or the same as no range.
async fn silent_range(f: &Fixture) -> Verdict {
    let codes = [Code::Ok, Code::InvalidArgument, Code::OutOfRange];
    if f.answers(sized(f, 0, 0), &codes).await?.is_some() {
        f.create(csi::CreateVolumeRequest { capacity_range: None, ..f.create_request() }).await?;
    }
    Ok(())
}

fn sized(f: &Fixture, required_bytes: i64, limit_bytes: i64) -> csi::CreateVolumeRequest {
    let capacity_range = Some(CapacityRange { required_bytes, limit_bytes });
    csi::CreateVolumeRequest { capacity_range, ..f.create_request() }
}

fn mode(f: &Fixture, mode: i32) -> VolumeCapability {
    VolumeCapability { access_mode: Some(AccessMode { mode }), ..f.capability() }
}

fn pair(key: &str, value: &str) -> HashMap<String, String> {
    HashMap::from([(key.to_owned(), value.to_owned())])
}

/// A name with something in its middle.
fn odd(f: &Fixture, what: &str) -> String {
    format!("{}{what}x", f.name())
}

/// A name of exactly so many bytes.
fn filled(f: &Fixture, with: &str, bytes: usize) -> String {
    let name = f.name();
    let rest = bytes.saturating_sub(name.len()) / with.len();
    name + &with.repeat(rest)
}

/// The volume is made under this name, and found under it again.
async fn named(f: &Fixture, name: &str) -> Verdict<String> {
    let (volume, again) = f.twice(f.create_named(name)).await?;
    let (id, again) =
        (volume.volume.unwrap_or_default().volume_id, again.volume.unwrap_or_default().volume_id);
    must!(!id.is_empty() && id == again, format!("the volume {id:?} again"), "{again:?}");
    must!(id.len() <= 128, "a volume_id of at most 128 bytes", "{id:?}");
    Ok(id)
}

async fn name_longest(f: &Fixture) -> Verdict {
    // Names that differ in their last byte only: a plugin that cuts them finds one volume.
    let name = filled(f, "n", 127);
    let (one, two) = (named(f, &format!("{name}1")).await?, named(f, &format!("{name}2")).await?);
    must!(one != two, "two volumes for two names of 128 bytes", "{one:?} for both");
    Ok(())
}

async fn name_unicode(f: &Fixture) -> Verdict {
    for part in ["Zürich-东京-🦀", "e\u{301}", "\u{202e}right-to-left", "\u{a0}\u{feff}"] {
        named(f, &odd(f, part)).await?;
    }
    Ok(())
}

async fn name_path(f: &Fixture) -> Verdict {
    let mut seen = HashSet::new();
    for (before, after) in
        [("", "/x"), ("../../", ""), ("/etc/", ""), ("", "/.."), ("./", ""), ("-", ""), (".", "")]
    {
        let id = named(f, &format!("{before}{}{after}", f.name())).await?;
        must!(seen.insert(id.clone()), "a volume for each name", "{id:?} for two");
    }
    Ok(())
}

async fn name_white_space(f: &Fixture) -> Verdict {
    for part in [" ", "\t", "\n", "\r"] {
        named(f, &odd(f, part)).await?;
    }
    Ok(())
}

async fn names_nearly_the_same(f: &Fixture) -> Verdict {
    let name = f.name();
    let mut seen = HashSet::new();
    for other in [
        name.clone(),
        name.to_uppercase(),
        format!("{name} "),
        format!(" {name}"),
        format!("{name}é"),
        format!("{name}e\u{301}"),
        format!("{name}/"),
        format!("{name}_"),
    ] {
        let id = named(f, &other).await?;
        must!(
            seen.insert(id.clone()),
            format!("another volume for {other:?}"),
            "{id:?}, which has another name"
        );
    }
    Ok(())
}

async fn answer(f: &Fixture) -> Verdict {
    let size = f.options().size;
    let volume = f.ok(f.create_request()).await?.volume.unwrap_or_default();
    must!(
        (1..=128).contains(&volume.volume_id.len()),
        "a volume_id of 1 to 128 bytes",
        "{:?}",
        volume.volume_id
    );
    let context: usize = volume.volume_context.iter().map(|(key, value)| key.len() + value.len()).sum();
    must!(context <= 4096, "a volume_context of at most 4096 bytes", "{context} bytes");
    must!(
        volume.capacity_bytes == 0 || volume.capacity_bytes >= size,
        format!("at least {size} bytes"),
        "{} bytes",
        volume.capacity_bytes
    );
    must!(
        volume.content_source.is_none(),
        "no content_source: none was asked for",
        "{:?}",
        volume.content_source
    );
    if !f.declared().services.contains(&Plugin::VolumeAccessibilityConstraints) {
        let topology = &volume.accessible_topology;
        must!(topology.is_empty(), "no topology without VOLUME_ACCESSIBILITY_CONSTRAINTS", "{topology:?}");
    }
    Ok(())
}

async fn idempotent(f: &Fixture) -> Verdict {
    let (first, second) = f.twice(f.create_request()).await?;
    must!(first == second, format!("the first answer again: {first:?}"), "{second:?}");
    Ok(())
}

/// The same name with another range that the volume is in.
async fn within_range(f: &Fixture) -> Verdict {
    let request = f.create_request();
    let volume = f.ok(request.clone()).await?.volume.unwrap_or_default();
    let capacity = volume.capacity_bytes.max(f.options().size);
    let ranges = [
        CapacityRange { required_bytes: capacity, limit_bytes: capacity },
        CapacityRange { required_bytes: 1, limit_bytes: 0 },
        CapacityRange { required_bytes: 0, limit_bytes: capacity },
    ];
    for range in ranges {
        let again = csi::CreateVolumeRequest { capacity_range: Some(range), ..request.clone() };
        let again = f.ok(again).await?.volume.unwrap_or_default();
        must!(
            again.volume_id == volume.volume_id,
            format!("{:?} again", volume.volume_id),
            "{:?}",
            again.volume_id
        );
    }
    Ok(())
}

async fn both(f: &Fixture) -> Verdict {
    several(f, vec![f.capability(), capability::opposite(&f.capability())]).await
}

async fn two_modes(f: &Fixture) -> Verdict {
    let reader = capability::with_mode(&f.capability(), Mode::SingleNodeReaderOnly);
    several(f, vec![f.capability(), reader]).await
}

/// Refused, or a volume of which the plugin confirms each.
async fn several(f: &Fixture, capabilities: Vec<VolumeCapability>) -> Verdict {
    let request = with(f, capabilities.clone());
    let Some(made) = f.answers(request, &[Code::Ok, Code::InvalidArgument]).await? else { return Ok(()) };
    for capability in capabilities {
        let shown = capability::describe(&capability);
        let volume = made.volume.clone().unwrap_or_default();
        let confirmed = f
            .ok(csi::ValidateVolumeCapabilitiesRequest {
                volume_id: volume.volume_id,
                volume_context: volume.volume_context,
                volume_capabilities: vec![capability],
                ..Default::default()
            })
            .await?;
        must!(
            confirmed.confirmed.is_some(),
            format!("a volume made for it to confirm {shown}"),
            "{confirmed:?}"
        );
    }
    Ok(())
}

async fn range_omitted(f: &Fixture) -> Verdict {
    let request = csi::CreateVolumeRequest { capacity_range: None, ..f.create_request() };
    let (volume, again) = f.twice(request).await?;
    must!(volume == again, format!("the first answer again: {volume:?}"), "{again:?}");
    let bytes = volume.volume.unwrap_or_default().capacity_bytes;
    must!(bytes >= 0, "a capacity that is not negative", "{bytes}");
    Ok(())
}

/// A volume within the range, or OUT_OF_RANGE from a plugin that cannot make that size.
async fn within(f: &Fixture, required: i64, limit: i64) -> Verdict {
    let request = sized(f, required, limit);
    if let Some(answer) = f.answers(request, &[Code::Ok, Code::OutOfRange]).await? {
        let bytes = answer.volume.unwrap_or_default().capacity_bytes;
        must!(
            bytes == 0 || bytes >= required && (limit == 0 || bytes <= limit),
            format!("{required} to {limit} bytes (0: no limit)"),
            "{bytes} bytes"
        );
    }
    Ok(())
}

async fn range_exact(f: &Fixture) -> Verdict {
    within(f, f.options().size, f.options().size).await
}

async fn range_odd(f: &Fixture) -> Verdict {
    within(f, f.options().size + 1, 0).await?;
    within(f, f.options().size + 1, f.options().size + 1).await
}

async fn range_limit(f: &Fixture) -> Verdict {
    within(f, 0, f.options().size).await?;
    within(f, 0, f.options().size + 1).await
}

fn requisite(topology: csi::Topology) -> Option<csi::TopologyRequirement> {
    Some(csi::TopologyRequirement { requisite: vec![topology], preferred: vec![] })
}

fn here(f: &Fixture) -> csi::Topology {
    f.declared().topology.clone().unwrap_or_default()
}

/// The keys of this node, with values that it does not have.
pub(super) fn elsewhere(f: &Fixture) -> csi::Topology {
    let mut topology = here(f);
    topology.segments.values_mut().for_each(|value| *value = "csi-check-elsewhere".to_owned());
    topology
}

async fn topology_here(f: &Fixture) -> Verdict {
    reachable(f, csi::TopologyRequirement { requisite: vec![here(f)], preferred: vec![here(f)] }).await
}

/// Preferences are no requirements.
async fn topology_preferred(f: &Fixture) -> Verdict {
    let requirement = csi::TopologyRequirement {
        requisite: vec![elsewhere(f), here(f)],
        preferred: vec![elsewhere(f), here(f)],
    };
    reachable(f, requirement).await
}

async fn reachable(f: &Fixture, requirement: csi::TopologyRequirement) -> Verdict {
    let request =
        csi::CreateVolumeRequest { accessibility_requirements: Some(requirement), ..f.create_request() };
    let volume = f.ok(request).await?.volume.unwrap_or_default();
    let places = &volume.accessible_topology;
    let is_here = |place: &csi::Topology| {
        place.segments.iter().all(|(key, value)| here(f).segments.get(key) == Some(value))
    };
    must!(
        places.is_empty() || places.iter().any(is_here),
        format!("a volume at {:?}", here(f)),
        "{places:?}"
    );
    Ok(())
}
