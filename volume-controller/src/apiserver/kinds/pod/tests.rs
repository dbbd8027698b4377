use jiff::Timestamp;

use super::*;
use crate::apiserver::kinds::check::lines;

fn pod(spec: Value) -> Value {
    let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "dev"}, "spec": {
        "containers": [{"name": "c", "image": "busybox", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
        "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": "data"}}],
    }});
    for (key, value) in spec.as_object().into_iter().flatten() {
        pod["spec"][key.as_str()] = value.clone();
    }
    (KIND.default)(&mut pod);
    pod
}

#[test]
fn defaults() {
    let mut pod = pod(json!({"volumes": [{"name": "data"}, {"name": "s", "secret": {"secretName": "s"}}]}));
    let spec = &pod["spec"];
    for (field, value) in [
        ("restartPolicy", json!("Always")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("enableServiceLinks", json!(true)),
        ("securityContext", json!({})),
    ] {
        assert_eq!(spec[field], value, "{field}");
    }
    let container = &spec["containers"][0];
    assert_eq!(container["terminationMessagePath"], "/dev/termination-log");
    assert_eq!(container["terminationMessagePolicy"], "File");
    assert_eq!(container["imagePullPolicy"], "Always");
    assert_eq!(
        spec["volumes"],
        json!([{"name": "data", "emptyDir": {}}, {"name": "s", "secret": {"secretName": "s", "defaultMode": 420}}])
    );
    (KIND.prepare_create)(&mut pod);
    assert_eq!(pod["status"], json!({"phase": "Pending", "qosClass": "BestEffort"}));
    let once = pod.clone();
    (KIND.default)(&mut pod);
    assert_eq!(pod, once);
}

#[test]
fn pull_policies() {
    for (image, policy) in [
        ("busybox", "Always"),
        ("busybox:latest", "Always"),
        ("busybox:1.36", "IfNotPresent"),
        ("registry:5000/busybox", "Always"),
        ("registry:5000/busybox:1", "IfNotPresent"),
        ("busybox@sha256:00", "IfNotPresent"),
    ] {
        let pod = pod(json!({"containers": [{"name": "c", "image": image}]}));
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn quality_of_service() {
    for (resources, class) in [
        (json!({}), "BestEffort"),
        (json!({"requests": {"memory": "1Mi"}}), "Burstable"),
        (json!({"limits": {"memory": "1Mi", "cpu": "1"}}), "Guaranteed"),
        (json!({"limits": {"memory": "1Mi", "cpu": "1"}, "requests": {"cpu": "500m"}}), "Burstable"),
    ] {
        let mut pod = pod(json!({"containers": [{"name": "c", "image": "i", "resources": resources}]}));
        (KIND.prepare_create)(&mut pod);
        assert_eq!(pod["status"]["qosClass"], class);
    }
}

#[test]
fn validation() {
    let mounts = |mounts: Value| json!({"containers": [{"name": "c", "image": "i", "volumeMounts": mounts}]});
    for (spec, expected) in [
        (json!({}), vec![]),
        (json!({"containers": []}), vec!["spec.containers: Required: "]),
        (
            json!({"containers": [{"name": "", "image": ""}]}),
            vec!["spec.containers[0].name: Required: ", "spec.containers[0].image: Required: "],
        ),
        (
            json!({"containers": [{"name": "c", "image": "i"}, {"name": "c", "image": "i"}]}),
            vec![r#"spec.containers[1].name: Duplicate: "c""#],
        ),
        (
            mounts(json!([{"name": "other", "mountPath": "/a"}])),
            vec![
                r#"spec.containers[0].volumeMounts[0].name: Invalid: "other": no volume of the pod has this name"#,
            ],
        ),
        (
            mounts(json!([{"name": "data", "mountPath": "/a"}, {"name": "data", "mountPath": "/a"}])),
            vec![r#"spec.containers[0].volumeMounts[1].mountPath: Invalid: "/a": must be unique"#],
        ),
        (
            mounts(json!([{"name": "data", "mountPath": "/a", "subPath": "../b"}])),
            vec![r#"spec.containers[0].volumeMounts[0].subPath: Invalid: "../b": must not contain '..'"#],
        ),
        (
            json!({"volumes": [{"name": "data", "emptyDir": {}}, {"name": "data", "emptyDir": {}}]}),
            vec![r#"spec.volumes[1].name: Duplicate: "data""#],
        ),
        (
            json!({"volumes": [{"name": "data", "emptyDir": {}, "hostPath": {"path": "/a"}}]}),
            vec!["spec.volumes[0].hostPath: Forbidden: may not specify more than 1 volume type"],
        ),
        (
            json!({"volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": ""}}]}),
            vec!["spec.volumes[0].persistentVolumeClaim.claimName: Required: "],
        ),
        (
            json!({"volumes": [{"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": {
                "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "0"}}}}}}]}),
            vec![
                r#"spec.volumes[0].ephemeral.volumeClaimTemplate.spec.resources.requests[storage]: Invalid: "0": must be greater than zero"#,
            ],
        ),
        (
            json!({"containers": [{"name": "c", "image": "i", "volumeDevices": [{"name": "data", "devicePath": "/dev/x"}]}],
                "volumes": [{"name": "data", "emptyDir": {}}]}),
            vec![
                r#"spec.containers[0].volumeDevices[0].name: Invalid: "data": can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"#,
            ],
        ),
        (
            json!({"restartPolicy": "Perhaps"}),
            vec![
                r#"spec.restartPolicy: NotSupported: "Perhaps": supported values: "Always", "Never", "OnFailure""#,
            ],
        ),
    ] {
        assert_eq!(lines(&(KIND.validate)(&pod(spec.clone()))), expected, "{spec}");
    }
}

#[test]
fn updates() {
    let image =
        |image: &str| json!({"containers": [{"name": "c", "image": image, "imagePullPolicy": "Always"}]});
    let tolerations =
        |n: usize| json!({"tolerations": (0..n).map(|i| json!({"key": i.to_string()})).collect::<Vec<_>>()});
    for (new, old, fields) in [
        (image("a"), image("b"), vec![]),
        (tolerations(2), tolerations(1), vec![]),
        (tolerations(1), tolerations(2), vec!["spec.tolerations"]),
        (json!({"activeDeadlineSeconds": 5}), json!({}), vec![]),
        (
            json!({"activeDeadlineSeconds": 9}),
            json!({"activeDeadlineSeconds": 5}),
            vec!["spec.activeDeadlineSeconds"],
        ),
        (json!({"nodeName": "n"}), json!({}), vec![]),
        (json!({"nodeName": "m"}), json!({"nodeName": "n"}), vec!["spec"]),
        (json!({"volumes": []}), json!({}), vec!["spec"]),
        (json!({"hostname": "x"}), json!({}), vec!["spec"]),
    ] {
        let causes = (KIND.validate_update)(&pod(new.clone()), &pod(old));
        assert_eq!(causes.iter().map(|c| c.field.as_str()).collect::<Vec<_>>(), fields, "{new}");
    }
    let causes = (KIND.validate_update)(&pod(json!({"hostname": "x"})), &pod(json!({})));
    assert!(lines(&causes)[0].starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,`spec.initContainers[*].image`,"));
    assert!(causes[0].message.ends_with("(changed: spec.hostname)"));
}

#[test]
fn cells() {
    let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
    let print = |pod: &Value| {
        let cells: Vec<String> = COLUMNS
            .iter()
            .map(|c| (c.cell)(pod, now))
            .map(|v| v.as_str().unwrap_or_default().to_owned())
            .collect();
        cells.join(" | ")
    };
    let mut pod = pod(json!({"nodeName": "n"}));
    pod["metadata"]["creationTimestamp"] = "2026-01-01T00:55:00Z".into();
    assert_eq!(print(&pod), "p | 0/1 | Pending | 0 | 5m | <none> | n | <none> | <none>");
    pod["status"]["reason"] = "VolumesPublished".into();
    assert_eq!(cells::status(&pod), "VolumesPublished");
    pod["status"] = json!({"phase": "Running", "podIPs": [{"ip": "10.0.0.9"}], "containerStatuses": [
        {"name": "c", "ready": true, "restartCount": 2, "state": {"running": {}},
         "lastState": {"terminated": {"finishedAt": "2026-01-01T00:58:00Z"}}}]});
    assert_eq!(print(&pod), "p | 1/1 | Running | 2 (2m ago) | 5m | 10.0.0.9 | n | <none> | <none>");
    pod["status"]["containerStatuses"][0] = json!({"state": {"waiting": {"reason": "CrashLoopBackOff"}}});
    assert_eq!(cells::status(&pod), "CrashLoopBackOff");
    pod["metadata"]["deletionTimestamp"] = "2026-01-01T00:59:00Z".into();
    assert_eq!(cells::status(&pod), "Terminating");
    pod["status"]["phase"] = "Succeeded".into();
    pod["status"]["containerStatuses"][0] =
        json!({"state": {"terminated": {"reason": "Completed", "exitCode": 0}}});
    assert_eq!(cells::status(&pod), "Completed");
    pod["status"] = json!({"phase": "Pending", "initContainerStatuses": [{"name": "i", "state": {"terminated": {"exitCode": 3}}}]});
    pod["metadata"]["deletionTimestamp"] = Value::Null;
    assert_eq!(cells::status(&pod), "Init:ExitCode:3");
}
