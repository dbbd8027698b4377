//! The provisioner's effects: one for each action.

use std::sync::Arc;

use holdfast_api::{
    names,
    snapshot::volume::{VolumeSnapshot, VolumeSnapshotContent},
};
use holdfast_proto::csi::DeleteVolumeRequest;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::{Api, ResourceExt};
use serde_json::Value;

use super::{
    cloning::CLONING,
    decide::{Action, INTENT, Progress, View, VolumeObject, has_intent},
    memory::{self, Memory},
    plan::{DELETION_SECRET_NAME, DELETION_SECRET_NAMESPACE, Plan},
    reclaim,
    source::{Source, Wanted, wanted},
};
use crate::{
    context::Context,
    csi::CsiError,
    writes::{self, ApiError, Part, SecretKey, Written, finalizer_patch},
};

/// Conflicts in a row before the key goes back to its queue.
const MOST_CONFLICTS: usize = 8;

fn claims(context: &Context, claim: &PersistentVolumeClaim) -> Api<PersistentVolumeClaim> {
    Api::namespaced(context.client.clone(), &claim.namespace().unwrap_or_default())
}

/// Takes over what a write on the claim left: the live object, or that it is gone.
fn take(view: &mut View, written: Written<PersistentVolumeClaim>) {
    view.claim = written.current();
    view.live = true;
}

/// Does `action` and brings `view` up to date with what came of it. `Rest` and `Retry` do nothing.
pub(super) async fn apply(context: &Context, view: &mut View, action: Action) -> Result<(), ApiError> {
    let Some(claim) = view.claim.clone() else { return Ok(()) };
    let api = claims(context, &claim);
    match action {
        Action::Rest(_) | Action::Retry(_) => {}
        Action::ReadClaim(_) => {
            let now = writes::get(&api, &claim.name_any()).await?;
            // Another claim of the same name is another key's business: it has its own event.
            view.claim = now.filter(|now| now.uid() == claim.uid()).map(Arc::new);
            view.live = true;
        }
        Action::ReadVolume(_) => {
            let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
            let found = writes::get(&volumes, &view.settings.volume_name(&claim)).await?;
            view.volume = found.map_or(VolumeObject::Absent, |volume| VolumeObject::There(Arc::new(volume)));
        }
        Action::ReadSource(_) => view.source = read_source(context, &claim).await?,
        Action::ProtectSource(_) => {
            let Source::Claim { claim: Some(other), .. } = &view.source else { return Ok(()) };
            let patch = finalizer_patch(&**other, CLONING, true);
            let written = writes::patch_if_unchanged(&api, &**other, Part::Whole, patch).await?;
            match (&mut view.source, written) {
                (Source::Claim { claim, .. }, Written::Yes(now)) => *claim = Some(Box::new(now)),
                // Not what was decided on any more: looked at anew.
                (source, _) => *source = Source::NotAsked,
            }
        }
        Action::RecordIntent(_) => {
            let patch = finalizer_patch(&*claim, INTENT, true);
            let written = writes::patch_if_unchanged(&api, &*claim, Part::Whole, patch).await?;
            // Over another version the intent may be somebody else's, and so may be calls.
            if matches!(written, Written::Yes(_)) {
                view.memory = Some(memory::after_intent(view.memory.take()));
            }
            take(view, written);
        }
        Action::DropIntent(_) => {
            if drop_intent(&api, view, &Value::Null).await? {
                view.memory = match view.progress {
                    Progress::Saved { .. } => Some(Memory::Finished),
                    _ => None,
                };
            }
        }
        Action::Reschedule(_) => {
            let unselect = serde_json::json!({ names::SELECTED_NODE: Value::Null });
            if drop_intent(&api, view, &unselect).await? {
                view.memory = None;
                view.progress = Progress::Begun;
            }
        }
        Action::Create(plan, _) => create(context, view, plan).await?,
        Action::Save(volume, _) => {
            let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
            let owner = claim.uid();
            let same = |there: &PersistentVolume| {
                there.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()).and_then(|r| r.uid.clone())
                    == owner
            };
            let saved = writes::create(&volumes, &volume, same).await?;
            view.progress = Progress::Saved { volume: saved.name_any() };
            view.volume = VolumeObject::There(Arc::new(saved));
        }
        Action::Delete { id, plan, .. } => {
            view.progress = match delete_volume(context, id, plan.secret.as_ref()).await? {
                Ok(()) => {
                    view.memory = Some(Memory::Nothing);
                    Progress::Deleted
                }
                Err(error) => Progress::DeleteFailed(error),
            };
        }
    }
    Ok(())
}

/// Lets go of a claim from which nothing is made any more.
pub(super) async fn release_source(context: &Context, claim: &PersistentVolumeClaim) -> Result<(), ApiError> {
    let patch = finalizer_patch(claim, CLONING, false);
    // Over another version somebody may be made from it again: its change wakes this look anew.
    writes::patch_if_unchanged(&claims(context, claim), claim, Part::Whole, patch).await.map(drop)
}

