//! Attach-detach's table: what is there, what follows for node `n`.

use holdfast_api::{
    attachment::{BOOT_ID, MACHINE_ID, attachment_name, unique_volume_name},
    nodes::OUT_OF_SERVICE,
};
use serde_json::json;

use super::{
    decide::{Action, decide},
    reason::{Holder, Reason},
};
use crate::controllers::view::{fixture::*, node_key};

fn attach(volume: &str) -> Action {
    Action::Attach {
        name: attachment_name(DRIVER, &format!("h-{volume}"), "n"),
        driver: DRIVER.into(),
        volume: volume.into(),
        node: "n".into(),
        machine: None,
        reason: Reason::Wanted { volume: volume.into(), node: "n".into() },
    }
}

fn detach(volume: &str) -> Action {
    let reason = Reason::Unused { volume: volume.into(), node: "n".into() };
    Action::Detach { attachment: at(attachment(volume, "n", true).key()), reason }
}

fn report(volumes: &[&str], news: &[(&str, &str)]) -> Action {
    Action::Report {
        node: at(node_key("n")),
        attached: volumes.iter().map(|volume| listed(volume)).collect(),
        news: news
            .iter()
            .map(|(pod, volume)| (of_pod(pod), Reason::Attached { volume: (*volume).into() }))
            .collect(),
        reason: Reason::StatusBehind,
    }
}

fn multi_attach(pod: &str, volume: &str, others: &[&str], holder: Holder) -> Action {
    let pods = others.iter().map(|&pod| pod.to_owned()).collect();
    let reason = Reason::MultiAttach { volume: volume.into(), other: "m".into(), pods, holder };
    Action::Tell { about: of_pod(pod), reason }
}

/// Node `m`, in this state, with these volumes in use.
fn m(ready: &str, in_use: &[&str]) -> Made {
    let in_use: Vec<_> = in_use.iter().map(|v| listed(v)).collect();
    let conditions = json!([{"type": "Ready", "status": ready}]);
    node("m").set("status.volumesInUse", json!(in_use)).set("status.conditions", conditions)
}

/// With the taint of a node that is shut down.
fn shut_down(node: Made) -> Made {
    node.set("spec.taints", json!([{"key": OUT_OF_SERVICE, "value": "nodeshutdown", "effect": "NoExecute"}]))
}

/// The boot and the machine of a node, or of what an attachment was made for.
fn booted(node: Made, boot: &str, machine: &str) -> Made {
    let info = json!({
        "bootID": boot, "machineID": machine, "systemUUID": "", "architecture": "", "containerRuntimeVersion": "",
        "kernelVersion": "", "kubeProxyVersion": "", "kubeletVersion": "", "operatingSystem": "", "osImage": "",
    });
    node.set("status.nodeInfo", info)
}

fn made_for(attachment: Made, boot: &str, machine: &str) -> Made {
    attachment.note(BOOT_ID, boot).note(MACHINE_ID, machine)
}

fn listed(volume: &str) -> String {
    unique_volume_name(DRIVER, &format!("h-{volume}"))
}

/// Node `n`, with the volumes that its status lists as attached and as in use.
fn n(attached: &[&str], in_use: &[&str]) -> Made {
    let attached: Vec<_> = attached.iter().map(|v| json!({"name": listed(v), "devicePath": ""})).collect();
    let in_use: Vec<_> = in_use.iter().map(|v| listed(v)).collect();
    node("n").set("status.volumesAttached", json!(attached)).set("status.volumesInUse", json!(in_use))
}

