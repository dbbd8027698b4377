//! What a driver says of itself, learned once a connection.

use holdfast_proto::csi::{
    GetPluginCapabilitiesResponse,
    controller_service_capability::{Type as ControllerKind, rpc},
    group_controller_service_capability::{Type as GroupKind, rpc as group_rpc},
    node_service_capability::{Type as NodeKind, rpc as node_rpc},
    plugin_capability::{Type as PluginKind, service},
    {ControllerServiceCapability, GroupControllerServiceCapability, NodeServiceCapability},
};

/// A driver's name and what it can do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct DriverFacts {
    /// As `GetPluginInfo` answers.
    pub name: String,
    /// Whether it has a controller service at all.
    pub controller: bool,
    /// `VOLUME_ACCESSIBILITY_CONSTRAINTS`: volumes are not reachable from everywhere.
    pub topology: bool,
    /// `CREATE_DELETE_VOLUME`.
    pub create_delete: bool,
    /// `PUBLISH_UNPUBLISH_VOLUME`: volumes must be attached before use.
    pub publish: bool,
    /// `PUBLISH_READONLY`.
    pub publish_readonly: bool,
    /// `EXPAND_VOLUME` of the controller service.
    pub expand: bool,
    /// `EXPAND_VOLUME` of the node service.
    pub node_expand: bool,
    /// `CREATE_DELETE_SNAPSHOT`.
    pub create_snapshot: bool,
    /// `LIST_SNAPSHOTS`.
    pub list_snapshots: bool,
    /// `GET_SNAPSHOT`.
    pub get_snapshot: bool,
    /// Whether it has a group controller service at all.
    pub group_controller: bool,
    /// `CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT`.
    pub group_snapshots: bool,
    /// `LIST_VOLUMES`.
    pub list_volumes: bool,
    /// `GET_VOLUME`.
    pub get_volume: bool,
    /// `VOLUME_CONDITION` of the controller service: the two above tell how a volume is.
    pub volume_condition: bool,
    /// `CLONE_VOLUME`.
    pub clone: bool,
    /// `SINGLE_NODE_MULTI_WRITER`: tells one writer on a node from several.
    pub single_node_multi_writer: bool,
}

impl DriverFacts {
    pub(crate) fn new(name: String) -> Self {
        Self { name, ..Self::default() }
    }

    pub(crate) fn learn_plugin(&mut self, reply: &GetPluginCapabilitiesResponse) {
        for capability in &reply.capabilities {
            if let Some(PluginKind::Service(found)) = &capability.r#type {
                match found.r#type() {
                    service::Type::ControllerService => self.controller = true,
                    service::Type::VolumeAccessibilityConstraints => self.topology = true,
                    service::Type::GroupControllerService => self.group_controller = true,
                    _ => {}
                }
            }
        }
    }

    pub(crate) fn learn_controller(&mut self, capabilities: &[ControllerServiceCapability]) {
        for capability in capabilities {
            let Some(ControllerKind::Rpc(found)) = &capability.r#type else { continue };
            match found.r#type() {
                rpc::Type::CreateDeleteVolume => self.create_delete = true,
                rpc::Type::PublishUnpublishVolume => self.publish = true,
                rpc::Type::PublishReadonly => self.publish_readonly = true,
                rpc::Type::ExpandVolume => self.expand = true,
                rpc::Type::CreateDeleteSnapshot => self.create_snapshot = true,
                rpc::Type::ListSnapshots => self.list_snapshots = true,
                rpc::Type::GetSnapshot => self.get_snapshot = true,
                rpc::Type::ListVolumes => self.list_volumes = true,
                rpc::Type::GetVolume => self.get_volume = true,
                rpc::Type::VolumeCondition => self.volume_condition = true,
                rpc::Type::CloneVolume => self.clone = true,
                rpc::Type::SingleNodeMultiWriter => self.single_node_multi_writer = true,
                _ => {}
            }
        }
    }

    pub(crate) fn learn_groups(&mut self, capabilities: &[GroupControllerServiceCapability]) {
        self.group_snapshots = capabilities.iter().any(|capability| {
            matches!(&capability.r#type, Some(GroupKind::Rpc(found))
                if found.r#type() == group_rpc::Type::CreateDeleteGetVolumeGroupSnapshot)
        });
    }

    pub(crate) fn learn_node(&mut self, capabilities: &[NodeServiceCapability]) {
        self.node_expand = capabilities.iter().any(|capability| {
            matches!(&capability.r#type, Some(NodeKind::Rpc(found)) if found.r#type() == node_rpc::Type::ExpandVolume)
        });
    }
}
