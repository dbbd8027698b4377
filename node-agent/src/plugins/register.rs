//! One plugin's registration: ask it, check it, write it into the API, tell it.

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use holdfast_proto::registration::{
    InfoRequest, PluginInfo, RegistrationStatus, registration_client::RegistrationClient,
};
use k8s_openapi::api::{core::v1::Node, storage::v1::CSINode};
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::json;
use tokio::time::timeout;

use crate::{
    Config,
    csi::{Driver, unix_channel},
    error::Error,
    plugins::{
        Drivers,
        csinode::{self, DriverInfo},
    },
};

/// How long a plugin may take to say who it is.
const PLUGIN_DEADLINE: Duration = Duration::from_secs(10);
/// Another writer of CSINode may win this often before we give up for this round.
const CONFLICTS: usize = 5;
const CSI_PLUGIN: &str = "CSIPlugin";

/// What was registered from a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Registered {
    pub(crate) driver: String,
}

/// Registers plugins for one node.
pub(crate) struct Registrar {
    config: Arc<Config>,
    drivers: Drivers,
}

impl Registrar {
    pub(crate) fn new(config: &Arc<Config>, drivers: Drivers) -> Self {
        Self { config: Arc::clone(config), drivers }
    }

    /// Registers the plugin behind a socket. Everything is idempotent: a crash in between is
    /// repaired by the registration after the next start.
    pub(crate) async fn register(&self, socket: &Path, node_uid: &str) -> Result<Registered, Error> {
        let mut plugin = RegistrationClient::new(unix_channel(socket));
        let info = within("GetInfo", socket, plugin.get_info(InfoRequest {})).await?;
        let result = self.admit(socket, &info, node_uid).await;
        let status = RegistrationStatus {
            plugin_registered: result.is_ok(),
            error: result.as_ref().err().map(ToString::to_string).unwrap_or_default(),
        };
        let told =
            within("NotifyRegistrationStatus", socket, plugin.notify_registration_status(status)).await;
        let registered = result?;
        if let Err(error) = told {
            // It works all the same; a plugin that insists will make its socket anew.
            tracing::warn!(%error, driver = registered.driver, "the plugin did not take its registration");
        }
        Ok(registered)
    }

    async fn admit(&self, socket: &Path, plugin: &PluginInfo, node_uid: &str) -> Result<Registered, Error> {
        check(plugin).map_err(Error::Refused)?;
        let endpoint = if plugin.endpoint.is_empty() { socket } else { Path::new(&plugin.endpoint) };
        let (driver, answer) = Driver::connect(
            &plugin.name,
            endpoint,
            self.config.csi_timeout,
            self.config.operations_per_driver,
            self.config.metrics.clone(),
        )
        .await?;
        if answer.node_id.is_empty() {
            return Err(Error::Refused(format!(
                "driver {} answered NodeGetInfo without a node_id",
                plugin.name
            )));
        }
        let info = DriverInfo {
            driver: plugin.name.clone(),
            node_id: answer.node_id,
            max_volumes: answer.max_volumes_per_node,
            segments: answer
                .accessible_topology
                .map(|t| t.segments.into_iter().collect())
                .unwrap_or_default(),
        };
        self.label_node(&info, node_uid).await?;
        self.write_csinode(node_uid, &info).await?;
        self.drivers.put(driver);
        Ok(Registered { driver: info.driver })
    }

    /// Takes the driver out of CSINode. Its topology labels stay: volumes may rely on them.
    pub(crate) async fn deregister(&self, registered: &Registered, node: Option<&str>) -> Result<(), Error> {
        self.drivers.remove(&registered.driver);
        // No Node object: CSINode went with it.
        if node.is_none() {
            return Ok(());
        }
        let name = &self.config.node_name;
        self.edit_csinode(|found| found.and_then(|c| csinode::without(c, &registered.driver)), name).await
    }

    async fn write_csinode(&self, node_uid: &str, info: &DriverInfo) -> Result<(), Error> {
        let name = &self.config.node_name;
        self.edit_csinode(
            |found| match found {
                Some(csinode) => csinode::with(csinode, name, node_uid, info),
                None => csinode::with(&csinode::fresh(name, node_uid), name, node_uid, info),
            },
            name,
        )
        .await
    }

