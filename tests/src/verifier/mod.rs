//! What the kernel's verifier makes of each program: how many instructions it goes through, how many states it keeps, how deep the stack
//! gets. [`budget`] is what has been looked at and recorded.

pub mod budget;
mod load;
mod log;
mod stack;

use std::{collections::BTreeMap, fs, time::Duration};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use self::stack::Frames;
use crate::progrun;

/// Every feature, those to come too: what is off costs nothing.
pub const ALL: u32 = u32::MAX;

/// What one program costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Figures {
    /// Instructions that the verifier has gone through, each as often as it has. The kernel gives up at a million.
    pub instructions: u64,
    /// States that it has kept to compare with.
    pub total_states: u64,
    /// Most states at one time.
    pub peak_states: u64,
    /// Bytes of the deepest chain of calls, as the kernel adds them up: 512 are the limit.
    pub stack: u64,
}

/// What all programs cost on a kernel.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Major and minor version.
    pub kernel: String,
    /// Figures by program.
    pub programs: BTreeMap<String, Figures>,
}

/// What one program was measured as.
#[derive(Clone, Debug)]
pub struct Measured {
    /// Its name.
    pub program: String,
    /// What it costs.
    pub figures: Figures,
    /// How long the verifier took.
    pub time: Duration,
}

/// Has this kernel verify every program, with the constants of a node on which everything is on.
pub fn measure() -> Result<Vec<Measured>> {
    let loadable = loadable()?;
    loadable.programs().into_iter().map(|program| one(&loadable, program)).collect()
}

/// The same of one program.
pub fn measure_one(program: &str) -> Result<Measured> {
    one(&loadable()?, program)
}

fn loadable() -> Result<load::Loadable> {
    let path = progrun::object("podlane.o")?;
    let object = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
    load::Loadable::new(&object, &progrun::node(ALL))
}

fn one(loadable: &load::Loadable, program: &str) -> Result<Measured> {
    let verified = loadable.verify(program).with_context(|| format!("program {program} is not taken"))?;
    let log = log::read(&verified.log)
        .with_context(|| format!("the verifier's log of {program}:\n{}", verified.log))?;
    let stack = stack::deepest(&verified.instructions, &log.depths, frames(&series()?))
        .with_context(|| format!("the stack of {program}"))?;
    let figures = Figures {
        instructions: log.instructions,
        total_states: log.total_states,
        peak_states: log.peak_states,
        stack,
    };
    Ok(Measured { program: program.to_owned(), figures, time: log.time })
}

impl Report {
    /// What was measured on this kernel.
    pub fn new(measured: &[Measured]) -> Result<Self> {
        let programs = measured.iter().map(|one| (one.program.clone(), one.figures)).collect();
        Ok(Self { kernel: series()?, programs })
    }

    /// The reports among lines of output, one per line: what a machine prints on its console may be around them.
    #[must_use]
    pub fn among(output: &str) -> Vec<Self> {
        output.lines().filter_map(|line| serde_json::from_str(line.trim()).ok()).collect()
    }
}

/// Major and minor version of the running kernel.
pub fn series() -> Result<String> {
    let release = nix::sys::utsname::uname().context("uname")?.release().to_string_lossy().into_owned();
    let end = release.match_indices('.').nth(1).map_or(release.len(), |(end, _)| end);
    Ok(release[..end].to_owned())
}

/// How the kernels of a series count the stack.
fn frames(series: &str) -> Frames {
    let mut numbers = series.split('.').map(|number| number.parse().unwrap_or(0));
    let version: (u32, u32) = (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0));
    if version >= (6, 8) { Frames::Compiled } else { Frames::Interpreted }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_counted_as_the_kernel_does() {
        for (series, expected) in [
            ("5.15", Frames::Interpreted),
            ("6.1", Frames::Interpreted),
            ("6.8", Frames::Compiled),
            ("6.12", Frames::Compiled),
            ("7.0", Frames::Compiled),
        ] {
            assert_eq!(frames(series), expected, "{series}");
        }
    }

    #[test]
    fn reports_are_found_on_a_console() {
        let report = r#"{"kernel":"6.1","programs":{"to_pod":{"instructions":5,"total_states":4,"peak_states":3,"stack":2}}}"#;
        let found = Report::among(&format!("[ 0.1] Linux\n{report}\r\n{{\"other\": 1}}\npower off\n"));
        assert_eq!(found.len(), 1);
        assert_eq!((found[0].kernel.as_str(), found[0].programs["to_pod"].stack), ("6.1", 2));
    }
}
