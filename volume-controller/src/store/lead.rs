//! The writes of whoever leads: several servers have the same store open, and one of them runs the controllers.
//!
//! A [`super::Candidate`] says when. That it leads is what a process believes; whether it still does is looked at with
//! every write, in its transaction.

use super::Store;

/// A time in which one process leads, by a number that no other such time has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Term(pub(crate) i64);

impl Store {
    /// The same store for whoever was elected: what is written through this handle, and its clones, is refused with
    /// [`super::CommitError::Deposed`] once another term has begun, whether that is known here or not.
    #[must_use]
    pub fn in_term(&self, term: Term) -> Self {
        Self { term: Some(term), ..self.clone() }
    }
}
