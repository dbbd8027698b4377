//! What a namespace may have: ResourceQuotas, and LimitRanges on claims. Pure but for
//! reading the store's memory.
//!
//! A quota's `status.used` is its ledger: whatever comes to use more of it writes the ledger
//! in the same transaction, on the condition that nobody else has in the meantime. So no
//! number of writers at once, on any number of replicas, gets past a quota. What is given
//! back the quota controller finds out by counting.

use std::collections::BTreeSet;

use holdfast_api::quota::{self, Amounts};
use serde_json::{Map, Value, json};

use super::kinds::Kind;
use super::kinds::check::{entries, list};
use super::kinds::columns::quantity;
use super::kinds::quantities;
use super::reply;
use super::status::ApiError;
use crate::store::{Key, Object, Precondition, Store, Write};

const CLAIMS: &str = "persistentvolumeclaims";
/// The resource of quotas.
pub(crate) const QUOTAS: &str = "resourcequotas";
const RANGES: &str = "limitranges";

/// What must be written with an object that was `old` and will be `new`, so that the quotas
/// of its namespace know of it.
///
/// # Errors
/// When it would use more than there is left.
pub(crate) fn charge(
    store: &Store,
    kind: &Kind,
    key: &Key,
    old: Option<&Value>,
    new: &Value,
) -> Result<Vec<Write>, ApiError> {
    if key.namespace.is_empty() {
        return Ok(Vec::new());
    }
    let mut writes = Vec::new();
    for object in store.list(QUOTAS, Some(&key.namespace), None, None).objects {
        let mut ledger: Value = reply::decode(&object)?;
        let more = growth(&ledger["spec"], &key.resource, old, new);
        if more.is_empty() {
            continue;
        }
        let used = match known(&ledger, &more) {
            Some(used) => used,
            // Nobody has counted yet. What is written meanwhile changes the ledger, too.
            None => count(store, &object, &ledger["spec"]),
        };
        let limits = quota::limits(&ledger["spec"]);
        let after = |name: &str, more: i64| used.get(name).copied().unwrap_or(0).saturating_add(more);
        let is_over = |(name, more): &(&String, &i64)| {
            limits.get(*name).is_some_and(|limit| after(name, **more) > *limit)
        };
        let over: BTreeSet<&String> = more.iter().filter(is_over).map(|(name, _)| name).collect();
        if !over.is_empty() {
            let only = |all: &Amounts| -> String {
                let chosen = over.iter().map(|name| ((*name).clone(), all.get(*name).copied().unwrap_or(0)));
                quota::sentence(&chosen.collect())
            };
            let why = format!(
                "exceeded quota: {}, requested: {}, used: {}, limited: {}",
                object.key.name,
                only(&more),
                only(&used),
                only(&limits)
            );
            return Err(ApiError::forbidden(kind, &key.name, why));
        }
        let mut used = used;
        for (name, more) in &more {
            let sum = used.entry(name.clone()).or_insert(0);
            *sum = sum.saturating_add(*more);
        }
        write_down(&mut ledger, &used);
        writes.push(Write {
            key: object.key.clone(),
            precondition: Precondition::Revision(object.revision),
            body: Some(ledger),
        });
    }
    Ok(writes)
}

/// What `new` uses more than `old` of what a quota limits.
fn growth(spec: &Value, resource: &str, old: Option<&Value>, new: &Value) -> Amounts {
    let of = |object: &Value| quota::total(spec, std::iter::once((resource, object)));
    let before = old.map(of).unwrap_or_default();
    let after = of(new).into_iter();
    after
        .map(|(name, amount)| {
            let more = amount - before.get(&name).copied().unwrap_or(0);
            (name, more)
        })
        .filter(|(_, more)| *more > 0)
        .collect()
}

/// What the ledger says, if it says all of these.
fn known(ledger: &Value, names: &Amounts) -> Option<Amounts> {
    let used = quota::used(ledger);
    names.keys().all(|name| used.contains_key(name)).then_some(used)
}

/// What the objects of a quota's namespace use of it, counted.
pub(crate) fn count(store: &Store, object: &Object, spec: &Value) -> Amounts {
    let limits = quota::limits(spec);
    let resources: BTreeSet<&str> = limits.keys().filter_map(|name| quota::resource_of(name)).collect();
    let mut objects: Vec<(&str, Value)> = Vec::new();
    for resource in resources {
        for found in store.list(resource, Some(&object.key.namespace), None, None).objects {
            // One that cannot be read is there all the same.
            objects.push((resource, found.decode().unwrap_or_default()));
        }
    }
    quota::total(spec, objects.iter().map(|(resource, object)| (*resource, object)))
}

/// Sets a quota's status: the limits that hold, and what is used of them.
pub(crate) fn write_down(ledger: &mut Value, used: &Amounts) {
    let hard = ledger["spec"]["hard"].clone();
    let used = entries(&hard).filter_map(|(name, _)| {
        let amount = used.get(name)?;
        Some((name.clone(), json!(quota::printed(name, *amount))))
    });
    let used: Map<String, Value> = used.collect();
    ledger["status"] = json!({"hard": hard, "used": used});
}

/// Refuses a claim that is smaller or larger than the LimitRanges of its namespace allow.
pub(crate) fn check_range(
    store: &Store,
    kind: &Kind,
    key: &Key,
    old: Option<&Value>,
    new: &Value,
) -> Result<(), ApiError> {
    let asked = |claim: &Value| claim["spec"]["resources"]["requests"]["storage"].clone();
    let request = asked(new);
    if &*key.resource != CLAIMS || old.is_some_and(|old| asked(old) == request) {
        return Ok(());
    }
    let Ok(bytes) = quantities::bytes(&request) else { return Ok(()) };
    let mut wrong = Vec::new();
    for object in store.list(RANGES, Some(&key.namespace), None, None).objects {
        let range: Value = reply::decode(&object)?;
        for item in
            list(&range["spec"]["limits"]).iter().filter(|item| item["type"] == "PersistentVolumeClaim")
        {
            for (part, word) in [("min", "minimum"), ("max", "maximum")] {
                let limit = &item[part]["storage"];
                let Ok(limit_bytes) = quantities::bytes(limit) else { continue };
                if (part == "min" && bytes < limit_bytes) || (part == "max" && bytes > limit_bytes) {
                    wrong.push(format!(
                        "{word} storage usage per PersistentVolumeClaim is {}, but request is {}",
                        quantity(limit),
                        quantity(&request)
                    ));
                }
            }
        }
    }
    match wrong.as_slice() {
        [] => Ok(()),
        [one] => Err(ApiError::forbidden(kind, &key.name, one)),
        many => Err(ApiError::forbidden(kind, &key.name, format!("[{}]", many.join(", ")))),
    }
}
