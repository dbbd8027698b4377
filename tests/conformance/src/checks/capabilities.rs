//! What the services say that they can do.

use std::fmt::Debug;

use holdfast_proto::csi::{
    self, controller_service_capability::rpc::Type as Controller,
    group_controller_service_capability::rpc::Type as Group, node_service_capability::rpc::Type as Node,
    plugin_capability::service::Type as Plugin,
};

use crate::{
    check::{Check, check},
    failure::{Verdict, must},
    fixture::Fixture,
    need::{CONTROLLER, NOTHING, Need},
    rows::CAPABILITIES,
};

const GROUP_SERVICE: &[Need] = &[Need::Plugin(Plugin::GroupControllerService)];
const NODE_SERVICE: &[Need] = &[Need::NodeService];

pub(super) const CHECKS: &[Check] = &[
    check!("get-plugin-capabilities/known", GetPluginCapabilities, CAPABILITIES, [NOTHING], plugin),
    check!("get-plugin-capabilities/expansion", GetPluginCapabilities, CAPABILITIES, [NOTHING], expansion),
    check!(
        "controller-get-capabilities/known",
        ControllerGetCapabilities,
        CAPABILITIES,
        [CONTROLLER],
        controller
    ),
    check!(
        "controller-get-capabilities/built-on",
        ControllerGetCapabilities,
        CAPABILITIES,
        [CONTROLLER],
        built_on
    ),
    check!("node-get-capabilities/known", NodeGetCapabilities, CAPABILITIES, [NODE_SERVICE], node),
    check!(
        "group-controller-get-capabilities/known",
        GroupControllerGetCapabilities,
        CAPABILITIES,
        [GROUP_SERVICE],
        group
    ),
];

/// Each is one of CSI v1.12.
fn known<T: Debug + PartialEq>(list: &[T], unknown: T) -> Verdict {
    must!(!list.contains(&unknown), "capabilities of CSI v1.12", "one that is unknown, in {list:?}");
    Ok(())
}

async fn plugin(fixture: &Fixture) -> Verdict {
    fixture.ok(csi::GetPluginCapabilitiesRequest {}).await?;
    known(&fixture.declared().services, Plugin::Unknown)?;
    known(&fixture.declared().expansion, csi::plugin_capability::volume_expansion::Type::Unknown)
}

/// ONLINE and OFFLINE mean nothing without EXPAND_VOLUME of one of the services.
async fn expansion(fixture: &Fixture) -> Verdict {
    let declared = fixture.declared();
    if !declared.expansion.is_empty() && declared.no_node.is_none() {
        let backed = declared.controller.contains(&Controller::ExpandVolume)
            || declared.node.contains(&Node::ExpandVolume);
        must!(backed, "EXPAND_VOLUME of the Controller or the Node with VolumeExpansion", "neither");
    }
    Ok(())
}

async fn controller(fixture: &Fixture) -> Verdict {
    fixture.ok(csi::ControllerGetCapabilitiesRequest {}).await?;
    known(&fixture.declared().controller, Controller::Unknown)
}

async fn built_on(fixture: &Fixture) -> Verdict {
    use Controller::{
        CloneVolume, CreateDeleteVolume, GetVolume, ListVolumes, ListVolumesPublishedNodes, ModifyVolume,
        PublishReadonly, PublishUnpublishVolume,
    };
    let rules: [(Controller, &[Controller]); 5] = [
        (PublishReadonly, &[PublishUnpublishVolume]),
        (ListVolumesPublishedNodes, &[ListVolumes, GetVolume]),
        (ListVolumesPublishedNodes, &[PublishUnpublishVolume]),
        (CloneVolume, &[CreateDeleteVolume]),
        (ModifyVolume, &[CreateDeleteVolume]),
    ];
    let declared = &fixture.declared().controller;
    for (what, one_of) in rules {
        let there = !declared.contains(&what) || one_of.iter().any(|kind| declared.contains(kind));
        must!(there, format!("one of {one_of:?} with {what:?}"), "{declared:?}");
    }
    Ok(())
}

async fn node(fixture: &Fixture) -> Verdict {
    fixture.ok(csi::NodeGetCapabilitiesRequest {}).await?;
    known(&fixture.declared().node, Node::Unknown)
}

async fn group(fixture: &Fixture) -> Verdict {
    fixture.ok(csi::GroupControllerGetCapabilitiesRequest {}).await?;
    known(&fixture.declared().group, Group::Unknown)
}
