//! What a run measures, and how often.

use std::{path::PathBuf, time::Duration};

use super::{
    connections,
    load::Window,
    many_flows,
    measure::Measure,
    options::{Options, Part},
    services::{Dataplane, Scenario},
    sizes::Unit,
    topology::Inner,
};

const SERVICES: [u16; 3] = [1, 1000, 10_000];
/// The rounds of a quick run: the fewest that have a median which is none of the extremes.
const QUICK_ROUNDS: usize = 3;
const QUICK_SECONDS: f64 = 0.08;

/// What is asked for, with what was left open filled in.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Parts, in their order.
    pub parts: Vec<Part>,
    /// How often.
    pub rounds: usize,
    /// Seconds of each figure.
    pub seconds: f64,
    /// Other programs, to compare with what packets of the underlay cost.
    pub before: Option<PathBuf>,
    /// Family of pods' packets, where either is possible.
    pub family: Inner,
    /// What is sent at once, for packet sizes.
    pub units: Vec<Unit>,
    /// Numbers of services.
    pub services: Vec<u16>,
    /// Backends of those that nobody calls.
    pub backends: u8,
    /// Who calls services.
    pub scenarios: Vec<Scenario>,
    /// Who calls others in nodes that route to each other's pods.
    pub routed_scenarios: Vec<Scenario>,
    /// Who calls node ports at TC and at XDP.
    pub node_port_scenarios: Vec<Scenario>,
    /// Who calls services by packet and by socket.
    pub pod_scenarios: Vec<Scenario>,
    /// What is measured of services.
    pub measures: Vec<Measure>,
    /// Who translates services.
    pub dataplanes: Vec<Dataplane>,
    /// Numbers of connections.
    pub connections: Vec<u32>,
    /// Numbers of flows whose packets come to XDP in turn.
    pub flows: Vec<u32>,
    /// Whether a million connections are fewer.
    pub quick: bool,
}

impl Plan {
    /// Fills in what was left open.
    #[must_use]
    pub fn of(options: &Options) -> Self {
        let Options { rounds, seconds, quick, backends, ipv6, .. } = *options;
        // The table has to be empty between two kinds of connections, which takes longer than all the rest.
        let usual = Part::ALL.into_iter().filter(|part| !quick || *part != Part::Churn);
        let parts = match options.only.as_slice() {
            [] => usual.collect(),
            only => Part::ALL.into_iter().filter(|part| only.contains(part)).collect(),
        };
        let few = |few: &[Scenario], all: &[Scenario]| if quick { few.to_vec() } else { all.to_vec() };
        let measures: &[Measure] = if quick {
            &[Measure::TcpRoundTrips, Measure::TcpConnections, Measure::UdpPackets]
        } else {
            &Measure::ALL
        };
        Self {
            parts,
            rounds: if quick { QUICK_ROUNDS } else { rounds.into() },
            seconds: if quick { QUICK_SECONDS } else { seconds },
            before: options.before.clone(),
            family: if ipv6 { Inner::V6 } else { Inner::V4 },
            units: if quick { Unit::FEW.to_vec() } else { Unit::ALL.to_vec() },
            services: chosen(&options.services, if quick { &SERVICES[..2] } else { &SERVICES }),
            backends,
            scenarios: chosen(
                &options.scenario,
                &few(&[Scenario::ClusterIpRemote, Scenario::NodePortRemote], &Scenario::ALL),
            ),
            routed_scenarios: few(&[Scenario::ClusterIpRemote], &Scenario::REMOTE),
            node_port_scenarios: few(&[Scenario::NodePortRemote], &Scenario::NODE_PORTS),
            pod_scenarios: few(&[Scenario::ClusterIpRemote], &Scenario::PODS),
            measures: chosen(&options.measure, measures),
            dataplanes: chosen(&options.dataplane, &Dataplane::USUAL),
            connections: if quick { connections::FEW.to_vec() } else { connections::NUMBERS.to_vec() },
            flows: if quick { many_flows::FEW.to_vec() } else { many_flows::NUMBERS.to_vec() },
            quick,
        }
    }

    /// Of each figure.
    #[must_use]
    pub fn window(&self) -> Window {
        Window::new(Duration::from_secs_f64(self.seconds))
    }
}

fn chosen<T: Clone>(chosen: &[T], usual: &[T]) -> Vec<T> {
    if chosen.is_empty() { usual.to_vec() } else { chosen.to_vec() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bench::options::tests::parse;

    fn plan(line: &str) -> Plan {
        Plan::of(&parse(line).unwrap())
    }

    #[test]
    fn a_full_run_is_everything() {
        let plan = plan("bench");
        assert_eq!((plan.parts.len(), plan.rounds), (Part::ALL.len(), 5));
        assert_eq!(plan.services, [1, 1000, 10_000]);
        assert_eq!(plan.connections.last(), Some(&100_000));
        assert_eq!(plan.flows.last(), Some(&65_536));
    }

    #[test]
    fn a_quick_run_is_less_of_it() {
        let plan = plan("bench --quick");
        assert_eq!(plan.rounds, 3);
        assert!(!plan.parts.contains(&Part::Churn));
        assert_eq!(plan.services, [1, 1000]);
        assert_eq!(plan.flows, [1, 1024]);
    }

    #[test]
    fn what_was_chosen_is_what_is_measured() {
        let plan = plan("bench --quick --only churn,end-to-end --services 7 --measure tcp-stream");
        assert_eq!(plan.parts, [Part::EndToEnd, Part::Churn]);
        assert_eq!((plan.services, plan.measures), (vec![7], vec![Measure::TcpStream]));
    }
}
