//! What a pod's status should say of its volumes. Pure.

use super::{
    action::Action,
    decide::Plan,
    reason::Reason,
    serve::Progress,
    view::{PodView, Report},
};

/// `status.reason` and the condition's reason when everything is there.
pub(crate) const PUBLISHED: &str = "VolumesPublished";

/// Plans a report for an active pod when its status says something else.
pub(crate) fn report(plan: &mut Plan<'_>, pod: &PodView, progress: &[(&str, Progress)]) {
    let missing: Vec<(&str, &Reason)> = progress
        .iter()
        .filter_map(|(name, p)| match p {
            Progress::Done => None,
            Progress::Not(reason) => Some((*name, reason)),
        })
        .collect();
    // What passes within moments is not worth a write, unless the status claims the opposite.
    let claimed = pod.reported.as_ref().is_some_and(|r| r.published);
    if !missing.is_empty() && !claimed && missing.iter().all(|(_, reason)| reason.is_passing()) {
        return;
    }
    let attention = missing.iter().any(|(_, reason)| reason.needs_attention());
    offer(plan, pod, status(progress.len(), &missing), attention);
}

/// Tells why a leaving pod is still there, when it is for more than a moment.
pub(crate) fn report_leaving(plan: &mut Plan<'_>, pod: &PodView) {
    let view = plan.view;
    let held = view.actual.published.iter().filter(|(id, _)| id.pod == pod.key.uid);
    let failed = view.failures.iter().find(|((_, uid, _), _)| *uid == pod.key.uid);
    let unserved = held.filter_map(|(_, p)| p.volume.as_ref()).find(|v| !view.drivers.contains(&v.driver));
    let reason = match (failed, unserved) {
        (Some(((_, _, operation), failure)), _) => {
            Reason::Failing { operation, error: failure.error.clone() }
        }
        (None, Some(volume)) => Reason::DriverNotRegistered { driver: volume.driver.clone() },
        (None, None) => return,
    };
    let report = Report {
        published: false,
        reason: "Releasing".to_owned(),
        message: format!("the pod is deleted when its volumes are released: {reason}"),
    };
    offer(plan, pod, report, false);
}

fn offer(plan: &mut Plan<'_>, pod: &PodView, report: Report, attention: bool) {
    if pod.reported.as_ref() != Some(&report) {
        let action = Action::ReportPod { pod: pod.key.clone(), report, attention };
        plan.offer(action, Reason::ReportStale);
    }
}

fn status(volumes: usize, missing: &[(&str, &Reason)]) -> Report {
    let Some((_, first)) = missing.iter().find(|(_, r)| !r.is_passing()).or(missing.first()) else {
        let message = match volumes {
            0 => "the pod uses no volumes".to_owned(),
            1 => "its volume is mounted".to_owned(),
            n => format!("all {n} volumes are mounted"),
        };
        return Report { published: true, reason: PUBLISHED.to_owned(), message };
    };
    let parts: Vec<String> =
        missing.iter().map(|(name, reason)| format!("volume {name:?}: {reason}")).collect();
    Report { published: false, reason: first.code().to_owned(), message: parts.join("; ") }
}
