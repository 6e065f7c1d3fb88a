//! `loader check`.

use std::{path::PathBuf, process::ExitCode};

use clap::Args;
use serde::Serialize;

use super::{
    USAGE,
    output::{Format, OutputArgs},
};
use crate::{
    config::{self, ConfigError, Invalid},
    report::CheckReport,
};

const EXAMPLES: &str = "\
Every error is printed with its line and column, and the exit code is then 2.

Examples:
  loader check --config /etc/podlane/node.toml
  loader check --config node.toml -o json | jq '.peers[].name'";

/// Check a configuration and print what it asks for, without touching anything
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct CheckArgs {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    #[command(flatten)]
    output: OutputArgs,
}

/// A configuration with errors, for `-o json`.
#[derive(Serialize)]
struct Refused {
    ok: bool,
    #[serde(flatten)]
    invalid: Invalid,
}

impl CheckArgs {
    pub(super) fn run(self) -> anyhow::Result<ExitCode> {
        let Self { config, output } = self;
        match config::load(&config) {
            Ok(read) => {
                let report = CheckReport::new(&config.display().to_string(), read);
                output.print(&report, CheckReport::table)?;
                Ok(ExitCode::SUCCESS)
            }
            Err(ConfigError::Invalid(invalid)) if output.output == Format::Json => {
                output.print(&Refused { ok: false, invalid }, |_| String::new())?;
                Ok(USAGE.into())
            }
            Err(error) => Err(error.into()),
        }
    }
}
