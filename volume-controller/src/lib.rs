//! The storage API and the controllers behind it: the store, the API server and
//! the cluster controllers. It never speaks CSI.

pub mod apiserver;
pub mod controllers;
pub mod lifecycle;
pub mod store;
