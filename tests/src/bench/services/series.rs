//! Every measure of every scenario, interleaved over all clusters.

use std::io::Write as _;

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{Cluster, Dataplane, Scenario, Side};
use crate::bench::{cores::Cores, load::Window, measure::Measure, spread::Spread};

/// What one measure of one side gave.
#[derive(Clone, Debug, Serialize)]
pub struct Series {
    /// Who called what.
    pub scenario: Scenario,
    /// What was measured: bytes, transactions, connections or packets per second.
    pub measure: Measure,
    /// Of which side.
    #[serde(flatten)]
    pub side: Side,
    /// In each round.
    pub values: Vec<f64>,
}

/// Two series, divided round by round.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Ratio {
    /// Who called what.
    pub scenario: Scenario,
    /// What was measured.
    pub measure: Measure,
    /// Of which side.
    pub side: Side,
    /// Against which other.
    pub to: Side,
    /// How many times as much.
    pub times: Spread,
}

/// Measures all clusters in turn, in every round and for every measure of every scenario. Each round begins with another
/// one, so that none always comes after the same.
pub fn run(
    clusters: &[Cluster],
    scenarios: &[Scenario],
    measures: &[Measure],
    (rounds, window): (usize, Window),
) -> Result<Vec<Series>> {
    let cores = Cores::find()?;
    let pairs =
        scenarios.iter().flat_map(|scenario| measures.iter().map(move |measure| (*scenario, *measure)));
    let mut series: Vec<Series> = pairs
        .flat_map(|(scenario, measure)| {
            clusters.iter().map(move |cluster| Series {
                scenario,
                measure,
                side: cluster.side,
                values: Vec::new(),
            })
        })
        .collect();
    for round in 0..rounds {
        for of_one_measure in series.chunks_exact_mut(clusters.len().max(1)) {
            let mut in_turn: Vec<_> = of_one_measure.iter_mut().zip(clusters).collect();
            in_turn.rotate_left(round % clusters.len().max(1));
            for (Series { scenario, measure, side, values }, cluster) in in_turn {
                let value = measure.take(cluster.path(*scenario)?, window, cores).with_context(|| {
                    let (scenario, Side { dataplane, services }) = (scenario.name(), side);
                    format!("{}, {scenario}, {} with {services} services", measure.name(), dataplane.name())
                })?;
                values.push(value);
            }
            progress((round, rounds), of_one_measure);
        }
    }
    clusters.iter().try_for_each(Cluster::check)?;
    Ok(series)
}

/// Podlane against the others with as many services, and each dataplane against itself with the fewest.
#[must_use]
pub fn ratios(series: &[Series]) -> Vec<Ratio> {
    let fewest = series.iter().map(|series| series.side.services).min().unwrap_or(0);
    let others = |side: Side| {
        let against = [Dataplane::Iptables, Dataplane::Nftables].map(|dataplane| Side { dataplane, ..side });
        let of_podlane = against.into_iter().filter(move |_| side.dataplane == Dataplane::Podlane);
        of_podlane.chain((side.services > fewest).then_some(Side { services: fewest, ..side }))
    };
    let ratio = |one: &Series, to: Side| {
        let like =
            |other: &&Series| (other.scenario, other.measure, other.side) == (one.scenario, one.measure, to);
        let other = series.iter().find(like)?;
        let Series { scenario, measure, side, .. } = *one;
        Some(Ratio { scenario, measure, side, to, times: Spread::of_ratios(&one.values, &other.values) })
    };
    series.iter().flat_map(|one| others(one.side).filter_map(move |to| ratio(one, to))).collect()
}

fn progress((round, rounds): (usize, usize), of_one_measure: &[Series]) {
    let Some(Series { scenario, measure, .. }) = of_one_measure.first() else { return };
    let values: Vec<String> = of_one_measure
        .iter()
        .filter_map(|series| {
            let Side { dataplane, services } = series.side;
            Some(format!("{} {services}: {}", dataplane.name(), measure.show(*series.values.last()?)))
        })
        .collect();
    let _unheard = writeln!(
        std::io::stderr(),
        "  round {}/{rounds}  {}, {:11}  {}",
        round + 1,
        scenario.name(),
        measure.name(),
        values.join("; ")
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn podlane_is_compared_with_both_and_each_with_itself() {
        let series: Vec<Series> = [1, 1000]
            .into_iter()
            .flat_map(|services| Dataplane::ALL.map(|dataplane| Side { dataplane, services }))
            .map(|side| Series {
                scenario: Scenario::ClusterIpRemote,
                measure: Measure::TcpConnections,
                side,
                values: vec![f64::from(side.services)],
            })
            .collect();
        let ratios = ratios(&series);
        let with_itself = ratios.iter().filter(|ratio| ratio.side.dataplane == ratio.to.dataplane);
        assert!(with_itself.clone().all(|ratio| ratio.times.median >= 1000.0));
        assert_eq!((with_itself.count(), ratios.len()), (3, 7));
    }
}
