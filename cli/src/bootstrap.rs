//! What must be in the API before the driver can be used: its `CSIDriver` object.
//! In a Kubernetes cluster the driver's manifests bring it.

use std::time::Duration;

use anyhow::{Context, Result};
use holdfast_api::names;
use holdfast_csi_driver::Attach;
use k8s_openapi::api::storage::v1::{CSIDriver, CSIDriverSpec};
use kube::{Api, Client, api::PostParams};
use tokio::time::{Instant, sleep};

const EPHEMERAL: &str = "Ephemeral";
/// How long a database that does not answer is waited for: one that is being started again.
const PATIENCE: Duration = Duration::from_secs(60);
const PAUSE: Duration = Duration::from_millis(250);

/// Creates the object unless there is one; what a person changed stays. `attach` is what the
/// driver declares, and the object must say the same; `ephemeral` is whether the driver has a pool for inline volumes.
pub(crate) async fn csi_driver(client: Client, attach: Attach, ephemeral: bool) -> Result<()> {
    let modes = ["Persistent"].into_iter().chain(ephemeral.then_some(EPHEMERAL));
    let object = CSIDriver {
        metadata: kube::api::ObjectMeta { name: Some(names::DRIVER.to_owned()), ..Default::default() },
        spec: CSIDriverSpec {
            attach_required: Some(attach == Attach::Required),
            // Only so is the driver told that a volume is an inline one.
            pod_info_on_mount: Some(ephemeral),
            volume_lifecycle_modes: Some(modes.map(str::to_owned).collect()),
            ..Default::default()
        },
    };
    let api = Api::<CSIDriver>::all(client);
    let begun = Instant::now();
    let mut made = api.create(&PostParams::default(), &object).await;
    while let Err(kube::Error::Api(status)) = &made
        && matches!(status.code, 429 | 503)
        && begun.elapsed() < PATIENCE
    {
        tracing::warn!(error = %status.message, "the CSIDriver object cannot be created yet: trying again");
        sleep(PAUSE).await;
        made = api.create(&PostParams::default(), &object).await;
    }
    match made {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => {
            let there = api.get(names::DRIVER).await.context("cannot read the CSIDriver object")?;
            let modes = there.spec.volume_lifecycle_modes.unwrap_or_default();
            if ephemeral && !modes.iter().any(|mode| mode == EPHEMERAL) {
                tracing::warn!(
                    "a tmpfs pool is configured, and the CSIDriver object allows no inline volumes; delete it \
                     (kubectl delete csidriver {}) and start again to have it made anew",
                    names::DRIVER
                );
            }
            Ok(())
        }
        Err(error) => Err(error).context("cannot create the CSIDriver object"),
    }
}
