//! The figures that somebody has looked at: `tests/verifier-budget.toml`.

use std::{collections::BTreeMap, fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result};

use super::{Figures, Report};

/// By how many hundredths a figure may differ from what is recorded.
const TOLERANCE: u64 = 10;

const HEAD: &str = "\
# What the verifier of each kernel series makes of each program, on a node with every feature on.
#
# `cargo xtask test --only program -- budget` fails when a figure has grown by more than a tenth: look at what has made it grow, and
# record it by `cargo xtask verifier-budget --write` on that kernel (from a VM: `--write --from <what it printed>`).
# The kernel's limits are 1000000 instructions and 512 bytes of stack.
";

/// Figures by kernel series and program.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Budget(BTreeMap<Series, BTreeMap<String, Figures>>);

/// Major and minor version, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Series(u32, u32);

/// What a comparison has come to, as lines for a person.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// What is not within the budget, or not in it.
    pub failures: Vec<String>,
    /// What has become much cheaper, and is better recorded before it grows again.
    pub savings: Vec<String>,
}

impl Budget {
    /// The one of this checkout, as it was when this was compiled.
    pub fn recorded() -> Result<Self> {
        Self::parse(include_str!("../../verifier-budget.toml"))
    }

    /// The file.
    pub fn load(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
        Self::parse(&text).with_context(|| path.display().to_string())
    }

    fn parse(text: &str) -> Result<Self> {
        let tables: BTreeMap<String, BTreeMap<String, Figures>> = toml::from_str(text)?;
        let parsed = tables.into_iter().map(|(series, programs)| Ok((Series::parse(&series)?, programs)));
        Ok(Self(parsed.collect::<Result<_>>()?))
    }

    /// Takes the figures of a kernel in place of those it has.
    pub fn record(&mut self, report: Report) -> Result<()> {
        self.0.insert(Series::parse(&report.kernel)?, report.programs);
        Ok(())
    }

    /// Writes the file.
    pub fn save(&self, path: &Path) -> Result<()> {
        fs::write(path, self.render()?).with_context(|| format!("write {}", path.display()))
    }

    fn render(&self) -> Result<String> {
        let mut text = HEAD.to_owned();
        for (Series(major, minor), programs) in &self.0 {
            writeln!(text, "\n[\"{major}.{minor}\"]")?;
            for (program, figures) in programs {
                let Figures { instructions, total_states, peak_states, stack } = figures;
                writeln!(
                    text,
                    "{program:<18} = {{ instructions = {instructions:>6}, total_states = {total_states:>5}, \
                     peak_states = {peak_states:>4}, stack = {stack:>3} }}"
                )?;
            }
        }
        Ok(text)
    }

    /// Errs unless something is recorded for that kernel series.
    pub fn has(&self, series: &str) -> Result<()> {
        self.of(series).map(drop)
    }

    fn of(&self, series: &str) -> Result<&BTreeMap<String, Figures>> {
        let recorded = self.0.get(&Series::parse(series)?);
        recorded.with_context(|| format!("nothing is recorded of the verifier of Linux {series}"))
    }

    /// Compares with what is recorded for that kernel.
    pub fn compare(&self, report: &Report) -> Result<Comparison> {
        let recorded = self.of(&report.kernel)?;
        let mut comparison = Comparison::default();
        for (program, now) in &report.programs {
            match recorded.get(program) {
                Some(before) => comparison.add(program, before, now),
                None => comparison.failures.push(format!("{program} is not recorded")),
            }
        }
        let gone = recorded.keys().filter(|program| !report.programs.contains_key(*program));
        comparison.failures.extend(gone.map(|program| format!("{program} is recorded and is no more")));
        Ok(comparison)
    }
}

impl Comparison {
    fn add(&mut self, program: &str, before: &Figures, now: &Figures) {
        for (figure, before, now) in [
            ("instructions", before.instructions, now.instructions),
            ("total_states", before.total_states, now.total_states),
            ("peak_states", before.peak_states, now.peak_states),
            ("stack", before.stack, now.stack),
        ] {
            let line = || format!("{program}: {figure} from {before} to {now}{}", percent(before, now));
            if now * 100 > before * (100 + TOLERANCE) {
                self.failures.push(line());
            } else if now * 100 < before * (100 - TOLERANCE) {
                self.savings.push(line());
            }
        }
    }
}

fn percent(before: u64, now: u64) -> String {
    let difference = now.abs_diff(before) * 100;
    let sign = if now < before { '-' } else { '+' };
    difference.checked_div(before).map_or_else(String::new, |percent| format!(" ({sign}{percent} %)"))
}

impl Series {
    fn parse(text: &str) -> Result<Self> {
        let (major, minor) = text.split_once('.').with_context(|| format!("`{text}` is no kernel series"))?;
        let number = |digits: &str| digits.parse().with_context(|| format!("`{text}` is no kernel series"));
        Ok(Self(number(major)?, number(minor)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figures(instructions: u64, stack: u64) -> Figures {
        Figures { instructions, total_states: 50, peak_states: 20, stack }
    }

    fn report(kernel: &str, programs: &[(&str, Figures)]) -> Report {
        let programs = programs.iter().map(|(name, figures)| ((*name).to_owned(), *figures)).collect();
        Report { kernel: kernel.to_owned(), programs }
    }

    fn budget() -> Budget {
        let mut budget = Budget::default();
        for kernel in ["6.18", "6.1", "6.12"] {
            budget
                .record(report(kernel, &[("from_pod", figures(1000, 400)), ("to_pod", figures(100, 32))]))
                .unwrap();
        }
        budget
    }

    #[test]
    fn what_is_written_is_read_again() {
        let text = budget().render().unwrap();
        assert_eq!(Budget::parse(&text).unwrap(), budget());
        let series: Vec<_> = text.lines().filter(|line| line.starts_with('[')).collect();
        assert_eq!(series, ["[\"6.1\"]", "[\"6.12\"]", "[\"6.18\"]"], "a diff shows what has changed");
    }

    #[test]
    fn a_tenth_more_is_tolerated_and_no_more() {
        let with = |from_pod| {
            let report = report("6.12", &[("from_pod", from_pod), ("to_pod", figures(100, 32))]);
            budget().compare(&report).unwrap()
        };
        assert_eq!(with(figures(1100, 440)), Comparison::default());
        assert_eq!(with(figures(1101, 400)).failures, ["from_pod: instructions from 1000 to 1101 (+10 %)"]);
        assert_eq!(with(figures(1000, 448)).failures, ["from_pod: stack from 400 to 448 (+12 %)"]);
        assert_eq!(with(figures(900, 400)), Comparison::default());
        let cheaper = with(figures(500, 400));
        assert!(cheaper.failures.is_empty());
        assert_eq!(cheaper.savings, ["from_pod: instructions from 1000 to 500 (-50 %)"]);
    }

    #[test]
    fn programs_that_come_and_go_are_recorded_first() {
        let other = report("6.18", &[("from_pod", figures(1000, 400)), ("sideways", figures(1, 1))]);
        let comparison = budget().compare(&other).unwrap();
        assert_eq!(comparison.failures, ["sideways is not recorded", "to_pod is recorded and is no more"]);
    }

    #[test]
    fn another_kernel_has_no_budget() {
        assert!(budget().compare(&report("6.13", &[])).is_err());
        assert!(budget().has("6.13").is_err() && budget().has("6.12").is_ok());
    }
}
