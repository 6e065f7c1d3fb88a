//! Services: Podlane against kube-proxy's own rules, with few services and with many.
//!
//! What is loaded into the kernel's nodes has kube-proxy's structure, in its iptables and in its nftables mode; it is
//! written here from what is known of that structure, and no line of kube-proxy's runs.

mod cluster;
mod iptables;
mod kernel;
mod nftables;
mod plan;
mod podlane;
mod scenario;
mod series;

pub use self::{
    cluster::{Cluster, Wiring, client_address},
    plan::{Backend, PORT, Protocol},
    scenario::{Dataplane, Scenario, Side},
    series::{Ratio, Series, ratios, run},
};

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Serialize;

use crate::command;

/// How long a side's services took to load, on both nodes at the same time.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Load {
    /// What was loaded.
    #[serde(flatten)]
    pub side: Side,
    /// Seconds.
    pub seconds: f64,
}

impl Load {
    /// Of a cluster that is up.
    #[must_use]
    pub fn of(cluster: &Cluster) -> Self {
        let seconds = |duration: Duration| duration.as_secs_f64();
        Self { side: cluster.side, seconds: seconds(cluster.loaded) }
    }
}

/// All clusters, up at the same time: each dataplane with each number of services.
pub fn build(
    dataplanes: &[Dataplane],
    numbers: &[u16],
    (backends, wiring): (u8, Wiring),
    mut progress: impl FnMut(&Load),
) -> Result<Vec<Cluster>> {
    for dataplane in dataplanes {
        if let Some(tool) = dataplane.tool() {
            ensure!(
                command::exists(tool),
                "`{tool}` is not on this machine: `cargo xtask bench` installs it"
            );
        }
    }
    let mut clusters = Vec::new();
    for &services in numbers {
        for &dataplane in dataplanes {
            let side = Side { dataplane, services };
            let cluster = Cluster::build(side, backends, wiring)
                .with_context(|| format!("{} with {services} services", dataplane.name()))?;
            progress(&Load::of(&cluster));
            clusters.push(cluster);
        }
    }
    Ok(clusters)
}
