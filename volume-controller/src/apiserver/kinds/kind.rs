//! What a kind is made of.

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value;

/// Whether the objects of a kind live in a namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// One name space for the whole cluster.
    Cluster,
    /// One in each namespace.
    Namespaced,
}

/// Everything the API server knows about one kind. All functions are pure and
/// work on the JSON form; they may rely on [`Model::check`] having accepted it.
pub struct Kind {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// API version, `v1`.
    pub version: &'static str,
    /// `PersistentVolumeClaim`.
    pub kind: &'static str,
    /// `persistentvolumeclaims`, as in URLs.
    pub plural: &'static str,
    /// `persistentvolumeclaim`.
    pub singular: &'static str,
    /// `pvc`.
    pub short_names: &'static [&'static str],
    /// `all`, where `kubectl get all` shows it.
    pub categories: &'static [&'static str],
    /// Cluster or namespaced.
    pub scope: Scope,
    /// The typed model behind the JSON.
    pub model: Model,
    /// Whether there is a `/status` subresource (then `status` can be written only there).
    pub has_status: bool,
    /// Whether deletion waits for a grace period (pods).
    pub is_graceful: bool,
    /// Whether a deletion answers with the object that is gone, and not with a `Status`.
    /// Source: the responses of the `delete` operations in Kubernetes' OpenAPI document.
    pub returns_deleted: bool,
    /// All printed columns in upstream's order, NAME and AGE included where the kind has them.
    pub columns: &'static [Column],
    /// Fields that a field selector may name, besides `metadata.name` and `metadata.namespace`.
    pub fields: &'static [Field],
    /// Sets the fields that have defaults and are missing. Idempotent.
    pub default: fn(&mut Value),
    /// On create: what a client may not choose is removed (status, …), what the
    /// server adds is added (finalizers of the protection admission, …).
    pub prepare_create: fn(&mut Value),
    /// What is wrong with an object, new or changed.
    pub validate: fn(&Value) -> Vec<Cause>,
    /// What is wrong with replacing `old` by `new` (immutable fields, shrinking, …): `(new, old)`.
    /// Asked besides `validate`, not in place of it.
    pub validate_update: fn(&Value, &Value) -> Vec<Cause>,
}

impl Kind {
    /// The name of the resource in the store: `plural` or `plural.group`.
    #[must_use]
    pub fn resource(&self) -> String {
        if self.group.is_empty() { self.plural.to_owned() } else { format!("{}.{}", self.plural, self.group) }
    }

    /// Whether one request can delete all objects: not of namespaces, upstream neither.
    #[must_use]
    pub fn deletes_many(&self) -> bool {
        self.kind != "Namespace"
    }

    /// Whether upstream counts the changes of its `spec` in `metadata.generation`, besides the kinds that are custom
    /// resources there. Source: `PrepareForCreate` of the strategies below `pkg/registry`; pods since 1.33 (KEP-5067).
    #[must_use]
    pub fn has_generation(&self) -> bool {
        matches!(self.kind, "Pod" | "CSIDriver")
    }

    /// Whether writes may wait a moment for others to go along with ([`crate::store::Transaction::is_patient`]). Events
    /// tell of what has happened already, and come in numbers just when there is much to write.
    #[must_use]
    pub fn is_patient(&self) -> bool {
        self.kind == "Event"
    }

    /// `v1` or `storage.k8s.io/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() {
            self.version.to_owned()
        } else {
            format!("{}/{}", self.group, self.version)
        }
    }
}

/// A k8s-openapi type, seen through JSON.
pub struct Model {
    /// Decodes into the type and encodes again. What the type does not know is
    /// missing in the result, which is how unknown fields are found.
    pub check: fn(&Value) -> Result<Value, serde_json::Error>,
    /// The type's JSON schema, for `kubectl explain`.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

impl Model {
    /// The model of one type.
    #[must_use]
    pub const fn of<T: Serialize + DeserializeOwned + JsonSchema>() -> Self {
        Self {
            check: |value| serde_json::to_value(T::deserialize(value)?),
            schema: |generator| generator.subschema_for::<T>(),
        }
    }
}

/// The schema of a type under the name that it has in another version.
pub(super) fn schema_as<T: JsonSchema>(generator: &mut SchemaGenerator, name: &str) -> Schema {
    generator.subschema_for::<T>();
    let own = T::schema_name();
    let schema = generator.definitions().get(own.as_ref()).cloned().unwrap_or_default();
    generator.definitions_mut().insert(name.to_owned(), schema);
    json_schema!({"$ref": format!("#/definitions/{name}")})
}

/// One printed column.
pub struct Column {
    /// The header as kubectl users know it, `Storage Class` prints as STORAGECLASS upstream: use upstream's spelling.
    pub name: &'static str,
    /// `string`, `integer`, `date`, …
    pub kind: &'static str,
    /// `name` for the name column, else empty.
    pub format: &'static str,
    /// What `kubectl explain`-minded clients show.
    pub description: &'static str,
    /// 0 is always shown, 1 only with `-o wide`.
    pub priority: i32,
    /// The cell of one object at a moment (ages depend on it).
    pub cell: fn(&Value, Timestamp) -> Value,
}

/// One field that a selector may name.
pub struct Field {
    /// `spec.nodeName`.
    pub path: &'static str,
    /// Its value; missing fields are empty, as Kubernetes treats them.
    pub value: fn(&Value) -> String,
}

/// Why a field is wrong; the reasons of `metav1.CauseType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CauseReason {
    /// `FieldValueRequired`
    Required,
    /// `FieldValueInvalid`
    Invalid,
    /// `FieldValueNotSupported`
    NotSupported,
    /// `FieldValueForbidden`
    Forbidden,
    /// `FieldValueDuplicate`
    Duplicate,
    /// `FieldValueTooLong`
    TooLong,
}

/// One thing that is wrong with an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cause {
    /// `spec.resources.requests[storage]`
    pub field: String,
    /// Why.
    pub reason: CauseReason,
    /// For people: what is wrong and what to write instead, without the field's name.
    pub message: String,
}
