//! Views for tests, made from the objects that are in them: the JSON that the API
//! would store, through the same [`View::apply`] as in life.

use serde_json::{Map, Value, json};

use super::{
    ACCOUNTS, ATTACHMENTS, ATTRIBUTES_CLASSES, At, CLAIMS, CLASSES, CLUSTER_ROLES, CONTENTS, CSI_NODES,
    DRIVERS, GROUP_CLASSES, GROUP_CONTENTS, GROUPS, LEASES, NAMESPACES, NODES, PODS, SNAPSHOT_CLASSES,
    SNAPSHOTS, VOLUMES, View, claim_key, volume_key,
};
use crate::store::{ChangeKind, Key, Object};

/// The revision of every object of [`view`].
pub(crate) const REVISION: u64 = 7;
/// The namespace of everything that has one.
pub(crate) const SPACE: &str = "dev";
pub(crate) const DRIVER: &str = "d.example.com";

/// One object, to be refined.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Made(pub(crate) Value);

impl Made {
    /// Sets a field, `spec.claimRef.uid`.
    pub(crate) fn set(mut self, path: &str, value: impl Into<Value>) -> Self {
        let place = path.split('.').fold(&mut self.0, |at, name| &mut at[name]);
        *place = value.into();
        self
    }

    /// Takes a field away.
    pub(crate) fn unset(mut self, path: &str) -> Self {
        let (parent, name) = path.rsplit_once('.').unwrap();
        let parent = parent.split('.').fold(&mut self.0, |at, name| &mut at[name]);
        parent.as_object_mut().unwrap().remove(name);
        self
    }

    pub(crate) fn note(mut self, annotation: &str, value: &str) -> Self {
        self.0["metadata"]["annotations"][annotation] = json!(value);
        self
    }

    pub(crate) fn label(mut self, label: &str, value: &str) -> Self {
        self.0["metadata"]["labels"][label] = json!(value);
        self
    }

    pub(crate) fn uid(self, uid: &str) -> Self {
        self.set("metadata.uid", uid)
    }

    pub(crate) fn class(self, class: &str) -> Self {
        self.set("spec.storageClassName", class)
    }

    pub(crate) fn modes(self, modes: &[&str]) -> Self {
        self.set("spec.accessModes", json!(modes))
    }

    pub(crate) fn phase(self, phase: &str) -> Self {
        self.set("status.phase", phase)
    }

    pub(crate) fn deleting(self) -> Self {
        self.set("metadata.deletionTimestamp", "2026-01-02T00:00:00Z")
    }

    pub(crate) fn finalizer(self, finalizer: &str) -> Self {
        self.set("metadata.finalizers", json!([finalizer]))
    }

    /// Of a claim: what it asks for. Of a volume: what it offers.
    pub(crate) fn size(self, size: &str) -> Self {
        let path =
            if self.0["kind"] == "PersistentVolume" { "spec.capacity" } else { "spec.resources.requests" };
        self.set(path, json!({"storage": size}))
    }

