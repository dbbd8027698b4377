//! Tables for the decisions, and the effects against real mounts.

mod decide;
mod desired;
mod effects;
pub(crate) mod recording_driver;
