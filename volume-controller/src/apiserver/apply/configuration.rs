//! Applying a configuration: what becomes of the object and of its owners. Pure.
//!
//! Source: KEP-555 "Apply" and "Server-Side Apply" in Kubernetes' documentation.

use jiff::Timestamp;
use serde_json::Value;

use super::super::kinds::Kind;
use super::compare::{Changes, same};
use super::conflict::Conflict;
use super::fieldset::FieldSet;
use super::last_applied;
use super::managers::{Manager, Operation, Owners};
use super::merge::{merge, without};
use super::owned::{fields, with_holders};
use super::schema::Place;
use super::track::{Reach, Touched, blank, ownable};

/// The owner of everything in an object that nobody kept a record of.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who applies, and where.
#[derive(Clone, Copy)]
pub(crate) struct Applier<'a> {
    pub(crate) kind: &'a Kind,
    pub(crate) reach: Reach,
    /// `status`, or empty.
    pub(crate) subresource: &'a str,
    pub(crate) name: &'a str,
    /// Whether fields of others are taken over.
    pub(crate) force: bool,
    pub(crate) now: Timestamp,
}

/// What came of it.
#[derive(Debug, PartialEq)]
pub(crate) struct Applied {
    /// The object, without `managedFields`.
    pub(crate) object: Value,
    pub(crate) owners: Owners,
}

impl Applier<'_> {
    fn manager(&self, name: &str, operation: Operation) -> Manager {
        Manager { name: name.to_owned(), operation, subresource: self.subresource.to_owned() }
    }

    /// Applies `config` to `live`, which is `None` for an object that is to be created.
    /// Neither has `managedFields`.
    ///
    /// # Errors
    /// The fields of others that it would change, unless it forces them.
    pub(crate) fn apply(
        self,
        live: Option<&Value>,
        owners: Owners,
        config: &Value,
    ) -> Result<Applied, Vec<Conflict>> {
        let owners = match live {
            Some(live) if owners.is_empty() => {
                let nobody = self.manager(BEFORE_FIRST_APPLY, Operation::Update);
                Touched::between(self.kind, self.reach, &blank(self.kind), live).by(&nobody, owners, self.now)
            }
            _ => owners,
        };
        let empty = blank(self.kind);
        let live = live.unwrap_or(&empty);
        let mut applied = match self.once(live, owners.clone(), config) {
            Err(conflicts) if self.name == last_applied::MANAGER => {
                let left = last_applied::conflicts_left(self.kind, live, conflicts);
                if !left.is_empty() {
                    return Err(left);
                }
                Self { force: true, ..self }.once(live, owners, config)?
            }
            result => result?,
        };
        if self.name == last_applied::MANAGER {
            last_applied::renew(&mut applied.object, config);
        }
        Ok(applied)
    }

    fn once(self, live: &Value, mut owners: Owners, config: &Value) -> Result<Applied, Vec<Conflict>> {
        let place = Place::of(self.kind);
        let manager = self.manager(self.name, Operation::Apply);
        let (last, time) = match owners.get(&manager) {
            Some(entry) => (entry.fields.clone(), entry.time),
            None => (FieldSet::default(), None),
        };
        let merged = merge(place, Some(live), Some(config)).unwrap_or_default();
        let wanted = self.reach.of(self.kind, fields(place, config));
        owners.set(&manager, wanted.clone(), time);
        let object = prune(place, merged, &owners.all(), &last);
        let Changes { removed, modified, added } = Changes::between(place, live, &object);
        let gained = self.reach.of(self.kind, modified.union(&added));
        let mut conflicts = Vec::new();
        for entry in owners.iter().filter(|entry| entry.manager != manager) {
            let theirs = entry.fields.intersection(&gained);
            conflicts.extend(theirs.paths().into_iter().map(|path| Conflict::new(&entry.manager, path)));
        }
        if !self.force && !conflicts.is_empty() {
            conflicts.sort_by(|a, b| a.manager.cmp(&b.manager));
            return Err(conflicts);
        }
        owners.take(&gained.union(&self.reach.of(self.kind, removed)), Some(&manager));
        let wanted = ownable(&wanted);
        let is_news = wanted != last || !same(live, &object);
        owners.set(&manager, wanted, if is_news { Some(self.now) } else { time });
        Ok(Applied { object, owners })
    }
}

/// Takes out of the merged object what the applier owned before and owns no more, unless
/// somebody else does. `owned` is what anybody owns now, `last` what it owned before.
fn prune(place: Place, merged: Value, owned: &FieldSet, last: &FieldSet) -> Value {
    if last.is_empty() {
        return merged;
    }
    let whole = |value: &Value| with_holders(place, &fields(place, value));
    let (all, last, owned) = (whole(&merged), with_holders(place, last), with_holders(place, owned));
    // What is below a field that goes, goes with it: so what others own there is put back …
    let pruned = without(place, &merged, &last);
    let pruned = without(place, &merged, &all.difference(&whole(&pruned).union(&owned)));
    // … and so is what nobody owns: only what was its own is its to remove.
    without(place, &merged, &all.difference(&whole(&pruned)).intersection(&last))
}
