//! The wire types and services that Holdfast speaks over unix sockets.

/// The Container Storage Interface, version 1.12.
#[allow(missing_docs, clippy::all)]
pub mod csi {
    tonic::include_proto!("csi.v1");
}

/// Kubelet's plugin registration, version 1.
#[allow(missing_docs, clippy::all)]
pub mod registration {
    tonic::include_proto!("pluginregistration");
}
