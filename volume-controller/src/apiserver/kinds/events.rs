//! Events: stored in core/v1 form, served also under events.k8s.io/v1. The two
//! are one object with different names for the same fields.

use jiff::Timestamp;
use k8s_openapi::api::{core, events};
use serde_json::{Map, Value};

use super::check::{Checks, text};
use super::columns::{NAME, UNKNOWN, cell_text, column, since};
use super::defaults::nothing;
use super::fields::field;
use super::kind::{Cause, Column, Field, Kind, Model, Scope};

/// Event of the core group: the form that is stored.
pub static CORE: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    categories: &[],
    scope: Scope::Namespaced,
    model: Model::of::<core::v1::Event>(),
    has_status: false,
    is_graceful: false,
    returns_deleted: false,
    columns: COLUMNS,
    fields: CORE_FIELDS,
    default: nothing,
    prepare_create: nothing,
    validate,
    validate_update,
};

/// Event of events.k8s.io.
pub static EVENTS_V1: Kind = Kind {
    group: "events.k8s.io",
    version: "v1",
    kind: "Event",
    plural: "events",
    singular: "event",
    short_names: &["ev"],
    categories: &[],
    scope: Scope::Namespaced,
    model: Model::of::<events::v1::Event>(),
    has_status: false,
    is_graceful: false,
    returns_deleted: false,
    columns: COLUMNS,
    fields: EVENTS_FIELDS,
    default: nothing,
    prepare_create: nothing,
    validate,
    validate_update,
};

/// The names of one field: in core/v1, in events.k8s.io/v1.
const RENAMED: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("reportingComponent", "reportingController"),
    ("count", "deprecatedCount"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("source", "deprecatedSource"),
];

/// An Event in core/v1 form, from either form.
#[must_use]
pub fn to_core(event: Value) -> Value {
    rename(event, "v1", |core_name, new_name| (new_name, core_name))
}

/// An Event in events.k8s.io/v1 form, from either form.
#[must_use]
pub fn to_events_v1(event: Value) -> Value {
    rename(event, "events.k8s.io/v1", |core_name, new_name| (core_name, new_name))
}

/// `direction` makes (from, to) of a pair of names.
fn rename(
    mut event: Value,
    api_version: &str,
    direction: impl Fn(&'static str, &'static str) -> (&'static str, &'static str),
) -> Value {
    if let Value::Object(fields) = &mut event {
        for (core_name, new_name) in RENAMED {
            let (from, to) = direction(core_name, new_name);
            // An event that has the target form already keeps what it has.
            if let Some(value) = fields.remove(from)
                && !fields.contains_key(to)
            {
                fields.insert(to.to_owned(), value);
            }
        }
        fields.insert("apiVersion".to_owned(), api_version.into());
    }
    event
}

/// A field of either form.
fn either<'a>(event: &'a Value, core_name: &str) -> &'a Value {
    static NULL: Value = Value::Null;
    let new_name = RENAMED.iter().find(|(core, _)| *core == core_name).map_or(core_name, |(_, new)| new);
    event.get(core_name).or_else(|| event.get(new_name)).unwrap_or(&NULL)
}

const COLUMNS: &[Column] = &[
    column("Last Seen", "", |event, now| last_seen(event, now).into())
        .described("The time since the event was seen last."),
    column("Type", "", |event, _| cell_text(&event["type"])).described("Normal or Warning."),
    column("Reason", "", |event, _| cell_text(&event["reason"])).described("Why, in one word."),
    column("Object", "", |event, _| {
        let object = either(event, "involvedObject");
        match text(&object["name"]) {
            "" => text(&object["kind"]).to_lowercase().into(),
            name => format!("{}/{name}", text(&object["kind"]).to_lowercase()).into(),
        }
    })
    .described("What the event is about."),
    column("Subobject", "", |event, _| cell_text(&either(event, "involvedObject")["fieldPath"]))
        .described("The part of the object that it is about.")
        .wide(),
    column("Source", "", |event, _| source(event).into()).described("Who reported it.").wide(),
    column("Message", "", |event, _| text(either(event, "message")).trim().into())
        .described("What happened, for people."),
    column("First Seen", "", |event, now| first_seen(event, now).into())
        .described("The time since the event was seen first.")
        .wide(),
    column("Count", "", |event, _| match event["series"]["count"].as_i64() {
        Some(count) => count.to_string().into(),
        None => either(event, "count").as_i64().unwrap_or(1).max(1).to_string().into(),
    })
    .described("How often it was seen.")
    .wide(),
    NAME.wide(),
];

fn last_seen(event: &Value, now: Timestamp) -> String {
    let last = either(event, "lastTimestamp");
    let observed = &event["series"]["lastObservedTime"];
    match (observed.is_null(), last.is_null()) {
        (false, _) => since(observed, now),
        (true, false) => since(last, now),
        (true, true) => first_seen(event, now),
    }
}

fn first_seen(event: &Value, now: Timestamp) -> String {
    let first = either(event, "firstTimestamp");
    match first.is_null() {
        true if event["eventTime"].is_null() => UNKNOWN.to_owned(),
        true => since(&event["eventTime"], now),
        false => since(first, now),
    }
}

/// `component, host`
fn source(event: &Value) -> String {
    let source = either(event, "source");
    let or = |first: &str, second: &Value| match first {
        "" => text(second).to_owned(),
        first => first.to_owned(),
    };
    let component = or(text(&source["component"]), either(event, "reportingComponent"));
    let host = or(text(&source["host"]), &event["reportingInstance"]);
    match host.as_str() {
        "" => component,
        host => format!("{component}, {host}"),
    }
}

