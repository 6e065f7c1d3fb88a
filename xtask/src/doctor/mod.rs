//! `cargo xtask doctor`: what this machine has, what it lacks, and what that costs.

mod bpf;
mod build;
mod devices;
mod kernel;
mod privileges;

use std::process::ExitCode;

use anyhow::Result;
use comfy_table::{ContentArrangement, Table, presets};
use serde_json::json;

/// Columns of the printed table: longer texts are wrapped in their cells.
const WIDTH: u16 = 150;

/// Show what this machine has for Podlane, what it lacks, and what that costs.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Options {
    /// How to print it.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Output {
    Table,
    Json,
}

/// What was found of one thing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// It is there.
    Present,
    /// It is not, and something works less well.
    Absent,
    /// It is not, and the loader cannot run.
    Missing,
    /// It cannot be told without more rights.
    Unknown,
}

impl State {
    fn name(self) -> &'static str {
        match self {
            Self::Present => "ok",
            Self::Absent => "absent",
            Self::Missing => "MISSING",
            Self::Unknown => "unknown",
        }
    }
}

/// A line of the report.
#[derive(Debug, Clone)]
struct Finding {
    area: &'static str,
    what: String,
    state: State,
    /// What was seen.
    detail: String,
    /// What it costs not to have it, or what to do; printed unless it is there.
    cost: String,
}

impl Finding {
    fn new(area: &'static str, what: impl Into<String>, state: State) -> Self {
        Self { area, what: what.into(), state, detail: String::new(), cost: String::new() }
    }

    fn detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = detail.into();
        self
    }

    fn cost(mut self, cost: impl Into<String>) -> Self {
        if self.state != State::Present {
            self.cost = cost.into();
        }
        self
    }
}

/// Runs the verb: exit code 1 if something is missing that the loader needs.
pub(crate) fn run(options: Options) -> Result<ExitCode> {
    let findings: Vec<Finding> =
        [kernel::findings(), privileges::findings(), bpf::findings(), devices::findings(), build::findings()]
            .concat();
    match options.output {
        Output::Table => println!("{}", table(&findings)),
        Output::Json => println!("{}", serde_json::to_string_pretty(&json(&findings))?),
    }
    let missing = findings.iter().any(|finding| finding.state == State::Missing);
    Ok(if missing { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn table(findings: &[Finding]) -> Table {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Dynamic)
        .set_width(WIDTH)
        .set_header(["area", "what", "state", "seen", "what that costs"]);
    let mut last = "";
    for Finding { area, what, state, detail, cost } in findings {
        let shown = if *area == last { "" } else { area };
        last = area;
        table.add_row([shown, what, state.name(), detail, cost]);
    }
    table
}

fn json(findings: &[Finding]) -> serde_json::Value {
    let line = |Finding { area, what, state, detail, cost }: &Finding| {
        json!({
            "area": area,
            "what": what,
            "state": state.name().to_lowercase(),
            "seen": detail,
            "cost": cost,
        })
    };
    findings.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn costs_are_told_of_what_is_not_there() {
        let present = Finding::new("kernel", "BTF", State::Present).cost("no typed maps");
        let absent = Finding::new("kernel", "BTF", State::Absent).cost("no typed maps");
        assert_eq!((present.cost.as_str(), absent.cost.as_str()), ("", "no typed maps"));
        let printed = json(&[absent]);
        assert_eq!(printed[0]["state"], "absent");
        assert_eq!(printed[0]["cost"], "no typed maps");
    }

    #[test]
    fn an_area_is_named_once() {
        let findings = [
            Finding::new("kernel", "one", State::Present),
            Finding::new("kernel", "two", State::Missing).cost("three"),
        ];
        let printed = table(&findings).to_string();
        assert_eq!(printed.matches("kernel").count(), 1, "{printed}");
        assert!(printed.contains("MISSING"), "{printed}");
    }
}
