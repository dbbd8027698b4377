//! ListVolumes, ControllerGetVolume, ValidateVolumeCapabilities, GetCapacity.

use holdfast_proto::csi::{
    self, VolumeCapability, controller_service_capability::rpc::Type as Controller,
    list_volumes_response::Entry, volume_capability::AccessMode, volume_capability::access_mode::Mode,
};
use tonic::Code;

use crate::{
    capability,
    check::{Check, check, refuse},
    failure::{Failure, Verdict, must},
    fixture::{Fixture, requests::NO_SUCH_ID},
    need::{BLOCK, CREATE, LIST, MOUNT, Need},
    rows::{
        ANSWER, BAD_TOKEN, IDEMPOTENT, INVALID, MISSING, NO_VOLUME, UNIMPLEMENTED,
        controller::{AVAILABLE, CHANGING, CONFIRMED, LISTED, PAGES},
    },
};

const GET: &[Need] =
    &[Need::Controller(Controller::CreateDeleteVolume), Need::Controller(Controller::GetVolume)];
const CAPACITY: &[Need] = &[Need::Controller(Controller::GetCapacity)];
const NO_LIST: &[Need] = &[Need::NoController(Controller::ListVolumes)];
const NO_GET: &[Need] = &[Need::NoController(Controller::GetVolume)];
const NO_CAPACITY: &[Need] = &[Need::NoController(Controller::GetCapacity)];
const IN_TOPOLOGY: &[Need] = &[Need::Topology];

pub(super) const CHECKS: &[Check] = &[
    refuse!(
        "validate-volume-capabilities/missing-id",
        ValidateVolumeCapabilities,
        MISSING,
        [CREATE],
        |f, v| {
            csi::ValidateVolumeCapabilitiesRequest { volume_id: String::new(), ..f.validate_request(&v) }
        }
    ),
    refuse!(
        "validate-volume-capabilities/missing-capabilities",
        ValidateVolumeCapabilities,
        MISSING,
        [CREATE],
        |f, v| {
            csi::ValidateVolumeCapabilitiesRequest { volume_capabilities: vec![], ..f.validate_request(&v) }
        }
    ),
    refuse!(
        "validate-volume-capabilities/no-such-volume",
        ValidateVolumeCapabilities,
        NO_VOLUME,
        [CREATE],
        |f, v| {
            csi::ValidateVolumeCapabilitiesRequest {
                volume_id: NO_SUCH_ID.to_owned(),
                ..f.validate_request(&v)
            }
        }
    ),
    check!(
        "validate-volume-capabilities/confirmed",
        ValidateVolumeCapabilities,
        CONFIRMED,
        [CREATE],
        confirmed
    ),
    check!(
        "validate-volume-capabilities/other-access-type",
        ValidateVolumeCapabilities,
        CONFIRMED,
        [CREATE, MOUNT, BLOCK],
        other_type
    ),
    check!(
        "validate-volume-capabilities/undefined-access-mode",
        ValidateVolumeCapabilities,
        CONFIRMED,
        [CREATE],
        undefined_mode
    ),
    check!(
        "validate-volume-capabilities/unknown-fs-type",
        ValidateVolumeCapabilities,
        CONFIRMED,
        [CREATE, MOUNT],
        unknown_fs_type
    ),
    check!(
        "validate-volume-capabilities/idempotent",
        ValidateVolumeCapabilities,
        IDEMPOTENT,
        [CREATE],
        validate_twice
    ),
    refuse!("list-volumes/undeclared", ListVolumes, UNIMPLEMENTED, [NO_LIST], |f| page(f, 0, "")),
    refuse!("list-volumes/negative-max-entries", ListVolumes, INVALID, [LIST], |f| page(f, -1, "")),
    refuse!("list-volumes/bad-token", ListVolumes, BAD_TOKEN, [LIST], |f| page(
        f,
        0,
        "csi-check-no-such-token"
    )),
    refuse!("list-volumes/bad-token-number", ListVolumes, BAD_TOKEN, [LIST], |f| page(f, 1, "987654321987")),
    refuse!("list-volumes/bad-token-negative-number", ListVolumes, BAD_TOKEN, [LIST], |f| page(f, 1, "-1")),
    check!("list-volumes/listed", ListVolumes, LISTED, [LIST], listed),
    check!("list-volumes/pages-of-one", ListVolumes, PAGES, [LIST], pages_of_one),
    check!("list-volumes/pages-of-two", ListVolumes, PAGES, [LIST], pages_of_two),
    check!("list-volumes/largest-page", ListVolumes, PAGES, [LIST], largest_page),
    check!("list-volumes/while-volumes-come-and-go", ListVolumes, CHANGING, [LIST], changing),
    refuse!("controller-get-volume/undeclared", ControllerGetVolume, UNIMPLEMENTED, [NO_GET], |f| get(
        f, NO_SUCH_ID
    )),
    refuse!("controller-get-volume/missing-id", ControllerGetVolume, MISSING, [GET], |f| get(f, "")),
    refuse!("controller-get-volume/no-such-volume", ControllerGetVolume, NO_VOLUME, [GET], |f| get(
        f, NO_SUCH_ID
    )),
    check!("controller-get-volume/answer", ControllerGetVolume, ANSWER, [GET], got),
    refuse!("get-capacity/undeclared", GetCapacity, UNIMPLEMENTED, [NO_CAPACITY], |f| capacity(f, vec![])),
    check!("get-capacity/answer", GetCapacity, AVAILABLE, [CAPACITY], available),
    check!("get-capacity/impossible-use", GetCapacity, AVAILABLE, [CAPACITY], impossible),
    check!("get-capacity/largest-volume", GetCapacity, AVAILABLE, [CREATE, CAPACITY], largest),
    check!("get-capacity/elsewhere", GetCapacity, AVAILABLE, [CAPACITY, IN_TOPOLOGY], capacity_elsewhere),
];

