//! Every measure of every side, interleaved.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    cores::Cores,
    load::Window,
    measure::Measure,
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
pub const COMPARISONS: [(Side, Side); 6] = [
    (Side::KernelSameNode, Side::Direct),
    (Side::PodlaneSameNode, Side::Direct),
    (Side::PodlaneSameNode, Side::KernelSameNode),
    (Side::KernelOtherNode, Side::Direct),
    (Side::PodlaneOtherNode, Side::Direct),
    (Side::PodlaneOtherNode, Side::KernelOtherNode),
];

/// Measures all sides in turn, in every round and for every measure, so that a machine that gets slower or faster does so
/// for all of them. Each round begins with another side, so that none always comes after the same one.
pub fn run(topologies: &Topologies, rounds: usize, window: Window, family: Inner) -> Result<Vec<Series>> {
    let cores = Cores::find()?;
    let series = Measure::ALL
        .into_iter()
        .flat_map(|measure| Side::ALL.map(|side| Series { measure, side, values: Vec::new() }));
    let mut series: Vec<Series> = series.collect();
    for round in 0..rounds {
        for of_one_measure in series.chunks_exact_mut(Side::ALL.len()) {
            let mut in_turn: Vec<&mut Series> = of_one_measure.iter_mut().collect();
            in_turn.rotate_left(round % Side::ALL.len());
            for series in in_turn {
                let Series { measure, side, values } = series;
                let path = topologies.path(*side, family)?;
                let value = measure.take(path, window, cores);
                let value = value.with_context(|| format!("{}, {}", measure.name(), side.name()))?;
                values.push(value);
            }
            progress(round, rounds, of_one_measure);
        }
    }
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

fn progress(round: usize, rounds: usize, of_one_measure: &[Series]) {
    let Some(measure) = of_one_measure.first().map(|series| series.measure) else { return };
    let values: Vec<String> = of_one_measure
        .iter()
        .filter_map(|series| Some(format!("{} {}", series.side.name(), measure.show(*series.values.last()?))))
        .collect();
    let _unheard = writeln!(
        std::io::stderr(),
        "  round {}/{rounds}  {:11}  {}",
        round + 1,
        measure.name(),
        values.join("; ")
    );
}
