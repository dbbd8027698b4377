//! Capabilities that a plugin declares for some of its volumes only. CSI has one list of
//! capabilities for all volumes, so a plugin with several kinds of storage behind it has to
//! refuse some calls for some volumes. Each such call is tried once, as it should be, on new
//! volumes of this run: what is refused then is not there for this run, and the report says
//! with what words.

use std::{collections::BTreeMap, sync::Arc};

use holdfast_proto::csi::{
    self, controller_service_capability::rpc::Type as Controller,
    group_controller_service_capability::rpc::Type as Group, plugin_capability::service::Type as Plugin,
    volume_capability::access_mode::Mode,
};
use tonic::{Code, Status};

use crate::{
    capability,
    checks::existing::{from, volume},
    failure::{Verdict, describe},
    fixture::{Fixture, Session},
    rpc::Rpc,
};

/// Tries what is declared. Anything but a refusal is for the checks to judge.
pub(crate) async fn try_all(session: &Arc<Session>) {
    let fixture = Fixture::new(Arc::clone(session), &[]);
    let mut refused = Refused::default();
    // A volume that cannot be made, or be deleted again, fails in the checks, which say how.
    let _ = try_each(&fixture, &mut refused).await;
    let _ = fixture.clean_up().await;
    session.declared.refused.get_or_init(|| refused.0);
}

#[derive(Default)]
struct Refused(BTreeMap<&'static str, String>);

impl Refused {
    /// Only the code that the RPC has for volumes with which it cannot be done.
    fn note<T>(&mut self, name: &'static str, answer: &Result<T, Status>, code: Code) {
        if let Some(status) = answer.as_ref().err().filter(|status| status.code() == code) {
            let why = format!("the plugin declares {name} and refuses it here: {}", describe(status));
            self.0.insert(name, why);
        }
    }
}

async fn try_each(f: &Fixture, refused: &mut Refused) -> Verdict {
    let declared = f.declared();
    if declared.controller.contains(&Controller::CloneVolume) {
        let origin = f.volume().await?;
        // CSI v1.12, CreateVolume Errors: "Source incompatible or not supported".
        let answer = f.call(from(f, volume(&origin.id))).await;
        refused.note(Controller::CloneVolume.as_str_name(), &answer, Code::InvalidArgument);
    }
    if declared.group.contains(&Group::CreateDeleteGetVolumeGroupSnapshot) {
        let (one, two) = (f.volume().await?, f.volume().await?);
        let request = csi::CreateVolumeGroupSnapshotRequest {
            name: f.name(),
            source_volume_ids: vec![one.id, two.id],
            ..Default::default()
        };
        // CSI v1.12, CreateVolumeGroupSnapshot Errors: "Cannot snapshot multiple volumes together".
        let name = Group::CreateDeleteGetVolumeGroupSnapshot.as_str_name();
        refused.note(name, &f.call(request).await, Code::FailedPrecondition);
    }
    if !declared.controller.contains(&Controller::CreateDeleteSnapshot) {
        return Ok(());
    }
    // Which blocks are there can be asked of the snapshots of block volumes.
    let use_as = match declared.no_block {
        None => capability::block(Mode::SingleNodeWriter),
        Some(_) => f.capability(),
    };
    let origin = f.volume_for(use_as).await?;
    let answer = f.call(f.snapshot_request(&origin.id)).await;
    refused.note(Controller::CreateDeleteSnapshot.as_str_name(), &answer, Code::FailedPrecondition);
    if let (true, Ok(made)) = (declared.services.contains(&Plugin::SnapshotMetadataService), answer) {
        let snapshot_id = made.snapshot.unwrap_or_default().snapshot_id;
        let request =
            csi::GetMetadataAllocatedRequest { snapshot_id: snapshot_id.clone(), ..Default::default() };
        let answer = f.stream(request).await;
        refused.note(Plugin::SnapshotMetadataService.as_str_name(), &answer, Code::FailedPrecondition);
        let Ok(later) = f.call(f.snapshot_request(&origin.id)).await else { return Ok(()) };
        let request = csi::GetMetadataDeltaRequest {
            base_snapshot_id: snapshot_id,
            target_snapshot_id: later.snapshot.unwrap_or_default().snapshot_id,
            ..Default::default()
        };
        // CSI v1.12, GetMetadataDelta Errors: "Changed block tracking is not enabled".
        let answer = f.stream(request).await;
        refused.note(Rpc::GetMetadataDelta.name(), &answer, Code::FailedPrecondition);
    }
    Ok(())
}
