//! `metadata.managedFields`: who owns which fields of an object. Pure.
//!
//! Source: `ManagedFieldsEntry` in Kubernetes' API reference; KEP-555 "Apply".

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::fieldset::FieldSet;
use crate::lifecycle;

/// How many entries from updates an object has at most; the oldest are put together.
const MAX_UPDATERS: usize = 10;
/// The name under which they are.
const ANCIENT: &str = "ancient-changes";

/// How a manager came to its fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Operation {
    Apply,
    Update,
}

/// Who owns fields. One that applies is the same in every version of the API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Manager {
    pub(crate) name: String,
    pub(crate) operation: Operation,
    /// `status`, or empty.
    pub(crate) subresource: String,
}

/// The fields of one manager.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Entry {
    pub(crate) manager: Manager,
    /// When the set of fields, or something in them, last changed.
    pub(crate) time: Option<Timestamp>,
    pub(crate) fields: FieldSet,
}

/// The owners of an object's fields.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Owners {
    entries: Vec<Entry>,
}

impl Owners {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.iter()
    }

    pub(super) fn get(&self, manager: &Manager) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.manager == *manager)
    }

    /// Replaces a manager's entry; an empty set removes it.
    pub(super) fn set(&mut self, manager: &Manager, fields: FieldSet, time: Option<Timestamp>) {
        let found = self.entries.iter_mut().find(|entry| entry.manager == *manager);
        match found {
            _ if fields.is_empty() => self.entries.retain(|entry| entry.manager != *manager),
            Some(entry) => {
                entry.fields = fields;
                entry.time = time;
            }
            None => self.entries.push(Entry { manager: manager.clone(), time, fields }),
        }
    }

    /// Takes fields from all managers but one; who is left with none goes.
    pub(super) fn take(&mut self, fields: &FieldSet, keeper: Option<&Manager>) {
        for entry in &mut self.entries {
            if Some(&entry.manager) != keeper {
                entry.fields = entry.fields.difference(fields);
            }
        }
        self.entries.retain(|entry| !entry.fields.is_empty());
    }

    /// The fields that anybody owns.
    pub(super) fn all(&self) -> FieldSet {
        self.entries.iter().fold(FieldSet::default(), |all, entry| all.union(&entry.fields))
    }

    /// Puts the oldest updaters together when there are too many.
    pub(super) fn cap(&mut self) {
        let updaters =
            self.entries.iter().filter(|entry| entry.manager.operation == Operation::Update).count();
        if updaters <= MAX_UPDATERS {
            return;
        }
        self.sort();
        // Sorted, the appliers come first, then the updaters, oldest first.
        let first = self.entries.len() - updaters;
        let end = first + updaters - MAX_UPDATERS + 1;
        let old: Vec<Entry> = self.entries.drain(first..end).collect();
        let time = old.iter().filter_map(|entry| entry.time).max();
        let fields = old.iter().fold(FieldSet::default(), |all, entry| all.union(&entry.fields));
        let manager =
            Manager { name: ANCIENT.to_owned(), operation: Operation::Update, subresource: String::new() };
        let fields = self.get(&manager).map_or(fields.clone(), |entry| fields.union(&entry.fields));
        self.set(&manager, fields, time);
    }

    /// Upstream's order.
    fn sort(&mut self) {
        self.entries.sort_by(|a, b| {
            let key = |entry: &Entry| (entry.manager.operation, entry.time.map_or(0, Timestamp::as_second));
            key(a).cmp(&key(b)).then_with(|| a.manager.cmp(&b.manager))
        });
    }

    /// Reads `managedFields` of an object of this API version. Entries of a version that
    /// the kind does not have are left out, as upstream does.
    ///
    /// # Errors
    /// What is wrong with them.
    pub(crate) fn decode(value: &Value, api_version: &str) -> Result<Self, String> {
        let list = match value {
            Value::Null => &[],
            Value::Array(list) => list.as_slice(),
            _ => return Err("managedFields is not a list".to_owned()),
        };
        let mut owners = Self::default();
        for entry in list {
            let text = |field: &str| entry[field].as_str().unwrap_or_default();
            let operation = match text("operation") {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return Err("operation must be `Apply` or `Update`".to_owned()),
            };
            if text("apiVersion").is_empty() {
                return Err("apiVersion must not be empty".to_owned());
            }
            if text("fieldsType") != "FieldsV1" {
                return Err(format!("invalid fieldsType {:?}", text("fieldsType")));
            }
            let fields = FieldSet::from_json(&entry["fieldsV1"])?;
            if text("apiVersion") != api_version {
                continue;
            }
            let time = match &entry["time"] {
                Value::Null => None,
                time => {
                    let parsed = time.as_str().and_then(|time| time.parse().ok());
                    Some(parsed.ok_or_else(|| format!("{time} is no time"))?)
                }
            };
            let name = text("manager").to_owned();
            let manager = Manager { name, operation, subresource: text("subresource").to_owned() };
            owners.set(&manager, fields, time);
        }
        Ok(owners)
    }

    /// As `managedFields`; `None` when there are no owners.
    pub(crate) fn encode(mut self, api_version: &str) -> Option<Value> {
        if self.is_empty() {
            return None;
        }
        self.sort();
        let entries = self.entries.into_iter().map(|entry| {
            let mut encoded = json!({
                "manager": entry.manager.name,
                "operation": match entry.manager.operation {
                    Operation::Apply => "Apply",
                    Operation::Update => "Update",
                },
                "apiVersion": api_version,
                "fieldsType": "FieldsV1",
                "fieldsV1": entry.fields.to_json(),
            });
            if let Some(time) = entry.time {
                encoded["time"] = json!(lifecycle::time(time));
            }
            if !entry.manager.subresource.is_empty() {
                encoded["subresource"] = json!(entry.manager.subresource);
            }
            encoded
        });
        Some(Value::Array(entries.collect()))
    }
}

