//! The benches: Podlane, the kernel's own dataplane and a bare wire, side by side in one run.
//!
//! Absolute figures say little, for machines differ and one machine drifts while it is measured. So all topologies that are
//! compared are up at the same time, each figure is taken of each of them in turn, in several rounds, and what is reported
//! are ratios within a round.

mod arrivals;
mod bare;
mod churn;
mod connections;
mod cores;
mod end_to_end;
mod flows;
mod interleave;
mod load;
mod machine;
mod many_flows;
mod measure;
mod options;
mod page;
mod plan;
mod plot;
mod programs;
mod progress;
mod report;
mod service_flows;
mod services;
mod sizes;
mod spread;
mod topology;

use std::{
    io::{self, Write as _},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

pub use self::options::{Format, Options, Part};
use self::{
    load::Window,
    machine::Machine,
    plan::Plan,
    progress::say,
    report::{Look, Report, Services},
    services::{Dataplane, Load, Scenario, Wiring},
    topology::Topologies,
};
use crate::setup;

/// Seconds of traffic of one kind, for the run times of the programs: the kernel counts every run of them.
const PROGRAM_SECONDS: f64 = 0.4;

/// Measures and prints.
pub fn run(options: &Options) -> Result<()> {
    setup::ready_with_loader()?;
    let machine = Machine::describe();
    if machine.is_busy() {
        say(&format!("Load average {}: other work runs, figures will be rough.", machine.load_before));
    }
    let plan = Plan::of(options);
    let mut report = Report::new(machine, options.command(), (plan.rounds, plan.seconds));
    let mut topologies = None;
    for (index, &part) in plan.parts.iter().enumerate() {
        let begin = Instant::now();
        say(&format!("\n[{}/{}] {}", index + 1, plan.parts.len(), part.name()));
        measure(part, &plan, &mut topologies, &mut report)
            .with_context(|| format!("measure `{}`", part.name()))?;
        let took = begin.elapsed().as_secs_f64();
        say(&format!("[{}/{}] {} took {took:.0} s", index + 1, plan.parts.len(), part.name()));
        // Each part when it is done: a later one may fail.
        show(part, &report, options)?;
    }
    if options.output == Format::Json {
        let mut out = io::stdout().lock();
        serde_json::to_writer_pretty(&mut out, &report)?;
        writeln!(out)?;
    }
    Ok(())
}

/// Measures one part. What several parts need is left for them.
fn measure(part: Part, plan: &Plan, topologies: &mut Option<Topologies>, report: &mut Report) -> Result<()> {
    let often = (plan.rounds, plan.window());
    // Namespaces of other parts have nothing to do, but loaders, timers and neighbours.
    let shared = [Part::EndToEnd, Part::Sizes, Part::Programs].contains(&part);
    if !shared {
        *topologies = None;
    }
    match part {
        Part::EndToEnd => {
            let topologies = made(topologies)?;
            report.series = end_to_end::run(topologies, plan.rounds, plan.window(), plan.family)?;
            report.ratios = end_to_end::ratios(&report.series);
        }
        Part::Sizes => report.sizes = sizes::run(made(topologies)?, &plan.units, often, plan.family)?,
        Part::Services => {
            let comparison = Comparison {
                what: "services",
                dataplanes: &plan.dataplanes,
                services: &plan.services,
                scenarios: &plan.scenarios,
                wiring: Wiring::Cables,
            };
            report.services = services(&comparison, plan)?;
        }
        Part::DirectRouting => {
            let comparison = Comparison {
                what: "direct routing",
                dataplanes: &Dataplane::USUAL,
                services: &[1],
                scenarios: &plan.routed_scenarios,
                wiring: Wiring::DirectRouting,
            };
            report.direct_routing = services(&comparison, plan)?.without_loads();
        }
        Part::NodePort => {
            let comparison = Comparison {
                what: "node ports",
                dataplanes: &Dataplane::NODE_PORTS,
                services: &[1],
                scenarios: &plan.node_port_scenarios,
                wiring: Wiring::Switch,
            };
            report.node_ports = services(&comparison, plan)?.without_loads();
        }
        Part::Sockets => {
            let comparison = Comparison {
                what: "sockets",
                dataplanes: &Dataplane::CALLED_BY_PODS,
                services: &[1],
                scenarios: &plan.pod_scenarios,
                wiring: Wiring::Cables,
            };
            report.sockets = services(&comparison, plan)?.without_loads();
        }
        Part::Connections => {
            let clusters =
                services::build(&plan.dataplanes, &[1], (plan.backends, Wiring::Cables), show_load)?;
            report.connections = connections::run(&clusters, &plan.connections, often)?;
        }
        Part::Programs => {
            let length = plan.window().length().min(Duration::from_secs_f64(PROGRAM_SECONDS));
            let window = Window::new(length);
            report.costs = programs::without_services(made(topologies)?, plan.rounds, window)?;
            report.programs = programs::facts(made(topologies)?)?;
            *topologies = None;
            let numbers = [plan.services.first(), plan.services.last()].map(Option::<&u16>::copied);
            let mut numbers: Vec<u16> = numbers.into_iter().flatten().collect();
            numbers.dedup();
            let clusters =
                services::build(&[Dataplane::Podlane], &numbers, (plan.backends, Wiring::Cables), show_load)?;
            report.costs.extend(programs::with_services(&clusters, plan.rounds, window)?);
        }
        Part::Arrivals => {
            report.arrivals = arrivals::run(plan.rounds, plan.before.as_deref())?;
            report.many_flows = many_flows::run(&plan.flows, plan.rounds)?;
        }
        Part::Churn => report.churns = churn::run(plan.quick)?,
    }
    Ok(())
}

fn made(topologies: &mut Option<Topologies>) -> Result<&Topologies> {
    if topologies.is_none() {
        say("making namespaces, kernel nodes and Podlane nodes");
        *topologies = Some(Topologies::build()?);
    }
    topologies.as_ref().context("no topologies")
}

/// What is compared of services, and where.
struct Comparison<'a> {
    what: &'static str,
    dataplanes: &'a [Dataplane],
    services: &'a [u16],
    scenarios: &'a [Scenario],
    wiring: Wiring,
}

fn services(comparison: &Comparison<'_>, plan: &Plan) -> Result<Services> {
    let Comparison { what, dataplanes, services, scenarios, wiring } = *comparison;
    let clusters = services::build(dataplanes, services, (plan.backends, wiring), show_load)?;
    let loads = clusters.iter().map(Load::of).collect();
    let often = (plan.rounds, plan.window());
    let series = services::run(what, &clusters, (scenarios, &plan.measures), often)?;
    Ok(Services { loads, ratios: services::ratios(&series), series })
}

fn show_load(load: &Load) {
    let Load { side, seconds } = load;
    say(&format!("  {}, {} services: {seconds:.2} s to load", side.dataplane.name(), side.services));
}

/// Prints a part's tables, and writes them where they are to be written.
fn show(part: Part, report: &Report, options: &Options) -> Result<()> {
    if options.output == Format::Table {
        writeln!(io::stdout().lock(), "\n{}", report.part(part, Look::Terminal)?)?;
    }
    if options.write {
        for (name, figure) in report.figures(part) {
            page::write_plot(name, &figure.svg())?;
        }
        let path = page::write(part.name(), &report.part(part, Look::Markdown)?)?;
        say(&format!("{}: written to {}", part.name(), path.display()));
    }
    Ok(())
}
