//! The two calls of the registration service.

use holdfast_proto::registration::{
    InfoRequest, PluginInfo, RegistrationStatus, RegistrationStatusResponse,
    registration_server::Registration,
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status};

use super::Announcement;

/// What the node agent says of the registration.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Registered,
    Refused(String),
}

pub(super) struct Service {
    info: PluginInfo,
    answers: mpsc::Sender<Answer>,
}

impl Service {
    pub(super) fn new(announcement: &Announcement, answers: mpsc::Sender<Answer>) -> Self {
        let info = PluginInfo {
            r#type: "CSIPlugin".to_owned(),
            name: announcement.driver.clone(),
            endpoint: announcement.endpoint.display().to_string(),
            supported_versions: vec!["1.0.0".to_owned()],
        };
        Self { info, answers }
    }
}

#[tonic::async_trait]
impl Registration for Service {
    async fn get_info(&self, _: Request<InfoRequest>) -> Result<Response<PluginInfo>, Status> {
        Ok(Response::new(self.info.clone()))
    }

    async fn notify_registration_status(
        &self,
        request: Request<RegistrationStatus>,
    ) -> Result<Response<RegistrationStatusResponse>, Status> {
        let status = request.into_inner();
        let answer =
            if status.plugin_registered { Answer::Registered } else { Answer::Refused(status.error) };
        // A full channel means that enough is known already.
        let _ = self.answers.try_send(answer);
        Ok(Response::new(RegistrationStatusResponse {}))
    }
}
