//! Lists in strategic merge patches.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};

use super::PatchError;
use super::strategic::{DIRECTIVE, Place, clean as clean_value, merge_object, unknown_directive};

/// The rules for one list.
pub(super) struct Lists<'a> {
    /// The list's name, for errors.
    pub(super) name: &'a str,
    /// `None` for lists that are replaced; the merge key, or empty for lists of plain values.
    pub(super) key: Option<&'a str>,
    /// Where the list is.
    pub(super) place: Place<'a>,
}

impl Lists<'_> {
    /// Merges a patch's list into the one that is there.
    pub(super) fn merge(&self, before: Vec<Value>, change: Vec<Value>) -> Result<Vec<Value>, PatchError> {
        let Some(key) = self.key else {
            let replaced = change.into_iter().filter(|element| !is_replace(element)).collect();
            return Ok(clean(replaced));
        };
        let server_order = before.clone();
        let (merged, patched) = self.merge_unordered(key, before, change)?;
        Ok(arrange(key, merged, &patched, &server_order))
    }

    /// The same, with the order of the result given by the patch.
    pub(super) fn merge_in_order(
        &self,
        before: Vec<Value>,
        change: Vec<Value>,
        order: &[Value],
    ) -> Result<Vec<Value>, PatchError> {
        let key = self.key.unwrap_or_default();
        // The changes come in the order that is asked for, as upstream insists: else one of both is a mistake.
        let mut rest = order.iter();
        let mut is_next = |element: &Value| rest.any(|other| id(key, element) == id(key, other));
        if let Some(stray) =
            change.iter().find(|element| element.get(DIRECTIVE).is_none() && !is_next(element))
        {
            return Err(PatchError::Malformed(format!(
                "$setElementOrder/{} does not name {stray}, or not in the order of the patch",
                self.name
            )));
        }
        if let Some(stray) = order.iter().find(|element| !key.is_empty() && element[key].is_null()) {
            return Err(self.no_key(stray, key));
        }
        let server_order = before.clone();
        let (merged, _) = self.merge_unordered(key, before, change)?;
        Ok(arrange(key, merged, order, &server_order))
    }

    /// The merged elements, and those of the patch that are no directives.
    fn merge_unordered(
        &self,
        key: &str,
        before: Vec<Value>,
        change: Vec<Value>,
    ) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
        // A `$patch: replace` anywhere in the list replaces all of it.
        let before = if change.iter().any(is_replace) { Vec::new() } else { before };
        if key.is_empty() {
            // Merging twice must not leave a value twice.
            let mut seen = HashSet::new();
            let all = before.into_iter().chain(change.iter().cloned());
            return Ok((all.filter(|value| seen.insert(value.clone())).collect(), change));
        }
        let mut merged = Keyed::new(key, before);
        let mut patched = Vec::new();
        for element in change {
            let Value::Object(mut fields) = element else {
                return Err(PatchError::Malformed(format!(
                    "the elements of {} must be objects, not {element}",
                    self.name
                )));
            };
            let directive = fields.remove(DIRECTIVE);
            if directive.as_ref().is_some_and(|d| d == "replace") {
                continue;
            }
            let Some(id) = fields.get(key).filter(|id| !id.is_null()).cloned() else {
                return Err(self.no_key(&Value::Object(fields), key));
            };
            match directive {
                Some(directive) if directive == "delete" => merged.delete(&id),
                Some(directive) => return Err(unknown_directive(&directive)),
                None => {
                    self.merge_element(&mut merged, id, &fields)?;
                    patched.push(Value::Object(fields));
                }
            }
        }
        Ok((merged.into_list(), patched))
    }

    fn merge_element(
        &self,
        merged: &mut Keyed,
        id: Value,
        new: &Map<String, Value>,
    ) -> Result<(), PatchError> {
        match merged.find(&id) {
            Some(Value::Object(old)) => {
                *old = merge_object(std::mem::take(old), new.clone(), self.place.element())?;
            }
            Some(slot) => *slot = clean_value(Value::Object(new.clone())),
            None => merged.push(id, clean_value(Value::Object(new.clone()))),
        }
        Ok(())
    }

    fn no_key(&self, element: &Value, key: &str) -> PatchError {
        PatchError::Malformed(format!(
            "the element {element} of {} does not contain declared merge key: {key}",
            self.name
        ))
    }
}

