//! Sets of fields: who owns what, and what a change touched. Pure.
//!
//! A set is a tree of path elements. A node may be a member itself, have members
//! below it, or both: `spec.a` can be in the set when `spec` is not.
//!
//! Source: KEP-555 "Apply"; the JSON form is `FieldsV1`.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Map, Value};

use super::element::Element;

/// A set of fields. No node without members is kept, so equal sets are `==`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FieldSet {
    nodes: BTreeMap<Element, Node>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Node {
    is_member: bool,
    below: FieldSet,
}

/// The way to one field.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path(Vec<Element>);

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|element| write!(f, "{element}"))
    }
}

impl FieldSet {
    /// The set of these fields, `["metadata", "labels"]`, each a path of names.
    pub(crate) fn of_names(paths: &[&[&str]]) -> Self {
        let mut set = Self::default();
        for path in paths {
            set.insert(&path.iter().map(|name| Element::field(name)).collect::<Vec<_>>());
        }
        set
    }

    fn insert(&mut self, path: &[Element]) {
        match path {
            [] => {}
            [last] => self.add(last.clone(), true, Self::default()),
            [first, rest @ ..] => self.nodes.entry(first.clone()).or_default().below.insert(rest),
        }
    }

    /// Adds a node: itself, if it is a member, and what is below it.
    pub(super) fn add(&mut self, element: Element, is_member: bool, below: Self) {
        if !is_member && below.is_empty() {
            return;
        }
        let node = self.nodes.entry(element).or_default();
        node.is_member |= is_member;
        node.below.extend(below);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Whether the child itself is a member.
    pub(super) fn contains(&self, element: &Element) -> bool {
        self.nodes.get(element).is_some_and(|node| node.is_member)
    }

    pub(super) fn has(&self, path: &Path) -> bool {
        let Some((last, parents)) = path.0.split_last() else { return false };
        let parent = parents.iter().try_fold(self, |set, element| set.below(element));
        parent.is_some_and(|set| set.contains(last))
    }

    /// The members below a child.
    pub(super) fn below(&self, element: &Element) -> Option<&Self> {
        self.nodes.get(element).map(|node| &node.below).filter(|below| !below.is_empty())
    }

    fn extend(&mut self, other: Self) {
        for (element, node) in other.nodes {
            self.add(element, node.is_member, node.below);
        }
    }

    pub(super) fn union(mut self, other: &Self) -> Self {
        self.extend(other.clone());
        self
    }

    /// The fields of both.
    pub(super) fn intersection(&self, other: &Self) -> Self {
        let mut both = Self::default();
        for (element, node) in &self.nodes {
            if let Some(theirs) = other.nodes.get(element) {
                let below = node.below.intersection(&theirs.below);
                both.add(element.clone(), node.is_member && theirs.is_member, below);
            }
        }
        both
    }

    /// The fields that the other has not. A field and what is below it are different
    /// fields: taking `spec` away leaves `spec.a`.
    pub(super) fn difference(&self, other: &Self) -> Self {
        let mut left = Self::default();
        for (element, node) in &self.nodes {
            match other.nodes.get(element) {
                None => left.add(element.clone(), node.is_member, node.below.clone()),
                Some(theirs) => {
                    let below = node.below.difference(&theirs.below);
                    left.add(element.clone(), node.is_member && !theirs.is_member, below);
                }
            }
        }
        left
    }

    /// Takes a field and everything below it away.
    pub(super) fn remove_tree(&mut self, path: &[&str]) {
        let [name, rest @ ..] = path else { return };
        let element = Element::field(name);
        let Some(node) = self.nodes.get_mut(&element) else { return };
        node.below.remove_tree(rest);
        if rest.is_empty() || !node.is_member && node.below.is_empty() {
            self.nodes.remove(&element);
        }
    }

    /// Takes everything away but a field at the top and what is below it.
    pub(super) fn keep_tree(&mut self, name: &str) {
        let element = Element::field(name);
        self.nodes.retain(|other, _| *other == element);
    }

    /// The same set with changes made by `visit`, which sees each node: its element,
    /// whether it is a member, and what is below it.
    pub(super) fn map_nodes(&self, mut visit: impl FnMut(&Element, bool, &Self) -> (bool, Self)) -> Self {
        let mut mapped = Self::default();
        for (element, node) in &self.nodes {
            let (is_member, below) = visit(element, node.is_member, &node.below);
            mapped.add(element.clone(), is_member, below);
        }
        mapped
    }

    /// All fields, at each level the members first, as upstream lists them.
    pub(super) fn paths(&self) -> Vec<Path> {
        let mut paths = Vec::new();
        self.collect(&mut Vec::new(), &mut paths);
        paths
    }

    fn collect(&self, prefix: &mut Vec<Element>, paths: &mut Vec<Path>) {
        for element in self.nodes.iter().filter(|(_, node)| node.is_member).map(|(element, _)| element) {
            let path = prefix.iter().chain([element]).cloned().collect();
            paths.push(Path(path));
        }
        for (element, node) in self.nodes.iter().filter(|(_, node)| !node.below.is_empty()) {
            prefix.push(element.clone());
            node.below.collect(prefix, paths);
            prefix.pop();
        }
    }

    /// As `FieldsV1`.
    pub(crate) fn to_json(&self) -> Value {
        Value::Object(self.to_map(false))
    }

    fn to_map(&self, is_member: bool) -> Map<String, Value> {
        let mut map = Map::new();
        if is_member && !self.is_empty() {
            map.insert(".".to_owned(), Value::Object(Map::new()));
        }
        for (element, node) in &self.nodes {
            map.insert(element.as_str().to_owned(), Value::Object(node.below.to_map(node.is_member)));
        }
        map
    }

    /// Reads `FieldsV1`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::Null => Ok(Self::default()),
            value => Ok(Self::read(value)?.1),
        }
    }

    /// Whether the node is a member, and what is below it.
    fn read(value: &Value) -> Result<(bool, Self), String> {
        let Value::Object(map) = value else { return Err(format!("{value} is not an object of FieldsV1")) };
        let mut set = Self::default();
        let mut is_member = false;
        for (key, value) in map {
            if key == "." {
                is_member = true;
            } else if let Some(element) = Element::parse(key)? {
                let (is_member, below) = Self::read(value)?;
                set.add(element, is_member, below);
            }
        }
        // A node with nothing below it is there for its own sake.
        Ok((is_member || set.is_empty(), set))
    }
}

#[cfg(test)]
#[path = "fieldset_tests.rs"]
mod tests;
