//! `podlane-testbed`: what is to be done besides tests. `clean` removes what test runs that were killed have left behind, `verifier`
//! measures what the kernel's verifier makes of the programs.

use std::{
    fs,
    io::{self, Read as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use clap::{Parser, Subcommand, ValueEnum};
use comfy_table::{CellAlignment, Table, presets};
use testbed::{
    registry,
    verifier::{self, Measured, Report, budget::Budget},
};

/// The testbed's own housekeeping.
#[derive(Parser)]
#[command(name = "podlane-testbed", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Remove the namespaces, pins and files of test processes that are gone.
    Clean {
        /// Also take down what was left up on purpose (`demo --keep`).
        #[arg(long)]
        all: bool,
    },
    /// Have this kernel verify every program, and print what that costs.
    Verifier(Verifier),
}

#[derive(clap::Args)]
struct Verifier {
    /// How to print it; JSON is a line that `--from` reads.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// Write the figures into this file, in place of those that it has of the same kernel series.
    #[arg(long)]
    write: Option<PathBuf>,
    /// Measure nothing: take the lines that this has printed elsewhere as JSON, from a file or, with `-`, from stdin.
    #[arg(long, requires = "write")]
    from: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    Table,
    Json,
}

fn main() -> Result<()> {
    match Arguments::parse().verb {
        Verb::Clean { all } => clean(all),
        Verb::Verifier(options) => verify(&options),
    }
}

fn clean(all: bool) -> Result<()> {
    let removed = registry::clean(all)?;
    for thing in &removed {
        println!("removed {thing}");
    }
    if removed.is_empty() {
        println!("nothing to remove");
    }
    Ok(())
}

fn verify(Verifier { output, write, from }: &Verifier) -> Result<()> {
    let reports = if let Some(from) = from { elsewhere(from)? } else { vec![here(*output)?] };
    let Some(file) = write else { return Ok(()) };
    let mut budget = Budget::load(file)?;
    for report in reports {
        println!(
            "{}: figures of {} programs on Linux {}",
            file.display(),
            report.programs.len(),
            report.kernel
        );
        budget.record(report)?;
    }
    budget.save(file)
}

fn here(output: Output) -> Result<Report> {
    let measured = verifier::measure()?;
    let report = Report::new(&measured)?;
    match output {
        Output::Json => println!("{}", serde_json::to_string(&report)?),
        Output::Table => println!("{}\n\non Linux {}", table(&measured), report.kernel),
    }
    Ok(report)
}

fn elsewhere(from: &Path) -> Result<Vec<Report>> {
    let mut text = String::new();
    if from == Path::new("-") {
        io::stdin().read_to_string(&mut text).context("read stdin")?;
    } else {
        text = fs::read_to_string(from).with_context(|| format!("read {}", from.display()))?;
    }
    let reports = Report::among(&text);
    if reports.is_empty() {
        bail!("{} has no line that `podlane-testbed verifier -o json` has printed", from.display());
    }
    Ok(reports)
}

fn table(measured: &[Measured]) -> Table {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["program", "instructions", "total states", "peak states", "stack", "milliseconds"]);
    for Measured { program, figures, time } in measured {
        let numbers = [figures.instructions, figures.total_states, figures.peak_states, figures.stack];
        let cells = numbers.map(|number| number.to_string());
        let time = format!("{:.1}", time.as_secs_f64() * 1000.0);
        table.add_row(std::iter::once(program.clone()).chain(cells).chain([time]));
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}
