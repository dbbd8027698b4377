//! The flags of the sidecars: upstream's names and defaults, as data.
//!
//! Sources: the READMEs of kubernetes-csi's external-provisioner, external-attacher, external-resizer,
//! external-snapshotter, node-driver-registrar, livenessprobe and external-health-monitor.

use Kind::{Count, Duration, Number, Path, Switch, Text};
use Sidecar::{
    Attacher as A, Health as H, Liveness as L, Provisioner as P, Registrar as G, Resizer as R,
    Snapshotter as S,
};

/// One of upstream's sidecars.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Sidecar {
    Provisioner,
    Attacher,
    Resizer,
    Snapshotter,
    Registrar,
    Liveness,
    Health,
}

impl Sidecar {
    pub(super) const ALL: [Self; 7] = [P, A, R, S, G, L, H];

    /// The name of the command, and in `--controllers`.
    pub(super) fn name(self) -> &'static str {
        match self {
            P => "provisioner",
            A => "attacher",
            R => "resizer",
            S => "snapshotter",
            G => "registrar",
            L => "liveness",
            H => "health",
        }
    }

    pub(super) fn by_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|one| one.name() == name)
    }

    pub(super) fn about(self) -> &'static str {
        match self {
            P => "Make volumes for claims, and delete them: in place of external-provisioner",
            A => "Attach volumes to nodes and detach them: in place of external-attacher",
            R => "Grow volumes: in place of external-resizer",
            S => "Take snapshots and delete them: in place of external-snapshotter's sidecar",
            G => "Announce the driver to kubelet: in place of node-driver-registrar",
            L => "Tell over HTTP whether the driver is alive: in place of livenessprobe",
            H => {
                "Tell the owners of claims what is wrong with their volumes: in place of external-health-monitor"
            }
        }
    }
}

/// What a flag's value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Switch,
    Text,
    Path,
    /// An integer, which may be negative.
    Number,
    /// 1 or more.
    Count,
    /// As Go writes it.
    Duration,
}

/// One flag.
#[derive(Debug)]
pub(super) struct Flag {
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// Which of upstream's sidecars take it.
    pub(super) of: &'static [Sidecar],
    /// Empty for none.
    default: &'static str,
    /// Where the default is another; `None` is all in one.
    except: &'static [(Option<Sidecar>, &'static str)],
    pub(super) help: &'static str,
    /// Why it has no effect here.
    pub(super) idle: Option<&'static str>,
}

impl Flag {
    /// What counts where it is not given.
    pub(super) fn default_of(&self, sidecar: Option<Sidecar>) -> Option<&'static str> {
        let except = self.except.iter().find(|(of, _)| *of == sidecar);
        Some(except.map_or(self.default, |(_, default)| *default)).filter(|default| !default.is_empty())
    }

    /// Whether a command takes it; all in one takes what any of them takes, besides what another flag says there.
    pub(super) fn is_taken_by(&self, sidecar: Option<Sidecar>) -> bool {
        sidecar.map_or(self.name != "workers", |sidecar| self.of.contains(&sidecar))
    }

    const fn except(mut self, except: &'static [(Option<Sidecar>, &'static str)]) -> Self {
        self.except = except;
        self
    }

    const fn idle(mut self, why: &'static str) -> Self {
        self.idle = Some(why);
        self
    }
}

const fn flag(
    name: &'static str,
    kind: Kind,
    of: &'static [Sidecar],
    default: &'static str,
    help: &'static str,
) -> Flag {
    Flag { name, kind, of, default, except: &[], help, idle: None }
}

const ALL: &[Sidecar] = &Sidecar::ALL;
/// Those that work with the API.
const API: &[Sidecar] = &[P, A, R, S, H];

const NO_LIMIT: &str = "requests are not limited here: the API server's answers (429) set the pace";
const LEVEL: &str =
    "decisions look at the state, and a watch that breaks is begun anew: nothing is to be repeated by time";
const NO_CAPACITY: &str = "CSIStorageCapacity objects are not published yet";
const NO_MODIFY: &str = "ControllerModifyVolume is not called yet";
const NO_NODES: &str = "nodes are not watched for failures: Kubernetes' node lifecycle controller does that";
const AT_ONCE: &str =
    "a claim is given to a node by who schedules its pod: classes that bind at once get no volumes";
const KLOG: &str = "the log goes to standard error";
const NOT_GO: &str = "this is no Go program";

