//! CreateVolume under a name that is taken, and from a source; DeleteVolume.

use holdfast_proto::csi::{
    self, CapacityRange, VolumeContentSource,
    controller_service_capability::rpc::Type as Controller,
    volume_content_source::{SnapshotSource, Type, VolumeSource},
};
use tonic::Code;

use crate::{
    capability,
    check::{Check, check, refuse},
    failure::{Failure, Verdict, must},
    fixture::{Fixture, Volume, requests::NO_SUCH_ID},
    need::{BLOCK, CLONE, CREATE, LIST, LOCAL, MOUNT, Need, SNAPSHOT},
    rows::{
        BAD_CAPACITY, IDEMPOTENT, MISSING, UNIMPLEMENTED,
        controller::{EXISTS, FROM_SOURCE, GONE, IN_USE, NO_SOURCE, SNAPSHOTS_STAY, SOURCE_UNSUPPORTED},
    },
};

const NO_CLONE: &[Need] = &[Need::NoController(Controller::CloneVolume)];
const NO_SNAPSHOT: &[Need] = &[Need::NoController(Controller::CreateDeleteSnapshot)];
const UNDECLARED: &[Need] = &[Need::NoController(Controller::CreateDeleteVolume)];
const OTHER: &[Need] = &[Need::OtherParameters];

