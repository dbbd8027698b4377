//! ControllerModifyVolume and ControllerExpandVolume.

use std::collections::HashMap;

use holdfast_proto::csi::{
    self, CapacityRange, controller_service_capability::rpc::Type as Controller,
    plugin_capability::volume_expansion::Type as Expansion,
};

use crate::{
    capability,
    check::{Check, check, refuse},
    failure::{Failure, Verdict, must},
    fixture::{Fixture, Volume, requests::NO_SUCH_ID},
    need::{BLOCK, EXPAND, LOCAL, MOUNT, Need},
    rows::{
        BAD_CAPACITY, EXCEEDS, IDEMPOTENT, MISSING, NO_VOLUME, UNIMPLEMENTED,
        controller::{
            GROWN, IN_USE, LARGE_ENOUGH, MODIFIED, REVERSED_RANGE, SILENT_RANGE, UNSUPPORTED_PARAMETERS,
        },
    },
};

const MODIFY: &[Need] =
    &[Need::Controller(Controller::CreateDeleteVolume), Need::Controller(Controller::ModifyVolume)];
const NO_MODIFY: &[Need] = &[Need::NoController(Controller::ModifyVolume)];
const NO_EXPAND: &[Need] = &[Need::NoController(Controller::ExpandVolume)];
const MUTABLE: &[Need] = &[Need::Mutable];
const OFFLINE: &[Need] = &[Need::Expansion(Expansion::Offline)];

pub(super) const CHECKS: &[Check] = &[
    refuse!("controller-modify-volume/undeclared", ControllerModifyVolume, UNIMPLEMENTED, [NO_MODIFY], |f| {
        modify(NO_SUCH_ID, f.options().mutable_parameters.clone())
    }),
    refuse!("controller-modify-volume/missing-id", ControllerModifyVolume, MISSING, [MODIFY], |_f| {
        modify("", unknown())
    }),
    // Not that `mutable_parameters` is missing: on the wire an empty map is the same, and csi-sanity 5.5
    // wants success for it where it is given no parameters.
    refuse!(
        "controller-modify-volume/unknown-parameter",
        ControllerModifyVolume,
        UNSUPPORTED_PARAMETERS,
        [MODIFY],
        |f, v| { modify(&v.id, unknown()) }
    ),
    check!(
        "controller-modify-volume/all-or-nothing",
        ControllerModifyVolume,
        UNSUPPORTED_PARAMETERS,
        [MODIFY, MUTABLE],
        one_unknown
    ),
    refuse!(
        "controller-modify-volume/no-such-volume",
        ControllerModifyVolume,
        NO_VOLUME,
        [MODIFY, MUTABLE],
        |f| { modify(NO_SUCH_ID, f.options().mutable_parameters.clone()) }
    ),
    refuse!(
        "controller-modify-volume/modified",
        ControllerModifyVolume,
        MODIFIED,
        [MODIFY, MUTABLE],
        |f, v| { modify(&v.id, f.options().mutable_parameters.clone()) }
    ),
    check!(
        "controller-modify-volume/idempotent",
        ControllerModifyVolume,
        IDEMPOTENT,
        [MODIFY, MUTABLE],
        modify_twice
    ),
    refuse!(
        "controller-modify-volume/at-creation",
        ControllerModifyVolume,
        MODIFIED,
        [MODIFY, MUTABLE],
        |f| {
            let mutable_parameters = f.options().mutable_parameters.clone();
            csi::CreateVolumeRequest { mutable_parameters, ..f.create_request() }
        }
    ),
    refuse!("controller-expand-volume/undeclared", ControllerExpandVolume, UNIMPLEMENTED, [NO_EXPAND], |f| {
        f.expand_request(NO_SUCH_ID, 2 * f.options().size)
    }),
    refuse!("controller-expand-volume/missing-id", ControllerExpandVolume, MISSING, [EXPAND], |f| {
        f.expand_request("", 2 * f.options().size)
    }),
    refuse!("controller-expand-volume/missing-range", ControllerExpandVolume, MISSING, [EXPAND], |f, v| {
        csi::ControllerExpandVolumeRequest { capacity_range: None, ..f.expand_request(&v.id, 0) }
    }),
    refuse!(
        "controller-expand-volume/range-empty",
        ControllerExpandVolume,
        SILENT_RANGE,
        [EXPAND],
        |f, v| ranged(f, &v, 0, 0)
    ),
    refuse!(
        "controller-expand-volume/range-reversed",
        ControllerExpandVolume,
        REVERSED_RANGE,
        [EXPAND],
        |f, v| { ranged(f, &v, 3 * f.options().size, 2 * f.options().size) }
    ),
    refuse!(
        "controller-expand-volume/range-negative",
        ControllerExpandVolume,
        REVERSED_RANGE,
        [EXPAND],
        |f, v| { ranged(f, &v, -1, 0) }
    ),
    refuse!("controller-expand-volume/no-such-volume", ControllerExpandVolume, NO_VOLUME, [EXPAND], |f| {
        f.expand_request(NO_SUCH_ID, 2 * f.options().size)
    }),
    refuse!("controller-expand-volume/too-large", ControllerExpandVolume, BAD_CAPACITY, [EXPAND], |f, v| {
        f.expand_request(&v.id, i64::MAX)
    }),
    check!(
        "controller-expand-volume/limit-below-size",
        ControllerExpandVolume,
        BAD_CAPACITY,
        [EXPAND],
        limit_below
    ),
    refuse!(
        "controller-expand-volume/other-access-type",
        ControllerExpandVolume,
        EXCEEDS,
        [EXPAND, MOUNT, BLOCK],
        |f, v| csi::ControllerExpandVolumeRequest {
            volume_capability: Some(capability::opposite(&v.capability)),
            ..f.expand_request(&v.id, 2 * f.options().size)
        }
    ),
    check!(
        "controller-expand-volume/published",
        ControllerExpandVolume,
        IN_USE,
        [EXPAND, LOCAL, OFFLINE],
        in_use
    ),
    check!("controller-expand-volume/grown", ControllerExpandVolume, GROWN, [EXPAND], grown),
    check!("controller-expand-volume/smaller", ControllerExpandVolume, LARGE_ENOUGH, [EXPAND], smaller),
    check!("controller-expand-volume/idempotent", ControllerExpandVolume, IDEMPOTENT, [EXPAND], twice),
];

