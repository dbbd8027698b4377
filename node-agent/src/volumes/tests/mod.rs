//! Tables for the decisions, and the effects against real mounts.

mod decide;
mod desired;
mod effects;
mod local;
pub(crate) mod recording_driver;
