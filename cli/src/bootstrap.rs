//! What must be in the API before the driver can be used: its `CSIDriver` object.
//! In a Kubernetes cluster the driver's manifests bring it.

use anyhow::{Context, Result};
use holdfast_api::names;
use holdfast_csi_driver::Attach;
use k8s_openapi::api::storage::v1::{CSIDriver, CSIDriverSpec};
use kube::{Api, Client, api::PostParams};

/// Creates the object unless there is one; what a person changed stays. `attach` is what the
/// driver declares, and the object must say the same.
pub(crate) async fn csi_driver(client: Client, attach: Attach) -> Result<()> {
    let object = CSIDriver {
        metadata: kube::api::ObjectMeta { name: Some(names::DRIVER.to_owned()), ..Default::default() },
        spec: CSIDriverSpec {
            attach_required: Some(attach == Attach::Required),
            pod_info_on_mount: Some(false),
            volume_lifecycle_modes: Some(vec!["Persistent".to_owned()]),
            ..Default::default()
        },
    };
    match Api::<CSIDriver>::all(client).create(&PostParams::default(), &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error).context("cannot create the CSIDriver object"),
    }
}
