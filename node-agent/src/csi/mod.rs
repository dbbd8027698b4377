//! Speaking to CSI drivers: one handle per registered driver, deadlines, bounded concurrency.

pub(crate) mod capability;
mod connect;

use std::{future::Future, path::Path, sync::Arc, time::Duration};

use holdfast_proto::csi::{
    NodeGetCapabilitiesRequest, NodeGetInfoRequest, NodeGetInfoResponse,
    node_client::NodeClient,
    node_service_capability::{Type, rpc},
};
use tokio::{
    sync::Semaphore,
    time::{Instant, timeout},
};
use tonic::{Request, Response, Status, transport::Channel};

use crate::{
    error::{Error, code_name},
    metrics::Metrics,
};

pub(crate) use connect::unix_channel;

/// What a driver's node service can do (CSI, `NodeGetCapabilities`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Capabilities {
    pub(crate) stage: bool,
    pub(crate) expand: bool,
    pub(crate) multi_writer: bool,
}

/// A registered driver.
#[derive(Clone)]
pub(crate) struct Driver {
    pub(crate) name: String,
    pub(crate) capabilities: Capabilities,
    channel: Channel,
    deadline: Duration,
    /// A driver that hangs holds these and nothing else.
    permits: Arc<Semaphore>,
    metrics: Metrics,
}

impl Driver {
    /// Connects to the driver's socket and asks who and where it is.
    pub(crate) async fn connect(
        name: &str,
        socket: &Path,
        deadline: Duration,
        operations: usize,
        metrics: Metrics,
    ) -> Result<(Self, NodeGetInfoResponse), Error> {
        let mut driver = Self {
            name: name.to_owned(),
            capabilities: Capabilities::default(),
            channel: unix_channel(socket),
            deadline,
            permits: Arc::new(Semaphore::new(operations)),
            metrics,
        };
        let info = driver
            .call("NodeGetInfo", NodeGetInfoRequest {}, |mut c, r| async move { c.node_get_info(r).await })
            .await?;
        let answer = driver
            .call("NodeGetCapabilities", NodeGetCapabilitiesRequest {}, |mut c, r| async move {
                c.node_get_capabilities(r).await
            })
            .await?;
        for capability in answer.capabilities {
            let Some(Type::Rpc(rpc)) = capability.r#type else { continue };
            match rpc.r#type() {
                rpc::Type::StageUnstageVolume => driver.capabilities.stage = true,
                rpc::Type::ExpandVolume => driver.capabilities.expand = true,
                rpc::Type::SingleNodeMultiWriter => driver.capabilities.multi_writer = true,
                _ => {}
            }
        }
        Ok((driver, info))
    }

    /// Makes one call with the driver's deadline. When the deadline passes, the operation may
    /// still be under way in the driver: the caller must treat the result as unknown.
    pub(crate) async fn call<Q, A, F>(
        &self,
        method: &'static str,
        message: Q,
        send: impl FnOnce(NodeClient<Channel>, Request<Q>) -> F,
    ) -> Result<A, Error>
    where
        F: Future<Output = Result<Response<A>, Status>>,
    {
        let _permit = self.permits.acquire().await.map_err(|e| Error::Task(e.to_string()))?;
        let mut request = Request::new(message);
        request.set_timeout(self.deadline);
        let begun = Instant::now();
        let answer = timeout(self.deadline, send(NodeClient::new(self.channel.clone()), request)).await;
        let code = match &answer {
            Ok(Ok(_)) => code_name(tonic::Code::Ok),
            Ok(Err(status)) => code_name(status.code()),
            Err(_) => code_name(tonic::Code::DeadlineExceeded),
        };
        self.metrics.csi(&self.name, method, code, begun.elapsed());
        match answer {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => {
                Err(Error::Csi { driver: self.name.clone(), method, status: Box::new(status) })
            }
            Err(_) => {
                Err(Error::CsiTimeout { driver: self.name.clone(), method, seconds: self.deadline.as_secs() })
            }
        }
    }
}