pub(super) const CHECKS: &[Check] = &[
    check!("create-volume/exists-smaller", CreateVolume, EXISTS, [CREATE], exists_smaller),
    check!("create-volume/exists-larger", CreateVolume, EXISTS, [CREATE], exists_larger),
    check!(
        "create-volume/exists-other-access-type",
        CreateVolume,
        EXISTS,
        [CREATE, MOUNT, BLOCK],
        exists_other_type
    ),
    check!(
        "create-volume/exists-other-parameters",
        CreateVolume,
        EXISTS,
        [CREATE, OTHER],
        exists_other_parameters
    ),
    check!(
        "create-volume/exists-without-source",
        CreateVolume,
        EXISTS,
        [CREATE, CLONE],
        exists_without_source
    ),
    check!("create-volume/exists-other-source", CreateVolume, EXISTS, [SNAPSHOT], exists_other_source),
    refuse!("create-volume/source-empty", CreateVolume, SOURCE_UNSUPPORTED, [CREATE], |f| {
        from(f, VolumeContentSource { r#type: None })
    }),
    refuse!("create-volume/source-snapshot-without-id", CreateVolume, SOURCE_UNSUPPORTED, [SNAPSHOT], |f| {
        from(f, snapshot(""))
    }),
    refuse!(
        "create-volume/source-volume-without-id",
        CreateVolume,
        SOURCE_UNSUPPORTED,
        [CREATE, CLONE],
        |f| { from(f, volume("")) }
    ),
    refuse!(
        "create-volume/source-snapshots-unsupported",
        CreateVolume,
        SOURCE_UNSUPPORTED,
        [CREATE, NO_SNAPSHOT],
        |f| { from(f, snapshot(NO_SUCH_ID)) }
    ),
    refuse!(
        "create-volume/source-clones-unsupported",
        CreateVolume,
        SOURCE_UNSUPPORTED,
        [CREATE, NO_CLONE],
        |f, source| { from(f, volume(&source.id)) }
    ),
    refuse!("create-volume/source-no-such-snapshot", CreateVolume, NO_SOURCE, [SNAPSHOT], |f| {
        from(f, snapshot(NO_SUCH_ID))
    }),
    refuse!("create-volume/source-no-such-volume", CreateVolume, NO_SOURCE, [CREATE, CLONE], |f| {
        from(f, volume(NO_SUCH_ID))
    }),
    check!("create-volume/source-deleted-volume", CreateVolume, NO_SOURCE, [CREATE, CLONE], deleted_volume),
    check!("create-volume/source-deleted-snapshot", CreateVolume, NO_SOURCE, [SNAPSHOT], deleted_snapshot),
    check!(
        "create-volume/smaller-than-snapshot",
        CreateVolume,
        BAD_CAPACITY,
        [SNAPSHOT],
        smaller_than_snapshot
    ),
    check!(
        "create-volume/smaller-than-source",
        CreateVolume,
        BAD_CAPACITY,
        [CREATE, CLONE],
        smaller_than_volume
    ),
    check!("create-volume/from-snapshot", CreateVolume, FROM_SOURCE, [SNAPSHOT], from_snapshot),
    check!("create-volume/from-volume", CreateVolume, FROM_SOURCE, [CREATE, CLONE], from_volume),
    refuse!("delete-volume/undeclared", DeleteVolume, UNIMPLEMENTED, [UNDECLARED], |f| f
        .delete_request(NO_SUCH_ID)),
    refuse!("delete-volume/missing-id", DeleteVolume, MISSING, [CREATE], |f| f.delete_request("")),
    refuse!("delete-volume/no-such-volume", DeleteVolume, GONE, [CREATE], |f| f.delete_request(NO_SUCH_ID)),
    check!("delete-volume/idempotent", DeleteVolume, IDEMPOTENT, [CREATE], delete_twice),
    check!("delete-volume/unlisted", DeleteVolume, GONE, [LIST], unlisted),
    check!("delete-volume/published", DeleteVolume, IN_USE, [LOCAL], delete_published),
    check!("delete-volume/with-snapshots", DeleteVolume, SNAPSHOTS_STAY, [SNAPSHOT], delete_with_snapshots),
];

pub(super) fn snapshot(id: &str) -> VolumeContentSource {
    VolumeContentSource { r#type: Some(Type::Snapshot(SnapshotSource { snapshot_id: id.to_owned() })) }
}

pub(crate) fn volume(id: &str) -> VolumeContentSource {
    VolumeContentSource { r#type: Some(Type::Volume(VolumeSource { volume_id: id.to_owned() })) }
}

pub(crate) fn from(f: &Fixture, source: VolumeContentSource) -> csi::CreateVolumeRequest {
    csi::CreateVolumeRequest { volume_content_source: Some(source), ..f.create_request() }
}

/// Makes a volume; then the same name with something else is refused, and the volume is
/// still the one that it was.
async fn taken(
    f: &Fixture,
    request: csi::CreateVolumeRequest,
    other: impl FnOnce(csi::CreateVolumeRequest, &csi::Volume) -> csi::CreateVolumeRequest,
) -> Verdict {
    let first = f.ok(request.clone()).await?;
    f.refused(other(request.clone(), &first.volume.clone().unwrap_or_default())).await?;
    let again = f.ok(request).await?;
    must!(again == first, format!("the volume as it was: {first:?}"), "{again:?}");
    Ok(())
}

async fn exists_smaller(f: &Fixture) -> Verdict {
    let size = f.options().size;
    taken(f, f.create_request(), |request, volume| {
        let range = CapacityRange { required_bytes: volume.capacity_bytes.max(size) + 1, limit_bytes: 0 };
        csi::CreateVolumeRequest { capacity_range: Some(range), ..request }
    })
    .await
}

async fn exists_larger(f: &Fixture) -> Verdict {
    let size = f.options().size;
    // Twice the size, so that a smaller limit is still a size that can be made.
    let request = csi::CreateVolumeRequest { capacity_range: f.at_least(2 * size), ..f.create_request() };
    taken(f, request, |request, _| {
        let range = CapacityRange { required_bytes: size, limit_bytes: 2 * size - 1 };
        csi::CreateVolumeRequest { capacity_range: Some(range), ..request }
    })
    .await
}

async fn exists_other_type(f: &Fixture) -> Verdict {
    let other = capability::opposite(&f.capability());
    taken(f, f.create_request(), |request, _| csi::CreateVolumeRequest {
        volume_capabilities: vec![other],
        ..request
    })
    .await
}

async fn exists_other_parameters(f: &Fixture) -> Verdict {
    let parameters = f.options().other_parameters.clone().unwrap_or_default();
    taken(f, f.create_request(), |request, _| csi::CreateVolumeRequest { parameters, ..request }).await
}

async fn exists_without_source(f: &Fixture) -> Verdict {
    let source = volume(&f.volume().await?.id);
    taken(f, f.create_request(), |request, _| csi::CreateVolumeRequest {
        volume_content_source: Some(source),
        ..request
    })
    .await
}

async fn exists_other_source(f: &Fixture) -> Verdict {
    let origin = f.volume().await?;
    let (one, two) = (cut(f, &origin.id).await?, cut(f, &origin.id).await?);
    taken(f, from(f, snapshot(&one)), |request, _| csi::CreateVolumeRequest {
        volume_content_source: Some(snapshot(&two)),
        ..request
    })
    .await
}

/// A snapshot that can be used.
pub(super) async fn cut(f: &Fixture, volume_id: &str) -> Verdict<String> {
    usable(f, f.snapshot_request(volume_id)).await
}

/// As [`cut`], of a published volume. CSI does not say that a plugin can cut a volume in use:
/// one that cannot is given it unused, and publishes it again.
pub(super) async fn cut_in_use(f: &Fixture, volume: &mut Volume) -> Verdict<String> {
    let request = f.snapshot_request(&volume.id);
    match f.call(request.clone()).await {
        Err(status) if status.code() == Code::FailedPrecondition => {
            f.take_down_to_detached(volume).await?;
            let id = usable(f, request).await?;
            f.bring_up(volume).await?;
            Ok(id)
        }
        // The same call once more, for a life that does something after each.
        _ => usable(f, request).await,
    }
}

async fn usable(f: &Fixture, request: csi::CreateSnapshotRequest) -> Verdict<String> {
    let made = f.ok(request).await?.snapshot.unwrap_or_default();
    if !made.ready_to_use {
        return Err(Failure::Skip("the plugin's snapshots are not ready at once".to_owned()));
    }
    Ok(made.snapshot_id)
}

async fn deleted_volume(f: &Fixture) -> Verdict {
    let source = f.volume().await?;
    f.delete(&source).await?;
    f.refused(from(f, volume(&source.id))).await
}

async fn deleted_snapshot(f: &Fixture) -> Verdict {
    let source = f.volume().await?;
    let id = cut(f, &source.id).await?;
    f.ok(csi::DeleteSnapshotRequest { snapshot_id: id.clone(), ..Default::default() }).await?;
    f.refused(from(f, snapshot(&id))).await
}

/// A request for less than the source has.
async fn large(f: &Fixture) -> Verdict<String> {
    let request =
        csi::CreateVolumeRequest { capacity_range: f.at_least(2 * f.options().size), ..f.create_request() };
    Ok(f.create(request).await?.id)
}

fn small(f: &Fixture, source: VolumeContentSource) -> csi::CreateVolumeRequest {
    let range = CapacityRange { required_bytes: f.options().size, limit_bytes: 2 * f.options().size - 1 };
    csi::CreateVolumeRequest { capacity_range: Some(range), ..from(f, source) }
}

async fn smaller_than_snapshot(f: &Fixture) -> Verdict {
    let id = cut(f, &large(f).await?).await?;
    f.refused(small(f, snapshot(&id))).await
}

async fn smaller_than_volume(f: &Fixture) -> Verdict {
    let id = large(f).await?;
    f.refused(small(f, volume(&id))).await
}

async fn from_snapshot(f: &Fixture) -> Verdict {
    let source = f.volume().await?;
    made_from(f, snapshot(&cut(f, &source.id).await?), &source.id).await
}

async fn from_volume(f: &Fixture) -> Verdict {
    let source = f.volume().await?;
    made_from(f, volume(&source.id), &source.id).await
}

async fn made_from(f: &Fixture, source: VolumeContentSource, origin: &str) -> Verdict {
    let (first, again) = f.twice(from(f, source.clone())).await?;
    must!(first == again, format!("the first answer again: {first:?}"), "{again:?}");
    let made = first.volume.unwrap_or_default();
    must!(made.volume_id != origin, "a volume of its own", "the source itself");
    must!(
        made.content_source.as_ref() == Some(&source),
        format!("content_source {source:?}"),
        "{:?}",
        made.content_source
    );
    // The copy does not end with its source, nor the source with its copy.
    f.ok(f.delete_request(&made.volume_id)).await?;
    let request = csi::ValidateVolumeCapabilitiesRequest {
        volume_id: origin.to_owned(),
        volume_capabilities: vec![f.capability()],
        ..Default::default()
    };
    f.ok(request).await.map(|_| ())
}

async fn delete_twice(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    f.twice(f.delete_request(&volume.id)).await?;
    f.answers(f.validate_request(&volume), &[Code::NotFound]).await?;
    Ok(())
}

async fn unlisted(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    f.delete(&volume).await?;
    let listed = super::listing::all_volumes(f, 0).await?;
    let there = listed.iter().any(|entry| entry.volume.as_ref().is_some_and(|v| v.volume_id == volume.id));
    must!(!there, format!("no {:?} in ListVolumes", volume.id), "it is listed");
    Ok(())
}

async fn delete_published(f: &Fixture) -> Verdict {
    let volume = f.published().await?;
    f.refused(f.delete_request(&volume.id)).await?;
    let path = volume.path("target");
    must!(f.exists(&path).await?, format!("{path} as it was"), "it is gone");
    f.take_down(&volume).await
}

async fn delete_with_snapshots(f: &Fixture) -> Verdict {
    let volume = f.volume().await?;
    let id = cut(f, &volume.id).await?;
    let deleted = f.answers(f.delete_request(&volume.id), &[Code::Ok, Code::FailedPrecondition]).await?;
    if deleted.is_none() {
        let confirmed = f.ok(f.validate_request(&volume)).await?;
        must!(confirmed.confirmed.is_some(), "the volume as it was", "{confirmed:?}");
    }
    f.ok(from(f, snapshot(&id))).await?;
    Ok(())
}
