//! One event.

use http::{HeaderMap, Method, StatusCode, Uri, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::policy::{self, Level};
use crate::apiserver::rbac::Decision;
use crate::apiserver::rbac::attributes::{Attributes, Object, Resource};
use crate::apiserver::user::User;
use crate::apiserver::{body, size};

/// The header by which a client names its request, and finds it in the log.
pub(crate) const AUDIT_ID: &str = "audit-id";
/// The longest such name that is taken, as upstream.
const LONGEST_ID: usize = 64;

/// One event, being put together.
pub(crate) struct Event {
    pub(crate) id: String,
    /// Whether it is about something whose content is never written down.
    is_secret: bool,
    value: Value,
}

fn micro_time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string()
}

impl Event {
    /// What is known when a request comes in.
    pub(crate) fn new(
        method: &Method,
        uri: &Uri,
        headers: &HeaderMap,
        asked: &Attributes,
        received: Timestamp,
    ) -> Self {
        let text = |name| headers.get(name).and_then(|value: &header::HeaderValue| value.to_str().ok());
        let given = text(header::HeaderName::from_static(AUDIT_ID));
        let given = given.filter(|id| !id.is_empty() && id.len() <= LONGEST_ID);
        let id = given.map_or_else(|| Uuid::new_v4().to_string(), str::to_owned);
        let mut value = json!({
            "kind": "Event",
            "apiVersion": "audit.k8s.io/v1",
            "auditID": id,
            "requestURI": uri.path_and_query().map_or(uri.path(), |whole| whole.as_str()),
            "verb": asked.verb,
            "user": {},
            "requestReceivedTimestamp": micro_time(received),
        });
        if let Some(agent) = text(header::USER_AGENT) {
            value["userAgent"] = json!(agent);
        }
        match &asked.object {
            Object::Resource(resource) => value["objectRef"] = reference(resource, uri.path()),
            Object::Path(_) => value["verb"] = json!(method.as_str().to_ascii_lowercase()),
        }
        Self { id, is_secret: policy::is_secret(asked), value }
    }

    pub(crate) fn sent_from(&mut self, address: std::net::IpAddr) {
        self.value["sourceIPs"] = json!([address]);
    }

    pub(crate) fn sent_by(&mut self, sender: &User) {
        self.value["user"] = sender.info();
    }

    pub(crate) fn done_as(&mut self, user: &User) {
        self.value["impersonatedUser"] = user.info();
    }

    pub(crate) fn decided(&mut self, decision: &Decision) {
        self.value["annotations"] = json!({
            "authorization.k8s.io/decision": if decision.allowed { "allow" } else { "forbid" },
            "authorization.k8s.io/reason": decision.reason,
        });
    }

    /// The body of the request or the answer, in whichever syntax it is, as JSON.
    pub(crate) fn body(&mut self, field: &str, headers: &HeaderMap, bytes: &[u8]) {
        let content = (!bytes.is_empty()).then(|| size::aside(bytes.len(), || body::content(headers, bytes)));
        if let Some(content) = content.flatten() {
            self.value[field] = content;
        }
    }

    /// The answer is left out, as it is too large. Upstream's mark for this.
    pub(crate) fn truncated(&mut self) {
        self.value["annotations"]["audit.k8s.io/truncated"] = json!("true");
    }

    /// The end: a code, and of a refusal the `Status`.
    pub(crate) fn answered(
        &mut self,
        level: Level,
        is_streamed: bool,
        code: StatusCode,
        refusal: Option<&Value>,
    ) {
        let mut status = json!({"metadata": {}, "code": code.as_u16()});
        // What is said of the body of a secret is not kept, in case it quotes it.
        let is_about_body =
            matches!(code, StatusCode::BAD_REQUEST | StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY);
        let is_hidden = self.is_secret && is_about_body;
        for field in
            ["status", "message", "reason"].into_iter().filter(|field| !is_hidden || *field != "message")
        {
            if let Some(text) = refusal.and_then(|told| told[field].as_str()) {
                status[field] = json!(text);
            }
        }
        let is_begun = is_streamed && code.is_success();
        self.value["level"] = json!(level.name());
        self.value["responseStatus"] = status;
        self.value["stage"] = json!(if is_begun { "ResponseStarted" } else { "ResponseComplete" });
        self.value["stageTimestamp"] = json!(micro_time(Timestamp::now()));
    }

    pub(super) fn into_line(self) -> Vec<u8> {
        self.value.to_string().into_bytes()
    }
}

fn reference(asked: &Resource, path: &str) -> Value {
    let Resource { namespace, group, resource, subresource, name } = asked;
    let version = path.split('/').filter(|part| !part.is_empty()).nth(if group.is_empty() { 1 } else { 2 });
    let mut reference = json!({"resource": resource, "apiVersion": version});
    for (field, text) in
        [("namespace", namespace), ("apiGroup", group), ("subresource", subresource), ("name", name)]
    {
        if !text.is_empty() {
            reference[field] = json!(text);
        }
    }
    reference
}
