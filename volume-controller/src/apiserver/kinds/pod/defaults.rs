//! What a pod gets where its author said nothing.

use serde_json::{Map, Value};

use super::super::check::text;
use super::super::defaults::{each, fill, fill_text};
use super::super::persistent_volume_claim;
use super::super::volume_source;
use super::CONTAINERS;

/// The access rights of files made from secrets, config maps and the like: 0644.
const FILE_MODE: i64 = 0o644;
/// How long a service account's token is good, in seconds.
const TOKEN_SECONDS: i64 = 3600;

pub(super) fn default(pod: &mut Value) {
    fill_text(pod, &["status", "phase"], "Pending");
    let spec = &mut pod["spec"];
    fill_text(spec, &["restartPolicy"], "Always");
    fill(spec, &["terminationGracePeriodSeconds"], 30);
    fill_text(spec, &["dnsPolicy"], "ClusterFirst");
    fill_text(spec, &["schedulerName"], "default-scheduler");
    fill(spec, &["enableServiceLinks"], true);
    fill(spec, &["securityContext"], Map::new());
    if !text(&spec["serviceAccountName"]).is_empty() {
        let account = spec["serviceAccountName"].clone();
        fill(spec, &["serviceAccount"], account);
    }
    let host_network = spec["hostNetwork"] == true;
    for containers in CONTAINERS {
        for container in each(spec, &format!("/{containers}")) {
            default_container(container, host_network);
        }
    }
    for volume in each(spec, "/volumes") {
        default_volume(volume);
    }
    for constraint in each(spec, "/topologySpreadConstraints") {
        fill(constraint, &["nodeAffinityPolicy"], "Honor");
        fill(constraint, &["nodeTaintsPolicy"], "Ignore");
    }
}

fn default_container(container: &mut Value, host_network: bool) {
    fill_text(container, &["terminationMessagePath"], "/dev/termination-log");
    fill_text(container, &["terminationMessagePolicy"], "File");
    let policy = if is_latest(text(&container["image"])) { "Always" } else { "IfNotPresent" };
    fill_text(container, &["imagePullPolicy"], policy);
    fill(container, &["resources"], Map::new());
    // What is limited but not requested is requested at its limit.
    if let Some(limits) = container["resources"]["limits"].as_object().cloned() {
        for (name, limit) in limits {
            fill(container, &["resources", "requests", &name], limit);
        }
    }
    for port in each(container, "/ports") {
        fill_text(port, &["protocol"], "TCP");
        if host_network && port["containerPort"].is_i64() {
            let number = port["containerPort"].clone();
            fill(port, &["hostPort"], number);
        }
    }
    for variable in each(container, "/env") {
        if variable["valueFrom"]["fieldRef"].is_object() {
            fill_text(variable, &["valueFrom", "fieldRef", "apiVersion"], "v1");
        }
    }
    for probe in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if container[probe].is_object() {
            let probe = &mut container[probe];
            for (field, value) in [
                ("timeoutSeconds", 1),
                ("periodSeconds", 10),
                ("successThreshold", 1),
                ("failureThreshold", 3),
            ] {
                fill(probe, &[field], value);
            }
            default_handler(probe);
        }
    }
    for hook in ["postStart", "preStop"] {
        if container["lifecycle"][hook].is_object() {
            default_handler(&mut container["lifecycle"][hook]);
        }
    }
}

fn default_handler(handler: &mut Value) {
    if handler["httpGet"].is_object() {
        fill_text(handler, &["httpGet", "path"], "/");
        fill_text(handler, &["httpGet", "scheme"], "HTTP");
    }
    if handler["grpc"].is_object() {
        fill(handler, &["grpc", "service"], "");
    }
}

/// Whether an image's name leaves its version open: no digest, and no tag or `latest`.
fn is_latest(image: &str) -> bool {
    if image.contains('@') {
        return false;
    }
    let name = image.rsplit('/').next().unwrap_or_default();
    name.split_once(':').is_none_or(|(_, tag)| tag == "latest")
}

fn default_volume(volume: &mut Value) {
    let has_source =
        volume.as_object().is_some_and(|v| v.iter().any(|(key, value)| key != "name" && !value.is_null()));
    if !has_source {
        fill(volume, &["emptyDir"], Map::new());
    }
    volume_source::default(volume);
    for source in ["secret", "configMap", "downwardAPI", "projected"] {
        if volume[source].is_object() {
            fill(volume, &[source, "defaultMode"], FILE_MODE);
        }
    }
    for item in each(volume, "/downwardAPI/items") {
        default_field_ref(item);
    }
    for source in each(volume, "/projected/sources") {
        if source["serviceAccountToken"].is_object() {
            fill(source, &["serviceAccountToken", "expirationSeconds"], TOKEN_SECONDS);
        }
        for item in each(source, "/downwardAPI/items") {
            default_field_ref(item);
        }
    }
    if volume["ephemeral"]["volumeClaimTemplate"]["spec"].is_object() {
        persistent_volume_claim::default_spec(&mut volume["ephemeral"]["volumeClaimTemplate"]["spec"]);
    }
    if volume["image"].is_object() {
        let policy = if is_latest(text(&volume["image"]["reference"])) { "Always" } else { "IfNotPresent" };
        fill_text(volume, &["image", "pullPolicy"], policy);
    }
}

fn default_field_ref(item: &mut Value) {
    if item["fieldRef"].is_object() {
        fill_text(item, &["fieldRef", "apiVersion"], "v1");
    }
}
