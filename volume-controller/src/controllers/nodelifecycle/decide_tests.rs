//! The node lifecycle's tables: what is there and what was heard, what follows for node `n`.

use std::{collections::BTreeMap, time::Duration};

use holdfast_api::nodes::{NO_EXECUTE, NO_SCHEDULE, NOT_READY, OUT_OF_SERVICE, UNREACHABLE, UNSCHEDULABLE};
use serde_json::{Value, json};

use super::{
    decide::{Action, Decision, Named, Proof, decide},
    patience::Patience,
    pulse::Heard,
    reason::Reason,
};
use crate::{
    controllers::view::{fixture::*, node_key},
    store::Key,
};

type Told = Vec<(Key, Reason)>;
/// Number, what it is about, what is there, what was heard, what is marked.
type NodeCase = (u32, &'static str, Vec<Made>, Heard, Option<Marked>);
/// The same, what is done, what is told.
type PodCase = (u32, &'static str, Vec<Made>, Heard, Vec<Action>, Told);

fn silent(seconds: u64) -> Heard {
    Heard { silent: Duration::from_secs(seconds), ..Heard::default() }
}

/// Node `n` in this state, with these taints.
fn n(ready: &str, taints: &[Named]) -> Made {
    let taints: Vec<Value> =
        taints.iter().map(|(key, effect)| json!({"key": key, "effect": effect})).collect();
    node("n")
        .set("status.conditions", json!([{"type": "Ready", "status": ready}]))
        .set("spec.taints", json!(taints))
}

fn told(reason: Reason) -> (Key, Reason) {
    (node_key("n"), reason)
}

fn not_ready(is_silent: bool) -> Reason {
    Reason::NotReady { node: "n".into(), is_silent }
}

/// What is marked, and whether pods begin to be driven away.
struct Marked {
    unknown: Vec<&'static str>,
    add: Vec<Named>,
    remove: Vec<Named>,
    evicts: bool,
    news: Told,
}

impl Marked {
    fn new(unknown: &[&'static str], add: &[Named], remove: &[Named]) -> Option<Self> {
        let (unknown, add, remove) = (unknown.to_vec(), add.to_vec(), remove.to_vec());
        Some(Self { unknown, add, remove, evicts: false, news: Vec::new() })
    }

    fn evicting(self) -> Option<Self> {
        Some(Self { evicts: true, ..self })
    }
}

fn telling(marked: Option<Marked>, news: Told) -> Option<Marked> {
    marked.map(|marked| Marked { news, ..marked })
}

#[test]
fn conditions_and_taints() {
    let unready: Named = (NOT_READY, NO_SCHEDULE);
    let unreachable: Named = (UNREACHABLE, NO_SCHEDULE);
    let driven: Named = (UNREACHABLE, NO_EXECUTE);
    let other = || node("m");
    let dark =
        |name: &str| node(name).set("status.conditions", json!([{"type": "Ready", "status": "Unknown"}]));
    let lost = || telling(Marked::new(&["Ready"], &[unreachable], &[]), vec![told(not_ready(true))]);
    let cases: Vec<NodeCase> = vec![
        (1, "heard a moment ago", vec![n("True", &[])], silent(0), None),
        (2, "silent, but not for long", vec![n("True", &[]), other()], silent(49), None),
        (3, "silent for too long", vec![n("True", &[]), other()], silent(50), lost()),
        (
            4,
            "known to be silent: new pods are kept away, those there have a while more",
            vec![n("Unknown", &[unreachable]), other()],
            silent(62),
            None,
        ),
        (
            5,
            "for longer than it takes to see whether others are",
            vec![n("Unknown", &[unreachable]), other()],
            silent(63),
            Marked::new(&[], &[driven], &[]).and_then(Marked::evicting),
        ),
        (
            6,
            "not while another one of its zone has just begun",
            vec![n("Unknown", &[unreachable]), other()],
            Heard { paced: Some(Duration::from_secs(9)), ..silent(63) },
            None,
        ),
        (
            7,
            "and then",
            vec![n("Unknown", &[unreachable]), other()],
            Heard { paced: Some(Duration::from_secs(10)), ..silent(63) },
            Marked::new(&[], &[driven], &[]).and_then(Marked::evicting),
        ),
        (8, "the only node: nobody is driven away", vec![n("Unknown", &[unreachable])], silent(4000), None),
        (
            9,
            "all are silent: nobody is driven away",
            vec![n("Unknown", &[unreachable]), dark("m")],
            silent(4000),
            None,
        ),
        (
            10,
            "nor any longer",
            vec![n("Unknown", &[unreachable, driven]), dark("m")],
            silent(4000),
            Marked::new(&[], &[], &[driven]),
        ),
        (
            11,
            "most of a small zone are silent: nobody more is driven away",
            vec![n("Unknown", &[unreachable]), dark("l"), dark("m"), other().set("metadata.name", "o")],
            silent(4000),
            None,
        ),
        (12, "driven away already", vec![n("Unknown", &[unreachable, driven]), other()], silent(0), None),
        (
            13,
            "it says that it is not ready",
            vec![n("False", &[]), other()],
            silent(0),
            telling(
                Marked::new(&[], &[(NOT_READY, NO_EXECUTE), unready], &[]).and_then(Marked::evicting),
                vec![told(not_ready(false))],
            ),
        ),
        (
            14,
            "from not ready to silent: driven away all the same",
            vec![n("False", &[unready, (NOT_READY, NO_EXECUTE)]), other()],
            silent(50),
            telling(
                Marked::new(&["Ready"], &[driven, unreachable], &[unready, (NOT_READY, NO_EXECUTE)]),
                vec![told(not_ready(true))],
            ),
        ),
        (
            15,
            "ready again",
            vec![n("True", &[unreachable, driven]), other()],
            silent(0),
            telling(
                Marked::new(&[], &[], &[unreachable, driven]),
                vec![told(Reason::Ready { node: "n".into() })],
            ),
        ),
        (
            16,
            "what others put there stays",
            vec![n("True", &[(OUT_OF_SERVICE, NO_EXECUTE), ("example.com/mine", NO_SCHEDULE)])],
            silent(0),
            None,
        ),
        (17, "no new pods", vec![n("True", &[]).set("spec.unschedulable", true)], silent(0), {
            Marked::new(&[], &[(UNSCHEDULABLE, NO_SCHEDULE)], &[])
        }),
        (18, "new pods again", vec![n("True", &[(UNSCHEDULABLE, NO_SCHEDULE)])], silent(0), {
            Marked::new(&[], &[], &[(UNSCHEDULABLE, NO_SCHEDULE)])
        }),
        (
            19,
            "a disk that fills up",
            vec![node("n").set(
                "status.conditions",
                json!([{"type": "Ready", "status": "True"}, {"type": "DiskPressure", "status": "True"}]),
            )],
            silent(0),
            Marked::new(&[], &[("node.kubernetes.io/disk-pressure", NO_SCHEDULE)], &[]),
        ),
        (
            20,
            "what a silent node said of itself is unknown, too",
            vec![
                node("n").set(
                    "status.conditions",
                    json!([{"type": "DiskPressure", "status": "False"}, {"type": "Ready", "status": "True"}]),
                ),
                other(),
            ],
            silent(50),
            telling(
                Marked::new(&["Ready", "DiskPressure"], &[unreachable], &[]),
                vec![told(not_ready(true))],
            ),
        ),
        (
            21,
            "one that never said anything has longer",
            vec![node("n").unset("status.conditions"), other()],
            { silent(59) },
            None,
        ),
        (22, "but not for ever", vec![node("n").unset("status.conditions"), other()], silent(60), lost()),
        (
            23,
            "nor does anybody take off the taints that it came with",
            vec![
                node("n")
                    .unset("status.conditions")
                    .set("spec.taints", json!([{"key": NOT_READY, "effect": NO_SCHEDULE}])),
            ],
            silent(0),
            None,
        ),
    ];
    for (number, why, objects, heard, expected) in cases {
        let decided = decide(&view(&objects), &node_key("n"), &heard, &Patience::default()).unwrap();
        let expected = expected.map(|marked| Action::Mark {
            node: at(node_key("n")),
            lease: None,
            unknown: marked.unknown,
            add: marked.add,
            remove: marked.remove,
            evicts: marked.evicts.then(String::new),
            news: marked.news,
        });
        assert_eq!(decided.actions, expected.into_iter().collect::<Vec<_>>(), "case {number}: {why}");
    }
}

#[test]
fn silence_rests_on_the_lease() {
    let objects = [n("True", &[]), node("m"), lease("n"), pod_on("n", "p", &[]), pod_on("m", "q", &[])];
    let decided = decide(&view(&objects), &node_key("n"), &silent(50), &Patience::default()).unwrap();
    let [Action::Mark { lease: Some(rests_on), news, .. }] = &decided.actions[..] else {
        panic!("{decided:?}")
    };
    assert_eq!(*rests_on, at(lease("n").key()));
    let pods = [told(not_ready(true)), (of_pod("p"), Reason::PodsNode { node: "n".into() })];
    assert_eq!(*news, pods, "those who have pods there are told");
}

#[test]
fn pods() {
    let taint = |key: &'static str| (key, NO_EXECUTE);
    let had = |key: &str, seconds: u64| Heard {
        taints: BTreeMap::from([(key.to_owned(), Duration::from_secs(seconds))]),
        ..silent(4000)
    };
    let tolerating = |tolerations: Value| pod_on("n", "p", &[]).set("spec.tolerations", tolerations);
    let patient = |seconds: u64| {
        tolerating(json!([
            {"key": UNREACHABLE, "operator": "Exists", "effect": NO_EXECUTE, "tolerationSeconds": seconds},
        ]))
    };
    let lost = || n("Unknown", &[(UNREACHABLE, NO_SCHEDULE), taint(UNREACHABLE)]);
    let dead = || n("Unknown", &[(UNREACHABLE, NO_SCHEDULE), taint(UNREACHABLE), taint(OUT_OF_SERVICE)]);
    let off = || n("Unknown", &[(UNREACHABLE, NO_SCHEDULE), (OUT_OF_SERVICE, NO_SCHEDULE)]);
    let p = || pod_on("n", "p", &[]);
    let graceful = || p().deleting().set("metadata.deletionGracePeriodSeconds", 30);
    let evict = || {
        let reason = Reason::Evicted { pod: "dev/p".into() };
        vec![Action::Evict { pod: at(of_pod("p")), node: at(node_key("n")), reason }]
    };
    let remove = || {
        let reason = Reason::OutOfService { pod: "dev/p".into(), node: "n".into() };
        let proof = Proof::OutOfService { node: at(node_key("n")) };
        vec![Action::Remove { pod: at(of_pod("p")), proof, reason }]
    };
    let orphan = || {
        let reason = Reason::NodeGone { pod: "dev/p".into(), node: "n".into() };
        vec![Action::Remove { pod: at(of_pod("p")), proof: Proof::Gone { node: node_key("n") }, reason }]
    };
    let gone = |seconds: u64| Heard { gone: Duration::from_secs(seconds), ..Heard::default() };
    let stuck = || vec![(of_pod("p"), Reason::Stuck { node: "n".into() })];
    let alive = || vec![told(Reason::Alive { node: "n".into() })];
    let m = || node("m");
    let cases: Vec<PodCase> = vec![
        (1, "a node that is well", vec![n("True", &[]), p()], silent(0), vec![], vec![]),
        (2, "a pod that tolerates nothing", vec![lost(), m(), p()], had(UNREACHABLE, 0), evict(), vec![]),
        (3, "for a while", vec![lost(), m(), patient(300)], had(UNREACHABLE, 299), vec![], vec![]),
        (4, "which is over", vec![lost(), m(), patient(300)], had(UNREACHABLE, 300), evict(), vec![]),
        (
            5,
            "for ever",
            vec![lost(), m(), tolerating(json!([{"operator": "Exists"}]))],
            had(UNREACHABLE, 4000),
            vec![],
            vec![],
        ),
        (6, "for no time at all", vec![lost(), m(), patient(0)], had(UNREACHABLE, 0), evict(), vec![]),
        (
            7,
            "one taint is not tolerated",
            vec![dead(), m(), patient(300)],
            had(UNREACHABLE, 0),
            evict(),
            vec![],
        ),
        (
            8,
            "one that has ended",
            vec![lost(), m(), p().phase("Succeeded")],
            had(UNREACHABLE, 9),
            vec![],
            vec![],
        ),
        (
            9,
            "going, where nobody answers",
            vec![lost(), m(), graceful()],
            had(UNREACHABLE, 9),
            vec![],
            stuck(),
        ),
        (10, "going, where all is well", vec![n("True", &[]), graceful()], silent(0), vec![], vec![]),
        (
            11,
            "going, on a node that says it is not ready",
            vec![n("False", &[(NOT_READY, NO_SCHEDULE)]), graceful()],
            { silent(0) },
            vec![],
            vec![],
        ),
        (
            12,
            "going, on a node that is shut down",
            vec![dead(), m(), graceful()],
            had(UNREACHABLE, 9),
            remove(),
            vec![],
        ),
        (13, "whatever the taint's effect", vec![off(), graceful()], silent(4000), remove(), vec![]),
        (14, "which drives nobody away", vec![off(), p()], silent(4000), vec![], vec![]),
        (
            15,
            "said to be shut down, and alive",
            vec![n("True", &[(OUT_OF_SERVICE, NO_SCHEDULE)]), graceful()],
            { silent(0) },
            vec![],
            alive(),
        ),
        (
            16,
            "the taint drives pods away all the same",
            vec![n("True", &[taint(OUT_OF_SERVICE)]), p()],
            Heard { silent: Duration::ZERO, ..had(OUT_OF_SERVICE, 0) },
            evict(),
            alive(),
        ),
        (
            17,
            "nothing is done twice to one that only finalizers hold",
            vec![dead(), m(), p().deleting().set("metadata.deletionGracePeriodSeconds", 0)],
            had(UNREACHABLE, 9),
            vec![],
            vec![],
        ),
        (18, "no node, for a while", vec![p()], gone(39), vec![], vec![]),
        (19, "no node", vec![p()], gone(40), orphan(), vec![]),
        (20, "no node, and going", vec![graceful()], gone(40), orphan(), vec![]),
        (21, "no node, and over", vec![p().phase("Failed")], gone(40), orphan(), vec![]),
        (
            23,
            "an attachment on no node",
            vec![attachment("v", "n", true), attachment("w", "n", true).deleting()],
            gone(40),
            vec![],
            vec![(attachment("v", "n", true).key(), {
                let name = attachment("v", "n", true).key().name.to_string();
                Reason::StaysAttached { attachment: name, node: "n".into() }
            })],
        ),
        (24, "which may come back", vec![attachment("v", "n", true)], gone(39), vec![], vec![]),
        (
            25,
            "said to be shut down, and says itself that it is not ready: so it is alive",
            vec![n("False", &[(NOT_READY, NO_SCHEDULE), (OUT_OF_SERVICE, NO_SCHEDULE)]), graceful()],
            silent(0),
            vec![],
            alive(),
        ),
        (
            22,
            "a pod elsewhere",
            vec![lost(), m(), pod_on("m", "q", &[])],
            had(UNREACHABLE, 9),
            vec![],
            vec![],
        ),
    ];
    for (number, why, objects, heard, actions, tells) in cases {
        let decided = decide(&view(&objects), &node_key("n"), &heard, &Patience::default()).unwrap();
        let expected = Decision { actions, tells: tells.into_iter().collect() };
        assert_eq!(decided, expected, "case {number}: {why}");
    }
    assert_eq!(
        decide(&view(&[p()]), &node_key("m"), &silent(0), &Patience::default()),
        None,
        "nothing there"
    );
}

#[test]
fn reasons_in_words() {
    let words = not_ready(true).to_string();
    assert!(
        words.contains("kubectl taint nodes n node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"),
        "{words}"
    );
    assert_eq!(not_ready(true).name(), "NodeNotReady");
}
