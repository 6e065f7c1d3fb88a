//! The benches: Podlane, the kernel's own dataplane and a bare wire, side by side in one run.
//!
//! Absolute figures say little, for machines differ and one machine drifts while it is measured. So all topologies are up
//! at the same time, each figure is taken of each of them in turn, in several rounds, and what is reported are ratios
//! within a round.

mod cores;
mod end_to_end;
mod flows;
mod load;
mod machine;
mod measure;
mod page;
mod programs;
mod report;
mod spread;
mod topology;

use std::{
    io::{self, Write as _},
    time::Duration,
};

use anyhow::Result;
use clap::{Args, ValueEnum};

use self::{
    load::Window,
    machine::Machine,
    report::{Look, Report},
    topology::{Inner, Topologies},
};
use crate::setup;

/// Seconds of traffic of one kind, for the run times of the programs: the kernel counts every run of them.
const PROGRAM_SECONDS: f64 = 0.4;

/// What to measure, and what to do with it.
#[derive(Args, Clone, Debug)]
pub struct Options {
    /// How often everything is measured.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// How long each figure is taken.
    #[arg(long, default_value = "1", value_parser = seconds)]
    seconds: f64,
    /// Two rounds of a fifth of a second: shows that it works, not how fast.
    #[arg(long, conflicts_with_all = ["rounds", "seconds"])]
    quick: bool,
    /// Measure this part only.
    #[arg(long)]
    only: Option<Part>,
    /// Let pods talk IPv6 end to end.
    #[arg(long)]
    ipv6: bool,
    /// How to print.
    #[arg(short, long, default_value = "table")]
    output: Format,
    /// Also write the tables to docs/benchmarks.md.
    #[arg(long)]
    write: bool,
}

/// A part of the benches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Part {
    /// Pod to pod, against the kernel and against one wire.
    EndToEnd,
    /// What the BPF programs take.
    Programs,
}

/// How to print.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Table,
    /// For programs.
    Json,
}

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    let (rounds, seconds) =
        if options.quick { (2, 0.2) } else { (usize::from(options.rounds), options.seconds) };
    let length = Duration::from_secs_f64(seconds);
    setup::ready_with_loader()?;
    let machine = Machine::describe();
    if machine.is_busy() {
        progress(&format!("Load average {}: other work runs, figures will be rough.", machine.load_before));
    }
    progress("Making namespaces, kernel nodes and Podlane nodes ...");
    let topologies = Topologies::build()?;
    let wanted = |part| options.only.is_none_or(|only| only == part);
    let series = if wanted(Part::EndToEnd) {
        progress("Measuring from pod to pod ...");
        let family = if options.ipv6 { Inner::V6 } else { Inner::V4 };
        end_to_end::run(&topologies, rounds, Window::new(length), family)?
    } else {
        Vec::new()
    };
    let (costs, programs) = if wanted(Part::Programs) {
        progress("Measuring the programs ...");
        let window = Window::new(length.min(Duration::from_secs_f64(PROGRAM_SECONDS)));
        (programs::costs(&topologies, rounds, window)?, programs::facts(&topologies)?)
    } else {
        (Vec::new(), Vec::new())
    };
    drop(topologies);
    let ratios = end_to_end::ratios(&series);
    let command = command(options);
    print(&Report { machine, command, rounds, seconds, series, ratios, costs, programs }, options)
}

fn print(report: &Report, options: &Options) -> Result<()> {
    let mut out = io::stdout().lock();
    match options.output {
        Format::Table => write!(out, "\n{}", report.tables(Look::Terminal)?)?,
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, report)?;
            writeln!(out)?;
        }
    }
    if options.write {
        let path = page::write(&report.tables(Look::Markdown)?)?;
        progress(&format!("Written to {}.", path.display()));
    }
    Ok(())
}

/// What to type for another run like this one.
fn command(options: &Options) -> String {
    let Options { rounds, seconds, quick, only, ipv6, .. } = options;
    let mut words = vec!["cargo xtask bench".to_owned()];
    if *quick {
        words.push("--quick".to_owned());
    } else {
        words.push(format!("--rounds {rounds} --seconds {seconds}"));
    }
    if let Some(part) = only.and_then(|part| part.to_possible_value()) {
        words.push(format!("--only {}", part.get_name()));
    }
    if *ipv6 {
        words.push("--ipv6".to_owned());
    }
    words.join(" ")
}

/// Reads a length of time that something can be measured in.
fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.01..=3600.0).contains(&seconds) => Ok(seconds),
        Ok(_) => Err("not between 0.01 and 3600".to_owned()),
        Err(error) => Err(format!("{error}")),
    }
}

/// Progress goes where it does not mix with what is printed for programs.
fn progress(text: &str) {
    let _unheard = writeln!(io::stderr(), "{text}");
}
