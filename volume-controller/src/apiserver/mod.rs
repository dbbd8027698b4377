//! The API server: the Kubernetes API for the kinds of storage.

pub mod kinds;
pub mod openapi;
pub mod patch;
pub mod table;