    /// Reads CSINode, changes it and writes it back under its resource version.
    async fn edit_csinode(
        &self,
        edit: impl Fn(Option<&CSINode>) -> Option<CSINode>,
        name: &str,
    ) -> Result<(), Error> {
        let api: Api<CSINode> = Api::all(self.config.client.clone());
        let failed = || Error::api(format!("write csinode {name}"));
        for _ in 0..CONFLICTS {
            let found = api.get_opt(name).await.map_err(Error::api(format!("read csinode {name}")))?;
            let Some(wanted) = edit(found.as_ref()) else { return Ok(()) };
            let written = match found {
                Some(_) => api.replace(name, &PostParams::default(), &wanted).await,
                None => api.create(&PostParams::default(), &wanted).await,
            };
            match written {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(s)) if s.is_conflict() || s.is_already_exists() => {}
                Err(error) => return Err(failed()(error)),
            }
        }
        Err(Error::Refused(format!("csinode {name} is written by others all the time")))
    }

    async fn label_node(&self, info: &DriverInfo, node_uid: &str) -> Result<(), Error> {
        let api: Api<Node> = Api::all(self.config.client.clone());
        let name = &self.config.node_name;
        let node = api.get(name).await.map_err(Error::api(format!("read node {name}")))?;
        let missing = csinode::missing_labels(node.labels(), &info.segments).map_err(Error::Refused)?;
        if missing.is_empty() {
            return Ok(());
        }
        let patch = json!({"metadata": {"uid": node_uid, "labels": missing}});
        api.patch(name, &PatchParams::default(), &Patch::Merge(patch))
            .await
            .map_err(Error::api(format!("label node {name} with the topology of {}", info.driver)))?;
        Ok(())
    }
}

/// Whether we can use what the plugin says of itself.
fn check(plugin: &PluginInfo) -> Result<(), String> {
    if plugin.r#type != CSI_PLUGIN {
        return Err(format!("plugins of type {:?} are not supported, only {CSI_PLUGIN}", plugin.r#type));
    }
    if plugin.name.is_empty()
        || plugin.name.len() > 63
        || plugin.name.contains(['/', '\0'])
        || plugin.name.starts_with('.')
    {
        return Err(format!("{:?} is no CSI driver name (1 to 63 characters of a DNS name)", plugin.name));
    }
    // Kubelet takes every version of the range 1.x, with or without a leading v.
    let major = |version: &String| version.trim_start_matches('v').split('.').next() == Some("1");
    if !plugin.supported_versions.iter().any(major) {
        return Err(format!(
            "driver {} speaks CSI versions {:?}; this node speaks 1.x",
            plugin.name, plugin.supported_versions
        ));
    }
    Ok(())
}

async fn within<T>(
    method: &'static str,
    socket: &Path,
    call: impl Future<Output = Result<tonic::Response<T>, tonic::Status>>,
) -> Result<T, Error> {
    let driver = socket.display().to_string();
    match timeout(PLUGIN_DEADLINE, call).await {
        Ok(Ok(answer)) => Ok(answer.into_inner()),
        Ok(Err(status)) => Err(Error::Csi { driver, method, status: Box::new(status) }),
        Err(_) => Err(Error::CsiTimeout { driver, method, seconds: PLUGIN_DEADLINE.as_secs() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_plugins_are_taken() {
        let plugin = |r#type: &str, name: &str, versions: &[&str]| PluginInfo {
            r#type: r#type.into(),
            name: name.into(),
            endpoint: String::new(),
            supported_versions: versions.iter().map(|&v| v.to_owned()).collect(),
        };
        for (info, taken) in [
            (plugin("CSIPlugin", "d.example", &["1.0.0"]), true),
            (plugin("CSIPlugin", "d.example", &["0.3.0", "v1.12.0"]), true),
            (plugin("DevicePlugin", "d.example", &["1.0.0"]), false),
            (plugin("CSIPlugin", "", &["1.0.0"]), false),
            (plugin("CSIPlugin", "../x", &["1.0.0"]), false),
            (plugin("CSIPlugin", "d.example", &["2.0.0"]), false),
            (plugin("CSIPlugin", "d.example", &[]), false),
        ] {
            assert_eq!(check(&info).is_ok(), taken, "{info:?}");
        }
    }
}
