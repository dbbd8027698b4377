//! The way in for the parts of the same process.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::{
    authentication::v1::SelfSubjectReview,
    core::v1::{ConfigMap, Pod},
};
use kube::api::{Api, ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Client, ResourceExt};
use serde_json::json;

use super::harness::{Cluster, PATIENCE};

/// Who asks within is the one who runs the process, and everything is checked as it is for others.
#[tokio::test]
async fn it_is_the_same_api() {
    let cluster = Cluster::start().await;
    let client = Client::new(cluster.server.within("parts/1.0"), "default");
    let reviews: Api<SelfSubjectReview> = Api::all(client.clone());
    let who = reviews.create(&PostParams::default(), &SelfSubjectReview::default()).await.unwrap();
    let who = who.status.and_then(|status| status.user_info).unwrap();
    let owner = format!("unix:{}", rustix::process::geteuid().as_raw());
    assert_eq!(who.username, Some(owner));
    assert!(who.groups.unwrap().contains(&"system:masters".to_owned()));

    let maps: Api<ConfigMap> = Api::default_namespaced(client.clone());
    let revision = maps.list(&ListParams::default()).await.unwrap().metadata.resource_version.unwrap();
    let mut events = maps.watch(&WatchParams::default(), &revision).await.unwrap().boxed();
    let map = serde_json::from_value(json!({"metadata": {"name": "a"}, "data": {"a": "1"}})).unwrap();
    let made = maps.create(&PostParams::default(), &map).await.unwrap();
    assert_eq!(made.managed_fields()[0].manager.as_deref(), Some("parts"));
    let event = tokio::time::timeout(PATIENCE, events.try_next()).await.unwrap().unwrap();
    assert!(matches!(event, Some(WatchEvent::Added(seen)) if seen == made));
    let refused = maps.create(&PostParams::default(), &map).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 409));
    let pod = serde_json::from_value(json!({"metadata": {"name": "a"}, "spec": {"containers": []}})).unwrap();
    let pods: Api<Pod> = Api::default_namespaced(client);
    let refused = pods.create(&PostParams::default(), &pod).await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.code == 422));
    drop(events);
    cluster.stop().await;
}
