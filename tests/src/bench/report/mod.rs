//! What a run of the benches gave, as tables and as JSON.

mod churn;
mod pods;
mod services;
mod table;

use std::fmt::{self, Write as _};

use serde::Serialize;

pub use self::{services::Services, table::Look};
use super::{
    arrivals::Arrival,
    churn::Churn,
    end_to_end::{Ratio, Series},
    machine::Machine,
    programs::{Cost, Facts},
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
    /// What the kernel says of the programs.
    pub programs: Vec<Facts>,
    /// What was measured of services.
    pub services: Services,
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
            programs: Vec::new(),
            services: Services::default(),
            churns: Vec::new(),
        }
    }

    /// Each part that was measured: its name, and all its tables with their titles.
    pub fn parts(&self, look: Look) -> Result<Vec<(&'static str, String)>, fmt::Error> {
        let parts = [
            ("end-to-end", pods::end_to_end(self, look)?),
            ("programs", pods::programs(self, look)?),
            ("arrivals", pods::arrivals(self, look)?),
            ("services", self.services.tables(look)?),
            ("churn", churn::tables(&self.churns, look)?),
        ];
        let measured = parts.into_iter().filter(|(_, tables)| !tables.is_empty());
        measured.map(|(part, tables)| Ok((part, self.circumstances()? + &tables))).collect()
    }

    /// Where and how.
    fn circumstances(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        let Self { machine, command, rounds, seconds, .. } = self;
        let Machine { kernel, processor, cores, load_before } = machine;
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
