//! What a pod must look like.

use serde_json::Value;

use super::super::check::{Checks, entries, list, text};
use super::super::kind::Cause;
use super::super::names::NameRule;
use super::super::node_selector;
use super::super::persistent_volume_claim;
use super::super::quantities;
use super::super::volume_source;
use super::CONTAINERS;

pub(super) fn validate(pod: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let spec = &pod["spec"];
    for (index, volume) in list(&spec["volumes"]).iter().enumerate() {
        check_volume(&mut checks, list(&spec["volumes"]), index, volume);
    }
    if list(&spec["containers"]).is_empty() {
        checks.required("spec.containers", "");
    }
    let mut names = Vec::new();
    for kind in CONTAINERS {
        for (index, container) in list(&spec[kind]).iter().enumerate() {
            let field = format!("spec.{kind}[{index}]");
            if names.contains(&&container["name"]) {
                checks.duplicate(format!("{field}.name"), &container["name"]);
            }
            names.push(&container["name"]);
            check_container(&mut checks, &field, container, list(&spec["volumes"]));
        }
    }
    checks.one_of("spec.restartPolicy", &spec["restartPolicy"], &["Always", "Never", "OnFailure"]);
    checks.one_of(
        "spec.dnsPolicy",
        &spec["dnsPolicy"],
        &["ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"],
    );
    let grace = &spec["terminationGracePeriodSeconds"];
    if grace.as_i64().is_some_and(|seconds| seconds < 0) {
        checks.invalid("spec.terminationGracePeriodSeconds", grace, "must be greater than or equal to 0");
    }
    let deadline = &spec["activeDeadlineSeconds"];
    if deadline.as_i64().is_some_and(|seconds| !(1..=i64::from(i32::MAX)).contains(&seconds)) {
        checks.invalid("spec.activeDeadlineSeconds", deadline, "must be between 1 and 2147483647, inclusive");
    }
    for (field, rule) in [
        ("nodeName", NameRule::Subdomain),
        ("serviceAccountName", NameRule::Subdomain),
        ("hostname", NameRule::Label),
        ("subdomain", NameRule::Label),
    ] {
        let name = text(&spec[field]);
        if !name.is_empty()
            && let Some(problem) = rule.problem(name)
        {
            checks.invalid_text(format!("spec.{field}"), name, problem);
        }
    }
    let required = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
    if !required.is_null() {
        let field = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";
        node_selector::check(&mut checks, field, required);
    }
    check_tolerations(&mut checks, list(&spec["tolerations"]));
    checks.into_causes()
}

fn check_tolerations(checks: &mut Checks, tolerations: &[Value]) {
    for (index, toleration) in tolerations.iter().enumerate() {
        let field = format!("spec.tolerations[{index}]");
        let operator = &toleration["operator"];
        if !text(operator).is_empty() {
            checks.one_of(format!("{field}.operator"), operator, &["Equal", "Exists", "Gt", "Lt"]);
        }
        if operator == "Exists" && !text(&toleration["value"]).is_empty() {
            checks.invalid(
                format!("{field}.operator"),
                &toleration["value"],
                "value must be empty when `operator` is 'Exists'",
            );
        }
        if text(&toleration["key"]).is_empty() && operator != "Exists" {
            checks.invalid(
                format!("{field}.operator"),
                operator,
                "operator must be Exists when `key` is empty, which means \"match all values and all keys\"",
            );
        }
        if !text(&toleration["effect"]).is_empty() {
            checks.one_of(
                format!("{field}.effect"),
                &toleration["effect"],
                &["NoSchedule", "PreferNoSchedule", "NoExecute"],
            );
        }
    }
}

fn check_volume(checks: &mut Checks, volumes: &[Value], index: usize, volume: &Value) {
    let field = format!("spec.volumes[{index}]");
    let name = &volume["name"];
    if checks.present(format!("{field}.name"), name)
        && let Some(problem) = NameRule::Label.problem(text(name))
    {
        checks.invalid(format!("{field}.name"), name, problem);
    }
    if !text(name).is_empty() && volumes[..index].iter().any(|other| other["name"] == *name) {
        checks.duplicate(format!("{field}.name"), name);
    }
    let sources: Vec<&str> = entries(volume)
        .filter(|(key, value)| *key != "name" && !value.is_null())
        .map(|(key, _)| key.as_str())
        .collect();
    match sources.as_slice() {
        [] => checks.required(&*field, "must specify a volume type"),
        [source, more @ ..] => {
            volume_source::check(checks, &field, source, &volume[*source]);
            for other in more {
                checks.forbidden(format!("{field}.{other}"), "may not specify more than 1 volume type");
            }
        }
    }
    let limit = &volume["emptyDir"]["sizeLimit"];
    if !limit.is_null() {
        quantities::check_not_negative(checks, &format!("{field}.emptyDir.sizeLimit"), limit);
    }
    if volume["ephemeral"].is_object() {
        match &volume["ephemeral"]["volumeClaimTemplate"] {
            Value::Null => checks.required(format!("{field}.ephemeral.volumeClaimTemplate"), ""),
            template => check_template(checks, &format!("{field}.ephemeral.volumeClaimTemplate"), template),
        }
    }
    let claim = text(&volume["persistentVolumeClaim"]["claimName"]);
    if !claim.is_empty()
        && let Some(problem) = NameRule::Subdomain.problem(claim)
    {
        checks.invalid_text(format!("{field}.persistentVolumeClaim.claimName"), claim, problem);
    }
}

