//! How a verb prints.

use std::io::{self, Write as _};

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use serde::Serialize;

/// What is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Format {
    /// Columns, for a person.
    Table,
    /// For a program: stable names, all values.
    Json,
}

/// `-o`.
#[derive(Clone, Copy, Debug, Args)]
pub(super) struct OutputArgs {
    /// How to print
    #[arg(short, long, value_enum, value_name = "FORMAT", default_value = "table")]
    pub(super) output: Format,
}

impl OutputArgs {
    /// Prints `report` in the format that was asked for.
    pub(super) fn print<R: Serialize>(self, report: &R, table: impl Fn(&R) -> String) -> anyhow::Result<()> {
        match self.output {
            Format::Table => print(&table(report)),
            Format::Json => {
                let text = serde_json::to_string_pretty(report).context("write JSON")?;
                print(&(text + "\n"))
            }
        }
    }
}

/// Prints to standard output; a reader that has seen enough, such as `head`, is no error.
pub(super) fn print(text: &str) -> anyhow::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(error).context("write to standard output")
        }
        _ => Ok(()),
    }
}
