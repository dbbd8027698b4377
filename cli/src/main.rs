//! `holdfast`: the one binary. Wiring only; what it wires lives in the other crates.

mod api;
mod bootstrap;
mod certificate;
mod csi_check;
mod driver;
mod files;
mod log;
mod nodes;
mod parts;
mod root;
mod server;
mod sidecar;
mod signals;
mod store;
mod table;
mod up;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Storage orchestration with the Kubernetes storage API, with or without Kubernetes.
#[derive(Parser)]
#[command(name = "holdfast", version, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run everything on this machine in one process, in the foreground.
    Up(up::UpArgs),
    /// Run the API and the cluster controllers, without driver and node, in the foreground.
    ///
    /// With --store postgres://… several of them serve the same objects. Each has a root of its own; all but the first
    /// begin with `store`, `encryption.keys` and `pki/` copied from the root of another one.
    Server(server::ServerArgs),
    /// Run the CSI driver alone, for any orchestrator that speaks CSI; or work on its pools.
    Driver(driver::DriverArgs),
    /// Run what brings a CSI driver into Kubernetes, all in one process, or one of it alone.
    ///
    /// With --controllers, any set in one process over one cache; as `holdfast sidecar provisioner` and so on, one alone
    /// under the flags of the sidecar of Kubernetes whose place it takes. Works with any API server and any driver.
    Sidecar(sidecar::SidecarArgs),
    /// Write everything that the store has into a file, while `holdfast up` or `server` runs or not.
    ///
    /// Exits with 0 when the backup is whole and on the disk, and with 1 otherwise; then there is no file. Secrets in it
    /// are encrypted: to restore them, `encryption.keys` of the root is needed, too.
    Backup(store::backup::BackupArgs),
    /// Make the store of a root from a backup, where there is none.
    ///
    /// Exits with 0 when all objects are restored, and with 1 otherwise; then nothing has changed. Where the root is a new
    /// one, put the `encryption.keys` of the one that was backed up there first.
    Restore(store::restore::RestoreArgs),
    /// Check whether the store is in order, while `holdfast up` or `server` runs or not.
    ///
    /// Exits with 0 when it is, with 1 when something is wrong, with 2 when that could not be found out.
    Check(store::check::CheckArgs),
    /// Give somebody access: print a kubeconfig with a client certificate of their own.
    Certificate(certificate::CertificateArgs),
    /// Check any CSI plugin against the specification, CSI v1.12, row by row.
    ///
    /// Makes volumes and deletes them again. Exits with 0 when no check failed, 1 when one did, 2 when the
    /// suite could not be run.
    CsiCheck(csi_check::Args),
}

fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Up(args) => up::main(args),
        Command::Server(args) => server::main(args),
        Command::CsiCheck(args) => return csi_check::main(args),
        Command::Certificate(args) => certificate::main(&args),
        Command::Driver(args) => driver::main(args),
        Command::Sidecar(args) => sidecar::main(args),
        Command::Backup(args) => store::backup::main(args),
        Command::Restore(args) => store::restore::main(args),
        Command::Check(args) => return store::check::main(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// One line for people: what failed, and why, down to the first cause.
#[expect(clippy::print_stderr, reason = "the last word of a command goes to the terminal, not to the log")]
fn complain(error: &anyhow::Error) {
    eprintln!("holdfast: {}", one_line(error));
}

/// The chain of causes; a cause that the text before it quotes already is left out.
fn one_line(error: &anyhow::Error) -> String {
    let text = error.chain().fold(String::new(), |text, cause| {
        let cause = cause.to_string();
        match text.as_str() {
            "" => cause,
            so_far if so_far.contains(&cause) => text,
            so_far => format!("{so_far}: {cause}"),
        }
    });
    text.replace('\n', " ")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    #[test]
    fn every_cause_once() {
        let error = anyhow!("disk\nfull").context("cannot write a: disk\nfull").context("cannot start");
        assert_eq!(super::one_line(&error), "cannot start: cannot write a: disk full");
    }
}
