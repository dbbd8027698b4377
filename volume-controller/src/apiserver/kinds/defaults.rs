//! Setting what a client left out.

use serde_json::{Map, Value};

/// Sets a field that is missing or null, making the objects on the way to it.
/// What is not an object is left alone: the model has refused it already.
pub(crate) fn fill(object: &mut Value, path: &[&str], default: impl Into<Value>) {
    let Some((field, parents)) = path.split_last() else { return };
    let mut at = object;
    for parent in parents {
        let Value::Object(map) = at else { return };
        at = map.entry(*parent).or_insert(Value::Null);
        if at.is_null() {
            *at = Value::Object(Map::new());
        }
    }
    if let Value::Object(map) = at {
        let slot = map.entry(*field).or_insert(Value::Null);
        if slot.is_null() {
            *slot = default.into();
        }
    }
}

/// Sets a field that is missing, null or an empty string.
pub(crate) fn fill_text(object: &mut Value, path: &[&str], default: &str) {
    let at = path.iter().try_fold(&*object, |at, part| at.get(*part));
    if at.is_some_and(|v| v == "") {
        remove(object, path);
    }
    fill(object, path, default);
}

/// Sets a field whatever it was.
pub(crate) fn set(object: &mut Value, path: &[&str], value: impl Into<Value>) {
    remove(object, path);
    fill(object, path, value);
}

/// Removes a field.
pub(crate) fn remove(object: &mut Value, path: &[&str]) -> Option<Value> {
    let (field, parents) = path.split_last()?;
    let parent = parents.iter().try_fold(object, |at, part| at.get_mut(*part))?;
    parent.as_object_mut()?.remove(*field)
}

/// Adds a finalizer, once.
pub(crate) fn add_finalizer(object: &mut Value, name: &str) {
    fill(object, &["metadata", "finalizers"], Vec::<Value>::new());
    if let Some(list) = object["metadata"]["finalizers"].as_array_mut()
        && !list.iter().any(|f| f == name)
    {
        list.push(name.into());
    }
}

/// The elements of a list, to be changed.
pub(crate) fn each<'a>(object: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    object.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}

/// For kinds without defaults, and for those to which nothing is added.
pub(crate) fn nothing(_object: &mut Value) {}
