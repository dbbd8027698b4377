//! The life of nodes: heard, silent, shut down, gone, made anew; and what becomes of the volumes that they have.

mod cluster;
mod lost;
mod machine;