/// What the claim's source is now, and what belongs to it.
async fn read_source(context: &Context, claim: &PersistentVolumeClaim) -> Result<Source, ApiError> {
    let namespace = claim.namespace().unwrap_or_default();
    match wanted(claim) {
        Wanted::Snapshot(name) => {
            let snapshots: Api<VolumeSnapshot> = Api::namespaced(context.client.clone(), &namespace);
            let snapshot = writes::get(&snapshots, name).await?.map(Box::new);
            let status = snapshot.as_ref().and_then(|snapshot| snapshot.status.as_ref());
            let contents: Api<VolumeSnapshotContent> = Api::all(context.client.clone());
            let content = match status.and_then(|status| status.bound_volume_snapshot_content_name.as_deref())
            {
                Some(name) => writes::get(&contents, name).await?.map(Box::new),
                None => None,
            };
            Ok(Source::Snapshot { snapshot, content })
        }
        Wanted::Claim(name) => {
            let other = writes::get(&claims(context, claim), name).await?.map(Box::new);
            let volumes: Api<PersistentVolume> = Api::all(context.client.clone());
            let spec = other.as_ref().and_then(|other| other.spec.as_ref());
            let volume = match spec.and_then(|spec| spec.volume_name.as_deref()) {
                Some(name) => writes::get(&volumes, name).await?.map(Box::new),
                None => None,
            };
            Ok(Source::Claim { claim: other, volume })
        }
        Wanted::Nothing | Wanted::Populator { .. } | Wanted::Elsewhere { .. } => Ok(Source::NotAsked),
    }
}

/// Takes the intent off the claim, and patches its annotations with the same write. That
/// holds for whatever else changed on the claim meanwhile, so a conflict only means to look
/// at the list of finalizers again. Whether it is off.
async fn drop_intent(
    api: &Api<PersistentVolumeClaim>,
    view: &mut View,
    annotations: &Value,
) -> Result<bool, ApiError> {
    for _ in 0..MOST_CONFLICTS {
        let Some(claim) = view.claim.clone().filter(|claim| has_intent(claim)) else { return Ok(true) };
        let mut patch = finalizer_patch(&*claim, INTENT, false);
        if !annotations.is_null() {
            patch["metadata"]["annotations"] = annotations.clone();
        }
        take(view, writes::patch_if_unchanged(api, &*claim, Part::Whole, patch).await?);
    }
    Ok(view.claim.as_ref().is_none_or(|claim| !has_intent(claim)))
}

async fn create(context: &Context, view: &mut View, plan: Box<Plan>) -> Result<(), ApiError> {
    let mut request = plan.request.clone();
    request.secrets = writes::secret(&context.client, plan.secret.as_ref()).await?;
    // Until there is an answer the call counts as begun, also if this task is cut off here.
    let before = view.memory.replace(Memory::Unanswered(plan.clone()));
    match context.csi.create_volume(request).await {
        Ok(made) => view.progress = Progress::Created { made: Box::new(made), plan },
        Err(error) => {
            view.memory = memory::after_failure(before, plan, &error);
            view.progress = Progress::CreateFailed(error);
        }
    }
    Ok(())
}

async fn delete_volume(
    context: &Context,
    volume_id: String,
    secret: Option<&SecretKey>,
) -> Result<Result<(), CsiError>, ApiError> {
    let secrets = writes::secret_to_delete(&context.client, secret).await?;
    Ok(context.csi.delete_volume(DeleteVolumeRequest { volume_id, secrets }).await)
}

/// Does `action` for a volume object and brings `view` up to date.
pub(super) async fn apply_reclaim(
    context: &Context,
    view: &mut reclaim::View,
    action: reclaim::Action,
) -> Result<(), ApiError> {
    use reclaim::{Action, Owner, Progress};
    let Some(volume) = view.volume.clone() else { return Ok(()) };
    let api: Api<PersistentVolume> = Api::all(context.client.clone());
    match action {
        Action::Rest(_) | Action::Retry(_) => {}
        Action::ReadVolume(_) => {
            let now = writes::get(&api, &volume.name_any()).await?;
            view.volume = now.filter(|now| now.uid() == volume.uid()).map(Arc::new);
            view.live = true;
        }
        Action::ReadOwner(_) => {
            let owner = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()).unwrap_or_default();
            let claims: Api<PersistentVolumeClaim> =
                Api::namespaced(context.client.clone(), owner.namespace.as_deref().unwrap_or_default());
            let found = writes::get(&claims, owner.name.as_deref().unwrap_or_default()).await?;
            // A reference without a UID is a binding by hand: any claim of that name counts.
            let lives = found.is_some_and(|claim| owner.uid.is_none() || claim.uid() == owner.uid);
            view.owner = if lives { Owner::Lives } else { Owner::Gone };
        }
        Action::Protect(_) | Action::Unprotect(_) => {
            let wanted = matches!(action, Action::Protect(_));
            let patch = finalizer_patch(&*volume, names::PROVISIONER_FINALIZER, wanted);
            let written = writes::patch_if_unchanged(&api, &*volume, Part::Whole, patch).await?;
            view.live = true;
            view.volume = written.current();
        }
        Action::Delete(_) => {
            let handle =
                volume.spec.as_ref().and_then(|spec| spec.csi.as_ref()).map(|csi| csi.volume_handle.clone());
            let secret = deletion_secret(&volume);
            view.progress = match delete_volume(context, handle.unwrap_or_default(), secret.as_ref()).await? {
                Ok(()) => Progress::Deleted,
                Err(error) => Progress::DeleteFailed(error),
            };
        }
        Action::DeleteObject(_) => {
            view.volume = writes::delete(&api, &*volume).await?.map(Arc::new);
        }
    }
    Ok(())
}

fn deletion_secret(volume: &PersistentVolume) -> Option<SecretKey> {
    let annotation = |key: &str| volume.annotations().get(key).filter(|value| !value.is_empty()).cloned();
    Some(SecretKey {
        name: annotation(DELETION_SECRET_NAME)?,
        namespace: annotation(DELETION_SECRET_NAMESPACE)?,
    })
}
