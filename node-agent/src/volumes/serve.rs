//! The next step for one volume of one active pod. Pure.

use super::{
    action::Action,
    decide::{Offer, Plan},
    reason::Reason,
    view::{Attach, CsiVolume, LocalVolume, PodView, PodVolume, State, Wanted},
};

/// How far one volume of a pod is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Progress {
    Done,
    Not(Reason),
}

pub(crate) fn serve(plan: &mut Plan<'_>, pod: &PodView, volume: &PodVolume) -> Progress {
    let wanted = match &volume.wanted {
        Ok(wanted) => wanted,
        Err(reason) => return Progress::Not(reason.clone()),
    };
    let published = plan.view.actual.published.get(&wanted.publication(&pod.key.uid));
    if let (None, Some(claim)) = (published, &volume.leaving_claim) {
        return Progress::Not(Reason::ClaimBeingDeleted { claim: claim.clone() });
    }
    match wanted {
        Wanted::Csi(csi) => {
            if published.is_some_and(|p| p.volume.as_ref() != Some(&csi.id)) {
                return Progress::Not(Reason::ReleasingFormerUse);
            }
            serve_csi(plan, pod, csi, published.map(|p| p.state))
        }
        Wanted::Local(local) => serve_local(plan, pod, local, published.map(|p| p.state)),
    }
}

fn serve_local(plan: &mut Plan<'_>, pod: &PodView, volume: &LocalVolume, state: Option<State>) -> Progress {
    if state == Some(State::Done) {
        return Progress::Done;
    }
    let action = Action::Mount { volume: volume.clone(), pod: pod.key.clone() };
    attempt(plan, action, because(state))
}

fn serve_csi(plan: &mut Plan<'_>, pod: &PodView, volume: &CsiVolume, state: Option<State>) -> Progress {
    let view = plan.view;
    let device = view.actual.devices.get(&volume.id);
    let staged = device.map(|d| d.state);
    let published = state == Some(State::Done);
    if published && staged == Some(State::Done) {
        expand(plan, pod, volume, true);
        return Progress::Done;
    }
    if volume.one_pod
        && let Some(other) = plan.holder(pod, &volume.id)
    {
        return Progress::Not(Reason::HeldByOtherPod { pod: other });
    }
    if view.in_use.as_ref().is_none_or(|listed| !listed.contains(&volume.id.unique_name())) {
        return Progress::Not(Reason::MarkingInUse);
    }
    if volume.attach == Attach::Pending {
        return Progress::Not(Reason::WaitingForAttach { volume: volume.id.clone() });
    }
    if !view.drivers.contains(&volume.id.driver) {
        return Progress::Not(Reason::DriverNotRegistered { driver: volume.id.driver.clone() });
    }
    if device.is_some_and(|d| d.block != volume.shape.block || d.pv != volume.pv) {
        return Progress::Not(Reason::ReleasingFormerUse);
    }
    if staged != Some(State::Done) {
        let action = Action::Stage { volume: Box::new(volume.clone()), pod: pod.key.clone() };
        return attempt(plan, action, because(staged));
    }
    expand(plan, pod, volume, published);
    let action = Action::Publish { volume: Box::new(volume.clone()), pod: pod.key.clone() };
    attempt(plan, action, because(state))
}

/// Grows a volume on this node when the claim waits for it: a file system as soon as it is staged,
/// a raw device when it has a path to name. A growth that fails does not keep the pod waiting.
fn expand(plan: &mut Plan<'_>, pod: &PodView, volume: &CsiVolume, published: bool) {
    let Some(growth) = &volume.growth else { return };
    if volume.shape.block && !published {
        return;
    }
    let action =
        Action::Expand { volume: Box::new(volume.clone()), growth: growth.clone(), pod: pod.key.clone() };
    plan.offer(action, Reason::Grown);
}

fn because(state: Option<State>) -> Reason {
    if state.is_some() { Reason::MayBeIncomplete } else { Reason::PodNeeds }
}

fn attempt(plan: &mut Plan<'_>, action: Action, reason: Reason) -> Progress {
    let operation = action.operation();
    Progress::Not(match plan.offer(action, reason) {
        Offer::Underway { slow: true } => Reason::Slow { operation },
        Offer::Underway { slow: false } => Reason::Working,
        Offer::BackedOff(failure) => Reason::Failing { operation, error: failure.error.clone() },
    })
}
