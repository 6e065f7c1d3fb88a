//! The benches: Podlane, the kernel's own dataplane and a bare wire, side by side in one run.
//!
//! Absolute figures say little, for machines differ and one machine drifts while it is measured. So all topologies are up
//! at the same time, each figure is taken of each of them in turn, in several rounds, and what is reported are ratios
//! within a round.

mod arrivals;
mod churn;
mod cores;
mod end_to_end;
mod flows;
mod load;
mod machine;
mod measure;
mod page;
mod programs;
mod report;
mod service_flows;
mod services;
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
    measure::Measure,
    report::{Look, Report},
    services::{Dataplane, Load, Scenario},
    topology::{Inner, Topologies},
};
use crate::setup;

/// Seconds of traffic of one kind, for the run times of the programs: the kernel counts every run of them.
const PROGRAM_SECONDS: f64 = 0.4;

/// The numbers of services that are compared.
const SERVICES: [u16; 3] = [1, 1000, 10_000];
const BACKENDS: u8 = 2;

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
    /// Measure these parts only.
    #[arg(long, value_delimiter = ',')]
    only: Vec<Part>,
    /// Of the services, measure these scenarios only.
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// Of the services, take these measures only.
    #[arg(long, value_delimiter = ',')]
    measure: Vec<Measure>,
    /// Of the services, compare these dataplanes only.
    #[arg(long, value_delimiter = ',')]
    dataplane: Vec<Dataplane>,
    /// Numbers of services to compare; the fewest are what each dataplane is compared with itself by.
    #[arg(long, value_delimiter = ',', default_values_t = SERVICES, value_parser = clap::value_parser!(u16).range(1..=20_000))]
    services: Vec<u16>,
    /// Backends of each service that nobody calls; those that are called have one. With more than two, a kernel that
    /// loads 10,000 services by nftables needs minutes.
    #[arg(long, default_value_t = BACKENDS, value_parser = clap::value_parser!(u8).range(1..=100))]
    backends: u8,
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
    /// What a packet of the underlay takes at TC and at XDP.
    Arrivals,
    /// Services, against kube-proxy's rules.
    Services,
    /// A million connections through a service.
    Churn,
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
    let wanted = |part| options.only.is_empty() || options.only.contains(&part);
    let mut report = Report::new(machine, command(options), (rounds, seconds));
    let window = Window::new(length);
    if wanted(Part::EndToEnd) || wanted(Part::Programs) {
        progress("Making namespaces, kernel nodes and Podlane nodes ...");
        let topologies = Topologies::build()?;
        if wanted(Part::EndToEnd) {
            progress("Measuring from pod to pod ...");
            let family = if options.ipv6 { Inner::V6 } else { Inner::V4 };
            report.series = end_to_end::run(&topologies, rounds, window, family)?;
            report.ratios = end_to_end::ratios(&report.series);
        }
        if wanted(Part::Programs) {
            progress("Measuring the programs ...");
            let window = Window::new(length.min(Duration::from_secs_f64(PROGRAM_SECONDS)));
            report.costs = programs::without_services(&topologies, rounds, window)?;
            report.programs = programs::facts(&topologies)?;
            drop(topologies);
            progress("Measuring the programs with services ...");
            let clusters =
                services::build(&[Dataplane::Podlane], &options.services, options.backends, show_load)?;
            report.costs.extend(programs::with_services(&clusters, rounds, window)?);
        }
    }
    if wanted(Part::Arrivals) {
        progress("Measuring single packets at TC and at XDP ...");
        report.arrivals = arrivals::run(rounds)?;
    }
    if wanted(Part::Services) {
        progress("Making clusters with services ...");
        let dataplanes = or_all(&options.dataplane, &Dataplane::ALL);
        let clusters = services::build(dataplanes, &options.services, options.backends, show_load)?;
        report.services.loads = clusters.iter().map(Load::of).collect();
        progress("Measuring services ...");
        let scenarios = or_all(&options.scenario, &Scenario::ALL);
        let measures = or_all(&options.measure, &Measure::ALL);
        report.services.series = services::run(&clusters, scenarios, measures, (rounds, window))?;
        report.services.ratios = services::ratios(&report.services.series);
    }
    if wanted(Part::Churn) {
        progress("Making a million connections ...");
        report.churns = churn::run(options.quick)?;
    }
    print(&report, options)
}

fn or_all<'a, T>(chosen: &'a [T], all: &'a [T]) -> &'a [T] {
    if chosen.is_empty() { all } else { chosen }
}

fn show_load(load: &Load) {
    let Load { side, seconds } = load;
    progress(&format!("  {} {}: {seconds:.2} s to load", side.dataplane.name(), side.services));
}

fn print(report: &Report, options: &Options) -> Result<()> {
    let mut out = io::stdout().lock();
    match options.output {
        Format::Table => {
            for (_, text) in report.parts(Look::Terminal)? {
                write!(out, "\n{text}")?;
            }
        }
        Format::Json => {
            serde_json::to_writer_pretty(&mut out, report)?;
            writeln!(out)?;
        }
    }
    if options.write {
        for (part, text) in report.parts(Look::Markdown)? {
            let path = page::write(part, &text)?;
            progress(&format!("{part}: written to {}.", path.display()));
        }
    }
    Ok(())
}

/// What to type for another run like this one.
fn command(options: &Options) -> String {
    let Options {
        rounds, seconds, quick, only, scenario, measure, dataplane, services, backends, ipv6, ..
    } = options;
    let mut words = vec!["cargo xtask bench".to_owned()];
    if *quick {
        words.push("--quick".to_owned());
    } else {
        words.push(format!("--rounds {rounds} --seconds {seconds}"));
    }
    words.extend(list("--only", only));
    words.extend(list("--scenario", scenario));
    words.extend(list("--measure", measure));
    words.extend(list("--dataplane", dataplane));
    if *services != SERVICES {
        let numbers: Vec<String> = services.iter().map(u16::to_string).collect();
        words.push(format!("--services {}", numbers.join(",")));
    }
    if *backends != BACKENDS {
        words.push(format!("--backends {backends}"));
    }
    if *ipv6 {
        words.push("--ipv6".to_owned());
    }
    words.join(" ")
}

/// An option with some of its possible values, unless there are none.
fn list<T: ValueEnum>(option: &str, chosen: &[T]) -> Option<String> {
    let values = chosen.iter().filter_map(ValueEnum::to_possible_value);
    let names: Vec<String> = values.map(|value| value.get_name().to_owned()).collect();
    (!names.is_empty()).then(|| format!("{option} {}", names.join(",")))
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
