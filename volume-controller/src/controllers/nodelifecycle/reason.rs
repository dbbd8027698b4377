//! Why the node lifecycle does what it does, in words for people.

use std::fmt;

use holdfast_api::nodes::OUT_OF_SERVICE;

use crate::controllers::recorder::Severity;

/// One reason; feeds the event, the condition and the log line alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Reason {
    /// The node is not ready any more, or is not heard any more.
    NotReady { node: String, is_silent: bool },
    /// It is ready again.
    Ready { node: String },
    /// A pod is on a node that is not ready any more.
    PodsNode { node: String },
    /// The pod does not tolerate what the node has become.
    Evicted { pod: String },
    /// The pod is to go, and its node cannot say that it has let go of it.
    Stuck { node: String },
    /// The pod's node is known to be shut down.
    OutOfService { pod: String, node: String },
    /// The pod's node has no object any more.
    NodeGone { pod: String, node: String },
    /// The attachment's node has no object any more.
    StaysAttached { attachment: String, node: String },
    /// Somebody says that the node is shut down, and it is not.
    Alive { node: String },
}

impl Reason {
    /// The event's `reason`, in upstream's spelling where upstream has one.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::NotReady { .. } | Self::PodsNode { .. } | Self::Stuck { .. } => "NodeNotReady",
            Self::Ready { .. } => "NodeReady",
            Self::Evicted { .. } => "TaintManagerEviction",
            Self::OutOfService { .. } | Self::NodeGone { .. } => "ForceDeleted",
            Self::StaysAttached { .. } => "NodeGone",
            Self::Alive { .. } => "NodeNotOutOfService",
        }
    }

    pub(crate) fn severity(&self) -> Severity {
        match self {
            Self::Ready { .. } | Self::Evicted { .. } => Severity::Normal,
            Self::NotReady { .. }
            | Self::PodsNode { .. }
            | Self::Stuck { .. }
            | Self::OutOfService { .. }
            | Self::NodeGone { .. }
            | Self::StaysAttached { .. }
            | Self::Alive { .. } => Severity::Warning,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady { node, is_silent: true } => write!(
                f,
                "Node {node} status is now: NodeNotReady: it does not renew its lease. Its volumes stay attached until it \
                 is back; if it is shut down and stays so, say: kubectl taint nodes {node} {OUT_OF_SERVICE}=nodeshutdown:NoExecute"
            ),
            Self::NotReady { node, is_silent: false } => {
                write!(f, "Node {node} status is now: NodeNotReady, as it says itself")
            }
            Self::Ready { node } => write!(f, "Node {node} status is now: NodeReady"),
            Self::PodsNode { node } => write!(f, "Node is not ready: {node}"),
            Self::Evicted { pod } => write!(f, "Marking for deletion Pod {pod}"),
            Self::Stuck { node } => write!(
                f,
                "node {node} does not answer, so nobody knows whether it has let go of the pod's volumes: the pod goes when \
                 the node is back; if it is shut down and stays so, say: kubectl taint nodes {node} \
                 {OUT_OF_SERVICE}=nodeshutdown:NoExecute"
            ),
            Self::OutOfService { pod, node } => {
                write!(
                    f,
                    "Pod {pod} is removed: node {node} is shut down, as its taint {OUT_OF_SERVICE} says"
                )
            }
            Self::NodeGone { pod, node } => write!(f, "Pod {pod} is removed: node {node} no longer exists"),
            Self::StaysAttached { attachment, node } => write!(
                f,
                "node {node} no longer exists, so nobody can say whether it still has the volume mounted: it stays \
                 attached. Once the machine is shut down, say: kubectl delete volumeattachment {attachment}"
            ),
            Self::Alive { node } => write!(
                f,
                "the taint {OUT_OF_SERVICE} says that node {node} is shut down, but it is alive: nothing is forced from it. \
                 Shut it down, or take the taint off: kubectl taint nodes {node} {OUT_OF_SERVICE}-"
            ),
        }
    }
}
