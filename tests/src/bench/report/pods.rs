//! Tables of what passes between pods: end to end, and in the programs.

use std::fmt;

use comfy_table::Table;

use super::{
    Report,
    table::{Look, numbers, section, show},
};
use crate::bench::{
    arrivals::Arrival,
    end_to_end::COMPARISONS,
    many_flows::ManyFlows,
    measure::Measure,
    programs::{Cost, Facts},
    spread::Spread,
    topology::{Inner, Side},
};

/// Podlane, the kernel and a bare wire.
pub fn end_to_end(report: &Report, look: Look) -> Result<String, fmt::Error> {
    let mut text = String::new();
    if !report.series.is_empty() {
        section(&mut text, "Ratios, median (smallest to largest of the rounds)", &ratio_table(report), look)?;
        section(&mut text, "The figures behind them, medians", &series_table(report), look)?;
    }
    Ok(text)
}

/// What packets of the underlay take at TC and at XDP.
pub fn arrivals(report: &Report, look: Look) -> Result<String, fmt::Error> {
    let mut text = String::new();
    if !report.arrivals.is_empty() {
        let compared = report.arrivals.iter().any(|arrival| !arrival.before.is_empty());
        let before: &[&str] = if compared { &["before", "to before"] } else { &[] };
        let mut table = numbers(&["does"], &[&["TC", "XDP", "XDP to TC", "XDP, warm"], before].concat());
        for Arrival { does, tc, xdp, warm, before } in &report.arrivals {
            let whole = |values| show(Spread::of(values), |value| format!("{value:.0}"));
            let ratio = show(Spread::of_ratios(xdp, tc), |times| format!("{times:.2}"));
            let mut row = vec![(*does).to_owned(), whole(tc), whole(xdp), ratio, whole(warm)];
            if !before.is_empty() {
                let ratio = show(Spread::of_ratios(warm, before), |times| format!("{times:.2}"));
                row.extend([whole(before), ratio]);
            } else if compared {
                // The floor is of no program of ours.
                row.extend([String::new(), String::new()]);
            }
            table.add_row(row);
        }
        section(&mut text, "A packet of the underlay, nanoseconds per run", &table, look)?;
    }
    if !report.many_flows.is_empty() {
        let mut table = numbers(
            &["flows"],
            &["maps.flows as by default", "twice as many as flows, or the default", "to the default"],
        );
        for ManyFlows { flows, default, room } in &report.many_flows {
            let whole = |values| show(Spread::of(values), |value| format!("{value:.0}"));
            let ratio = show(Spread::of_ratios(room, default), |times| format!("{times:.2}"));
            table.add_row([flows.to_string(), whole(default), whole(room), ratio]);
        }
        section(&mut text, "One of many flows at XDP, warm, nanoseconds per run", &table, look)?;
    }
    Ok(text)
}

/// What the programs take, and how large they are.
pub fn programs(report: &Report, look: Look) -> Result<String, fmt::Error> {
    let mut text = String::new();
    if !report.costs.is_empty() {
        section(&mut text, "Run time of the programs, nanoseconds", &cost_table(report), look)?;
        if let Some(table) = service_cost_table(report) {
            section(&mut text, "Run time of the programs with services, nanoseconds", &table, look)?;
        }
    }
    if !report.programs.is_empty() {
        section(&mut text, "The programs", &program_table(report), look)?;
    }
    Ok(text)
}

fn ratio_table(report: &Report) -> Table {
    let mut table = numbers(&["", "to"], &Measure::ALL.map(Measure::name));
    for (side, to) in COMPARISONS {
        let of_pair = report.ratios.iter().filter(|ratio| (ratio.side, ratio.to) == (side, to));
        let ratios = of_pair.map(|ratio| show(ratio.times, |value| format!("{value:.2}")));
        let ratios: Vec<String> = ratios.collect();
        if ratios.is_empty() {
            continue;
        }
        let to = match to {
            Side::Wire => "bare wire",
            Side::BareSameNode | Side::BareOtherNode => "bare eBPF",
            _ => "kernel",
        };
        table.add_row([side.name(), to].map(str::to_owned).into_iter().chain(ratios));
    }
    table
}

fn series_table(report: &Report) -> Table {
    let mut table = numbers(&[""], &Measure::ALL.map(Measure::name));
    for side in Side::ALL {
        let of_side = report.series.iter().filter(|series| series.side == side);
        let medians = of_side.map(|series| series.measure.show(Spread::of(&series.values).median));
        let medians: Vec<String> = medians.collect();
        if !medians.is_empty() {
            table.add_row([side.name().to_owned()].into_iter().chain(medians));
        }
    }
    table
}

fn cost_table(report: &Report) -> Table {
    let mut table = numbers(&["program", "does"], &[Inner::V4, Inner::V6].map(Inner::name));
    let without_services: Vec<&Cost> = report.costs.iter().filter(|cost| cost.services.is_none()).collect();
    for (program, does) in tasks(&without_services) {
        let cell = |family| {
            let mut same =
                without_services.iter().filter(|cost| (cost.program, cost.does) == (program, does));
            same.find(|cost| cost.family == family).map_or_else(String::new, |cost| nanoseconds(cost))
        };
        table.add_row([program.to_owned(), does.to_owned(), cell(Inner::V4), cell(Inner::V6)]);
    }
    table
}

/// A column for each number of services, and the ratio of the most to the fewest.
fn service_cost_table(report: &Report) -> Option<Table> {
    let with_services: Vec<&Cost> = report.costs.iter().filter(|cost| cost.services.is_some()).collect();
    let mut counts: Vec<u16> = with_services.iter().filter_map(|cost| cost.services).collect();
    counts.sort_unstable();
    counts.dedup();
    let (fewest, most) = (*counts.first()?, *counts.last()?);
    let heads = counts.iter().map(|count| format!("with {count}")).chain([format!("{most} to {fewest}")]);
    let heads: Vec<String> = heads.collect();
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let mut table = numbers(&["program", "does"], &heads);
    for (program, does) in tasks(&with_services) {
        let find = |count: u16| {
            let mut same = with_services.iter().filter(|cost| (cost.program, cost.does) == (program, does));
            same.find(|cost| cost.services == Some(count)).copied()
        };
        let cells = counts.iter().map(|count| find(*count).map_or_else(String::new, nanoseconds));
        let ratio = find(most).zip(find(fewest)).map_or_else(String::new, |(most, fewest)| {
            show(Spread::of_ratios(&most.nanoseconds, &fewest.nanoseconds), |times| format!("{times:.2}"))
        });
        table.add_row([program.to_owned(), does.to_owned()].into_iter().chain(cells).chain([ratio]));
    }
    Some(table)
}

/// Each program and what it does, once.
fn tasks(costs: &[&Cost]) -> Vec<(&'static str, &'static str)> {
    let mut tasks = Vec::new();
    for Cost { program, does, .. } in costs {
        if !tasks.contains(&(*program, *does)) {
            tasks.push((*program, *does));
        }
    }
    tasks
}

fn nanoseconds(cost: &Cost) -> String {
    show(Spread::of(&cost.nanoseconds), |value| format!("{value:.0}"))
}

fn program_table(report: &Report) -> Table {
    let mut table =
        numbers(&["program"], &["instructions verified", "translated, bytes", "machine code, bytes"]);
    for Facts { program, verified_instructions, translated_bytes, jited_bytes } in &report.programs {
        let or_unknown =
            |value: &Option<u32>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
        table.add_row([
            (*program).to_owned(),
            or_unknown(verified_instructions),
            or_unknown(translated_bytes),
            jited_bytes.to_string(),
        ]);
    }
    table
}
