//! The driver over its real socket, on real loop devices and mounts.
//!
//! These tests need root and loop devices; without them each says so and ends.

#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a test may stop at the first thing that is wrong"
)]

mod harness;

mod attach;
mod btrfs;
mod btrfs_streams;
mod config;
mod crash;
mod crash_copies;
mod damage;
mod directory;
mod ephemeral;
mod expand;
mod faults;
mod formatting;
mod full;
mod full_copies;
mod fuzz;
mod groups;
mod health;
mod hostile_names;
mod hostile_paths;
mod idempotent;
mod import;
mod inspect;
mod life;
mod limits;
mod load;
mod load_client;
mod load_model;
mod looked_into;
mod lookers;
mod metadata;
mod modify;
mod publishing;
mod raw;
mod requests;
mod restart;
mod secrets;
mod shared_room;
mod snapshot_streams;
mod snapshots;
mod snapshots_under_load;
mod tools;
mod trash;
mod whole_copies;
mod writer;
