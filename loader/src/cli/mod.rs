//! The verbs of the `loader` command.

mod check;
mod conntrack;
mod node;
mod output;
mod run;
mod services;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use self::{
    check::CheckArgs,
    conntrack::ConntrackArgs,
    node::{CleanupArgs, CountersArgs, PeersArgs, PodsArgs, StatusArgs},
    run::RunArgs,
    services::ServicesArgs,
};
use crate::{config::ConfigError, inspect::SelectError};

/// Exit code of bad usage and of a configuration with errors; clap has the same.
const USAGE: u8 = 2;
/// Exit code of everything else that goes wrong.
const FAILED: u8 = 1;
/// What sets what is logged.
const LOG: &str = "PODLANE_LOG";

const EXAMPLES: &str = "\
Exit codes: 0 done, 1 failed, 2 bad usage or a configuration with errors.

Examples:
  loader check --config examples/overlay.toml
  sudo loader run --config examples/overlay.toml
  sudo loader status
  sudo loader counters -o json
  sudo loader services
  sudo loader conntrack list --protocol udp
  sudo loader cleanup";

/// Podlane's loader: an eBPF dataplane for the pods of a node
#[derive(Debug, Parser)]
#[command(name = "loader", version, after_help = EXAMPLES)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Run(RunArgs),
    Check(CheckArgs),
    Status(StatusArgs),
    Counters(CountersArgs),
    Pods(PodsArgs),
    Peers(PeersArgs),
    Services(ServicesArgs),
    Conntrack(ConntrackArgs),
    Cleanup(CleanupArgs),
}

/// The whole command: reads the arguments, does what they say, and tells what went wrong.
#[must_use]
pub fn main() -> ExitCode {
    let Cli { verb } = Cli::parse();
    env_logger::Builder::new().filter_level(log::LevelFilter::Info).parse_env(LOG).init();
    match verb.run() {
        Ok(code) => code,
        Err(error) => {
            let (text, code) = explain(&error);
            eprintln!("{text}");
            code.into()
        }
    }
}

/// What to say of an error, and the exit code. A configuration with errors has its own lines; any other error is one,
/// with its causes.
fn explain(error: &anyhow::Error) -> (String, u8) {
    if let Some(error) = error.downcast_ref::<ConfigError>() {
        return (error.to_string(), USAGE);
    }
    let ambiguous = matches!(error.downcast_ref(), Some(SelectError::Several { .. }));
    (format!("error: {error:#}"), if ambiguous { USAGE } else { FAILED })
}

impl Verb {
    fn run(self) -> anyhow::Result<ExitCode> {
        match self {
            Self::Run(args) => args.run()?,
            Self::Check(args) => return args.run(),
            Self::Status(args) => args.run()?,
            Self::Counters(args) => args.run()?,
            Self::Pods(args) => args.run()?,
            Self::Peers(args) => args.run()?,
            Self::Services(args) => args.run()?,
            Self::Conntrack(args) => args.run()?,
            Self::Cleanup(args) => args.run()?,
        }
        Ok(ExitCode::SUCCESS)
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn arguments_are_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn errors_have_their_exit_codes() {
        let config = crate::config::load("/nowhere/x.toml".as_ref()).unwrap_err();
        let (text, code) = explain(&anyhow::Error::from(config).context("reload"));
        assert!(
            text.starts_with("cannot read the configuration /nowhere/x.toml") && code == 2,
            "{text} {code}"
        );
        let several = SelectError::Several { nodes: vec!["a".to_owned(), "b".to_owned()] };
        assert_eq!(
            explain(&several.into()),
            ("error: several nodes are here: a, b; choose one with --node".to_owned(), 2)
        );
        let failed = anyhow::anyhow!("EPERM").context("open map");
        assert_eq!(explain(&failed), ("error: open map: EPERM".to_owned(), 1));
    }

    #[test]
    fn every_verb_has_examples() {
        let command = Cli::command();
        let nested = command.get_subcommands().flat_map(clap::Command::get_subcommands);
        for verb in command.get_subcommands().chain(nested) {
            let help = verb.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(help.contains("Examples:"), "{}", verb.get_name());
        }
    }

    #[test]
    fn verbs_take_what_the_manual_says() {
        for line in [
            "loader run --config node.toml",
            "loader run -c node.toml --object podlane-trace.o --bpffs /sys/fs/bpf",
            "loader check --config node.toml -o json",
            "loader status --node worker-0",
            "loader counters --all -o table",
            "loader pods -n worker-0 -o json",
            "loader peers",
            "loader services kube-dns -o json",
            "loader conntrack list -s 10.0.0.0/8 -d fd00::1 -p 53 --protocol udp --state answered",
            "loader conntrack flush --backend 10.0.0.1:80 --service default/web:80",
            "loader conntrack flush --all",
            "loader conntrack flush -s 10.0.0.0/8",
            "loader conntrack flush -d fd00::1",
            "loader conntrack flush -p 53",
            "loader conntrack flush --protocol udp",
            "loader conntrack flush --service default/web",
            "loader conntrack flush --backend 10.0.0.1",
            "loader conntrack flush --state closing",
            "loader cleanup --node worker-0",
        ] {
            assert!(Cli::try_parse_from(line.split(' ')).is_ok(), "{line}");
        }
        for line in [
            "loader",
            "loader run",
            "loader check",
            "loader status -o yaml",
            "loader reload",
            "loader conntrack",
            "loader conntrack flush",
            "loader conntrack flush --node worker-0 -o json",
            "loader conntrack flush --all -p 1",
        ] {
            let error = Cli::try_parse_from(line.split(' ')).unwrap_err();
            assert_eq!(error.exit_code(), 2, "{line}");
        }
    }
}