/// Whether `managedFields` as a client sent them ask to forget all owners: an empty list,
/// or one empty entry.
pub(crate) fn is_reset(value: &Value) -> bool {
    match value.as_array().map(Vec::as_slice) {
        Some([]) => true,
        Some([entry]) => entry.as_object().is_some_and(Map::is_empty),
        _ => false,
    }
}

/// Whether two forms of `managedFields` differ in more than times.
pub(crate) fn differ(old: Option<&Value>, new: Option<&Value>) -> bool {
    let timeless = |value: Option<&Value>| -> BTreeSet<String> {
        let entries = value.and_then(Value::as_array).into_iter().flatten().cloned();
        entries
            .map(|mut entry| {
                if let Value::Object(fields) = &mut entry {
                    fields.remove("time");
                }
                entry.to_string()
            })
            .collect()
    };
    old != new && timeless(old) != timeless(new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(name: &str, second: i64, field: &str) -> Value {
        let time = lifecycle::time(Timestamp::from_second(second).unwrap());
        json!({
            "manager": name, "operation": "Update", "apiVersion": "v1", "time": time, "fieldsType": "FieldsV1",
            "fieldsV1": {field: {}},
        })
    }

    #[test]
    fn there_and_back() {
        let mut applied = entry("b", 9, "f:b");
        applied["operation"] = json!("Apply");
        let mut status = entry("a", 3, "f:status");
        status["subresource"] = json!("status");
        let sorted = json!([applied, entry("a", 3, "f:a"), status, entry("a", 4, "f:c")]);
        // Two of the same manager: the last counts.
        let expected = json!([applied, status, entry("a", 4, "f:c")]);
        assert_eq!(Owners::decode(&sorted, "v1").unwrap().encode("v1").unwrap(), expected);
        let mut backwards = expected.as_array().unwrap().clone();
        backwards.reverse();
        assert_eq!(Owners::decode(&json!(backwards), "v1").unwrap().encode("v1").unwrap(), expected);
        assert_eq!(Owners::decode(&Value::Null, "v1").unwrap().encode("v1"), None);
        assert!(Owners::decode(&expected, "v2").unwrap().is_empty());
        for (field, value) in [
            ("operation", json!("Delete")),
            ("apiVersion", json!("")),
            ("fieldsType", json!("FieldsV2")),
            ("fieldsV1", json!({"a": {}})),
            ("time", json!("yesterday")),
        ] {
            let mut wrong = entry("a", 1, "f:a");
            wrong[field] = value;
            assert!(Owners::decode(&json!([wrong]), "v1").is_err(), "{field}");
        }
        assert!(Owners::decode(&json!("x"), "v1").is_err());
    }

    #[test]
    fn resets() {
        for (value, resets) in [
            (json!([]), true),
            (json!([{}]), true),
            (Value::Null, false),
            (json!([entry("a", 1, "f:a")]), false),
        ] {
            assert_eq!(is_reset(&value), resets, "{value}");
        }
    }

    #[test]
    fn times_make_no_difference() {
        let [old, new, other] =
            [(1, "f:a"), (2, "f:a"), (1, "f:b")].map(|(at, field)| json!([entry("a", at, field)]));
        assert!(!differ(Some(&old), Some(&new)));
        assert!(differ(Some(&old), Some(&other)) && differ(Some(&old), None));
    }

    #[test]
    fn many_updaters() {
        let list: Vec<Value> =
            (0..12).map(|n| entry(&format!("m{n:02}"), n, &format!("f:x{n:02}"))).collect();
        let mut owners = Owners::decode(&json!(list), "v1").unwrap();
        let before = owners.all();
        owners.cap();
        assert_eq!(owners.all(), before);
        let capped = owners.encode("v1").unwrap();
        let names: Vec<&str> =
            capped.as_array().unwrap().iter().filter_map(|e| e["manager"].as_str()).collect();
        assert_eq!(
            names,
            [&["ancient-changes"][..], &["m03", "m04", "m05", "m06", "m07", "m08", "m09", "m10", "m11"]]
                .concat()
        );
        assert_eq!(capped[0]["fieldsV1"], json!({"f:x00": {}, "f:x01": {}, "f:x02": {}}));
        assert_eq!(capped[0]["time"], "1970-01-01T00:00:02Z");
    }
}
