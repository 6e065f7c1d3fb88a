//! What a run of the benches gave, as tables and as JSON.

use std::fmt::{self, Display, Write as _};

use comfy_table::{CellAlignment, Table, presets};
use serde::Serialize;

use super::{
    end_to_end::{COMPARISONS, Ratio, Series},
    machine::Machine,
    measure::Measure,
    programs::{Cost, Facts},
    spread::Spread,
    topology::{Inner, Side},
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
    /// What the kernel says of the programs.
    pub programs: Vec<Facts>,
}

/// What tables look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// On a terminal.
    Terminal,
    /// In a page of documentation.
    Markdown,
}

impl Report {
    /// All tables with their titles.
    pub fn tables(&self, look: Look) -> Result<String, fmt::Error> {
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
        if !self.series.is_empty() {
            section(
                &mut text,
                "Ratios, median (smallest to largest of the rounds)",
                &self.ratio_table(),
                look,
            )?;
            section(&mut text, "The figures behind them, medians", &self.series_table(), look)?;
        }
        if !self.costs.is_empty() {
            section(&mut text, "Run time of the programs, nanoseconds", &self.cost_table(), look)?;
        }
        if !self.programs.is_empty() {
            section(&mut text, "The programs", &self.program_table(), look)?;
        }
        Ok(text)
    }

    fn ratio_table(&self) -> Table {
        let mut table = numbers(&["", "to"], &Measure::ALL.map(Measure::name));
        for (side, to) in COMPARISONS {
            let of_pair = self.ratios.iter().filter(|ratio| (ratio.side, ratio.to) == (side, to));
            let ratios = of_pair.map(|ratio| show(ratio.times, |value| format!("{value:.2}")));
            let to = if to == Side::Direct { "direct" } else { "kernel" };
            table.add_row([side.name().to_owned(), to.to_owned()].into_iter().chain(ratios));
        }
        table
    }

    fn series_table(&self) -> Table {
        let mut table = numbers(&[""], &Measure::ALL.map(Measure::name));
        for side in Side::ALL {
            let of_side = self.series.iter().filter(|series| series.side == side);
            let medians = of_side.map(|series| series.measure.show(Spread::of(&series.values).median));
            table.add_row([side.name().to_owned()].into_iter().chain(medians));
        }
        table
    }

    fn cost_table(&self) -> Table {
        let mut table = numbers(&["program", "does"], &[Inner::V4, Inner::V6].map(Inner::name));
        let mut shown: Vec<(&str, &str)> = Vec::new();
        for Cost { program, does, .. } in &self.costs {
            if shown.contains(&(program, does)) {
                continue;
            }
            shown.push((program, does));
            let of_family = |family| {
                let mut same =
                    self.costs.iter().filter(|cost| (cost.program, cost.does) == (*program, *does));
                same.find(|cost| cost.family == family)
            };
            let cell = |family| {
                of_family(family)
                    .map_or_else(String::new, |cost| show(cost.nanoseconds, |value| format!("{value:.0}")))
            };
            table.add_row([(*program).to_owned(), (*does).to_owned(), cell(Inner::V4), cell(Inner::V6)]);
        }
        table
    }

    fn program_table(&self) -> Table {
        let mut table =
            numbers(&["program"], &["instructions verified", "translated, bytes", "machine code, bytes"]);
        for Facts { program, verified_instructions, translated_bytes, jited_bytes } in &self.programs {
            let or_unknown =
                |value: &Option<u32>| value.map_or_else(|| "?".to_owned(), |value| value.to_string());
            table.add_row([
                (*program).to_owned(),
                or_unknown(verified_instructions),
                or_unknown(translated_bytes),
                jited_bytes.to_string(),
            ]);
        }
        table
    }
}

fn section(text: &mut String, title: &str, table: &Table, look: Look) -> fmt::Result {
    let mut table = table.clone();
    match look {
        Look::Terminal => writeln!(text, "\n{title}")?,
        Look::Markdown => writeln!(text, "\n### {title}\n")?,
    }
    table.load_style(match look {
        Look::Terminal => presets::UTF8_FULL_CONDENSED,
        Look::Markdown => presets::ASCII_MARKDOWN,
    });
    writeln!(text, "{table}")
}

/// A table whose first columns are words and whose others are numbers.
fn numbers(words: &[&str], numbers: &[&str]) -> Table {
    let mut table = Table::new();
    table.set_header(words.iter().chain(numbers));
    for column in table.column_iter_mut().skip(words.len()) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    table
}

fn show<T: Display>(spread: Spread, number: impl Fn(f64) -> T) -> String {
    let Spread { median, min, max } = spread;
    format!("{} ({} to {})", number(median), number(min), number(max))
}
