//! Every measure of every side, interleaved.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    cores::Cores,
    interleave::interleaved,
    load::Window,
    measure::Measure,
    progress::Progress,
    spread::Spread,
    topology::{Inner, Side, Topologies},
};

/// What one measure of one side gave.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// What was measured: bytes, transactions, connections or packets per second.
    pub measure: Measure,
    /// Of which side.
    pub side: Side,
    /// In each round.
    pub values: Vec<f64>,
}

/// Two series, divided round by round.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratio {
    /// What was measured.
    pub measure: Measure,
    /// Of which side.
    pub side: Side,
    /// Against which other.
    pub to: Side,
    /// How many times as much.
    pub times: Spread,
}

/// The comparisons that are made.
pub const COMPARISONS: [(Side, Side); 13] = [
    (Side::PodlaneSameNode, Side::KernelSameNode),
    (Side::PodlaneOtherNode, Side::KernelOtherNode),
    (Side::PodlaneDirectRouting, Side::KernelDirectRouting),
    (Side::PodlaneSameNode, Side::BareSameNode),
    (Side::PodlaneOtherNode, Side::BareOtherNode),
    (Side::KernelSameNode, Side::Wire),
    (Side::PodlaneSameNode, Side::Wire),
    (Side::KernelOtherNode, Side::Wire),
    (Side::PodlaneOtherNode, Side::Wire),
    (Side::BareSameNode, Side::Wire),
    (Side::BareOtherNode, Side::Wire),
    (Side::KernelDirectRouting, Side::Wire),
    (Side::PodlaneDirectRouting, Side::Wire),
];

/// Takes every measure of all sides.
pub fn run(topologies: &Topologies, rounds: usize, window: Window, family: Inner) -> Result<Vec<Series>> {
    let cores = Cores::find()?;
    let sides = topologies.sides();
    let of_measure = |measure| sides.iter().map(move |&side| Series { measure, side, values: Vec::new() });
    let mut series: Vec<Series> = Measure::ALL.into_iter().flat_map(of_measure).collect();
    let sides = sides.len();
    let mut progress = Progress::begin("end to end", (rounds, window), Measure::ALL.len(), sides);
    let take = |series: &mut Series| {
        let Series { measure, side, values } = series;
        let value = measure.take(topologies.path(*side, family)?, window, cores);
        values.push(value.with_context(|| format!("{}, {}", measure.name(), side.name()))?);
        Ok(())
    };
    interleaved(&mut series, sides, (rounds, &mut progress), take, tell)?;
    Ok(series)
}

/// Divides what is to be compared.
#[must_use]
pub fn ratios(series: &[Series]) -> Vec<Ratio> {
    let find = |measure: Measure, side: Side| {
        series.iter().find(|series| series.measure == measure && series.side == side)
    };
    let ratio = |(side, to): (Side, Side), measure: Measure| {
        let (values, to_values) = (&find(measure, side)?.values, &find(measure, to)?.values);
        Some(Ratio { measure, side, to, times: Spread::of_ratios(values, to_values) })
    };
    let all = COMPARISONS.into_iter().flat_map(|pair| Measure::ALL.map(|measure| ratio(pair, measure)));
    all.flatten().collect()
}

fn tell(of_one_measure: &[Series]) -> String {
    let value = |series: &Series| {
        let Series { measure, side, values } = series;
        Some(format!("{} {}", side.name(), measure.show(*values.last()?)))
    };
    let values: Vec<String> = of_one_measure.iter().filter_map(value).collect();
    format!("{}, {}", of_one_measure.first().map_or("", |series| series.measure.name()), values.join("; "))
}