pub(super) fn get(_: &Fixture, volume_id: &str) -> csi::ControllerGetVolumeRequest {
    csi::ControllerGetVolumeRequest { volume_id: volume_id.to_owned() }
}

fn page(_: &Fixture, max_entries: i32, token: &str) -> csi::ListVolumesRequest {
    csi::ListVolumesRequest { max_entries, starting_token: token.to_owned() }
}

fn capacity(f: &Fixture, volume_capabilities: Vec<VolumeCapability>) -> csi::GetCapacityRequest {
    csi::GetCapacityRequest {
        volume_capabilities,
        parameters: f.options().parameters.clone(),
        accessible_topology: None,
    }
}

/// More pages than this are no list.
const MANY_PAGES: usize = 100_000;

/// Every page of the list; each is looked at.
pub(super) async fn all_volumes(f: &Fixture, max_entries: i32) -> Verdict<Vec<Entry>> {
    let (mut entries, mut token) = (Vec::new(), String::new());
    for _ in 0..MANY_PAGES {
        let answer = f.ok(page(f, max_entries, &token)).await?;
        let most = usize::try_from(max_entries).unwrap_or(0);
        must!(
            most == 0 || answer.entries.len() <= most,
            format!("at most {most} entries"),
            "{}",
            answer.entries.len()
        );
        entries.extend(answer.entries);
        must!(token.is_empty() || answer.next_token != token, "the next page", "the token of this one again");
        if answer.next_token.is_empty() {
            return Ok(entries);
        }
        token = answer.next_token;
    }
    Err(Failure::wrong("a last page", format!("{MANY_PAGES} pages that lead on")))
}

fn ids(entries: &[Entry]) -> Vec<String> {
    entries.iter().filter_map(|entry| Some(entry.volume.as_ref()?.volume_id.clone())).collect()
}

/// Three volumes are each listed once, by pages of this size.
async fn in_pages(f: &Fixture, max_entries: i32) -> Verdict {
    let mut made = Vec::new();
    for _ in 0..3 {
        made.push(f.volume().await?.id);
    }
    let listed = ids(&all_volumes(f, max_entries).await?);
    for id in made {
        let times = listed.iter().filter(|other| **other == id).count();
        must!(times == 1, format!("{id:?} once, while nothing changes"), "{times} times");
    }
    Ok(())
}

async fn pages_of_one(f: &Fixture) -> Verdict {
    in_pages(f, 1).await
}

async fn pages_of_two(f: &Fixture) -> Verdict {
    in_pages(f, 2).await
}

async fn largest_page(f: &Fixture) -> Verdict {
    in_pages(f, i32::MAX).await
}

async fn listed(f: &Fixture) -> Verdict {
    let made = f.ok(f.create_request()).await?.volume.unwrap_or_default();
    let entries = all_volumes(f, 0).await?;
    let Some(entry) =
        entries.into_iter().filter_map(|entry| entry.volume).find(|v| v.volume_id == made.volume_id)
    else {
        return Err(Failure::wrong(format!("{:?} in the list", made.volume_id), "a list without it"));
    };
    must!(
        entry.capacity_bytes == 0 || made.capacity_bytes == 0 || entry.capacity_bytes == made.capacity_bytes,
        format!("{} bytes", made.capacity_bytes),
        "{} bytes",
        entry.capacity_bytes
    );
    Ok(())
}

/// Between two pages the volume at the token goes and others come. The list ends, and what
/// comes is OK or ABORTED.
async fn changing(f: &Fixture) -> Verdict {
    let mut made = Vec::new();
    for _ in 0..4 {
        made.push(f.volume().await?);
    }
    let first = f.ok(page(f, 1, "")).await?;
    for volume in &made {
        f.delete(volume).await?;
        f.volume().await?;
    }
    let mut token = first.next_token;
    for _ in 0..MANY_PAGES {
        if token.is_empty() {
            return Ok(());
        }
        let Some(answer) = f.answers(page(f, 1, &token), &[Code::Ok, Code::Aborted]).await? else {
            return Ok(());
        };
        must!(answer.entries.len() <= 1, "at most 1 entry", "{}", answer.entries.len());
        token = answer.next_token;
    }
    Err(Failure::wrong("a last page", format!("{MANY_PAGES} pages that lead on")))
}

