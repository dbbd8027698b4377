//! What the plugin says that it can do, and what it takes when tried.

use std::{collections::BTreeMap, path::Path, sync::OnceLock};

use holdfast_proto::csi::{
    self, Topology, controller_service_capability as controller,
    controller_service_capability::rpc::Type as Controller,
    group_controller_service_capability as group, node_service_capability as node,
    plugin_capability::{self, service::Type as Plugin, volume_expansion::Type as Expansion},
    volume_capability::access_mode::Mode,
};
use tonic::Status;

use crate::{capability, client::Client, failure::describe, options::Options, report::Error};

/// What the plugin can do.
#[derive(Debug, Default)]
pub(crate) struct Declared {
    /// Its name and version.
    pub(crate) plugin: String,
    pub(crate) services: Vec<Plugin>,
    pub(crate) expansion: Vec<Expansion>,
    pub(crate) controller: Vec<Controller>,
    pub(crate) node: Vec<node::rpc::Type>,
    pub(crate) group: Vec<group::rpc::Type>,
    /// Why the Node service cannot be checked, if so.
    pub(crate) no_node: Option<String>,
    pub(crate) node_id: String,
    pub(crate) max_volumes: i64,
    pub(crate) topology: Option<Topology>,
    /// Why there are no volumes with a file system, if so.
    pub(crate) no_mount: Option<String>,
    /// Why there are no block volumes, if so.
    pub(crate) no_block: Option<String>,
    /// For each access mode, whether volumes can be made for it.
    pub(crate) modes: BTreeMap<Mode, Result<(), String>>,
    /// The names of capabilities that it declares and refuses for the volumes of this run, and why.
    pub(crate) refused: OnceLock<BTreeMap<&'static str, String>>,
}

