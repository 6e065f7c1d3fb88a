//! Which tests are run, and how they are dealt out to the guests of a kernel.

use std::{path::Path, process::Command};

use anyhow::{Context as _, Result, ensure};

use super::{plan::Run, smoke};
use crate::{
    command,
    test::{
        Built,
        suite::{Binary, Suite},
    },
};

/// Which tests.
#[derive(Debug, Clone)]
pub(super) struct Selection {
    pub(super) suites: Vec<Suite>,
    /// Of the end-to-end tests only [`smoke`]'s.
    pub(super) smoke: bool,
    pub(super) arguments: Vec<String>,
}

/// What one guest is to run.
pub(super) type Share<'a> = Vec<(&'a Binary, Run)>;

/// Test binaries that say nothing about a kernel: what they read is the checkout.
const NOT_OF_A_KERNEL: [&str; 1] = ["tests::acceptance"];

impl Selection {
    /// The test binaries to run, each with the names of its tests where not all are to be run.
    pub(super) fn binaries<'a>(&self, built: &'a Built) -> Vec<(&'a Binary, Vec<String>)> {
        let of_kernel = |binary: &&Binary| {
            self.suites.contains(&binary.suite)
                // Units of the testbed itself are not named `<package>::<target>`.
                && binary.name.contains("::")
                && binary.is_test_target
                && !NOT_OF_A_KERNEL.contains(&binary.name.as_str())
        };
        let chosen = |binary: &'a Binary| {
            let names = smoke::tests(&binary.name);
            match (self.smoke && binary.suite == Suite::E2e, names.is_empty()) {
                (true, true) => None,
                (true, false) => Some((binary, names)),
                (false, _) => Some((binary, Vec::new())),
            }
        };
        built.binaries.iter().filter(of_kernel).filter_map(chosen).collect()
    }

    /// What each of so many guests of a kernel is to run.
    pub(super) fn divide<'a>(&self, built: &'a Built, guests: usize) -> Result<Vec<Share<'a>>> {
        let binaries = self.binaries(built);
        ensure!(!binaries.is_empty(), "there is nothing to run");
        let mut divided: Vec<Share<'a>> = (0..guests).map(|_| Vec::new()).collect();
        let mut turn = 0;
        for (binary, smoke) in binaries {
            let names = if smoke.is_empty() && guests > 1 {
                names_in(&binary.executable, &binary.directory, &self.arguments)?
            } else {
                smoke
            };
            for (share, names) in divided.iter_mut().zip(deal(names, guests, &mut turn)) {
                // To the only guest a test binary goes whole, which no names mean.
                if guests == 1 || !names.is_empty() {
                    share.push((binary, self.run_of(binary, &names)));
                }
            }
        }
        divided.retain(|runs| !runs.is_empty());
        Ok(divided)
    }

    fn run_of(&self, binary: &Binary, names: &[String]) -> Run {
        let mut arguments = vec!["--show-output".to_owned(), "--color=never".to_owned()];
        if let Some(threads) = binary.suite.threads() {
            arguments.push(format!("--test-threads={threads}"));
        }
        if !names.is_empty() {
            arguments.push("--exact".to_owned());
            arguments.extend(names.iter().cloned());
        }
        arguments.extend(self.arguments.iter().cloned());
        Run { program: binary.executable.clone(), directory: binary.directory.clone(), arguments }
    }
}

/// The names of a test binary's tests, as the arguments choose them, in its order.
fn names_in(binary: &Path, directory: &Path, arguments: &[String]) -> Result<Vec<String>> {
    let mut list = Command::new(binary);
    list.current_dir(directory).args(["--list", "--format=terse"]).args(arguments);
    let listed = command::output(&mut list).context("list the tests of a test binary")?;
    Ok(listed.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect())
}

/// Deals things out to so many, one after the other, beginning with the one whose turn it is. What lies together may be
/// alike, and take alike long.
fn deal<T>(things: Vec<T>, hands: usize, turn: &mut usize) -> Vec<Vec<T>> {
    let mut dealt: Vec<Vec<T>> = (0..hands).map(|_| Vec::new()).collect();
    for thing in things {
        dealt[*turn % hands].push(thing);
        *turn += 1;
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::project;

    #[test]
    fn every_thing_is_dealt_once_and_the_turn_goes_on() {
        let mut turn = 0;
        assert_eq!(deal(vec![1, 2, 3], 2, &mut turn), [vec![1, 3], vec![2]]);
        assert_eq!(deal(vec![4, 5], 2, &mut turn), [vec![5], vec![4]]);
    }

    #[test]
    fn a_test_binary_lists_its_tests() {
        let own = std::env::current_exe().unwrap();
        let arguments = ["selection::tests::a_test_binary".to_owned()];
        let names = names_in(&own, project::root(), &arguments).unwrap();
        assert_eq!(names, ["vm::selection::tests::a_test_binary_lists_its_tests"]);
    }
}
