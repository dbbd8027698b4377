//! `holdfast certificate`: access for somebody else.

use std::path::PathBuf;

use anyhow::{Result, ensure};
use holdfast_volume_controller::apiserver;

/// What `holdfast certificate` takes.
#[derive(clap::Args)]
pub(crate) struct CertificateArgs {
    /// The root folder of the server, which has been started at least once.
    #[arg(long, value_name = "DIR", env = "HOLDFAST_ROOT")]
    root: PathBuf,
    /// Who it is for. What this user may do is what roles are bound to the name or the group.
    #[arg(long, value_name = "NAME")]
    user: String,
    /// A group that the user is in.
    #[arg(long, value_name = "NAME", default_value = "")]
    group: String,
    /// How long it is good. It cannot be taken back before.
    #[arg(long, value_name = "DAYS", default_value_t = 90, value_parser = clap::value_parser!(u16).range(1..=3650))]
    days: u16,
}

/// Prints a kubeconfig with a new key and client certificate.
#[expect(clippy::print_stdout, reason = "the kubeconfig is this command's output")]
pub(crate) fn main(args: &CertificateArgs) -> Result<()> {
    ensure!(!args.user.is_empty(), "--user is empty");
    let text = [&args.user, &args.group].iter().all(|name| name.chars().all(|c| !c.is_control()));
    ensure!(text, "a name of a user or a group has no control characters");
    print!("{}", apiserver::kubeconfig_for(&args.root, &args.user, &args.group, args.days)?);
    Ok(())
}