    /// Of a volume: it is on nodes only whose label `zone` is this.
    pub(crate) fn in_zone(self, zone: &str) -> Self {
        let term = json!({"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]});
        self.set("spec.nodeAffinity", json!({"required": {"nodeSelectorTerms": [term]}}))
    }

    /// Of a volume: kept for a claim, of this UID or of whichever (empty).
    pub(crate) fn kept_for(self, claim: &str, uid: &str) -> Self {
        let mut reference = json!({"namespace": SPACE, "name": claim});
        if !uid.is_empty() {
            reference["uid"] = json!(uid);
        }
        self.set("spec.claimRef", reference)
    }

    pub(crate) fn key(&self) -> Key {
        let resource = match self.0["kind"].as_str().unwrap() {
            "PersistentVolumeClaim" => CLAIMS,
            "PersistentVolume" => VOLUMES,
            "StorageClass" => CLASSES,
            "VolumeAttributesClass" => ATTRIBUTES_CLASSES,
            "Pod" => PODS,
            "Node" => NODES,
            "Lease" => LEASES,
            "VolumeAttachment" => ATTACHMENTS,
            "CSIDriver" => DRIVERS,
            "CSINode" => CSI_NODES,
            "Namespace" => NAMESPACES,
            "ClusterRole" => CLUSTER_ROLES,
            "ServiceAccount" => ACCOUNTS,
            "VolumeSnapshot" => SNAPSHOTS,
            "VolumeSnapshotContent" => CONTENTS,
            "VolumeSnapshotClass" => SNAPSHOT_CLASSES,
            "VolumeGroupSnapshot" => GROUPS,
            "VolumeGroupSnapshotContent" => GROUP_CONTENTS,
            "VolumeGroupSnapshotClass" => GROUP_CLASSES,
            other => panic!("no such kind: {other}"),
        };
        let metadata = &self.0["metadata"];
        Key::new(
            resource,
            metadata["namespace"].as_str().unwrap_or_default(),
            metadata["name"].as_str().unwrap(),
        )
    }

    /// As the store would hold it.
    pub(crate) fn stored(&self, revision: u64) -> Object {
        let uid = self.0["metadata"]["uid"].as_str().unwrap_or_default().into();
        Object { key: self.key(), revision, uid, body: serde_json::to_vec(&self.0).unwrap().into() }
    }
}

fn made(kind: &str, version: &str, namespace: &str, name: &str, rest: Value) -> Made {
    let mut metadata = json!({
        "name": name, "uid": format!("uid-{name}"), "annotations": {}, "labels": {},
        "creationTimestamp": "2026-01-01T00:00:00Z",
    });
    if !namespace.is_empty() {
        metadata["namespace"] = json!(namespace);
    }
    let mut object = Map::from_iter([
        ("apiVersion".to_owned(), json!(version)),
        ("kind".to_owned(), json!(kind)),
        ("metadata".to_owned(), metadata),
    ]);
    object.extend(rest.as_object().unwrap().clone());
    Made(Value::Object(object))
}

/// A claim for 1Gi, one writer, no class.
pub(crate) fn claim(name: &str) -> Made {
    let spec = json!({
        "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem", "storageClassName": "",
        "resources": {"requests": {"storage": "1Gi"}},
    });
    made("PersistentVolumeClaim", "v1", SPACE, name, json!({"spec": spec, "status": {"phase": "Pending"}}))
}

/// A free CSI volume of 1Gi, one writer, no class, to be retained.
pub(crate) fn volume(name: &str) -> Made {
    let spec = json!({
        "accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem", "storageClassName": "",
        "capacity": {"storage": "1Gi"}, "persistentVolumeReclaimPolicy": "Retain",
        "csi": {"driver": DRIVER, "volumeHandle": format!("h-{name}")},
    });
    made("PersistentVolume", "v1", "", name, json!({"spec": spec, "status": {"phase": "Available"}}))
}

/// Both sides of a finished binding.
pub(crate) fn bound(claim_name: &str, volume_name: &str) -> (Made, Made) {
    let claim = claim(claim_name)
        .set("spec.volumeName", volume_name)
        .note("pv.kubernetes.io/bind-completed", "yes")
        .set(
            "status",
            json!({"phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}}),
        );
    (claim, volume(volume_name).kept_for(claim_name, &format!("uid-{claim_name}")).phase("Bound"))
}

/// A class whose volumes are made at once.
pub(crate) fn class(name: &str) -> Made {
    let rest = json!({"provisioner": DRIVER, "volumeBindingMode": "Immediate"});
    made("StorageClass", "storage.k8s.io/v1", "", name, rest)
}

pub(crate) fn attributes_class(name: &str) -> Made {
    let rest = json!({"driverName": DRIVER, "parameters": {"iops": "1"}});
    made("VolumeAttributesClass", "storage.k8s.io/v1", "", name, rest)
}

/// A class whose volumes are made where the pod is.
pub(crate) fn late_class(name: &str) -> Made {
    class(name).set("volumeBindingMode", "WaitForFirstConsumer")
}

/// A pod that uses claims.
pub(crate) fn pod(name: &str, claims: &[&str]) -> Made {
    let volumes: Vec<Value> = claims
        .iter()
        .map(|claim| json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}))
        .collect();
    let spec = json!({"containers": [], "schedulerName": "default-scheduler", "volumes": volumes});
    made("Pod", "v1", SPACE, name, json!({"spec": spec, "status": {"phase": "Pending"}}))
}

/// The same, on a node.
pub(crate) fn pod_on(node: &str, name: &str, claims: &[&str]) -> Made {
    pod(name, claims).set("spec.nodeName", node)
}

/// A node that is ready, and says that it uses no volume.
pub(crate) fn node(name: &str) -> Made {
    let status = json!({"conditions": [{"type": "Ready", "status": "True"}], "volumesInUse": []});
    made("Node", "v1", "", name, json!({"spec": {}, "status": status}))
}

/// The lease that a node renews.
pub(crate) fn lease(node: &str) -> Made {
    let spec = json!({"holderIdentity": node, "leaseDurationSeconds": 40, "renewTime": "2026-01-01T00:00:00.000000Z"});
    made("Lease", "coordination.k8s.io/v1", holdfast_api::nodes::LEASES, node, json!({"spec": spec}))
}

/// The driver, with or without `attachRequired`.
pub(crate) fn driver(attach_required: bool) -> Made {
    made("CSIDriver", "storage.k8s.io/v1", "", DRIVER, json!({"spec": {"attachRequired": attach_required}}))
}

/// The drivers that are on a node.
pub(crate) fn csi_node(name: &str, drivers: &[&str]) -> Made {
    let drivers: Vec<Value> = drivers.iter().map(|d| json!({"name": d, "nodeID": name})).collect();
    made("CSINode", "storage.k8s.io/v1", "", name, json!({"spec": {"drivers": drivers}}))
}

/// The attachment of [`volume`] on a node, under its right name.
pub(crate) fn attachment(volume: &str, node: &str, attached: bool) -> Made {
    let name = holdfast_api::attachment::attachment_name(DRIVER, &format!("h-{volume}"), node);
    let spec = json!({"attacher": DRIVER, "nodeName": node, "source": {"persistentVolumeName": volume}});
    made(
        "VolumeAttachment",
        "storage.k8s.io/v1",
        "",
        &name,
        json!({"spec": spec, "status": {"attached": attached}}),
    )
}

pub(crate) fn cluster_role(name: &str) -> Made {
    made("ClusterRole", "rbac.authorization.k8s.io/v1", "", name, json!({"rules": []}))
}

pub(crate) fn account(name: &str) -> Made {
    made("ServiceAccount", "v1", SPACE, name, json!({}))
}

/// A snapshot of a claim, of class `quick`, as somebody has just asked for it.
pub(crate) fn snapshot(name: &str, claim: &str) -> Made {
    let spec = json!({"volumeSnapshotClassName": "quick", "source": {"persistentVolumeClaimName": claim}});
    made("VolumeSnapshot", "snapshot.storage.k8s.io/v1", SPACE, name, json!({"spec": spec}))
}

/// The content that is made for [`snapshot`] of a claim bound to `volume`.
pub(crate) fn content(snapshot: &str, volume: &str) -> Made {
    let spec = json!({
        "driver": DRIVER, "deletionPolicy": "Delete", "volumeSnapshotClassName": "quick",
        "source": {"volumeHandle": format!("h-{volume}")}, "sourceVolumeMode": "Filesystem",
        "volumeSnapshotRef": {"namespace": SPACE, "name": snapshot, "uid": format!("uid-{snapshot}")},
    });
    let name = format!("snapcontent-uid-{snapshot}");
    made("VolumeSnapshotContent", "snapshot.storage.k8s.io/v1", "", &name, json!({"spec": spec}))
}

pub(crate) fn snapshot_class(name: &str) -> Made {
    let rest = json!({"driver": DRIVER, "deletionPolicy": "Delete"});
    made("VolumeSnapshotClass", "snapshot.storage.k8s.io/v1", "", name, rest)
}

/// A group snapshot of the claims labelled `app=db`, of class `quick`, as somebody has just asked for it.
pub(crate) fn group(name: &str) -> Made {
    let source = json!({"selector": {"matchLabels": {"app": "db"}}});
    let spec = json!({"volumeGroupSnapshotClassName": "quick", "source": source});
    made("VolumeGroupSnapshot", "groupsnapshot.storage.k8s.io/v1", SPACE, name, json!({"spec": spec}))
}

/// The content that is made for [`group`] of claims bound to `volumes`.
pub(crate) fn group_content(group: &str, volumes: &[&str]) -> Made {
    let handles: Vec<String> = volumes.iter().map(|volume| format!("h-{volume}")).collect();
    let spec = json!({
        "driver": DRIVER, "deletionPolicy": "Delete", "volumeGroupSnapshotClassName": "quick",
        "source": {"volumeHandles": handles},
        "volumeGroupSnapshotRef": {"namespace": SPACE, "name": group, "uid": format!("uid-{group}")},
    });
    let name = format!("groupsnapcontent-uid-{group}");
    made("VolumeGroupSnapshotContent", "groupsnapshot.storage.k8s.io/v1", "", &name, json!({"spec": spec}))
}

pub(crate) fn group_class(name: &str) -> Made {
    let rest = json!({"driver": DRIVER, "deletionPolicy": "Delete"});
    made("VolumeGroupSnapshotClass", "groupsnapshot.storage.k8s.io/v1", "", name, rest)
}

pub(crate) fn namespace(name: &str) -> Made {
    made(
        "Namespace",
        "v1",
        "",
        name,
        json!({"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}),
    )
}

/// A view of these objects, each at [`REVISION`].
pub(crate) fn view(objects: &[Made]) -> View {
    let mut view = View::default();
    for made in objects {
        assert!(
            view.apply(ChangeKind::Created, REVISION, &made.stored(REVISION)).is_some(),
            "not taken: {made:?}"
        );
    }
    view
}

/// Where a decision on an object of [`view`] rests.
pub(crate) fn at(key: Key) -> At {
    At { key, revision: REVISION }
}

pub(crate) fn of_claim(name: &str) -> Key {
    claim_key(SPACE, name)
}

pub(crate) fn of_volume(name: &str) -> Key {
    volume_key(name)
}

pub(crate) fn of_pod(name: &str) -> Key {
    Key::new(PODS, SPACE, name)
}
