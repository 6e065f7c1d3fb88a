//! Tables of services.

use std::fmt;

use comfy_table::Table;
use serde::Serialize;

use super::table::{Look, numbers, section, show};
use crate::bench::{
    measure::Measure,
    services::{Dataplane, Load, Ratio, Scenario, Series, Side},
    spread::Spread,
};

/// What was measured of services.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Services {
    /// How long they took to load.
    pub loads: Vec<Load>,
    /// What was measured.
    pub series: Vec<Series>,
    /// The same, compared.
    pub ratios: Vec<Ratio>,
}

impl Services {
    /// Where there are too few services for that to say something.
    #[must_use]
    pub fn without_loads(self) -> Self {
        Self { loads: Vec::new(), ..self }
    }

    /// All tables with their titles; nothing if nothing was measured.
    pub fn tables(&self, what: &str, look: Look) -> Result<String, fmt::Error> {
        let mut text = String::new();
        for scenario in Scenario::ALL {
            if self.series.iter().any(|series| series.scenario == scenario) {
                if !self.ratios.is_empty() {
                    let title = format!("{what}, {}: ratios", scenario.name());
                    section(&mut text, &title, &self.ratio_table(scenario), look)?;
                }
                let title = format!("{what}, {}: the figures behind them, medians", scenario.name());
                section(&mut text, &title, &self.series_table(scenario), look)?;
            }
        }
        if !self.loads.is_empty() {
            section(
                &mut text,
                "Services: time to load all of them on both nodes at once",
                &self.load_table(),
                look,
            )?;
        }
        Ok(text)
    }

    fn ratio_table(&self, scenario: Scenario) -> Table {
        let of_scenario = || self.ratios.iter().filter(move |ratio| ratio.scenario == scenario);
        let measures = self.measures();
        let mut table = numbers(&["", "to"], &measures.clone().map(Measure::name).collect::<Vec<_>>());
        // Podlane against the others comes first, then everything against itself.
        for with_itself in [false, true] {
            let mut shown: Vec<(Side, Side)> = Vec::new();
            for Ratio { side, to, .. } in of_scenario() {
                if (side.dataplane == to.dataplane) != with_itself || shown.contains(&(*side, *to)) {
                    continue;
                }
                shown.push((*side, *to));
                let cell = |measure| {
                    let found = of_scenario()
                        .find(|ratio| (ratio.side, ratio.to, ratio.measure) == (*side, *to, measure));
                    found.map_or_else(String::new, |ratio| show(ratio.times, |value| format!("{value:.2}")))
                };
                table.add_row(
                    [self.name(*side), self.name(*to)].into_iter().chain(measures.clone().map(cell)),
                );
            }
        }
        table
    }

    fn series_table(&self, scenario: Scenario) -> Table {
        let measures = self.measures();
        let mut table = numbers(&[""], &measures.clone().map(Measure::name).collect::<Vec<_>>());
        for side in &self.sides() {
            let cell = |measure: Measure| {
                let mut of_scenario = self.series.iter().filter(|series| series.scenario == scenario);
                let found = of_scenario.find(|series| (series.side, series.measure) == (*side, measure));
                found.map_or_else(String::new, |series| measure.show(Spread::of(&series.values).median))
            };
            table.add_row([self.name(*side)].into_iter().chain(measures.clone().map(cell)));
        }
        table
    }

    fn load_table(&self) -> Table {
        let mut table = numbers(&["services"], &Dataplane::USUAL.map(Dataplane::name));
        let mut shown: Vec<u16> = Vec::new();
        for Load { side: Side { services, .. }, .. } in &self.loads {
            if shown.contains(services) {
                continue;
            }
            shown.push(*services);
            let cell = |dataplane| {
                let side = Side { dataplane, services: *services };
                let found = self.loads.iter().find(|load| load.side == side);
                found.map_or_else(String::new, |load| format!("{:.2} s", load.seconds))
            };
            table.add_row([services.to_string()].into_iter().chain(Dataplane::USUAL.map(cell)));
        }
        table
    }

    /// Those that were measured, in the order in which they were.
    fn sides(&self) -> Vec<Side> {
        let mut sides = Vec::new();
        for Series { side, .. } in &self.series {
            if !sides.contains(side) {
                sides.push(*side);
            }
        }
        sides
    }

    /// With the number of services, unless all have as many.
    fn name(&self, side: Side) -> String {
        let Side { dataplane, services } = side;
        if self.series.iter().all(|series| series.side.services == services) {
            dataplane.name().to_owned()
        } else {
            format!("{}, {services}", dataplane.name())
        }
    }

    /// Those that were taken, in their usual order.
    fn measures(&self) -> impl Iterator<Item = Measure> + Clone {
        let taken = |measure: &Measure| self.series.iter().any(|series| series.measure == *measure);
        Measure::ALL.into_iter().filter(taken)
    }
}
