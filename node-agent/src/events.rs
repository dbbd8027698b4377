//! Events: what the agent did or could not do, for people. The same event again raises a count
//! instead of making another object, and is written at most once a minute.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::api::core::v1::{Event, EventSource, ObjectReference};
use kube::{
    Api, Client,
    api::{ObjectMeta, Patch, PatchParams, PostParams},
};
use parking_lot::Mutex;
use serde_json::json;
use sha2::{Digest, Sha256};
use tokio::time::Instant;

use crate::clock;

const COMPONENT: &str = "holdfast-node-agent";
const AGAIN_AFTER: Duration = Duration::from_secs(60);
/// How long an event that does not come again is remembered.
const FORGET_AFTER: Duration = Duration::from_secs(3600);

struct Seen {
    count: i32,
    written: Instant,
}

/// Writes events; clones share what was already written.
#[derive(Clone)]
pub(crate) struct Recorder {
    client: Client,
    node: String,
    seen: Arc<Mutex<BTreeMap<String, Seen>>>,
}

impl Recorder {
    pub(crate) fn new(client: Client, node: &str) -> Self {
        Self { client, node: node.to_owned(), seen: Arc::default() }
    }

    /// Writes an event on `about`. A failure is logged and nothing else: events are for people,
    /// and no decision reads them.
    pub(crate) async fn record(&self, about: ObjectReference, warning: bool, reason: &str, message: &str) {
        let namespace = about.namespace.clone().unwrap_or_else(|| "default".to_owned());
        let digest = Sha256::digest(format!("{:?}{:?}{reason}{message}", about.uid, about.name));
        let hash: String = format!("{digest:x}").chars().take(16).collect();
        let name = format!("{}.{hash}", about.name.as_deref().unwrap_or("unknown"));
        let key = format!("{namespace}/{name}");
        let count = {
            let now = Instant::now();
            let mut seen = self.seen.lock();
            seen.retain(|_, s| now.duration_since(s.written) < FORGET_AFTER);
            match seen.get_mut(&key) {
                Some(s) => {
                    s.count += 1;
                    if now.duration_since(s.written) < AGAIN_AFTER {
                        return;
                    }
                    s.written = now;
                    s.count
                }
                None => {
                    seen.insert(key, Seen { count: 1, written: now });
                    1
                }
            }
        };
        let api: Api<Event> = Api::namespaced(self.client.clone(), &namespace);
        let now = clock::now();
        if count > 1 {
            let patch = json!({"count": count, "lastTimestamp": now});
            let patched = api.patch(&name, &PatchParams::default(), &Patch::Merge(patch)).await;
            match patched {
                Err(kube::Error::Api(status)) if status.is_not_found() => {}
                Err(error) => return tracing::debug!(%error, event = name, "cannot count an event"),
                Ok(_) => return,
            }
        }
        let event = Event {
            metadata: ObjectMeta {
                name: Some(name.clone()),
                namespace: Some(namespace),
                ..ObjectMeta::default()
            },
            involved_object: about,
            type_: Some(if warning { "Warning" } else { "Normal" }.to_owned()),
            reason: Some(reason.to_owned()),
            message: Some(message.to_owned()),
            count: Some(count),
            first_timestamp: Some(now.clone()),
            last_timestamp: Some(now),
            source: Some(EventSource {
                component: Some(COMPONENT.to_owned()),
                host: Some(self.node.clone()),
            }),
            reporting_component: Some(COMPONENT.to_owned()),
            reporting_instance: Some(self.node.clone()),
            ..Event::default()
        };
        match api.create(&PostParams::default(), &event).await {
            Ok(_) => {}
            // Written by an earlier run of the agent, or its namespace is being deleted.
            Err(kube::Error::Api(status)) if status.is_already_exists() || status.is_forbidden() => {}
            Err(error) => tracing::debug!(%error, event = name, "cannot write an event"),
        }
    }
}
