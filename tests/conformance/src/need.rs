//! What a check needs: of the plugin, of the options, of this machine.

use holdfast_proto::csi::{
    controller_service_capability::rpc::Type as Controller,
    group_controller_service_capability::rpc::Type as Group,
    node_service_capability::rpc::Type as Node,
    plugin_capability::{service::Type as Plugin, volume_expansion::Type as Expansion},
    volume_capability::access_mode::Mode,
};

use crate::{declared::Declared, options::Options, rpc::Rpc};

/// Something that not every run has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Need {
    /// A service, or a trait of all volumes.
    Plugin(Plugin),
    /// Its absence.
    NoPlugin(Plugin),
    /// The way in which volumes grow.
    Expansion(Expansion),
    /// A capability of the Controller service.
    Controller(Controller),
    /// Its absence, while the service is there.
    NoController(Controller),
    /// A capability of the Node service.
    Node(Node),
    /// Its absence, while the service is there.
    NoNode(Node),
    /// A capability of the GroupController service.
    Group(Group),
    /// That it tells what changed between snapshots.
    Changes,
    /// That the plugin makes volumes with a file system.
    Mount,
    /// That it makes raw block volumes.
    Block,
    /// That it takes an access mode, with the access type of the other checks.
    Mode(Mode),
    /// The Node service.
    NodeService,
    /// The Node service, root here and a folder that both see.
    Local,
    /// As `Local`, and attributes of inline volumes.
    Inline,
    /// Attributes that inline volumes cannot have.
    BadInline,
    /// Options for ControllerModifyVolume.
    Mutable,
    /// Options for a volume that is another one under the same name.
    OtherParameters,
    /// A way to restart the plugin.
    Restart,
    /// A limit of volumes for each node that is small enough to be reached.
    SmallNodeLimit,
    /// The topology of this node.
    Topology,
}

/// More volumes than this are not made to reach a node's limit.
const SMALL_LIMIT: i64 = 32;

impl Need {
    /// Why it is not met, if it is not.
    pub(crate) fn unmet(self, declared: &Declared, options: &Options) -> Option<String> {
        let undeclared =
            |there: bool, name: &str| (!there).then(|| format!("the plugin does not declare {name}"));
        let refused = |name: &str| declared.refusal(name).cloned();
        let given = |there: bool, flag: &str| (!there).then(|| format!("{flag} was not given"));
        match self {
            Self::Plugin(kind) => undeclared(declared.services.contains(&kind), kind.as_str_name())
                .or_else(|| refused(kind.as_str_name())),
            Self::NoPlugin(kind) => declared
                .services
                .contains(&kind)
                .then(|| format!("the plugin declares {}", kind.as_str_name())),
            Self::Expansion(kind) => {
                undeclared(declared.expansion.contains(&kind), &format!("expansion {}", kind.as_str_name()))
            }
            Self::Controller(kind) => undeclared(declared.controller.contains(&kind), kind.as_str_name())
                .or_else(|| refused(kind.as_str_name())),
            Self::NoController(kind) => match undeclared(
                declared.services.contains(&Plugin::ControllerService),
                Plugin::ControllerService.as_str_name(),
            ) {
                None if declared.controller.contains(&kind) => {
                    Some(format!("the plugin declares {}", kind.as_str_name()))
                }
                reason => reason,
            },
            Self::Node(kind) => declared.no_node.clone().or_else(|| {
                undeclared(declared.node.contains(&kind), &format!("node {}", kind.as_str_name()))
            }),
            Self::NoNode(kind) => declared.no_node.clone().or_else(|| {
                declared
                    .node
                    .contains(&kind)
                    .then(|| format!("the plugin declares node {}", kind.as_str_name()))
            }),
            Self::Group(kind) => undeclared(declared.group.contains(&kind), kind.as_str_name())
                .or_else(|| refused(kind.as_str_name())),
            Self::Changes => refused(Rpc::GetMetadataDelta.name()),
            Self::Mount => declared.no_mount.clone(),
            Self::Block => declared.no_block.clone(),
            Self::Mode(mode) => match declared.modes.get(&mode) {
                Some(Ok(())) => None,
                Some(Err(reason)) => Some(reason.clone()),
                None => Some("no volume can be made to try this access mode".to_owned()),
            },
            Self::NodeService => declared.no_node.clone(),
            Self::Local => declared.no_node.clone().or_else(|| {
                given(options.staging_dir.is_some(), "--staging-dir").or_else(|| {
                    (!rustix::process::geteuid().is_root())
                        .then(|| "only root can read and write what is mounted".to_owned())
                })
            }),
            Self::Inline => given(options.ephemeral.is_some(), "--ephemeral")
                .or_else(|| Self::Local.unmet(declared, options)),
            Self::BadInline => given(options.bad_ephemeral.is_some(), "--bad-ephemeral"),
            Self::Mutable => given(!options.mutable_parameters.is_empty(), "--mutable"),
            Self::OtherParameters => given(options.other_parameters.is_some(), "--other-parameters"),
            Self::Restart => given(options.restart.is_some(), "--restart-command"),
            Self::SmallNodeLimit => declared.no_node.clone().or_else(|| match declared.max_volumes {
                1..=SMALL_LIMIT => None,
                0 => Some("the node has no limit of volumes".to_owned()),
                many => Some(format!("the node's limit of {many} volumes is too large to be reached here")),
            }),
            Self::Topology => declared.no_node.clone().or_else(|| {
                undeclared(
                    declared.services.contains(&Plugin::VolumeAccessibilityConstraints)
                        && declared.topology.is_some(),
                    Plugin::VolumeAccessibilityConstraints.as_str_name(),
                )
            }),
        }
    }
}

// The sets that most checks share.

pub(crate) const NOTHING: &[Need] = &[];
pub(crate) const CONTROLLER: &[Need] = &[Need::Plugin(Plugin::ControllerService)];
pub(crate) const CREATE: &[Need] = &[Need::Controller(Controller::CreateDeleteVolume)];
pub(crate) const PUBLISH: &[Need] =
    &[Need::Controller(Controller::CreateDeleteVolume), Need::Controller(Controller::PublishUnpublishVolume)];
pub(crate) const LIST: &[Need] =
    &[Need::Controller(Controller::CreateDeleteVolume), Need::Controller(Controller::ListVolumes)];
pub(crate) const SNAPSHOT: &[Need] =
    &[Need::Controller(Controller::CreateDeleteVolume), Need::Controller(Controller::CreateDeleteSnapshot)];
pub(crate) const EXPAND: &[Need] =
    &[Need::Controller(Controller::CreateDeleteVolume), Need::Controller(Controller::ExpandVolume)];
pub(crate) const GROUP: &[Need] = &[
    Need::Controller(Controller::CreateDeleteVolume),
    Need::Plugin(Plugin::GroupControllerService),
    Need::Group(Group::CreateDeleteGetVolumeGroupSnapshot),
];
pub(crate) const LOCAL: &[Need] = &[Need::Controller(Controller::CreateDeleteVolume), Need::Local];
pub(crate) const STAGE: &[Need] =
    &[Need::Controller(Controller::CreateDeleteVolume), Need::Local, Need::Node(Node::StageUnstageVolume)];
pub(crate) const MOUNT: &[Need] = &[Need::Mount];
pub(crate) const BLOCK: &[Need] = &[Need::Block];
pub(crate) const CLONE: &[Need] = &[Need::Controller(Controller::CloneVolume)];
pub(crate) const INLINE: &[Need] = &[Need::Inline];
pub(crate) const RESTART: &[Need] = &[Need::Restart];
