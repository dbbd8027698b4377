//! From objects to what is wanted.

use std::sync::Arc;

use holdfast_api::attachment::attachment_name;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::{CSIDriver, VolumeAttachment},
};
use serde_json::{Value, json};

use crate::volumes::{
    desired::{Objects, pod_view},
    reason::Reason,
    view::{Attach, Life, LocalSource, PodView, Wanted},
};

#[derive(Default)]
struct Fixed {
    claim: Option<Value>,
    volume: Option<Value>,
    attachment: Option<Value>,
    driver: Option<Value>,
}

fn object<T: serde::de::DeserializeOwned>(value: Option<&Value>) -> Option<Arc<T>> {
    value.map(|v| Arc::new(serde_json::from_value(v.clone()).unwrap()))
}

fn named(value: Option<&Value>, name: &str) -> bool {
    value.is_some_and(|v| v["metadata"]["name"] == name)
}

impl Objects for Fixed {
    fn claim(&self, _: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        object(self.claim.as_ref().filter(|c| named(Some(c), name)))
    }
    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        object(self.volume.as_ref().filter(|v| named(Some(v), name)))
    }
    fn attachment(&self, name: &str) -> Option<Arc<VolumeAttachment>> {
        object(self.attachment.as_ref().filter(|a| named(Some(a), name)))
    }
    fn csi_driver(&self, _: &str) -> Option<Arc<CSIDriver>> {
        object(self.driver.as_ref())
    }
}

fn pod(source: Value, field: &str) -> Pod {
    let mut volume = source;
    volume["name"] = json!("v");
    let named = if field == "volumeDevices" {
        json!([{"name": "v", "devicePath": "/dev/x"}])
    } else {
        json!([{"name": "v", "mountPath": "/data"}])
    };
    serde_json::from_value(json!({
        "metadata": {"namespace": "dev", "name": "p", "uid": "u1"},
        "spec": {"containers": [{"name": "c", field: named}], "volumes": [volume, {"name": "unused", "nfs": {"path": "/", "server": "s"}}]},
    }))
    .unwrap()
}

fn bound() -> Fixed {
    Fixed {
        claim: Some(json!({
            "metadata": {"namespace": "dev", "name": "data", "uid": "c1"},
            "spec": {"volumeName": "pv1"},
            "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}},
        })),
        volume: Some(json!({
            "metadata": {"name": "pv1"},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "mountOptions": ["noatime"],
                "claimRef": {"namespace": "dev", "name": "data", "uid": "c1"},
                "csi": {"driver": "d.example", "volumeHandle": "h1", "fsType": "xfs",
                        "nodeStageSecretRef": {"namespace": "s", "name": "key"}},
            },
        })),
        attachment: Some(json!({
            "metadata": {"name": attachment_name("d.example", "h1", "n1")},
            "spec": {"attacher": "d.example", "nodeName": "n1", "source": {}},
            "status": {"attached": true},
        })),
        driver: Some(json!({"metadata": {"name": "d.example"}, "spec": {"attachRequired": true}})),
    }
}

fn view(pod: &Pod, objects: &Fixed) -> PodView {
    pod_view(pod, "n1", objects).unwrap()
}

fn reason(objects: &Fixed) -> Option<&'static str> {
    let claimed = pod(json!({"persistentVolumeClaim": {"claimName": "data"}}), "volumeMounts");
    view(&claimed, objects).volumes[0].wanted.as_ref().err().map(Reason::code)
}

fn csi(objects: &Fixed, source: Value) -> Box<crate::volumes::view::CsiVolume> {
    let seen = view(&pod(source, "volumeMounts"), objects);
    assert_eq!(seen.volumes.len(), 1, "a volume that no container names is left alone");
    match seen.volumes[0].wanted.clone() {
        Ok(Wanted::Csi(csi)) => csi,
        other => panic!("{other:?}"),
    }
}

fn claim_source() -> Value {
    json!({"persistentVolumeClaim": {"claimName": "data"}})
}

#[test]
fn a_bound_claim_becomes_a_csi_volume() {
    let volume = csi(&bound(), json!({"persistentVolumeClaim": {"claimName": "data", "readOnly": true}}));
    assert_eq!((volume.id.handle.as_str(), volume.pv.as_str(), volume.read_only), ("h1", "pv1", true));
    assert_eq!(volume.attach, Attach::Attached);
    assert_eq!(volume.shape.mount_flags, ["noatime"]);
    assert_eq!(volume.stage_secret.unwrap().name, "key");
    assert_eq!((volume.pod_info, volume.growth), (None, None));
}