fn modify(id: &str, mutable_parameters: HashMap<String, String>) -> csi::ControllerModifyVolumeRequest {
    csi::ControllerModifyVolumeRequest { volume_id: id.to_owned(), mutable_parameters, ..Default::default() }
}

fn unknown() -> HashMap<String, String> {
    HashMap::from([("csi-check/no-such-parameter".to_owned(), "x".to_owned())])
}

fn ranged(
    f: &Fixture,
    volume: &Volume,
    required_bytes: i64,
    limit_bytes: i64,
) -> csi::ControllerExpandVolumeRequest {
    let capacity_range = Some(CapacityRange { required_bytes, limit_bytes });
    csi::ControllerExpandVolumeRequest { capacity_range, ..f.expand_request(&volume.id, 0) }
}

async fn one_unknown(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let mut parameters = f.options().mutable_parameters.clone();
    parameters.extend(unknown());
    f.refused(modify(&volume.id, parameters)).await
}

async fn modify_twice(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    f.twice(modify(&volume.id, f.options().mutable_parameters.clone())).await.map(|_| ())
}

async fn limit_below(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let size = volume.capacity.max(f.options().size);
    f.refused(ranged(f, &volume, size / 4, size / 2)).await
}

/// Only a plugin that cannot grow a published volume has something to refuse.
async fn in_use(f: &Fixture) -> Verdict {
    if f.declared().expansion.contains(&Expansion::Online) {
        return Err(Failure::Skip("the plugin declares expansion ONLINE too".to_owned()));
    }
    let volume = f.published().await?;
    f.refused(f.expand_request(&volume.id, 2 * f.options().size)).await
}

async fn grown(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let wanted = 2 * volume.capacity.max(f.options().size);
    let answer = f.ok(f.expand_request(&volume.id, wanted)).await?;
    must!(
        answer.capacity_bytes >= wanted,
        format!("at least {wanted} bytes"),
        "{} bytes",
        answer.capacity_bytes
    );
    if f.declared().controller.contains(&Controller::GetVolume) {
        let shown = f.ok(super::listing::get(f, &volume.id)).await?.volume.unwrap_or_default().capacity_bytes;
        must!(shown == answer.capacity_bytes, format!("{} bytes", answer.capacity_bytes), "{shown} bytes");
    }
    Ok(())
}

async fn smaller(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let size = volume.capacity.max(f.options().size);
    let answer = f.ok(f.expand_request(&volume.id, size / 2)).await?;
    must!(
        answer.capacity_bytes >= size,
        format!("the {size} bytes that it has"),
        "{} bytes",
        answer.capacity_bytes
    );
    Ok(())
}

async fn twice(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let wanted = 2 * volume.capacity.max(f.options().size);
    let (first, again) = f.twice(f.expand_request(&volume.id, wanted)).await?;
    must!(
        first.capacity_bytes == again.capacity_bytes,
        format!("{} bytes again", first.capacity_bytes),
        "{} bytes",
        again.capacity_bytes
    );
    Ok(())
}
