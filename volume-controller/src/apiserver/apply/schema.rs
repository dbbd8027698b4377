//! What apply knows of a kind's type: which objects and lists are merged, by which
//! fields the elements of a list are told apart, and what is one value. Made once
//! from the same schemas that the OpenAPI documents publish, so that clients and
//! server cannot disagree.

use std::collections::{BTreeMap, HashMap};
use std::sync::LazyLock;

use serde_json::{Map, Value};

use super::super::kinds::{self, Kind};
use super::super::openapi::schemas::{self, Schemas};
use super::element::Element;

/// How a value is merged and owned.
#[derive(Debug)]
pub(super) enum Type {
    /// As a whole: plain values, and lists and objects that are atomic.
    Leaf,
    /// Field by field, and it has only these.
    Fields(BTreeMap<String, Place>),
    /// Entry by entry, under any name.
    Map(Place),
    /// A list of plain values, each once.
    Set,
    /// A list of objects that these fields tell apart.
    Keyed(Vec<ListKey>, Place),
}

/// A field that tells the elements of a list apart.
#[derive(Debug)]
pub(super) struct ListKey {
    name: String,
    /// What it is in an element that does not say.
    default: Value,
}

/// A type; `Copy`, an index into the table of all types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place(usize);

struct Table {
    types: Vec<Type>,
    roots: Vec<Place>,
}

static TABLE: LazyLock<Table> = LazyLock::new(|| Compiler::compile(schemas::all()));

const LEAF: Place = Place(0);

impl Place {
    /// The type of a kind's objects.
    pub(super) fn of(kind: &Kind) -> Self {
        let found = kinds::ALL.iter().position(|other| std::ptr::eq(*other, kind));
        found.and_then(|at| TABLE.roots.get(at)).copied().unwrap_or(LEAF)
    }

    pub(super) fn kind(self) -> &'static Type {
        TABLE.types.get(self.0).unwrap_or(&Type::Leaf)
    }

    /// The type of a field or entry; `None` for a field that the type does not have.
    pub(super) fn field(self, name: &str) -> Option<Self> {
        match self.kind() {
            Type::Fields(fields) => fields.get(name).copied(),
            Type::Map(entry) => Some(*entry),
            _ => None,
        }
    }

    /// Whether the field is one of a type's own, in contrast to an entry of a map.
    pub(super) fn declares(self, name: &str) -> bool {
        matches!(self.kind(), Type::Fields(fields) if fields.contains_key(name))
    }

    /// The type of what an element of a path leads to.
    pub(super) fn step(self, element: &Element) -> Self {
        match (self.kind(), element.name()) {
            (_, Some(name)) => self.field(name).unwrap_or(LEAF),
            (Type::Keyed(_, item), None) => *item,
            _ => LEAF,
        }
    }
}

/// What tells an element of a keyed list apart.
///
/// # Errors
/// Why it cannot be told apart.
pub(super) fn key_of(keys: &[ListKey], item: &Value) -> Result<Element, String> {
    let Value::Object(fields) = item else {
        return Err("associative list with keys may not have non-map elements".to_owned());
    };
    let mut found = Map::new();
    for key in keys {
        let value = fields.get(&key.name).unwrap_or(&key.default);
        if !value.is_null() {
            found.insert(key.name.clone(), value.clone());
        }
    }
    if found.is_empty() {
        let names: Vec<&str> = keys.iter().map(|key| key.name.as_str()).collect();
        return Err(format!(
            "associative list with keys has an element that omits all key fields {names:?} (and doesn't have \
             default values for any key fields)"
        ));
    }
    Ok(Element::keys(found))
}

struct Compiler<'a> {
    schemas: &'a Schemas,
    types: Vec<Type>,
    /// By name, and whether the type is atomic by itself.
    known: HashMap<(String, bool), Place>,
}

impl<'a> Compiler<'a> {
    fn compile(schemas: &'a Schemas) -> Table {
        let mut compiler = Self { schemas, types: vec![Type::Leaf], known: HashMap::new() };
        let roots = kinds::ALL.iter().map(|kind| compiler.named(schemas.name_of(kind), true)).collect();
        Table { types: compiler.types, roots }
    }

    fn push(&mut self, kind: Type) -> Place {
        self.types.push(kind);
        Place(self.types.len() - 1)
    }

    /// `obeys` is false where the field that has the type says that it is not atomic there.
    fn named(&mut self, name: &str, obeys: bool) -> Place {
        if let Some(known) = self.known.get(&(name.to_owned(), obeys)) {
            return *known;
        }
        let Some(schema) = self.schemas.definitions.get(name) else { return LEAF };
        // Entered before it is looked into: a type may contain itself.
        let place = self.push(Type::Leaf);
        self.known.insert((name.to_owned(), obeys), place);
        let kind = self.kind(schema, obeys);
        if let Some(slot) = self.types.get_mut(place.0) {
            *slot = kind;
        }
        place
    }