/// What tells an element apart: its key, or itself where there is none.
fn id<'a>(key: &str, element: &'a Value) -> Option<&'a Value> {
    if key.is_empty() { Some(element) } else { element.get(key).filter(|id| !id.is_null()) }
}

/// Where each element comes first.
fn places<'a>(key: &str, list: &'a [Value]) -> HashMap<&'a Value, usize> {
    let ids = list.iter().enumerate().filter_map(|(at, element)| Some((id(key, element)?, at)));
    // The last one that is collected stays.
    ids.rev().collect()
}

/// The order of the result: the elements that the patch names in the patch's
/// order, the others in theirs, interleaved as they were where both are known.
fn arrange(key: &str, merged: Vec<Value>, order: &[Value], server: &[Value]) -> Vec<Value> {
    let (order, server) = (places(key, order), places(key, server));
    let at = |places: &HashMap<&Value, usize>, element: &Value| {
        id(key, element).and_then(|id| places.get(id).copied())
    };
    let (mut named, others): (Vec<Value>, Vec<Value>) =
        merged.into_iter().partition(|element| at(&order, element).is_some());
    named.sort_by_key(|element| at(&order, element));
    let mut arranged = Vec::with_capacity(named.len() + others.len());
    let mut others = others.into_iter().peekable();
    for element in named {
        while let Some(other) = others.next_if(
            |other| matches!((at(&server, other), at(&server, &element)), (Some(a), Some(b)) if a < b),
        ) {
            arranged.push(other);
        }
        arranged.push(element);
    }
    arranged.extend(others);
    arranged
}

/// A list whose elements are found by their keys: a patch may name as many as fit into a body, and
/// looking through all for each would keep a processor busy for minutes.
struct Keyed {
    /// What was deleted leaves its place empty.
    elements: Vec<Option<Value>>,
    /// Usually one each.
    places: HashMap<Value, Vec<usize>>,
}

impl Keyed {
    fn new(key: &str, list: Vec<Value>) -> Self {
        let mut places: HashMap<Value, Vec<usize>> = HashMap::new();
        for (at, element) in list.iter().enumerate() {
            if let Some(id) = id(key, element) {
                places.entry(id.clone()).or_default().push(at);
            }
        }
        Self { elements: list.into_iter().map(Some).collect(), places }
    }

    fn find(&mut self, id: &Value) -> Option<&mut Value> {
        let first = *self.places.get(id)?.first()?;
        self.elements.get_mut(first)?.as_mut()
    }

    fn push(&mut self, id: Value, element: Value) {
        self.places.entry(id).or_default().push(self.elements.len());
        self.elements.push(Some(element));
    }

    fn delete(&mut self, id: &Value) {
        for at in self.places.remove(id).unwrap_or_default() {
            if let Some(element) = self.elements.get_mut(at) {
                *element = None;
            }
        }
    }

    fn into_list(self) -> Vec<Value> {
        self.elements.into_iter().flatten().collect()
    }
}

fn is_replace(element: &Value) -> bool {
    element.get(DIRECTIVE).is_some_and(|directive| directive == "replace")
}

/// A list that nothing was there for: its elements without directives; those to be deleted go.
pub(super) fn clean(list: Vec<Value>) -> Vec<Value> {
    list.into_iter()
        .filter(|element| element.get(DIRECTIVE).is_none_or(|d| d != "delete" && d != "replace"))
        .map(clean_value)
        .collect()
}
