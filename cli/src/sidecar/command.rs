//! The command line of the sidecars, made of the table of flags.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use clap::{Arg, ArgMatches, Args, Command, FromArgMatches, builder::ValueParser, parser::ValueSource};

use super::{
    flags::{FLAGS, Flag, Kind, Sidecar},
    go,
};
use crate::log::LogArgs;

const CONTROLLERS: &str = "controllers";
const NO_EFFECT: &str = "Upstream's flags that have no effect here";

/// What `holdfast sidecar` was asked for.
#[derive(Debug)]
pub(crate) struct SidecarArgs {
    /// The sidecars to run.
    pub(super) sidecars: BTreeSet<Sidecar>,
    matches: ArgMatches,
    pub(super) log: LogArgs,
}

impl SidecarArgs {
    pub(super) fn text(&self, name: &str) -> Option<&str> {
        self.value::<String>(name).map(String::as_str)
    }

    pub(super) fn path(&self, name: &str) -> Option<PathBuf> {
        self.value::<PathBuf>(name).cloned()
    }

    pub(super) fn is_on(&self, name: &str) -> bool {
        self.value::<bool>(name).copied().unwrap_or_default()
    }

    pub(super) fn number(&self, name: &str) -> Option<i64> {
        self.value::<i64>(name).copied()
    }

    pub(super) fn count(&self, name: &str) -> Option<usize> {
        self.value::<u32>(name).and_then(|count| usize::try_from(*count).ok())
    }

    pub(super) fn duration(&self, name: &str) -> Option<Duration> {
        self.value::<Duration>(name).copied()
    }

    /// Whether somebody wrote it, or it is only the default.
    pub(super) fn is_given(&self, name: &str) -> bool {
        let known = self.matches.try_contains_id(name).unwrap_or_default();
        known && self.matches.value_source(name) == Some(ValueSource::CommandLine)
    }

    /// The flags that somebody wrote and that have no effect, with the reason.
    pub(super) fn idle(&self) -> impl Iterator<Item = (&'static str, &'static str)> + '_ {
        let idle = FLAGS.iter().filter_map(|flag| Some((flag.name, flag.idle?)));
        idle.filter(|(name, _)| self.is_given(name))
    }

    /// A flag that this command does not have has no value.
    fn value<T: Clone + Send + Sync + 'static>(&self, name: &str) -> Option<&T> {
        self.matches.try_get_one(name).ok().flatten()
    }
}

impl FromArgMatches for SidecarArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let (matches, sidecars) = match matches.subcommand() {
            Some((name, matches)) => (matches, Sidecar::by_name(name).into_iter().collect()),
            None => {
                let named = matches.get_many::<Sidecar>(CONTROLLERS).into_iter().flatten();
                (matches, named.copied().collect())
            }
        };
        Ok(Self { sidecars, matches: matches.clone(), log: LogArgs::from_arg_matches(matches)? })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}