async fn got(f: &Fixture) -> Verdict {
    let made = f.ok(f.create_request()).await?.volume.unwrap_or_default();
    let (answer, again) = f.twice(get(f, &made.volume_id)).await?;
    must!(answer == again, format!("the first answer again: {answer:?}"), "{again:?}");
    must!(answer.status.is_some(), "a status, which is REQUIRED", "none");
    must!(answer.volume.as_ref() == Some(&made), format!("{made:?}"), "{:?}", answer.volume);
    Ok(())
}

async fn confirmed(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let request = f.validate_request(&volume);
    let answer = f.ok(request.clone()).await?;
    let Some(confirmed) = answer.confirmed else {
        return Err(Failure::wrong("what the volume was made with to be confirmed", format!("{answer:?}")));
    };
    must!(
        confirmed.volume_capabilities == request.volume_capabilities,
        format!("{:?}", request.volume_capabilities),
        "{:?}",
        confirmed.volume_capabilities
    );
    Ok(())
}

/// Not confirmed, or refused as a request that cannot be.
async fn unconfirmed(f: &Fixture, other: VolumeCapability) -> Verdict {
    let volume = f.volume().await?;
    for capabilities in [vec![other.clone()], vec![volume.capability.clone(), other]] {
        let request = csi::ValidateVolumeCapabilitiesRequest {
            volume_capabilities: capabilities,
            ..f.validate_request(&volume)
        };
        if let Some(answer) = f.answers(request, &[Code::Ok, Code::InvalidArgument]).await? {
            must!(answer.confirmed.is_none(), "no confirmation of what cannot be", "{answer:?}");
        }
    }
    Ok(())
}

/// A volume that is refused for both access types has one of them only.
async fn other_type(f: &Fixture) -> Verdict {
    let other = capability::opposite(&f.capability());
    let request = csi::CreateVolumeRequest {
        volume_capabilities: vec![f.capability(), other.clone()],
        ..f.create_request()
    };
    if f.answers(request, &[Code::Ok, Code::InvalidArgument]).await?.is_some() {
        return Err(Failure::Skip("the plugin's volumes can be used both as block and mounted".to_owned()));
    }
    unconfirmed(f, other).await
}

async fn undefined_mode(f: &Fixture) -> Verdict {
    let other = VolumeCapability { access_mode: Some(AccessMode { mode: 99 }), ..f.capability() };
    unconfirmed(f, other).await
}

async fn unknown_fs_type(f: &Fixture) -> Verdict {
    unconfirmed(f, capability::mount("csi-check-no-such-fs", Mode::SingleNodeWriter)).await
}

async fn validate_twice(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let (first, again) = f.twice(f.validate_request(&volume)).await?;
    must!(first == again, format!("the first answer again: {first:?}"), "{again:?}");
    Ok(())
}

async fn available(f: &Fixture) -> Verdict {
    let requests = [
        csi::GetCapacityRequest::default(),
        capacity(f, vec![f.capability()]),
        csi::GetCapacityRequest {
            accessible_topology: f.declared().topology.clone(),
            ..capacity(f, vec![f.capability()])
        },
    ];
    for request in requests {
        // Where several pools are, the one without a name may not exist; its size can be asked all the same.
        let answer = f.ok(request).await?;
        let smallest = answer.minimum_volume_size.unwrap_or(0);
        let largest = answer.maximum_volume_size.unwrap_or(i64::MAX);
        must!(answer.available_capacity >= 0, "a capacity that is not negative", "{answer:?}");
        must!(0 <= smallest && 0 <= largest, "sizes that are not negative", "{answer:?}");
    }
    Ok(())
}

/// Nothing for a use that there is not, if that is no error.
async fn impossible(f: &Fixture) -> Verdict {
    let capability = VolumeCapability { access_mode: Some(AccessMode { mode: 99 }), ..f.capability() };
    if let Some(answer) = f.answers(capacity(f, vec![capability]), &[Code::Ok, Code::InvalidArgument]).await?
    {
        must!(answer.available_capacity == 0, "nothing for an access mode that there is not", "{answer:?}");
    }
    Ok(())
}

/// One byte more than the largest volume cannot be made.
async fn largest(f: &Fixture) -> Verdict {
    let answer = f.ok(capacity(f, vec![f.capability()])).await?;
    let Some(largest) = answer.maximum_volume_size.filter(|bytes| *bytes < i64::MAX) else {
        return Err(Failure::Skip("the plugin names no largest volume".to_owned()));
    };
    let request = csi::CreateVolumeRequest { capacity_range: f.at_least(largest + 1), ..f.create_request() };
    f.answers(request, &[Code::OutOfRange, Code::ResourceExhausted]).await.map(|_| ())
}

async fn capacity_elsewhere(f: &Fixture) -> Verdict {
    let elsewhere = super::create_volume::elsewhere(f);
    let request = csi::GetCapacityRequest { accessible_topology: Some(elsewhere), ..capacity(f, vec![]) };
    let answer = f.ok(request).await?;
    must!(answer.available_capacity == 0, "nothing where the plugin has nothing", "{answer:?}");
    Ok(())
}
