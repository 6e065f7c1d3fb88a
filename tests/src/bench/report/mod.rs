//! What a run of the benches gave, as tables and as JSON.

mod by_number;
mod churn;
mod figures;
mod pods;
mod services;
mod table;

use std::fmt::{self, Write as _};

use serde::Serialize;

pub use self::{services::Services, table::Look};
use super::{
    arrivals::Arrival,
    churn::Churn,
    connections::Flood,
    end_to_end::{Ratio, Series},
    machine::Machine,
    many_flows::ManyFlows,
    options::Part,
    programs::{Cost, Facts},
    sizes::Size,
};

/// A whole run. Parts that were not asked for are empty.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// How: what to type for another run like it.
    pub command: String,
    /// Rounds.
    pub rounds: usize,
    /// Seconds of each measurement.
    pub seconds: f64,
    /// What was measured end to end.
    pub series: Vec<Series>,
    /// The same, compared.
    pub ratios: Vec<Ratio>,
    /// What the programs take for each path.
    pub costs: Vec<Cost>,
    /// What packets of the underlay take at either hook.
    pub arrivals: Vec<Arrival>,
    /// What one of many flows takes at XDP.
    pub many_flows: Vec<ManyFlows>,
    /// What the kernel says of the programs.
    pub programs: Vec<Facts>,
    /// What got through in packets of several sizes.
    pub sizes: Vec<Size>,
    /// What was measured of services.
    pub services: Services,
    /// The same of nodes that route to each other's pods.
    pub direct_routing: Services,
    /// The same of node ports at TC and at XDP.
    pub node_ports: Services,
    /// The same of services that are resolved for sockets.
    pub sockets: Services,
    /// What got through of packets of many connections.
    pub connections: Vec<Flood>,
    /// What became of a million connections.
    pub churns: Vec<Churn>,
}

impl Report {
    /// An empty one.
    #[must_use]
    pub fn new(machine: Machine, command: String, (rounds, seconds): (usize, f64)) -> Self {
        Self {
            machine,
            command,
            rounds,
            seconds,
            series: Vec::new(),
            ratios: Vec::new(),
            costs: Vec::new(),
            arrivals: Vec::new(),
            many_flows: Vec::new(),
            programs: Vec::new(),
            sizes: Vec::new(),
            services: Services::default(),
            direct_routing: Services::default(),
            node_ports: Services::default(),
            sockets: Services::default(),
            connections: Vec::new(),
            churns: Vec::new(),
        }
    }

    /// A part that was measured: circumstances, plots where the look has them, and all its tables with their titles.
    pub fn part(&self, part: Part, look: Look) -> Result<String, fmt::Error> {
        let tables = match part {
            Part::EndToEnd => pods::end_to_end(self, look)?,
            Part::Sizes => by_number::sizes(self, look)?,
            Part::Services => self.services.tables("Services", look)?,
            Part::DirectRouting => self.direct_routing.tables("Direct routing", look)?,
            Part::NodePort => self.node_ports.tables("Node ports", look)?,
            Part::Sockets => self.sockets.tables("By packet and by socket", look)?,
            Part::Connections => by_number::connections(&self.connections, look)?,
            Part::Programs => pods::programs(self, look)?,
            Part::Arrivals => pods::arrivals(self, look)?,
            Part::Churn => churn::tables(&self.churns, look)?,
        };
        let mut text = self.circumstances()?;
        if look == Look::Markdown {
            for (name, figure) in self.figures(part) {
                writeln!(text, "\n![{}](plots/{name}.svg)", figure.title)?;
            }
        }
        Ok(text + &tables)
    }

    /// Where and how.
    fn circumstances(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let Self { machine, command, rounds, seconds, .. } = self;
        let Machine { kernel, processor, cores, load_before, .. } = machine;
        writeln!(
            text,
            "`{command}`: {rounds} rounds of {seconds} s for each figure, on Linux {kernel}, {cores} cores ({processor}), load average before {load_before}."
        )?;
        if machine.is_busy() {
            writeln!(text, "\nOther work was running: these figures are rough.")?;
        }
        Ok(text)
    }
}
