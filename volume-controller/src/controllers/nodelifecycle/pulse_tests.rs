//! What counts as silence.

use std::time::Duration;

use holdfast_api::nodes::{NO_EXECUTE, UNREACHABLE};
use serde_json::json;
use tokio::time::Instant;

use super::{
    patience::Patience,
    pulse::{Heard, Pulses},
};
use crate::controllers::view::{View, fixture::*, node_key};

const PERIOD: Duration = Duration::from_secs(5);

fn heartbeat(second: u32) -> Made {
    let heard = format!("2026-01-01T00:00:{second:02}Z");
    node("n")
        .set("status.conditions", json!([{"type": "Ready", "status": "True", "lastHeartbeatTime": heard}]))
}

fn renewal(second: u32) -> Made {
    lease("n").set("spec.renewTime", format!("2026-01-01T00:00:{second:02}.000000Z"))
}

/// Somebody who looks at node `n`, with a clock.
struct Observer {
    pulses: Pulses,
    now: Instant,
}

impl Observer {
    fn new() -> Self {
        let observer = Self { pulses: Pulses::new(Patience::default()), now: Instant::now() };
        observer.hear(&View::default(), true);
        observer
    }

    fn hear(&self, view: &View, can_hear: bool) -> Heard {
        self.pulses.hear(view, &node_key("n"), self.now, can_hear)
    }

    /// Looks every period, so often.
    fn look(&mut self, objects: &[Made], times: u32) -> Duration {
        let view = view(objects);
        let mut silent = Duration::ZERO;
        for _ in 0..times {
            self.now += PERIOD;
            silent = self.hear(&view, true).silent;
        }
        silent
    }
}

#[test]
fn every_sign_of_life_counts() {
    let mut observer = Observer::new();
    assert_eq!(observer.look(&[heartbeat(0), renewal(0)], 1), Duration::ZERO, "seen first");
    assert_eq!(observer.look(&[heartbeat(0), renewal(0)], 3), PERIOD * 3);
    assert_eq!(observer.look(&[heartbeat(0), renewal(1)], 1), Duration::ZERO, "renewed");
    assert_eq!(observer.look(&[heartbeat(0), renewal(1)], 2), PERIOD * 2);
    assert_eq!(observer.look(&[heartbeat(1), renewal(1)], 1), Duration::ZERO, "posted");
    assert_eq!(observer.look(&[heartbeat(1), renewal(1)], 2), PERIOD * 2);
    assert_eq!(
        observer.look(&[heartbeat(1), renewal(0)], 1),
        Duration::ZERO,
        "renewed, by a clock that was set back"
    );
    assert_eq!(observer.look(&[heartbeat(1), renewal(0)], 2), PERIOD * 2);
    let anew = heartbeat(1).uid("another");
    assert_eq!(observer.look(&[anew, renewal(0)], 1), Duration::ZERO, "another node of that name");
}

#[test]
fn time_in_which_nobody_could_be_heard_does_not_count() {
    let mut observer = Observer::new();
    let objects = [heartbeat(0), renewal(0)];
    observer.look(&objects, 3);
    let present = view(&objects);
    // The process was stopped, or the machine slept.
    observer.now += Duration::from_secs(3600);
    assert_eq!(observer.hear(&present, true).silent, PERIOD * 4);
    // The database did not answer.
    for _ in 0..100 {
        observer.now += PERIOD;
        observer.hear(&present, false);
    }
    assert_eq!(observer.look(&objects, 1), PERIOD * 5);
}

#[test]
fn taints_and_gone_nodes_have_times_of_their_own() {
    let mut observer = Observer::new();
    let taints = json!([{"key": UNREACHABLE, "effect": NO_EXECUTE}]);
    let tainted = view(&[node("n").set("spec.taints", taints), pod_on("n", "p", &[])]);
    let gone = view(&[pod_on("n", "p", &[])]);
    assert_eq!(observer.hear(&tainted, true).taints[UNREACHABLE], Duration::ZERO);
    observer.now += PERIOD;
    assert_eq!(observer.hear(&tainted, true).taints[UNREACHABLE], PERIOD);
    assert_eq!(observer.hear(&view(&[node("n")]), true).taints.len(), 0);
    observer.now += PERIOD;
    assert_eq!(observer.hear(&tainted, true).taints[UNREACHABLE], Duration::ZERO, "tainted anew");
    assert_eq!(observer.hear(&gone, true).gone, Duration::ZERO);
    observer.now += PERIOD;
    assert_eq!(observer.hear(&gone, true).gone, PERIOD);
    observer.hear(&tainted, true);
    observer.now += PERIOD;
    assert_eq!(observer.hear(&gone, true).gone, Duration::ZERO, "it was there in between");
}

#[test]
fn when_the_first_comes_back_the_others_get_time() {
    let mut observer = Observer::new();
    let dark =
        |name: &str| node(name).set("status.conditions", json!([{"type": "Ready", "status": "Unknown"}]));
    let all_dark = [dark("m"), dark("n")];
    assert_eq!(observer.look(&all_dark, 8), PERIOD * 7);
    assert!(observer.pulses.survey(&view(&all_dark)).is_some());
    assert!(observer.pulses.survey(&view(&all_dark)).is_none(), "counted a moment ago");
    let one_back = [node("m"), dark("n")];
    observer.look(&one_back, 1);
    let zones = observer.pulses.survey(&view(&one_back)).unwrap();
    assert_eq!((zones[""].size, zones[""].unready), (2, 1));
    assert_eq!(observer.look(&one_back, 1), PERIOD, "it counts from when the first came back");
}