/// The claim's own rules, at the template's place.
fn check_template(checks: &mut Checks, field: &str, template: &Value) {
    let mut inner = Checks::default();
    persistent_volume_claim::check_spec(&mut inner, &template["spec"]);
    for cause in inner.into_causes() {
        checks.push(Cause { field: format!("{field}.{}", cause.field), ..cause });
    }
}

fn check_container(checks: &mut Checks, field: &str, container: &Value, volumes: &[Value]) {
    let name = &container["name"];
    if checks.present(format!("{field}.name"), name)
        && let Some(problem) = NameRule::Label.problem(text(name))
    {
        checks.invalid(format!("{field}.name"), name, problem);
    }
    checks.present(format!("{field}.image"), &container["image"]);
    checks.one_of(
        format!("{field}.imagePullPolicy"),
        &container["imagePullPolicy"],
        &["Always", "IfNotPresent", "Never"],
    );
    for variable in list(&container["env"]) {
        checks.present(format!("{field}.env.name"), &variable["name"]);
    }
    check_resources(checks, &format!("{field}.resources"), &container["resources"]);
    let mounts = list(&container["volumeMounts"]);
    for (index, mount) in mounts.iter().enumerate() {
        let field = format!("{field}.volumeMounts[{index}]");
        check_use(checks, &field, mount, volumes);
        let path = &mount["mountPath"];
        if checks.present(format!("{field}.mountPath"), path)
            && mounts[..index].iter().any(|other| other["mountPath"] == *path)
        {
            checks.invalid(format!("{field}.mountPath"), path, "must be unique");
        }
        for part in ["subPath", "subPathExpr"] {
            if text(&mount[part]).starts_with('/') {
                checks.invalid(format!("{field}.{part}"), &mount[part], "must be a relative path");
            }
            volume_source::check_no_backsteps(checks, &format!("{field}.{part}"), text(&mount[part]));
        }
        if !text(&mount["mountPropagation"]).is_empty() {
            checks.one_of(
                format!("{field}.mountPropagation"),
                &mount["mountPropagation"],
                &["Bidirectional", "HostToContainer", "None"],
            );
        }
    }
    let devices = list(&container["volumeDevices"]);
    for (index, device) in devices.iter().enumerate() {
        let field = format!("{field}.volumeDevices[{index}]");
        check_use(checks, &field, device, volumes);
        let path = &device["devicePath"];
        if checks.present(format!("{field}.devicePath"), path) {
            volume_source::check_no_backsteps(checks, &format!("{field}.devicePath"), text(path));
        }
        if devices[..index].iter().any(|other| other["devicePath"] == *path) {
            checks.invalid(format!("{field}.devicePath"), path, "must be unique");
        }
        if mounts.iter().any(|mount| mount["name"] == device["name"]) {
            checks.invalid(
                format!("{field}.name"),
                &device["name"],
                "must not already exist in volumeMounts",
            );
        }
        let volume = volumes.iter().find(|volume| volume["name"] == device["name"]);
        if volume.is_some_and(|v| v["persistentVolumeClaim"].is_null() && v["ephemeral"].is_null()) {
            checks.invalid(
                format!("{field}.name"),
                &device["name"],
                "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode",
            );
        }
    }
}

/// A mount or device names a volume of the pod.
fn check_use(checks: &mut Checks, field: &str, used: &Value, volumes: &[Value]) {
    let name = &used["name"];
    if checks.present(format!("{field}.name"), name) && !volumes.iter().any(|volume| volume["name"] == *name)
    {
        checks.not_found(format!("{field}.name"), name);
    }
}

fn check_resources(checks: &mut Checks, field: &str, resources: &Value) {
    for (name, limit) in entries(&resources["limits"]) {
        quantities::check_not_negative(checks, &format!("{field}.limits[{name}]"), limit);
    }
    for (name, request) in entries(&resources["requests"]) {
        quantities::check_not_negative(checks, &format!("{field}.requests[{name}]"), request);
        let limit = &resources["limits"][name.as_str()];
        // Processors are counted in thousandths, which whole bytes cannot compare.
        if name != "cpu"
            && let (Ok(request_size), Ok(limit_size)) = (quantities::bytes(request), quantities::bytes(limit))
            && request_size > limit_size
        {
            checks.invalid(
                format!("{field}.requests"),
                request,
                format_args!("must be less than or equal to {name} limit of {}", text(limit)),
            );
        }
    }
}
