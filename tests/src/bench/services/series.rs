//! Every measure of every scenario, interleaved over all clusters.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{Cluster, Scenario, Side};
use crate::bench::{
    cores::Cores, interleave::interleaved, load::Window, measure::Measure, progress::Progress, spread::Spread,
};

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

/// Takes every measure of every scenario of all clusters.
pub fn run(
    what: &'static str,
    clusters: &[Cluster],
    (scenarios, measures): (&[Scenario], &[Measure]),
    (rounds, window): (usize, Window),
) -> Result<Vec<Series>> {
    let cores = Cores::find()?;
    let pairs =
        scenarios.iter().flat_map(|scenario| measures.iter().map(move |measure| (*scenario, *measure)));
    let mut series: Vec<(&Cluster, Series)> = pairs
        .flat_map(|(scenario, measure)| {
            clusters.iter().map(move |cluster| {
                (cluster, Series { scenario, measure, side: cluster.side, values: Vec::new() })
            })
        })
        .collect();
    let steps = scenarios.len() * measures.len();
    let mut progress = Progress::begin(what, (rounds, window), steps, clusters.len());
    let take = |(cluster, series): &mut (&Cluster, Series)| {
        let Series { scenario, measure, side, values } = series;
        let value = measure.take(cluster.path(*scenario)?, window, cores).with_context(|| {
            let (scenario, Side { dataplane, services }) = (scenario.name(), side);
            format!("{}, {scenario}, {} with {services} services", measure.name(), dataplane.name())
        })?;
        values.push(value);
        Ok(())
    };
    interleaved(&mut series, clusters.len(), (rounds, &mut progress), take, tell)?;
    clusters.iter().try_for_each(Cluster::check)?;
    Ok(series.into_iter().map(|(_, series)| series).collect())
}

/// Each dataplane against those that it is compared with, with as many services, and against itself with the fewest.
#[must_use]
pub fn ratios(series: &[Series]) -> Vec<Ratio> {
    let fewest = series.iter().map(|series| series.side.services).min().unwrap_or(0);
    let others = |side: Side| {
        let against = side.dataplane.against().iter().map(move |&dataplane| Side { dataplane, ..side });
        against.chain((side.services > fewest).then_some(Side { services: fewest, ..side }))
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

fn tell(of_one_measure: &[(&Cluster, Series)]) -> String {
    let value = |(_, series): &(&Cluster, Series)| {
        let Side { dataplane, services } = series.side;
        Some(format!("{} {services}: {}", dataplane.name(), series.measure.show(*series.values.last()?)))
    };
    let values: Vec<String> = of_one_measure.iter().filter_map(value).collect();
    let Some((_, Series { scenario, measure, .. })) = of_one_measure.first() else { return String::new() };
    format!("{}, {}, {}", scenario.name(), measure.name(), values.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::services::Dataplane;

    #[test]
    fn podlane_is_compared_with_both_and_each_with_itself() {
        let series: Vec<Series> = [1, 1000]
            .into_iter()
            .flat_map(|services| Dataplane::USUAL.map(|dataplane| Side { dataplane, services }))
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
