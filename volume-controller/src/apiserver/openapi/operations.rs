//! What can be done with each kind, as OpenAPI v2 path items.

use serde_json::{Map, Value, json};

use super::super::kinds::{Kind, Scope};
use super::super::reviews::{self, Review};
use super::super::writer::is_custom_upstream;
use super::schemas::{self, DEFINITIONS, DELETE_OPTIONS, GVK, PATCH, STATUS};

/// The media types of patches. Strategic merge patches are the last: not every kind takes them.
const PATCHES: [&str; 4] = [
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
    "application/strategic-merge-patch+json",
];

/// The root of a group's URLs: `api/v1`, `apis/storage.k8s.io/v1`.
pub(super) fn root(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// What operations are about.
#[derive(Clone, Copy)]
struct Subject<'a> {
    group: &'a str,
    version: &'a str,
    kind: &'a str,
    namespaced: bool,
    /// The full name of its type.
    schema: &'a str,
    returns_deleted: bool,
    is_custom: bool,
}

impl<'a> Subject<'a> {
    fn of(kind: &'a Kind) -> Self {
        let Kind { group, version, kind: name, scope, returns_deleted, .. } = *kind;
        Self {
            group,
            version,
            kind: name,
            namespaced: scope == Scope::Namespaced,
            schema: schemas::all().name_of(kind),
            returns_deleted,
            is_custom: is_custom_upstream(kind),
        }
    }
}

/// Where objects of one resource are.
fn collection(root: &str, namespaced: bool, plural: &str) -> String {
    if namespaced {
        format!("/{root}/namespaces/{{namespace}}/{plural}")
    } else {
        format!("/{root}/{plural}")
    }
}

/// The path item of a kind of questions.
pub(super) fn question(review: &Review) -> (String, Value) {
    let Review { group, kind, plural, is_namespaced: namespaced, .. } = *review;
    let (version, schema) = (reviews::VERSION, schemas::all().name_of_review(review));
    let subject =
        Subject { group, version, kind, namespaced, schema, returns_deleted: false, is_custom: false };
    let item = item(namespaced, false, vec![("post", operation(subject, "post", ""))]);
    (collection(&root(group, version), namespaced, plural), item)
}