#[test]
fn table() {
    let (a, v) = bound("a", "v");
    let shared = |mode: &str| v.clone().modes(&["ReadWriteOnce", mode]);
    let p = || pod_on("n", "p", &["a"]);
    let va = || attachment("v", "n", true);
    let cases: Vec<(u32, &str, Vec<Made>, Vec<Action>)> = vec![
        (1, "nobody uses anything", vec![n(&[], &[]), a.clone(), v.clone()], vec![]),
        (2, "a pod uses a volume", vec![n(&[], &[]), a.clone(), v.clone(), p()], vec![attach("v")]),
        (
            3,
            "a driver that says so",
            vec![n(&[], &[]), a.clone(), v.clone(), p(), driver(true)],
            vec![attach("v")],
        ),
        (
            4,
            "a driver that needs no attaching",
            vec![n(&[], &[]), a.clone(), v.clone(), p(), driver(false)],
            vec![],
        ),
        (
            5,
            "which was not known in time",
            vec![n(&["v"], &[]), a.clone(), v.clone(), p(), driver(false), va()],
            vec![detach("v"), report(&[], &[])],
        ),
        (
            6,
            "a pod on another node",
            vec![n(&[], &[]), a.clone(), v.clone(), pod_on("m", "p", &["a"])],
            vec![],
        ),
        (7, "a pod on no node", vec![n(&[], &[]), a.clone(), v.clone(), pod("p", &["a"])], vec![]),
        (8, "the node is not there", vec![a.clone(), v.clone(), p(), va()], vec![]),
        (9, "the claim is not bound", vec![n(&[], &[]), claim("a"), p()], vec![]),
        (10, "the claim is lost", vec![n(&[], &[]), a.clone().phase("Lost"), v.clone(), p()], vec![]),
        (
            11,
            "the volume says that it is another's",
            vec![n(&[], &[]), a.clone(), v.clone().kept_for("a", "uid-before"), p()],
            vec![],
        ),
        (
            12,
            "not CSI",
            vec![n(&[], &[]), a.clone(), v.clone().unset("spec.csi").set("spec.hostPath.path", "/x"), p()],
            vec![],
        ),
        (
            13,
            "two pods, one attachment",
            vec![n(&[], &[]), a.clone(), v.clone(), p(), pod_on("n", "q", &["a"])],
            vec![attach("v")],
        ),
        (
            14,
            "asked for already",
            vec![n(&[], &[]), a.clone(), v.clone(), p(), attachment("v", "n", false)],
            vec![],
        ),
        (
            15,
            "attached: the node is told, and the pods",
            vec![n(&[], &[]), a.clone(), v.clone(), p(), pod_on("n", "q", &["a"]), va()],
            vec![report(&["v"], &[("p", "v"), ("q", "v")])],
        ),
        (16, "attached and told", vec![n(&["v"], &["v"]), a.clone(), v.clone(), p(), va()], vec![]),
        (
            17,
            "still wanted by a pod that is going",
            vec![n(&["v"], &[]), a.clone(), v.clone(), p().deleting(), va()],
            vec![],
        ),
        (
            18,
            "a pod that has ended wants nothing",
            vec![n(&["v"], &[]), a.clone(), v.clone(), p().phase("Succeeded"), va()],
            vec![detach("v"), report(&[], &[])],
        ),
        (19, "nor one that has failed", vec![n(&[], &[]), a.clone(), v.clone(), p().phase("Failed")], vec![]),
        (
            20,
            "unused, but the node has it still",
            vec![n(&["v"], &["v"]), a.clone(), v.clone(), va()],
            vec![],
        ),
        (
            21,
            "unused, and the node has let go",
            vec![n(&["v"], &[]), a.clone(), v.clone(), va()],
            vec![detach("v"), report(&[], &[])],
        ),
        (
            22,
            "what another volume does is no matter",
            vec![n(&["v"], &["w"]), a.clone(), v.clone(), va()],
            vec![detach("v"), report(&[], &[])],
        ),
        (
            23,
            "never told: the node is written all the same, so that it cannot begin meanwhile",
            vec![n(&[], &[]), a.clone(), v.clone(), attachment("v", "n", false)],
            vec![detach("v"), report(&[], &[])],
        ),
        (
            24,
            "the claim is gone too",
            vec![n(&["v"], &[]), v.clone().phase("Released"), va()],
            vec![detach("v"), report(&[], &[])],
        ),
        (
            25,
            "on its way out: not twice, and not to be relied on",
            vec![n(&["v"], &[]), a.clone(), v.clone(), va().deleting()],
            vec![report(&[], &[])],
        ),
        (26, "on its way out and told", vec![n(&[], &[]), a.clone(), v.clone(), va().deleting()], vec![]),
        (
            27,
            "on its way out and wanted again: its successor comes when it is gone",
            vec![n(&[], &[]), a.clone(), v.clone(), p(), va().deleting()],
            vec![],
        ),
        (28, "of a volume that is not there: nobody can tell", vec![n(&[], &[]), va()], vec![]),
        (
            29,
            "an attachment that somebody else made is left alone",
            vec![n(&["v"], &[]), a.clone(), v.clone(), va().set("metadata.name", "by-hand")],
            vec![],
        ),
        (
            30,
            "and listed",
            vec![n(&[], &[]), a.clone(), v.clone(), va().set("metadata.name", "by-hand")],
            vec![report(&["v"], &[])],
        ),
        (
            31,
            "one writer: not while it is on another node",
            vec![
                n(&[], &[]),
                a.clone(),
                v.clone(),
                p(),
                pod_on("m", "q", &["a"]),
                attachment("v", "m", true),
                m("True", &[]),
            ],
            vec![multi_attach("p", "v", &["q"], Holder::Well)],
        ),
        (
            32,
            "not even when it is on its way from there",
            vec![
                n(&[], &[]),
                a.clone(),
                v.clone(),
                p(),
                attachment("v", "m", true).deleting(),
                m("True", &[]),
            ],
            vec![multi_attach("p", "v", &[], Holder::Well)],
        ),
        (
            33,
            "every pod that waits is told",
            vec![
                n(&[], &[]),
                a.clone(),
                v.clone(),
                p(),
                pod_on("n", "o", &["a"]),
                attachment("v", "m", false),
                m("True", &[]),
            ],
            vec![multi_attach("o", "v", &[], Holder::Well), multi_attach("p", "v", &[], Holder::Well)],
        ),
        (
            34,
            "many writers: on both",
            vec![n(&[], &[]), a.clone(), shared("ReadWriteMany"), p(), attachment("v", "m", true)],
            vec![attach("v")],
        ),
        (
            35,
            "many readers: on both",
            vec![n(&[], &[]), a.clone(), shared("ReadOnlyMany"), p(), attachment("v", "m", true)],
            vec![attach("v")],
        ),
        (
            36,
            "one pod only",
            vec![
                n(&[], &[]),
                a.clone(),
                v.clone().modes(&["ReadWriteOncePod"]),
                p(),
                attachment("v", "m", true),
                m("True", &[]),
            ],
            vec![multi_attach("p", "v", &[], Holder::Well)],
        ),
        (37, "a list that names what is gone", vec![n(&["v"], &[])], vec![report(&[], &[])]),
        (
            38,
            "an ephemeral volume of the pod",
            {
                let (claim, volume) = bound("p-data", "w");
                let volumes = json!([{"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]);
                vec![n(&[], &[]), claim, volume, pod_on("n", "p", &[]).set("spec.volumes", volumes)]
            },
            vec![attach("w")],
        ),
        (
            39,
            "two volumes",
            {
                let (b, w) = bound("b", "w");
                vec![n(&["v"], &["v"]), a.clone(), v.clone(), b, w, pod_on("n", "p", &["a", "b"]), va()]
            },
            vec![attach("w")],
        ),
    ];
    for (number, why, objects, expected) in cases {
        assert_eq!(decide(&view(&objects), &node_key("n")), expected, "case {number}: {why}");
    }
}

/// Nothing is taken from a node that may have it still, whatever became of the node.
#[test]
fn the_last_word() {
    let (a, v) = bound("a", "v");
    let p = || pod_on("n", "p", &["a"]);
    let va = || attachment("v", "n", true);
    let silent = |node: Made| node.set("status.conditions", json!([{"type": "Ready", "status": "Unknown"}]));
    let forced = || {
        let reason = Reason::OutOfService { volume: "v".into(), node: "n".into() };
        vec![Action::Detach { attachment: at(va().key()), reason }, report(&[], &[])]
    };
    let let_go = || vec![detach("v"), report(&[], &[])];
    let of_another = || {
        let attachment = va().key().name.to_string();
        Reason::OtherMachine { volume: "v".into(), node: "n".into(), attachment }
    };
    let new = |node: Made| booted(node, "b2", "m2");
    let gone = || Holder::Gone { attachment: attachment("v", "m", true).key().name.to_string() };
    let cases: Vec<(u32, &str, Vec<Made>, Vec<Action>)> = vec![
        (1, "silent, and it uses the volume", vec![silent(n(&["v"], &["v"])), v.clone(), va()], vec![]),
        (2, "silent, but it had let go before", vec![silent(n(&["v"], &[])), v.clone(), va()], let_go()),
        (
            3,
            "made anew: it has not spoken",
            vec![n(&["v"], &[]).unset("status.volumesInUse"), v.clone(), va()],
            vec![],
        ),
        (
            4,
            "shut down, somebody says",
            vec![shut_down(silent(n(&["v"], &["v"]))), v.clone(), va()],
            forced(),
        ),
        (5, "but it is alive", vec![shut_down(n(&["v"], &["v"])), v.clone(), va()], vec![]),
        (
            6,
            "shut down, with a pod that is there still",
            vec![shut_down(silent(n(&["v"], &["v"]))), a.clone(), v.clone(), p(), va()],
            vec![],
        ),
        (
            7,
            "shut down, after it had let go",
            vec![shut_down(silent(n(&["v"], &[]))), v.clone(), va()],
            let_go(),
        ),
        (
            8,
            "shut down before it could speak",
            vec![shut_down(silent(n(&["v"], &[]).unset("status.volumesInUse"))), v.clone(), va()],
            forced(),
        ),
        (
            9,
            "the same machine, booted anew: it may speak for the former boot",
            vec![booted(n(&["v"], &[]), "b2", "m1"), v.clone(), made_for(va(), "b1", "m1")],
            let_go(),
        ),
        (
            10,
            "another machine under its name knows nothing of what the former has mounted",
            vec![new(n(&[], &[])), v.clone(), made_for(va(), "b1", "m1")],
            vec![Action::Tell { about: va().key(), reason: of_another() }],
        ),
        (
            11,
            "nor may its pods have it",
            vec![new(n(&[], &[])), a.clone(), v.clone(), p(), made_for(va(), "b1", "m1")],
            vec![Action::Tell { about: of_pod("p"), reason: of_another() }],
        ),
        (
            12,
            "until somebody says that both are shut down",
            vec![shut_down(silent(new(n(&["v"], &[])))), v.clone(), made_for(va(), "b1", "m1")],
            forced(),
        ),
        (13, "what is attached is noted", vec![new(n(&[], &[])), a.clone(), v.clone(), p()], {
            let Action::Attach { name, driver, volume, node, reason, .. } = attach("v") else {
                unreachable!()
            };
            let machine = Some(("b2".to_owned(), "m2".to_owned()));
            vec![Action::Attach { name, driver, volume, node, machine, reason }]
        }),
        (
            14,
            "wanted elsewhere: on a node that is silent",
            vec![n(&[], &[]), a.clone(), v.clone(), p(), attachment("v", "m", true), m("Unknown", &["v"])],
            vec![multi_attach("p", "v", &[], Holder::Silent)],
        ),
        (
            15,
            "on a node that is gone",
            vec![n(&[], &[]), a.clone(), v.clone(), p(), attachment("v", "m", true)],
            vec![multi_attach("p", "v", &[], gone())],
        ),
        (
            16,
            "forced away from a node that is shut down: its list is no hindrance",
            vec![n(&[], &[]), a.clone(), v.clone(), p(), shut_down(m("Unknown", &["v"]))],
            vec![attach("v")],
        ),
        (
            17,
            "until it is back",
            vec![n(&[], &[]), a.clone(), v.clone(), p(), shut_down(m("True", &["v"]))],
            vec![multi_attach("p", "v", &[], Holder::Well)],
        ),
    ];
    for (number, why, objects, expected) in cases {
        assert_eq!(decide(&view(&objects), &node_key("n")), expected, "case {number}: {why}");
    }
}

#[test]
fn multi_attach_in_words() {
    let reason = |pods: Vec<String>, holder: Holder| Reason::MultiAttach {
        volume: "v".into(),
        other: "m".into(),
        pods,
        holder,
    };
    assert_eq!(reason(vec![], Holder::Well).name(), "FailedAttachVolume");
    assert!(reason(vec![], Holder::Well).to_string().starts_with("Multi-Attach error for volume \"v\""));
    assert!(reason(vec!["q".into()], Holder::Well).to_string().contains("by pod(s) q"));
    let silent = reason(vec![], Holder::Silent).to_string();
    assert!(
        silent.contains("kubectl taint nodes m node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"),
        "{silent}"
    );
    let gone = reason(vec![], Holder::Gone { attachment: "csi-1".into() }).to_string();
    assert!(gone.ends_with("kubectl delete volumeattachment csi-1"), "{gone}");
}
