//! Reading what a test binary of libtest prints.

use std::collections::BTreeMap;

use crate::child::End;

/// What one or more test binaries came to.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Tests that ran to their end and proved something.
    pub(crate) passed: usize,
    /// Names of those that failed, and of binaries that did not get to the end of their tests.
    pub(crate) failed: Vec<String>,
    /// Tests that could not be run here, with the reason.
    pub(crate) skipped: Vec<(String, String)>,
}

impl Counts {
    /// Adds another binary's.
    pub(crate) fn add(&mut self, other: Self) {
        let Self { passed, failed, skipped } = other;
        self.passed += passed;
        self.failed.extend(failed);
        self.skipped.extend(skipped);
    }
}

/// A reader of one binary's output, run with `--show-output`, line by line.
#[derive(Debug, Default)]
pub(crate) struct Reader {
    section: Section,
    /// The test whose name was printed and whose verdict was not.
    running: Option<String>,
    ok: usize,
    failed: Vec<String>,
    skipped: BTreeMap<String, String>,
    finished: bool,
}

#[derive(Debug, Default, PartialEq, Eq)]
enum Section {
    /// One line per test as it ends.
    #[default]
    Progress,
    /// What passed tests printed: of interest is only why a test did not really run.
    Successes,
    /// What failed tests printed, and the last lines.
    Failures,
}

impl Reader {
    /// Takes a line, and says whether a person should see it.
    pub(crate) fn line(&mut self, line: &str) -> bool {
        match line {
            "successes:" => self.section = Section::Successes,
            "failures:" => self.section = Section::Failures,
            _ => {}
        }
        if let Some(rest) = line.strip_prefix("running ") {
            // A documentation run prints one report after the other.
            self.section = Section::Progress;
            self.finished = false;
            return !rest.starts_with("0 tests");
        }
        if line.starts_with("test result: ") {
            self.section = Section::Progress;
            self.finished = true;
            return false;
        }
        match self.section {
            Section::Progress => {
                self.progress(line);
                !line.is_empty()
            }
            Section::Successes => {
                self.skip(line);
                false
            }
            Section::Failures => true,
        }
    }

    fn progress(&mut self, line: &str) {
        let Some((name, verdict)) = line.strip_prefix("test ").and_then(|rest| rest.split_once(" ... "))
        else {
            return;
        };
        let name = name.trim_end_matches(" - should panic").to_owned();
        self.running = None;
        match verdict.split_once(", ").map_or((verdict, "ignored"), |(word, reason)| (word, reason)) {
            ("ok", _) => self.ok += 1,
            ("FAILED", _) => self.failed.push(name),
            ("ignored", reason) => drop(self.skipped.insert(name, reason.to_owned())),
            _ => self.running = Some(name),
        }
    }

    /// `SKIPPED: <test>: <reason>`; a test's name may contain `::` but no space.
    fn skip(&mut self, line: &str) {
        let Some(rest) = line.trim_start().strip_prefix("SKIPPED: ") else { return };
        let (name, reason) = rest.split_once(": ").unwrap_or((rest, "no reason given"));
        // libtest has counted it as passed.
        if self.skipped.insert(name.to_owned(), reason.to_owned()).is_none() {
            self.ok = self.ok.saturating_sub(1);
        }
    }

    /// What the binary came to. One that ended before its last line, or that failed without naming a test, counts as
    /// one failure of its own; one that a person stopped does not.
    pub(crate) fn finish(self, binary: &str, end: End) -> Counts {
        let Self { ok, mut failed, skipped, finished, running, .. } = self;
        let place = running.map_or_else(|| binary.to_owned(), |test| format!("{test} in {binary}"));
        match end {
            End::Hung => failed.push(format!("{place} (printed nothing for too long)")),
            End::Lost => failed.push(format!("{place} (the guest died)")),
            End::Exited(status) if !finished => failed.push(format!("{place} (ended early: {status})")),
            End::Exited(status) if !status.success() && failed.is_empty() => {
                failed.push(format!("{binary} (no test failed, but: {status})"));
            }
            End::Interrupted(_) | End::Exited(_) => {}
        }
        Counts { passed: ok, failed, skipped: skipped.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

    use nix::sys::signal::Signal;

    use super::*;

    fn read_to(end: End, output: &str) -> (Counts, Vec<&str>) {
        let mut reader = Reader::default();
        let shown = output.lines().filter(|line| reader.line(line)).collect();
        (reader.finish("e2e", end), shown)
    }

    fn read(output: &str, success: bool) -> (Counts, Vec<&str>) {
        let code = if success { 0 } else { 101 };
        read_to(End::Exited(ExitStatus::from_raw(code << 8)), output)
    }

    const MIXED: &str = "
running 4 tests
test pf_1_same_node ... ok
test pf_2_needs_netkit ... ok
test slow ... ignored, run by hand
test ov_3_mtu ... FAILED

successes:

---- pf_1_same_node stdout ----
64 bytes from 10.200.0.4

---- pf_2_needs_netkit stdout ----
SKIPPED: pf_2_needs_netkit: this kernel has no netkit

successes:
    pf_1_same_node
    pf_2_needs_netkit

failures:

---- ov_3_mtu stdout ----
assertion failed

failures:
    ov_3_mtu

test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.10s
";

    #[test]
    fn passed_failed_and_skipped_are_told_apart() {
        let (counts, shown) = read(MIXED, false);
        assert_eq!(counts.passed, 1);
        assert_eq!(counts.failed, ["ov_3_mtu"]);
        let skipped: Vec<_> = counts.skipped.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
        assert_eq!(skipped, [("pf_2_needs_netkit", "this kernel has no netkit"), ("slow", "run by hand")]);
        assert!(shown.contains(&"assertion failed"), "what a failed test printed is shown");
        assert!(!shown.iter().any(|line| line.contains("64 bytes")), "what a passed test printed is not");
    }

    #[test]
    fn a_binary_that_dies_is_a_failure_of_the_test_that_ran() {
        let output = "running 2 tests\ntest one ... ok\ntest two ... ";
        let (counts, _) = read_to(End::Exited(ExitStatus::from_raw(6)), output);
        assert_eq!(counts.passed, 1);
        assert_eq!(counts.failed, ["two in e2e (ended early: signal: 6 (SIGABRT))"]);
        assert_eq!(read_to(End::Hung, output).0.failed, ["two in e2e (printed nothing for too long)"]);
        let stopped = read_to(End::Interrupted(Signal::SIGINT), output).0;
        assert_eq!((stopped.passed, stopped.failed.len()), (1, 0), "what a person stops has not failed");
    }

    #[test]
    fn a_bad_exit_code_is_a_failure_even_if_no_test_says_so() {
        let output = "running 0 tests\n\ntest result: ok. 0 passed; 0 failed; 0 ignored; 0 measured\n";
        assert_eq!(read(output, false).0.failed.len(), 1);
        assert_eq!(read(output, true), (Counts::default(), Vec::new()), "a binary without tests is silent");
    }

    #[test]
    fn several_reports_in_a_row_add_up() {
        let (counts, _) =
            read(&[MIXED, &MIXED.replace("_2", "_5").replace("slow", "slower")].concat(), false);
        assert_eq!((counts.passed, counts.failed.len(), counts.skipped.len()), (2, 2, 4));
    }

    #[test]
    fn a_test_that_is_to_panic_has_its_own_name() {
        let (counts, _) =
            read("running 1 test\ntest refuses - should panic ... FAILED\ntest result: FAILED\n", false);
        assert_eq!(counts.failed, ["refuses"]);
    }
}