const CORE_FIELDS: &[Field] = &[
    field!("involvedObject.kind"),
    field!("involvedObject.namespace"),
    field!("involvedObject.name"),
    field!("involvedObject.uid"),
    field!("involvedObject.apiVersion"),
    field!("involvedObject.resourceVersion"),
    field!("involvedObject.fieldPath"),
    field!("reason"),
    Field {
        path: "reportingComponent",
        value: |event| match text(&event["reportingComponent"]) {
            "" => text(&event["source"]["component"]).to_owned(),
            component => component.to_owned(),
        },
    },
    Field {
        path: "source",
        value: |event| match text(&event["source"]["component"]) {
            "" => text(&event["reportingComponent"]).to_owned(),
            component => component.to_owned(),
        },
    },
    field!("type"),
];

const EVENTS_FIELDS: &[Field] = &[
    field!("regarding.kind"),
    field!("regarding.namespace"),
    field!("regarding.name"),
    field!("regarding.uid"),
    field!("regarding.apiVersion"),
    field!("regarding.resourceVersion"),
    field!("regarding.fieldPath"),
    field!("reason"),
    field!("reportingController"),
    field!("type"),
];

fn validate(event: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let object = either(event, "involvedObject");
    let (about, own) = (text(&object["namespace"]), text(&event["metadata"]["namespace"]));
    let field = if event.get("regarding").is_some() { "regarding" } else { "involvedObject" };
    // Events about what has no namespace are kept in `default` (or where the reporter lives).
    if about.is_empty() {
        if !["default", "kube-system", ""].contains(&own) {
            checks.invalid_text(format!("{field}.namespace"), about, "does not match event.namespace");
        }
    } else if about != own {
        checks.invalid_text(format!("{field}.namespace"), about, "does not match event.namespace");
    }
    if text(&event["reason"]).len() > 128 {
        checks.too_long("reason", 128);
    }
    if !event["eventTime"].is_null() {
        checks.one_of("type", &event["type"], &["Normal", "Warning"]);
    }
    checks.into_causes()
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let field = if new.get("regarding").is_some() { "regarding" } else { "involvedObject" };
    let empty = Value::Object(Map::new());
    let object = |event: &Value| match either(event, "involvedObject") {
        Value::Null => empty.clone(),
        object => object.clone(),
    };
    // Those that came with eventTime are of the newer kind: only their series changes.
    if !old["eventTime"].is_null() {
        checks.immutable(field, &object(new), &object(old));
        for name in ["reason", "action", "type", "reportingInstance"] {
            checks.immutable(name, &new[name], &old[name]);
        }
    }
    checks.into_causes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::check::lines;
    use serde_json::json;

    fn core_event() -> Value {
        json!({
            "apiVersion": "v1", "kind": "Event", "metadata": {"name": "a.1", "namespace": "dev"},
            "involvedObject": {"kind": "PersistentVolumeClaim", "name": "a", "namespace": "dev"},
            "reason": "Provisioning", "message": "making a volume\n", "type": "Normal", "count": 3,
            "firstTimestamp": "2026-01-01T00:00:00Z", "lastTimestamp": "2026-01-01T00:01:00Z",
            "source": {"component": "provisioner", "host": "n"}, "reportingComponent": "p", "reportingInstance": "i",
            "series": {"count": 2, "lastObservedTime": "2026-01-01T00:01:30.000000Z"},
        })
    }

    #[test]
    fn there_and_back() {
        let newer = to_events_v1(core_event());
        assert_eq!(newer["apiVersion"], "events.k8s.io/v1");
        assert_eq!(newer["regarding"]["name"], "a");
        assert_eq!(newer["note"], "making a volume\n");
        assert_eq!(newer["deprecatedCount"], 3);
        assert_eq!(newer["reportingController"], "p");
        assert!(newer.get("involvedObject").is_none() && newer.get("message").is_none());
        assert!((EVENTS_V1.model.check)(&newer).is_ok());
        assert_eq!(to_core(newer.clone()), core_event());
        assert_eq!(to_core(core_event()), core_event());
        assert_eq!(to_events_v1(newer.clone()), newer);
    }

    #[test]
    fn cells_of_both_forms() {
        let now = "2026-01-01T00:02:00Z".parse().unwrap();
        let expected = json!([
            "30s",
            "Normal",
            "Provisioning",
            "persistentvolumeclaim/a",
            "",
            "provisioner, n",
            "making a volume",
            "2m",
            "2",
            "a.1",
        ]);
        for event in [core_event(), to_events_v1(core_event())] {
            let cells: Vec<Value> = COLUMNS.iter().map(|column| (column.cell)(&event, now)).collect();
            assert_eq!(json!(cells), expected);
        }
    }

    #[test]
    fn rules() {
        assert_eq!(validate(&core_event()), []);
        let mut other = core_event();
        other["involvedObject"]["namespace"] = "prod".into();
        assert_eq!(
            lines(&validate(&other)),
            [r#"involvedObject.namespace: Invalid: "prod": does not match event.namespace"#]
        );
        assert_eq!(
            lines(&validate(&to_events_v1(other))),
            [r#"regarding.namespace: Invalid: "prod": does not match event.namespace"#]
        );
        let about_volume =
            json!({"metadata": {"namespace": "default"}, "involvedObject": {"kind": "PersistentVolume"}});
        assert_eq!(validate(&about_volume), []);
        assert_eq!((CORE_FIELDS[2].value)(&core_event()), "a");
        assert_eq!((EVENTS_FIELDS[2].value)(&to_events_v1(core_event())), "a");
    }
}