    fn place(&mut self, schema: &Value) -> Place {
        let obeys = schema["x-kubernetes-map-type"] != "granular";
        let (name, _) = self.schemas.resolve(schema);
        if !name.is_empty() {
            if schema["x-kubernetes-map-type"] == "atomic" {
                return LEAF;
            }
            return self.named(name, obeys);
        }
        match self.kind(schema, obeys) {
            Type::Leaf => LEAF,
            kind => self.push(kind),
        }
    }

    fn kind(&mut self, schema: &Value, obeys: bool) -> Type {
        if obeys && schema["x-kubernetes-map-type"] == "atomic" {
            return Type::Leaf;
        }
        if let Value::Object(properties) = &schema["properties"] {
            let fields =
                properties.iter().map(|(name, property)| (name.clone(), self.place(property))).collect();
            return Type::Fields(fields);
        }
        if schema["additionalProperties"].is_object() {
            return Type::Map(self.place(&schema["additionalProperties"]));
        }
        match schema["x-kubernetes-list-type"].as_str() {
            Some("set") => Type::Set,
            Some("map") => {
                let (_, item) = self.schemas.resolve(&schema["items"]);
                let names = schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten();
                let keys = names
                    .filter_map(Value::as_str)
                    .map(|name| ListKey {
                        name: name.to_owned(),
                        default: item["properties"][name]["default"].clone(),
                    })
                    .collect();
                Type::Keyed(keys, self.place(&schema["items"]))
            }
            _ => Type::Leaf,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::{config_map, persistent_volume, persistent_volume_claim, pod};
    use serde_json::json;

    fn at(kind: &Kind, path: &[&str]) -> Place {
        path.iter().fold(Place::of(kind), |place, name| match place.kind() {
            Type::Keyed(_, item) => item.field(name).unwrap(),
            _ => place.field(name).unwrap_or_else(|| panic!("{path:?}: no {name}")),
        })
    }

    #[test]
    fn every_kind_has_fields() {
        for kind in kinds::ALL {
            let root = Place::of(kind);
            for name in ["apiVersion", "kind", "metadata"] {
                assert!(root.declares(name), "{} has no {name}", kind.kind);
            }
            assert!(matches!(at(kind, &["metadata", "finalizers"]).kind(), Type::Set));
            assert!(matches!(at(kind, &["metadata", "managedFields"]).kind(), Type::Leaf));
            assert!(matches!(at(kind, &["metadata", "labels"]).kind(), Type::Map(LEAF)));
        }
    }

    #[test]
    fn what_is_one_value() {
        let (claim, volume) = (&persistent_volume_claim::KIND, &persistent_volume::KIND);
        for (kind, path) in [
            (claim, &["spec", "accessModes"][..]),
            (claim, &["spec", "selector"]),
            (claim, &["spec", "resources", "requests", "storage"]),
            (volume, &["spec", "mountOptions"]),
            (volume, &["spec", "nodeAffinity", "required"]),
            (&pod::KIND, &["spec", "nodeSelector"]),
            (&pod::KIND, &["spec", "tolerations"]),
            (&pod::KIND, &["spec", "containers", "command"]),
        ] {
            assert!(matches!(at(kind, path).kind(), Type::Leaf), "{path:?}");
        }
        // An ObjectReference is, but not that of a volume to its claim.
        assert!(at(volume, &["spec", "claimRef"]).declares("uid"));
        assert!(matches!(at(claim, &["status", "conditions"]).kind(), Type::Keyed(..)));
        assert!(matches!(at(&config_map::KIND, &["data"]).kind(), Type::Map(_)));
    }

    #[test]
    fn keys() {
        let Type::Keyed(keys, _) = at(&pod::KIND, &["spec", "containers", "ports"]).kind() else {
            panic!("no keys")
        };
        let shown = |item: &Value| key_of(keys, item).map(|element| element.to_string());
        let expected = Ok(r#"[containerPort=80,protocol="TCP"]"#.to_owned());
        assert_eq!(shown(&json!({"containerPort": 80})), expected);
        assert_eq!(shown(&json!({"containerPort": 80, "protocol": "TCP", "name": "x"})), expected);
        assert!(shown(&json!(1)).is_err());
        let Type::Keyed(keys, _) = at(&pod::KIND, &["spec", "containers"]).kind() else { panic!("no keys") };
        assert!(
            key_of(keys, &json!({"image": "x"})).unwrap_err().contains(r#"omits all key fields ["name"]"#)
        );
    }
}
