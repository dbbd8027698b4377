//! kube-rs as it is used elsewhere: typed access, watchers, recorded events.

use futures::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{ConfigMap, Event as CoreEvent, ObjectReference, PersistentVolumeClaim};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::storage::v1::StorageClass;
use kube::api::{Api, DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::discovery::Discovery;
use kube::runtime::events::{Event as NewEvent, EventType, Recorder, Reporter};
use kube::runtime::{WatchStreamExt, watcher};
use serde_json::json;

use super::harness::{Cluster, MAPS, PATIENCE, claim, map};

#[tokio::test]
async fn typed_access() {
    let cluster = Cluster::start().await;
    let claims: Api<PersistentVolumeClaim> = Api::default_namespaced(cluster.client.clone());
    let object: PersistentVolumeClaim = serde_json::from_value(claim("a")).unwrap();
    let created = claims.create(&PostParams::default(), &object).await.unwrap();
    assert_eq!(claims.get("a").await.unwrap(), created);
    let error = claims.create(&PostParams::default(), &object).await.unwrap_err();
    assert!(matches!(&error, kube::Error::Api(status) if status.code == 409), "{error}");
    let patch = json!({"metadata": {"annotations": {"x": "y"}}});
    let patched = claims.patch("a", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    assert_eq!(patched.metadata.annotations.unwrap()["x"], "y");
    let status = json!({"status": {"phase": "Bound"}});
    let patched =
        claims.patch_status("a", &PatchParams::default(), &Patch::Strategic(&status)).await.unwrap();
    assert_eq!(patched.status.unwrap().phase.as_deref(), Some("Bound"));
    let listed = claims.list(&ListParams::default().limit(10)).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    assert_eq!(claims.list_metadata(&ListParams::default()).await.unwrap().items.len(), 1);
    assert!(claims.get_opt("b").await.unwrap().is_none());
    let deleted = claims.delete("a", &DeleteParams::default()).await.unwrap();
    assert!(deleted.left().unwrap().metadata.deletion_timestamp.is_some());
    cluster.stop().await;
}

#[tokio::test]
async fn discovery_finds_the_kinds() {
    let cluster = Cluster::start().await;
    for aggregated in [false, true] {
        let discovery = Discovery::new(cluster.client.clone());
        let found = match aggregated {
            true => discovery.run_aggregated().await.unwrap(),
            false => discovery.run().await.unwrap(),
        };
        let kind = kube::core::GroupVersionKind::gvk("storage.k8s.io", "v1", "StorageClass");
        let (resource, _) = found.resolve_gvk(&kind).unwrap();
        assert_eq!(resource.plural, "storageclasses");
    }
    cluster.stop().await;
}

#[tokio::test]
async fn watchers_follow() {
    let cluster = Cluster::start_with(|limits| limits.log.changes = 20).await;
    for n in 0..5 {
        cluster.post(MAPS, &map(&format!("m{n}"))).await.expect(201);
    }
    let maps: Api<ConfigMap> = Api::default_namespaced(cluster.client.clone());
    for config in [watcher::Config::default().page_size(2), watcher::Config::default().streaming_lists()] {
        let mut events = watcher(maps.clone(), config).default_backoff().boxed();
        let mut seen = Vec::new();
        loop {
            let next = tokio::time::timeout(PATIENCE, events.try_next()).await.expect("no event in time");
            match next.unwrap().unwrap() {
                watcher::Event::InitApply(object) => seen.push(object.metadata.name.unwrap()),
                watcher::Event::InitDone => break,
                _ => {}
            }
        }
        assert_eq!(seen, ["m0", "m1", "m2", "m3", "m4"]);
        let tick =
            json!({"data": {"tick": seen.len().to_string(), "at": cluster.store.revision().to_string()}});
        cluster.merge(&format!("{MAPS}/m3"), &tick).await.expect(200);
        let next = tokio::time::timeout(PATIENCE, events.try_next()).await.expect("no event in time");
        match next.unwrap().unwrap() {
            watcher::Event::Apply(object) => assert_eq!(object.metadata.name.as_deref(), Some("m3")),
            other => panic!("{other:?}"),
        }
    }
    cluster.stop().await;
}

#[tokio::test]
async fn events_are_recorded_and_seen_in_both_forms() {
    let cluster = Cluster::start().await;
    let created = cluster.post(super::harness::CLAIMS, &claim("a")).await.expect(201);
    let about = ObjectReference {
        api_version: Some("v1".into()),
        kind: Some("PersistentVolumeClaim".into()),
        name: Some("a".into()),
        namespace: Some("default".into()),
        uid: created["metadata"]["uid"].as_str().map(str::to_owned),
        ..Default::default()
    };
    let reporter = Reporter { controller: "csi.holdfast.dev".into(), instance: Some("here".into()) };
    let recorder = Recorder::new(cluster.client.clone(), reporter);
    let event = |reason: &str| NewEvent {
        type_: EventType::Normal,
        reason: reason.into(),
        note: Some("made a volume".into()),
        action: "Provision".into(),
        secondary: None,
    };
    // Twice the same: the recorder patches the first into a series.
    for reason in ["Provisioned", "Provisioned", "Other"] {
        recorder.publish(&event(reason), &about).await.unwrap();
    }
    let new: Api<Event> = Api::default_namespaced(cluster.client.clone());
    let listed =
        new.list(&ListParams::default().fields("regarding.name=a,reason=Provisioned")).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    assert_eq!(listed.items[0].note.as_deref(), Some("made a volume"));
    assert_eq!(listed.items[0].series.as_ref().map(|series| series.count), Some(2));
    let old: Api<CoreEvent> = Api::default_namespaced(cluster.client.clone());
    let listed =
        old.list(&ListParams::default().fields("involvedObject.name=a,reason=Provisioned")).await.unwrap();
    assert_eq!(listed.items.len(), 1);
    assert_eq!(listed.items[0].message.as_deref(), Some("made a volume"));
    assert_eq!(listed.items[0].involved_object.uid, about.uid);
    assert_eq!(old.list(&ListParams::default()).await.unwrap().items.len(), 2);
    cluster.stop().await;
}

#[tokio::test]
async fn cluster_scoped_kinds() {
    let cluster = Cluster::start().await;
    let classes: Api<StorageClass> = Api::all(cluster.client.clone());
    let class: StorageClass = serde_json::from_value(super::harness::class("fast")).unwrap();
    classes.create(&PostParams::default(), &class).await.unwrap();
    let found = classes.get("fast").await.unwrap();
    assert_eq!(found.reclaim_policy.as_deref(), Some("Delete"));
    let deleted = classes.delete("fast", &DeleteParams::default()).await.unwrap();
    assert_eq!(deleted.left().unwrap().provisioner, "csi.holdfast.dev");
    assert!(classes.get_opt("fast").await.unwrap().is_none());
    cluster.stop().await;
}