/// The path items of one kind, by path.
pub(super) fn paths(kind: &Kind) -> Map<String, Value> {
    let root = root(kind.group, kind.version);
    let subject = Subject::of(kind);
    let namespaced = subject.namespaced;
    let collection = collection(&root, namespaced, kind.plural);
    let one = format!("{collection}/{{name}}");
    let operations = |methods: &[(&'static str, &str)], part: &str| {
        methods.iter().map(|(method, action)| (*method, operation(subject, action, part))).collect()
    };
    let mut paths = Map::new();
    let mut of_all = vec![("get", "list"), ("post", "post")];
    if kind.deletes_many() {
        of_all.push(("delete", "deletecollection"));
    }
    paths.insert(collection, item(namespaced, false, operations(&of_all, "")));
    let of_one = [("get", "get"), ("put", "put"), ("patch", "patch"), ("delete", "delete")];
    paths.insert(one.clone(), item(namespaced, true, operations(&of_one, "")));
    if kind.has_status {
        let of_status = [("get", "get"), ("put", "put"), ("patch", "patch")];
        paths.insert(format!("{one}/status"), item(namespaced, true, operations(&of_status, "status")));
    }
    if namespaced {
        let everywhere = item(false, false, operations(&[("get", "list")], "all"));
        paths.insert(format!("/{root}/{}", kind.plural), everywhere);
    }
    paths
}

fn item(namespaced: bool, named: bool, methods: Vec<(&str, Value)>) -> Value {
    let mut parameters = Vec::new();
    if named {
        parameters.push(path_parameter("name", "The name of the object."));
    }
    if namespaced {
        parameters.push(path_parameter("namespace", "The namespace of the object."));
    }
    parameters.push(query("pretty", "string", "Whether the reply is indented, for people."));
    let mut item = Map::new();
    for (method, operation) in methods {
        item.insert(method.to_owned(), operation);
    }
    item.insert("parameters".to_owned(), Value::Array(parameters));
    Value::Object(item)
}

/// One operation. `part` is empty, `status`, or `all` for a list over all namespaces.
fn operation(of: Subject<'_>, action: &str, part: &str) -> Value {
    let name = of.schema;
    let whole = json!({"$ref": format!("{DEFINITIONS}{name}")});
    let list = json!({"$ref": format!("{DEFINITIONS}{name}List")});
    let status = json!({"$ref": format!("{DEFINITIONS}{STATUS}")});
    let mut parameters = Vec::new();
    match action {
        "post" | "put" => parameters.push(body(&whole, true)),
        "patch" => parameters.push(body(&json!({"$ref": format!("{DEFINITIONS}{PATCH}")}), true)),
        "delete" | "deletecollection" => {
            parameters.push(body(&json!({"$ref": format!("{DEFINITIONS}{DELETE_OPTIONS}")}), false));
        }
        _ => {}
    }
    parameters.extend(queries(action));
    let reply = match action {
        "list" => list,
        "deletecollection" => status,
        // While finalizers keep it, a deletion answers with the object all the same.
        "delete" if !of.returns_deleted => status,
        _ => whole,
    };
    let mut responses = json!({
        "200": {"description": "OK", "schema": reply},
        "401": {"description": "Unauthorized"},
    });
    if matches!(action, "post" | "put" | "patch") {
        responses["201"] = json!({"description": "Created", "schema": reply});
    }
    if matches!(action, "post" | "delete") {
        responses["202"] = json!({"description": "Accepted", "schema": reply});
    }
    let consumes: &[&str] = match action {
        "patch" if of.is_custom => &PATCHES[..3],
        "patch" => &PATCHES,
        _ => &["*/*"],
    };
    let mut produces = vec!["application/json", "application/yaml"];
    if action == "list" {
        produces.push("application/json;stream=watch");
    }
    json!({
        "consumes": consumes,
        "description": describe(action, of.kind, part),
        "operationId": operation_id(of, action, part),
        "parameters": parameters,
        "produces": produces,
        "responses": responses,
        "schemes": ["https"],
        "tags": [tag(of)],
        "x-kubernetes-action": action,
        GVK: schemas::gvk(of.group, of.version, of.kind),
    })
}

fn describe(action: &str, kind: &str, part: &str) -> String {
    let what = match part {
        "status" => format!("the status of a {kind}"),
        _ => format!("a {kind}"),
    };
    match action {
        "list" => format!("list or watch objects of kind {kind}"),
        "post" => format!("create a {kind}"),
        "put" => format!("replace {what}"),
        "patch" => format!("change {what} in part"),
        "get" => format!("read {what}"),
        "delete" => format!("delete a {kind}"),
        _ => format!("delete many objects of kind {kind}"),
    }
}

/// `storage_v1`
fn tag(of: Subject<'_>) -> String {
    let group = if of.group.is_empty() { "core" } else { of.group.split('.').next().unwrap_or_default() };
    format!("{group}_{}", of.version)
}

/// `readCoreV1NamespacedPodStatus`
fn operation_id(of: Subject<'_>, action: &str, part: &str) -> String {
    let verb = match action {
        "post" => "create",
        "put" => "replace",
        "get" => "read",
        "deletecollection" => "deleteCollection",
        other => other,
    };
    let capital = |word: &str| {
        let mut letters = word.chars();
        letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
    };
    let group: String = tag(of).split('_').map(capital).collect();
    let namespaced = if of.namespaced && part != "all" { "Namespaced" } else { "" };
    let suffix = match part {
        "status" => "Status",
        "all" => "ForAllNamespaces",
        _ => "",
    };
    format!("{verb}{group}{namespaced}{}{suffix}", of.kind)
}

fn queries(action: &str) -> Vec<Value> {
    const DRY_RUN: (&str, &str, &str) = ("dryRun", "string", "`All`: check everything, store nothing.");
    const MANAGER: (&str, &str, &str) = ("fieldManager", "string", "Who makes the change.");
    const VALIDATION: (&str, &str, &str) = (
        "fieldValidation",
        "string",
        "What happens to unknown and duplicate fields: `Ignore`, `Warn` or `Strict`.",
    );
    const FORCE: (&str, &str, &str) =
        ("force", "boolean", "For an apply: take over the fields that others own.");
    const SELECTION: [(&str, &str, &str); 6] = [
        ("continue", "string", "Where the previous part of the list ended."),
        ("fieldSelector", "string", "Only objects with these fields."),
        ("labelSelector", "string", "Only objects with these labels."),
        ("limit", "integer", "The most objects that one reply may have."),
        ("resourceVersion", "string", "How new the reply must be."),
        ("resourceVersionMatch", "string", "How `resourceVersion` is meant: `Exact` or `NotOlderThan`."),
    ];
    const WATCH: [(&str, &str, &str); 4] = [
        ("allowWatchBookmarks", "boolean", "Whether the watch may report progress without a change."),
        ("sendInitialEvents", "boolean", "Whether the watch begins with what is there."),
        ("timeoutSeconds", "integer", "When the request ends, in seconds."),
        ("watch", "boolean", "Report changes instead of the list."),
    ];
    const DELETION: [(&str, &str, &str); 3] = [
        ("gracePeriodSeconds", "integer", "How long the object may take to end, in seconds."),
        ("orphanDependents", "boolean", "Deprecated: use `propagationPolicy`."),
        (
            "propagationPolicy",
            "string",
            "What happens to what the object owns: `Orphan`, `Background` or `Foreground`.",
        ),
    ];
    let chosen: Vec<(&str, &str, &str)> = match action {
        "list" => SELECTION.into_iter().chain(WATCH).collect(),
        "post" | "put" => vec![DRY_RUN, MANAGER, VALIDATION],
        "patch" => vec![DRY_RUN, MANAGER, VALIDATION, FORCE],
        "delete" => [DRY_RUN].into_iter().chain(DELETION).collect(),
        "deletecollection" => SELECTION.into_iter().chain([DRY_RUN]).chain(DELETION).collect(),
        _ => Vec::new(),
    };
    chosen.into_iter().map(|(name, kind, description)| query(name, kind, description)).collect()
}

fn query(name: &str, kind: &str, description: &str) -> Value {
    json!({"name": name, "in": "query", "description": description, "type": kind, "uniqueItems": true})
}

fn path_parameter(name: &str, description: &str) -> Value {
    json!({"name": name, "in": "path", "description": description, "type": "string", "required": true, "uniqueItems": true})
}

fn body(schema: &Value, required: bool) -> Value {
    let mut parameter = json!({"name": "body", "in": "body", "schema": schema});
    if required {
        parameter["required"] = true.into();
    }
    parameter
}
