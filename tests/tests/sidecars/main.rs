//! `holdfast sidecar` as a process between `holdfast server` (over TLS, with a kubeconfig) and `holdfast driver`.

mod elected;
mod health;
mod life;
mod rights;
mod stage;