#[test]
fn why_not_yet() {
    let change = |change: &dyn Fn(&mut Fixed)| {
        let mut objects = bound();
        change(&mut objects);
        reason(&objects)
    };
    let set = |place: &mut Option<Value>, pointer: &str, value: Value| {
        *place.as_mut().unwrap().pointer_mut(pointer).unwrap() = value;
    };
    assert_eq!(reason(&bound()), None);
    assert_eq!(change(&|o| o.claim = None), Some("ClaimNotFound"));
    assert_eq!(change(&|o| set(&mut o.claim, "/status/phase", json!("Pending"))), Some("ClaimNotBound"));
    assert_eq!(change(&|o| set(&mut o.claim, "/status/phase", json!("Lost"))), Some("ClaimLost"));
    assert_eq!(change(&|o| o.volume = None), Some("VolumeNotFound"));
    assert_eq!(change(&|o| set(&mut o.volume, "/spec/claimRef/uid", json!("c2"))), Some("VolumeNotOfClaim"));
    assert_eq!(
        change(&|o| {
            let spec = o.volume.as_mut().unwrap()["spec"].as_object_mut().unwrap();
            spec.insert("volumeMode".into(), json!("Block"));
        }),
        Some("VolumeModeMismatch")
    );
    assert_eq!(
        change(&|o| {
            let spec = o.volume.as_mut().unwrap()["spec"].as_object_mut().unwrap();
            spec.remove("csi");
            spec.insert("nfs".into(), json!({"path": "/", "server": "s"}));
        }),
        Some("UnsupportedVolume")
    );
}

#[test]
fn attachments() {
    let mut objects = bound();
    objects.attachment.as_mut().unwrap()["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    assert_eq!(csi(&objects, claim_source()).attach, Attach::Pending, "being detached is not attached");
    objects.attachment = None;
    assert_eq!(csi(&objects, claim_source()).attach, Attach::Pending);
    objects.driver = None;
    assert_eq!(csi(&objects, claim_source()).attach, Attach::Pending, "attach is the rule");
    objects.driver =
        Some(json!({"metadata": {"name": "d"}, "spec": {"attachRequired": false, "podInfoOnMount": true}}));
    let volume = csi(&objects, claim_source());
    assert_eq!((volume.attach, volume.pod_info.as_deref()), (Attach::NotNeeded, Some("default")));
}

#[test]
fn growth_only_when_it_waits_for_the_node() {
    let mut objects = bound();
    objects.volume.as_mut().unwrap()["spec"]["capacity"]["storage"] = json!("2Gi");
    assert_eq!(csi(&objects, claim_source()).growth, None, "the resizer is not done");
    objects.claim.as_mut().unwrap()["status"]["conditions"] =
        json!([{"type": "FileSystemResizePending", "status": "True"}]);
    let growth = csi(&objects, claim_source()).growth.unwrap();
    assert_eq!((growth.bytes, growth.quantity.as_str()), (2 << 30, "2Gi"));
    objects.claim.as_mut().unwrap()["status"]["conditions"] = json!([]);
    objects.claim.as_mut().unwrap()["status"]["allocatedResourceStatuses"] =
        json!({"storage": "NodeResizePending"});
    assert!(csi(&objects, claim_source()).growth.is_some());
    objects.claim.as_mut().unwrap()["status"]["capacity"]["storage"] = json!("2Gi");
    assert_eq!(csi(&objects, claim_source()).growth, None);
}

#[test]
fn what_a_pod_defines_itself() {
    let wanted = |source| view(&pod(source, "volumeMounts"), &Fixed::default()).volumes.remove(0).wanted;
    assert!(matches!(
        wanted(json!({"hostPath": {"path": "/srv", "type": "Directory"}})),
        Ok(Wanted::Local(v)) if v.source == LocalSource::Path { path: "/srv".into(), check: "Directory".into() }
    ));
    assert!(
        matches!(wanted(json!({"emptyDir": {}})), Ok(Wanted::Local(v)) if v.source == LocalSource::Scratch)
    );
    assert!(matches!(
        wanted(json!({"emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}})),
        Ok(Wanted::Local(v)) if v.source == LocalSource::Memory { limit: Some(1 << 20) }
    ));
    assert_eq!(
        wanted(json!({"configMap": {"name": "c"}})),
        Err(Reason::Unsupported { kind: "configMap".into() })
    );
}

#[test]
fn lives() {
    for (metadata, status, expected) in [
        (json!({}), json!({}), Life::Active),
        (json!({}), json!({"phase": "Running"}), Life::Active),
        (json!({}), json!({"phase": "Succeeded"}), Life::Ended),
        (
            json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30}),
            json!({}),
            Life::Leaving,
        ),
        (
            json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0}),
            json!({}),
            Life::Left,
        ),
    ] {
        let mut value = json!({"metadata": {"namespace": "d", "name": "p", "uid": "u"}, "status": status});
        value["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
        let pod: Pod = serde_json::from_value(value).unwrap();
        assert_eq!(view(&pod, &Fixed::default()).life, expected);
    }
}