impl Declared {
    /// Asks the plugin. Fails when it cannot be asked at all.
    pub(crate) async fn ask(client: &Client, options: &Options, run: &str) -> Result<Self, Error> {
        let unreachable =
            |status: Status| Error::Unreachable { socket: options.socket.clone(), reason: describe(&status) };
        let info = client.call(csi::GetPluginInfoRequest {}).await.map_err(unreachable)?;
        let mut declared =
            Self { plugin: format!("{} {}", info.name, info.vendor_version), ..Self::default() };

        let plugin = client.call(csi::GetPluginCapabilitiesRequest {}).await.map_err(unreachable)?;
        for kind in plugin.capabilities.into_iter().filter_map(|capability| capability.r#type) {
            match kind {
                plugin_capability::Type::Service(service) => declared.services.push(service.r#type()),
                plugin_capability::Type::VolumeExpansion(kind) => declared.expansion.push(kind.r#type()),
            }
        }
        if declared.services.contains(&Plugin::ControllerService) {
            let answer = client.call(csi::ControllerGetCapabilitiesRequest {}).await.map_err(unreachable)?;
            declared.controller = (answer.capabilities.into_iter())
                .filter_map(|capability| capability.r#type)
                .map(|controller::Type::Rpc(rpc)| rpc.r#type())
                .collect();
        }
        if declared.services.contains(&Plugin::GroupControllerService) {
            let answer =
                client.call(csi::GroupControllerGetCapabilitiesRequest {}).await.map_err(unreachable)?;
            declared.group = (answer.capabilities.into_iter())
                .filter_map(|capability| capability.r#type)
                .map(|group::Type::Rpc(rpc)| rpc.r#type())
                .collect();
        }
        declared.ask_node(client, options).await?;
        declared.try_uses(client, options, run).await;
        Ok(declared)
    }

    /// Why the capability of this name is not there for the volumes of this run, if it is declared.
    pub(crate) fn refusal(&self, name: &str) -> Option<&String> {
        self.refused.get().and_then(|refused| refused.get(name))
    }

    /// Whether it declares a capability, and not only for volumes other than those of this run.
    pub(crate) fn offers(&self, capability: Controller) -> bool {
        self.controller.contains(&capability) && self.refusal(capability.as_str_name()).is_none()
    }

    /// As [`Declared::offers`], of the GroupController service.
    pub(crate) fn offers_group(&self, capability: group::rpc::Type) -> bool {
        self.group.contains(&capability) && self.refusal(capability.as_str_name()).is_none()
    }

    /// A plugin may serve the Controller only; anything but UNIMPLEMENTED is an error.
    async fn ask_node(&mut self, client: &Client, options: &Options) -> Result<(), Error> {
        if options.controller_only {
            self.no_node = Some("--controller-only leaves out the Node service".to_owned());
            return Ok(());
        }
        let unreachable =
            |status: &Status| Error::Unreachable { socket: options.socket.clone(), reason: describe(status) };
        match client.call(csi::NodeGetCapabilitiesRequest {}).await {
            Ok(answer) => {
                self.node = (answer.capabilities.into_iter())
                    .filter_map(|capability| capability.r#type)
                    .map(|node::Type::Rpc(rpc)| rpc.r#type())
                    .collect();
            }
            Err(status) if status.code() == tonic::Code::Unimplemented => {
                self.no_node = Some("the plugin does not serve the Node service here".to_owned());
                return Ok(());
            }
            Err(status) => return Err(unreachable(&status)),
        }
        let info = client.call(csi::NodeGetInfoRequest {}).await.map_err(|status| unreachable(&status))?;
        self.node_id = info.node_id;
        self.max_volumes = info.max_volumes_per_node;
        self.topology = info.accessible_topology;
        Ok(())
    }

    /// CSI declares neither access types nor modes: a volume is made for each, and deleted.
    async fn try_uses(&mut self, client: &Client, options: &Options, run: &str) {
        if !self.controller.contains(&Controller::CreateDeleteVolume) {
            let reason = "the plugin does not declare CREATE_DELETE_VOLUME";
            (self.no_mount, self.no_block) = (Some(reason.to_owned()), Some(reason.to_owned()));
            return;
        }
        let mount = capability::mount(&options.fs_type, Mode::SingleNodeWriter);
        let block = capability::block(Mode::SingleNodeWriter);
        self.no_mount = try_use(client, options, &format!("{run}-mount"), mount).await.err();
        self.no_block = try_use(client, options, &format!("{run}-block"), block).await.err();
        for mode in capability::MODES {
            let capability = match self.no_mount {
                None => capability::mount(&options.fs_type, mode),
                Some(_) => capability::block(mode),
            };
            let name = format!("{run}-mode-{}", mode as i32);
            self.modes.insert(mode, try_use(client, options, &name, capability).await);
        }
    }
}

async fn try_use(
    client: &Client,
    options: &Options,
    name: &str,
    capability: csi::VolumeCapability,
) -> Result<(), String> {
    let shown = capability::describe(&capability);
    let request = csi::CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(csi::CapacityRange { required_bytes: options.size, limit_bytes: 0 }),
        volume_capabilities: vec![capability],
        parameters: options.parameters.clone(),
        ..Default::default()
    };
    let answer = client
        .call(request)
        .await
        .map_err(|status| format!("the plugin makes no volume for {shown}: {}", describe(&status)))?;
    let volume_id = answer.volume.unwrap_or_default().volume_id;
    let request = csi::DeleteVolumeRequest { volume_id, ..Default::default() };
    client.call(request).await.map_err(|status| {
        format!("a volume for {shown} was made but cannot be deleted: {}", describe(&status))
    })?;
    Ok(())
}

/// The folder has to be there before anything is made.
pub(crate) fn check_staging(folder: &Path) -> Result<(), Error> {
    let error = |reason: String| Error::Staging { folder: folder.to_owned(), reason };
    if !folder.is_absolute() {
        return Err(error("it is not an absolute path".to_owned()));
    }
    match folder.metadata() {
        Ok(metadata) if metadata.is_dir() => Ok(()),
        Ok(_) => Err(error("it is not a folder".to_owned())),
        Err(source) => Err(error(source.to_string())),
    }
}