/// All of them.
pub(super) const FLAGS: &[Flag] = &[
    flag("csi-address", Text, ALL, "/run/csi/socket", "The driver's CSI socket: a path, or unix://PATH"),
    flag(
        "kubeconfig",
        Path,
        API,
        "",
        "The kubeconfig of the API server [default: the pod's service account]",
    ),
    flag("master", Text, &[P, R], "", "The URL of the API server, in place of the kubeconfig's"),
    flag(
        "timeout",
        Duration,
        &[P, A, R, S, G, H],
        "10s",
        "How long a CSI call may take before it counts as unanswered",
    )
    .except(&[(Some(A), "15s"), (Some(S), "1m"), (Some(G), "1s"), (Some(H), "15s"), (None, "1m")]),
    flag("worker-threads", Count, &[P, A, S, H], "10", "How many objects are worked on at the same time")
        .except(&[(Some(P), "100"), (None, "32")]),
    flag("workers", Count, &[R], "10", "How many claims are worked on at the same time"),
    flag(
        "retry-interval-start",
        Duration,
        &[P, A, R, S],
        "1s",
        "The pause after a first failure; doubles with each",
    )
    .except(&[(None, "500ms")]),
    flag("retry-interval-max", Duration, &[P, A, R, S], "5m", "The longest pause after failures"),
    flag("leader-election", Switch, API, "false", "Work only while holding a Lease, so that several may run"),
    flag("leader-election-namespace", Text, API, "", "Where the Leases are [default: the pod's namespace]"),
    flag(
        "leader-election-lease-duration",
        Duration,
        API,
        "15s",
        "After this time without a renewal others take a Lease; whole seconds",
    ),
    flag(
        "leader-election-renew-deadline",
        Duration,
        API,
        "10s",
        "After this time without a successful renewal a leader stops",
    ),
    flag("leader-election-retry-period", Duration, API, "5s", "The time between renewals"),
    flag("leader-election-labels", Text, API, "", "Labels of the Leases: key:value,key:value"),
    flag("http-endpoint", Text, ALL, "", "Serve metrics and health checks on this address, such as :8080"),
    flag("metrics-address", Text, &[P, A, R, S, L, H], "", "The same for metrics alone (deprecated)"),
    flag("metrics-path", Text, &[P, A, R, S, L, H], "/metrics", "Where the metrics are"),
    flag(
        "health-port",
        Number,
        &[G, L],
        "",
        "Serve /healthz on this port of all addresses (deprecated); 0 for not",
    )
    .except(&[(Some(L), "9808")]),
    flag("probe-timeout", Duration, &[L], "3s", "How long the driver's Probe may take"),
    flag(
        "kubelet-registration-path",
        Path,
        &[G],
        "",
        "The driver's CSI socket as kubelet sees it [default: --csi-address]",
    ),
    flag("plugin-registration-path", Path, &[G], "/registration", "Kubelet's plugins_registry folder"),
    flag("default-fstype", Text, &[P, A], "", "The file system of volumes whose class names none"),
    flag("extra-create-metadata", Switch, &[P, S], "false", "Tell the driver the names of the objects"),
    flag("volume-name-prefix", Text, &[P], "pvc", "Volumes are named PREFIX-<uid of the claim>"),
    flag("volume-name-uuid-length", Number, &[P], "-1", "Only so many characters of the uid; -1 for all"),
    flag("strict-topology", Switch, &[P], "false", "Late binding: ask for the place of the chosen node only"),
    flag("immediate-topology", Switch, &[P], "true", "Immediate binding: ask for places where the driver is"),
    flag(
        "node-deployment",
        Switch,
        &[P],
        "false",
        "One provisioner on each node, for its volumes: for claims for which $NODE_NAME is chosen",
    ),
    flag(
        "monitor-interval",
        Duration,
        &[H],
        "1m",
        "Between the questions after one volume, where they cannot be listed",
    ),
    flag("list-volumes-interval", Duration, &[H], "5m", "Between the lists of all volumes"),
    flag("v", Number, ALL, "", "How much is logged: 4 for debug, 6 for everything; --log says it better"),
    // What follows has no effect.
    flag("kube-api-qps", Text, API, "", "Requests a second").idle(NO_LIMIT),
    flag("kube-api-burst", Text, API, "", "Requests at once").idle(NO_LIMIT),
    flag("kube-api-capacity-qps", Text, &[P], "", "Requests a second for capacity").idle(NO_CAPACITY),
    flag("kube-api-capacity-burst", Text, &[P], "", "Requests at once for capacity").idle(NO_CAPACITY),
    flag("resync", Duration, &[A, H], "", "Between looks at everything").idle(LEVEL),
    flag("resync-period", Duration, &[R, S], "", "Between looks at everything").idle(LEVEL),
    flag("feature-gates", Text, &[P, A, R, S], "", "Features by name")
        .idle("there are no gates: what is done is done always, such as giving a Lease back at the end"),
    flag("cloning-protection-threads", Count, &[P], "", "Workers for sources of clones")
        .idle("claims that are cloned are let go of by the same workers"),
    flag(
        "snapshot-orphan-sweep-interval",
        Duration,
        &[P],
        "",
        "Between looks at the finalizers of snapshots",
    )
    .idle("snapshots that are restored get no finalizer here"),
    flag("enable-capacity", Switch, &[P], "", "Publish CSIStorageCapacity objects").idle(NO_CAPACITY),
    flag("capacity-threads", Count, &[P], "", "Workers for capacity").idle(NO_CAPACITY),
    flag("capacity-poll-interval", Duration, &[P], "", "Between questions after capacity").idle(NO_CAPACITY),
    flag("capacity-for-immediate-binding", Switch, &[P], "", "Capacity of all classes").idle(NO_CAPACITY),
    flag("capacity-ownerref-level", Number, &[P], "", "Who owns capacity objects").idle(NO_CAPACITY),
    flag("node-deployment-immediate-binding", Switch, &[P], "", "Take claims for which no node is chosen")
        .idle(AT_ONCE),
    flag("node-deployment-base-delay", Duration, &[P], "", "The pause before that").idle(AT_ONCE),
    flag("node-deployment-max-delay", Duration, &[P], "", "The longest one").idle(AT_ONCE),
    flag("controller-publish-readonly", Switch, &[P], "", "Attach volumes that are only read as read-only")
        .idle("that is done wherever the driver says PUBLISH_READONLY"),
    flag("prevent-volume-mode-conversion", Switch, &[P], "", "Refuse restores into another volume mode")
        .idle("that is always refused, unless the content allows it"),
    flag("max-entries", Count, &[A], "", "Entries a page of ListVolumes")
        .idle("attachments are not compared with ListVolumes yet"),
    flag("reconcile-sync", Duration, &[A], "", "Between comparisons with ListVolumes")
        .idle("attachments are not compared with ListVolumes yet"),
    flag("max-grpc-log-length", Number, &[A], "", "Characters of a CSI answer in the log")
        .idle("answers are not logged"),
    flag("handle-volume-inuse-error", Switch, &[R], "", "Watch pods for volumes that grow only unused")
        .idle("such a volume is tried again with growing pauses, and when the node agent says so"),
    flag("extra-modify-metadata", Switch, &[R], "", "Tell the driver the names of the objects")
        .idle(NO_MODIFY),
    flag("snapshot-name-prefix", Text, &[S], "", "The prefix of snapshots' names")
        .idle("snapshots are named snapshot-<uid>, so that nothing that was begun is lost from sight"),
    flag("snapshot-name-uuid-length", Number, &[S], "", "Characters of the uid")
        .idle("all of the uid is used"),
    flag("groupsnapshot-name-prefix", Text, &[S], "", "The prefix of group snapshots' names")
        .idle("group snapshots are named groupsnapshot-<uid>"),
    flag("groupsnapshot-name-uuid-length", Number, &[S], "", "Characters of the uid")
        .idle("all of the uid is used"),
    flag("volume-list-add-interval", Duration, &[H], "", "Between lists of the volume objects")
        .idle("volume objects are watched"),
    flag("node-list-add-interval", Duration, &[H], "", "Between lists of the nodes").idle(NO_NODES),
    flag("enable-node-watcher", Switch, &[H], "", "Watch nodes for failures").idle(NO_NODES),
    flag("connection-timeout", Duration, &[G], "", "Nothing, since long ago")
        .idle("it has none in upstream's either"),
    flag("mode", Text, &[G], "", "registration, or kubelet-registration-probe")
        .idle("the driver is announced; /healthz tells whether it is"),
    flag("enable-pprof", Switch, &[P, G], "", "Go's profiles").idle(NOT_GO),
    flag("automaxprocs", Switch, ALL, "", "Go's threads").idle(NOT_GO),
    flag("logging-format", Text, ALL, "", "text or json").idle("the log is text"),
    flag("logtostderr", Switch, ALL, "", "Log to standard error").idle(KLOG),
    flag("alsologtostderr", Switch, ALL, "", "Log to standard error, too").idle(KLOG),
    flag("stderrthreshold", Text, ALL, "", "What is logged there").idle(KLOG),
    flag("vmodule", Text, ALL, "", "Levels of single files").idle("--log sets the level of single modules"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_is_there_once_and_in_the_documentation() {
        let page = std::fs::read_to_string("../docs/sidecars.md").unwrap();
        let mut names: Vec<&str> = FLAGS.iter().map(|flag| flag.name).collect();
        for flag in FLAGS {
            assert!(
                page.contains(&format!("`--{}`", flag.name)),
                "--{} is missing in docs/sidecars.md",
                flag.name
            );
            if let Some(why) = flag.idle {
                assert!(page.contains(why), "docs/sidecars.md says otherwise of --{}: {why}", flag.name);
            }
        }
        names.sort_unstable();
        let count = names.len();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