impl Args for SidecarArgs {
    fn augment_args(command: Command) -> Command {
        let controllers = Arg::new(CONTROLLERS)
            .long(CONTROLLERS)
            .value_name("LIST")
            .value_delimiter(',')
            .value_parser(sidecar)
            .required(true)
            .help("What to run: provisioner, attacher, resizer, snapshotter, registrar, liveness, health");
        let command = with_flags(command.arg(controllers), None)
            .subcommand_negates_reqs(true)
            .args_conflicts_with_subcommands(true);
        Sidecar::ALL.into_iter().fold(command, |command, sidecar| {
            let alone = with_flags(Command::new(sidecar.name()), Some(sidecar));
            command.subcommand(alone.about(sidecar.about()))
        })
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

fn with_flags(command: Command, sidecar: Option<Sidecar>) -> Command {
    let taken = FLAGS.iter().filter(|flag| flag.is_taken_by(sidecar));
    let command = taken.fold(command, |command, flag| command.arg(arg(flag, sidecar)));
    // As Go's flags: the last one counts.
    LogArgs::augment_args(command).args_override_self(true).version(env!("CARGO_PKG_VERSION"))
}

fn arg(flag: &'static Flag, sidecar: Option<Sidecar>) -> Arg {
    let arg = Arg::new(flag.name).long(flag.name).help(flag.help);
    let arg = match flag.kind {
        // As Go reads it: `--flag`, or `--flag=false`, and never the next word.
        Kind::Switch => arg
            .num_args(0..=1)
            .require_equals(true)
            .default_missing_value("true")
            .value_name("BOOL")
            .value_parser(go::switch),
        Kind::Text => arg.value_name("TEXT").value_parser(ValueParser::string()),
        Kind::Path => arg.value_name("PATH").value_parser(clap::value_parser!(PathBuf)),
        Kind::Number => {
            arg.value_name("NUMBER").allow_negative_numbers(true).value_parser(clap::value_parser!(i64))
        }
        Kind::Count => arg.value_name("NUMBER").value_parser(clap::value_parser!(u32).range(1..)),
        Kind::Duration => arg.value_name("DURATION").value_parser(go::duration),
    };
    let arg = if flag.name == "v" { arg.short('v') } else { arg };
    let arg = if flag.idle.is_some() { arg.help_heading(NO_EFFECT) } else { arg };
    match flag.default_of(sidecar) {
        Some(default) => arg.default_value(default),
        None => arg,
    }
}

fn sidecar(name: &str) -> Result<Sidecar, String> {
    Sidecar::by_name(name.trim()).ok_or_else(|| {
        let all: Vec<&str> = Sidecar::ALL.into_iter().map(Sidecar::name).collect();
        format!("there are {}", all.join(", "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(words: &[&str]) -> Result<SidecarArgs, clap::Error> {
        let command = SidecarArgs::augment_args(Command::new("sidecar"));
        let matches = command.try_get_matches_from(["sidecar"].iter().chain(words))?;
        SidecarArgs::from_arg_matches(&matches)
    }

    #[test]
    fn upstreams_command_lines_are_understood() {
        // As in the manifests of csi-driver-host-path and others.
        let args = parse(&[
            "provisioner",
            "-v=5",
            "--csi-address=/csi/csi.sock",
            "--feature-gates=Topology=true",
            "--timeout",
            "30s",
            "--leader-election",
            "--kube-api-qps=50",
            "--volume-name-uuid-length=-1",
            "--immediate-topology=false",
            "--worker-threads=5",
            "--worker-threads=7",
        ])
        .unwrap();
        assert_eq!(args.sidecars, [Sidecar::Provisioner].into());
        assert_eq!(args.text("csi-address"), Some("/csi/csi.sock"));
        assert_eq!((args.number("v"), args.number("volume-name-uuid-length")), (Some(5), Some(-1)));
        assert_eq!(
            (args.duration("timeout"), args.count("worker-threads")),
            (Some(Duration::from_secs(30)), Some(7))
        );
        assert!(
            args.is_on("leader-election")
                && !args.is_on("immediate-topology")
                && !args.is_on("strict-topology")
        );
        let idle: Vec<&str> = args.idle().map(|(name, _)| name).collect();
        assert_eq!(idle, ["kube-api-qps", "feature-gates"]);
        assert_eq!(args.duration("probe-timeout"), None, "a flag of another sidecar");
    }

    #[test]
    fn defaults_are_upstreams_and_those_of_all_in_one_are_ours() {
        let timeout =
            |words: &[&str]| parse(words).unwrap().duration("timeout").map(|timeout| timeout.as_secs());
        for (name, seconds) in
            [("provisioner", 10), ("attacher", 15), ("resizer", 10), ("snapshotter", 60), ("health", 15)]
        {
            assert_eq!(timeout(&[name]), Some(seconds), "{name}");
        }
        assert_eq!(timeout(&["--controllers=provisioner,attacher"]), Some(60));
        assert_eq!(parse(&["liveness"]).unwrap().number("health-port"), Some(9808));
        assert_eq!(parse(&["registrar"]).unwrap().number("health-port"), None);
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for words in [
            &["--controllers=provisioner,painter"][..],
            &[],
            &["resizer", "--worker-threads=3"],
            &["attacher", "--timeout=fast"],
            &["attacher", "--worker-threads=0"],
            &["attacher", "--leader-election=maybe"],
            &["--controllers=attacher", "attacher"],
        ] {
            assert!(parse(words).is_err(), "{words:?}");
        }
        let args = parse(&["--controllers=attacher,liveness", "--controllers", "health"]).unwrap();
        assert_eq!(args.sidecars, [Sidecar::Health].into(), "the last one counts");
    }
}
