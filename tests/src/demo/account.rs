//! What came of it, as tables.

use anyhow::Result;
use common::counters::{Outcome as Fate, Reason};

use super::{
    Outcome, Trip,
    services::Call,
    table::{self, Cell, Tone},
};
use crate::cluster::Cluster;

/// Prints where traffic went, whether it arrived and how fast; then, in full, what went wrong.
pub(super) fn print_trips(trips: &[Trip]) {
    let rows: Vec<Vec<Cell>> = trips
        .iter()
        .map(|trip| {
            let names = [trip.from.as_str(), &trip.to, trip.means].map(Cell::new);
            names.into_iter().chain(trip.outcomes.iter().map(cell)).collect()
        })
        .collect();
    table::print(&["from", "to", "how", "ping IPv4", "ping IPv6", "HTTP", "TCP stream"], &rows);
    println!();
    for trip in trips {
        for error in trip.outcomes.iter().filter_map(|outcome| outcome.as_ref().err()) {
            println!("{} to {}: {error}", trip.from, trip.to);
        }
    }
}

fn cell(outcome: &Outcome) -> Cell {
    match outcome {
        Ok(text) => Cell::new(text).tone(Tone::Good).right(),
        Err(_) => Cell::new("FAILED").tone(Tone::Bad).right(),
    }
}

/// Prints who called what, who answered, and what address that one saw; then, in full, what went wrong.
pub(super) fn print_calls(calls: &[Call]) {
    let rows: Vec<Vec<Cell>> = calls
        .iter()
        .map(|call| {
            let called = format!("{} {}", call.protocol, call.to);
            let mut row = [call.from, call.what, &called].map(Cell::new).to_vec();
            match &call.outcome {
                Ok(seen) => row.extend([
                    Cell::new(&seen.server).tone(Tone::Good),
                    Cell::new(seen.client.to_string()),
                    Cell::new(call.translated(seen)),
                ]),
                Err(_) => row.push(Cell::new("FAILED").tone(Tone::Bad)),
            }
            row
        })
        .collect();
    table::print(&["from", "what", "called", "answered by", "which saw", "translated"], &rows);
    println!();
    for call in calls {
        if let Err(error) = &call.outcome {
            println!("{} to {}: {error}", call.from, call.to);
        }
    }
}

/// Prints what each Podlane node has counted, with what each reason means.
pub(super) fn print_counters(cluster: &Cluster) -> Result<()> {
    for node in &cluster.podlane {
        println!("What {} counted (`loader counters --node {}`):\n", node.spec.name, node.spec.name);
        let counters = node.counters()?;
        let mut rows = Vec::new();
        for hook in common::counters::Hook::ALL {
            for reason in Reason::ALL.iter().filter(|reason| counters.packets(hook, **reason) > 0) {
                let dropped = reason.outcome() == Fate::Dropped;
                rows.push(vec![
                    Cell::new(hook.name()),
                    Cell::new(reason.name()).tone(if dropped { Tone::Notable } else { Tone::Plain }),
                    Cell::new(counters.packets(hook, *reason).to_string()).right(),
                    Cell::new(counters.bytes(hook, *reason).to_string()).right(),
                    Cell::new(reason.describe()),
                ]);
            }
        }
        table::print(&["hook", "reason", "packets", "bytes", "meaning"], &rows);
        println!();
    }
    Ok(())
}
