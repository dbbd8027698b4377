//! The wire types and services that Holdfast speaks over unix sockets.
//!
//! Fields that the CSI specification marks as secret print as `***`: their
//! messages get a `Debug` of their own from the build script.

/// The Container Storage Interface, version 1.12.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
pub mod csi {
    tonic::include_proto!("csi.v1");
    include!(concat!(env!("OUT_DIR"), "/csi_secrets.rs"));
}

/// Kubelet's plugin registration, version 1.
#[allow(missing_docs, unreachable_pub, unused_qualifications, clippy::all)]
pub mod registration {
    tonic::include_proto!("pluginregistration");
}

#[cfg(test)]
mod secrets_tests;
