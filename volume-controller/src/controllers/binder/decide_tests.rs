//! The binder's table: what is there, which key is looked at, what follows.

mod claim;
mod held;
mod volume;

use super::{
    decide::{Action, Keys, decide},
    reason::Reason,
};
use crate::{
    controllers::view::{fixture::*, is_free},
    store::Key,
};

fn bind(claim: &str, volume: &str) -> Option<Action> {
    let reason = Reason::Bound { claim: format!("{SPACE}/{claim}"), volume: volume.into() };
    Some(Action::Bind { claim: at(of_claim(claim)), volume: at(of_volume(volume)), reason })
}

fn wait(reason: Reason) -> Option<Action> {
    Some(Action::Wait { claim: of_claim("a"), reason })
}

fn phase(phase: &'static str, reason: Reason) -> Option<Action> {
    Some(Action::Phase { volume: at(of_volume("v")), phase, reason })
}

fn lose(reason: Reason) -> Option<Action> {
    Some(Action::Lose { claim: at(of_claim("a")), reason })
}

fn ask() -> Option<Action> {
    let reason = Reason::Provisioning { provisioner: DRIVER.into() };
    Some(Action::Ask { claim: at(of_claim("a")), provisioner: DRIVER.into(), reason })
}

fn misfit(why: &'static str) -> Option<Action> {
    wait(Reason::Misfit { volume: "v".into(), why })
}

fn gone() -> Reason {
    Reason::ClaimGone { claim: format!("{SPACE}/a") }
}

struct Case(u32, &'static str, Vec<Made>, Option<Action>);

fn check(cases: Vec<Case>, key: &Key) {
    for Case(number, why, objects, expected) in cases {
        assert_eq!(decide(&view(&objects), &Keys::new(), key), expected, "case {number}: {why}");
    }
}

#[test]
fn reasons_in_words() {
    for (reason, name, is_warning, words) in [
        (
            Reason::WaitsForConsumer,
            "WaitForFirstConsumer",
            false,
            "waiting for first consumer to be created before binding",
        ),
        (
            Reason::WaitsForPod { pod: "p".into() },
            "WaitForPodScheduled",
            false,
            "waiting for pod p to be scheduled",
        ),
        (
            Reason::NothingFits,
            "FailedBinding",
            false,
            "no persistent volumes available for this claim and no storage class is set",
        ),
        (
            Reason::NoClass { class: "x".into() },
            "ProvisioningFailed",
            true,
            "storageclass.storage.k8s.io \"x\" not found",
        ),
        (
            Reason::TakenVolume { volume: "v".into() },
            "FailedBinding",
            true,
            "volume \"v\" already bound to a different claim.",
        ),
        (
            Reason::VolumeGone { volume: "v".into() },
            "ClaimLost",
            true,
            "Bound claim has lost its PersistentVolume v. Data on the volume is lost!",
        ),
        (
            Reason::Misfit { volume: "v".into(), why: "incompatible accessMode" },
            "VolumeMismatch",
            true,
            "Cannot bind to requested volume \"v\": incompatible accessMode",
        ),
    ] {
        assert_eq!(
            (reason.name(), reason.is_warning(), reason.to_string().as_str()),
            (name, is_warning, words)
        );
    }
}
