//! The kinds that the API serves, one file each: names, defaults, validation,
//! printed columns, subresources. Adding a kind is adding a file and its line
//! in [`ALL`].

pub mod events;
mod kind;

pub use kind::{Cause, CauseReason, Column, Field, Kind, Model, Scope};

/// Every kind, in the order in which discovery lists them.
pub static ALL: &[&Kind] = &[];
