//! One event.

use http::{HeaderMap, Method, StatusCode, Uri, header};
use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use super::policy::Level;
use crate::apiserver::rbac::Decision;
use crate::apiserver::rbac::attributes::{Attributes, Object, Resource};
use crate::apiserver::user::User;

/// The header by which a client names its request, and finds it in the log.
pub(crate) const AUDIT_ID: &str = "audit-id";
/// The longest such name that is taken, as upstream.
const LONGEST_ID: usize = 64;

/// One event, being put together.
pub(crate) struct Event {
    pub(crate) id: String,
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
        Self { id, value }
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

    /// The body of the request or the answer, where it is JSON.
    pub(crate) fn body(&mut self, field: &str, bytes: &[u8]) {
        if let Ok(body) = serde_json::from_slice::<Value>(bytes) {
            self.value[field] = body;
        }
    }

    /// The end: a code, and of a refusal the `Status`.
    pub(crate) fn answered(&mut self, level: Level, is_streamed: bool, code: StatusCode, refusal: &[u8]) {
        let mut status = json!({"metadata": {}, "code": code.as_u16()});
        let told = serde_json::from_slice::<Value>(refusal).unwrap_or_default();
        for field in ["status", "message", "reason"] {
            if let Some(text) = told[field].as_str() {
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
