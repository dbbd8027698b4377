//! The API server: the Kubernetes API for the kinds of storage.

pub mod kinds;
