//! Packets of one connection, and of a hundred thousand, through a cluster IP.

use anyhow::{Context as _, Result};
use serde::Serialize;

use super::{
    cores::Cores,
    interleave::interleaved,
    load::{self, Senders, Window},
    progress::Progress,
    services::{Backend, Cluster, Dataplane, Scenario},
    spread::Spread,
};

/// Numbers of connections.
pub const NUMBERS: [u32; 6] = [1, 10, 100, 1000, 10_000, 100_000];
/// Those that say most.
pub const FEW: [u32; 2] = [1, 100_000];

/// What one dataplane got through.
#[derive(Clone, Debug, Serialize)]
pub struct Flood {
    /// Connections that sent, one packet after the other.
    pub connections: u32,
    /// Who translated.
    pub dataplane: Dataplane,
    /// Packets per second that the backend got, in each round.
    pub values: Vec<f64>,
}

/// Measures; every connection is known before anything counts.
pub fn run(clusters: &[Cluster], numbers: &[u32], (rounds, window): (usize, Window)) -> Result<Vec<Flood>> {
    let cores = Cores::find()?;
    let mut figures: Vec<(&Cluster, Flood)> = numbers
        .iter()
        .flat_map(|&connections| {
            clusters.iter().map(move |cluster| {
                let dataplane = cluster.side.dataplane;
                (cluster, Flood { connections, dataplane, values: Vec::new() })
            })
        })
        .collect();
    let mut progress = Progress::begin("connections", (rounds, window), numbers.len(), clusters.len());
    let take = |(cluster, figure): &mut (&Cluster, Flood)| {
        let Flood { connections, dataplane, values } = figure;
        let (pods, gateway) = cluster.callers()?;
        let to = Backend::Remote.by_cluster_ip().frontend;
        let value = Senders::new(pods, gateway, to, *connections).and_then(|mut senders| {
            load::of_many(cluster.path(Scenario::ClusterIpRemote)?, &mut senders, window, cores)
        });
        values.push(value.with_context(|| format!("{connections} connections, {}", dataplane.name()))?);
        Ok(())
    };
    interleaved(&mut figures, clusters.len(), (rounds, &mut progress), take, tell)?;
    clusters.iter().try_for_each(Cluster::check)?;
    Ok(figures.into_iter().map(|(_, figure)| figure).collect())
}

/// How many times as much one dataplane got through as another, with as many connections.
#[must_use]
pub fn ratio(figures: &[Flood], connections: u32, side: Dataplane, to: Dataplane) -> Option<Spread> {
    let find = |dataplane| {
        figures.iter().find(|figure| (figure.connections, figure.dataplane) == (connections, dataplane))
    };
    Some(Spread::of_ratios(&find(side)?.values, &find(to)?.values))
}

fn tell(of_one_number: &[(&Cluster, Flood)]) -> String {
    let value = |(_, figure): &(&Cluster, Flood)| {
        Some(format!("{} {:.1} k/s", figure.dataplane.name(), figure.values.last()? / 1e3))
    };
    let values: Vec<String> = of_one_number.iter().filter_map(value).collect();
    let number = of_one_number.first().map_or(0, |(_, figure)| figure.connections);
    format!("{number} connections, {}", values.join("; "))
}
