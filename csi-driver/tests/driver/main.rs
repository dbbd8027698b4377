//! The driver over its real socket, on real loop devices and mounts.
//!
//! These tests need root and loop devices; without them each says so and ends.

mod harness;

mod config;
mod directory;
mod expand;
mod formatting;
mod idempotent;
mod life;
mod limits;
mod publishing;
mod requests;
mod restart;
