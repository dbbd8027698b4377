//! Lists in strategic merge patches.

use serde_json::Value;

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
        Ok(self.arrange(key, merged, &patched, &server_order))
    }

    /// The same, with the order of the result given by the patch.
    pub(super) fn merge_in_order(
        &self,
        before: Vec<Value>,
        change: Vec<Value>,
        order: &[Value],
    ) -> Result<Vec<Value>, PatchError> {
        let key = self.key.unwrap_or_default();
        let known = |element: &Value| order.iter().any(|other| self.is_same(key, element, other));
        if let Some(stray) = change.iter().find(|element| element.get(DIRECTIVE).is_none() && !known(element))
        {
            return Err(PatchError::Malformed(format!(
                "$setElementOrder/{} does not name {stray}",
                self.name
            )));
        }
        let server_order = before.clone();
        let (merged, _) = self.merge_unordered(key, before, change)?;
        Ok(self.arrange(key, merged, order, &server_order))
    }

    /// The merged elements, and those of the patch that are no directives.
    fn merge_unordered(
        &self,
        key: &str,
        before: Vec<Value>,
        change: Vec<Value>,
    ) -> Result<(Vec<Value>, Vec<Value>), PatchError> {
        let mut merged = before;
        let mut patched = Vec::new();
        // A `$patch: replace` anywhere in the list replaces all of it.
        if change.iter().any(is_replace) {
            merged.clear();
        }
        for element in change {
            if key.is_empty() {
                if !merged.contains(&element) {
                    merged.push(element.clone());
                }
                patched.push(element);
                continue;
            }
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
            let element = Value::Object(fields);
            if element.get(key).is_none_or(Value::is_null) {
                return Err(PatchError::Malformed(format!(
                    "the element {element} of {} does not contain declared merge key: {key}",
                    self.name
                )));
            }
            match directive.as_ref().map(|d| d.as_str()) {
                Some(Some("delete")) => {
                    merged.retain(|other| !self.is_same(key, other, &element));
                    continue;
                }
                None | Some(Some("merge")) => {}
                Some(_) => return Err(unknown_directive(&directive.unwrap_or_default())),
            }
            self.merge_element(key, &mut merged, &element)?;
            patched.push(element);
        }
        // Merging twice must not leave a value twice.
        if key.is_empty() {
            merged = merged.into_iter().fold(Vec::new(), |mut unique, value| {
                if !unique.contains(&value) {
                    unique.push(value);
                }
                unique
            });
        }
        Ok((merged, patched))
    }

    fn merge_element(&self, key: &str, merged: &mut Vec<Value>, element: &Value) -> Result<(), PatchError> {
        let found = merged.iter_mut().find(|other| self.is_same(key, other, element));
        match (found, element) {
            (Some(slot), Value::Object(new)) if slot.is_object() => {
                if let Value::Object(old) = slot.take() {
                    *slot = Value::Object(merge_object(old, new.clone(), self.place.element())?);
                }
            }
            (Some(slot), _) => *slot = clean_value(element.clone()),
            (None, _) => merged.push(clean_value(element.clone())),
        }
        Ok(())
    }

    fn is_same(&self, key: &str, a: &Value, b: &Value) -> bool {
        if key.is_empty() { a == b } else { !a[key].is_null() && a[key] == b[key] }
    }

    /// The order of the result: the elements that the patch names in the patch's
    /// order, the others in theirs, interleaved as they were where both are known.
    fn arrange(&self, key: &str, merged: Vec<Value>, order: &[Value], server: &[Value]) -> Vec<Value> {
        let at =
            |list: &[Value], element: &Value| list.iter().position(|other| self.is_same(key, other, element));
        let (mut named, others): (Vec<Value>, Vec<Value>) =
            merged.into_iter().partition(|element| at(order, element).is_some());
        named.sort_by_key(|element| at(order, element));
        let mut arranged = Vec::with_capacity(named.len() + others.len());
        let mut others = others.into_iter().peekable();
        for element in named {
            while let Some(other) = others.next_if(
                |other| matches!((at(server, other), at(server, &element)), (Some(a), Some(b)) if a < b),
            ) {
                arranged.push(other);
            }
            arranged.push(element);
        }
        arranged.extend(others);
        arranged
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
