//! The account of a run on several kernels: a table of suite by kernel, and what failed or was skipped on which.

use std::{collections::BTreeMap, process::ExitCode};

use comfy_table::{Table, presets};
use nix::sys::signal::Signal;

use super::machine::Account;
use crate::test::suite::Suite;

/// What became of one kernel.
#[derive(Debug, Clone, Default)]
pub(crate) struct Column {
    /// As it was asked for.
    pub(crate) label: String,
    /// `uname -r`.
    pub(crate) release: String,
    /// How it was run.
    pub(crate) how: String,
    /// What it came to.
    pub(crate) account: Account,
}

impl Column {
    /// Tests that passed, what failed, what was skipped and why.
    pub(crate) fn totals(&self) -> (usize, Vec<String>, Vec<(String, String)>) {
        let (mut passed, mut failed, mut skipped) = (0, Vec::new(), Vec::new());
        for (counts, _) in self.account.suites.values() {
            passed += counts.passed;
            failed.extend(counts.failed.iter().cloned());
            skipped.extend(counts.skipped.iter().cloned());
        }
        failed.extend(self.account.wrong.iter().cloned());
        (passed, failed, skipped)
    }
}

/// Prints the account. Its last line is of the same form as that of `cargo xtask test`.
pub(crate) fn report(suites: &[Suite], columns: &[Column], interrupted: Option<Signal>) -> ExitCode {
    let (mut passed, mut failed, mut skipped) = (0, 0, 0);
    println!();
    let mut reasons: BTreeMap<(String, String), Vec<&str>> = BTreeMap::new();
    for column in columns {
        let (ok, failures, skips) = column.totals();
        passed += ok;
        failed += failures.len();
        skipped += skips.len();
        for skip in skips {
            reasons.entry(skip).or_default().push(&column.label);
        }
        for name in failures {
            println!("FAILED   {}: {name}", column.label);
        }
    }
    for ((name, reason), labels) in reasons {
        println!("skipped  {}: {name}: {reason}", labels.join(", "));
    }
    println!("\n{}\n", table(suites, columns));
    if let Some(signal) = interrupted {
        println!("stopped by {signal}: what had not run by then is not counted\n");
    }
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    match interrupted {
        Some(signal) => ExitCode::from(128_u8.saturating_add(u8::try_from(signal as i32).unwrap_or(0))),
        // A run of nothing proves nothing.
        None if failed == 0 && passed + skipped > 0 => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}

fn table(suites: &[Suite], columns: &[Column]) -> Table {
    let mut table = Table::new();
    let header = |column: &Column| format!("{}\n{}\n{}", column.label, column.release, column.how);
    table.load_style(presets::NOTHING);
    table.set_header(std::iter::once("suite".to_owned()).chain(columns.iter().map(header)));
    for suite in suites {
        let cell = |column: &Column| match column.account.suites.get(suite) {
            Some((counts, time)) => format!(
                "{} passed\n{} failed\n{} skipped\n{:.1} s",
                counts.passed,
                counts.failed.len(),
                counts.skipped.len(),
                time.as_secs_f64()
            ),
            None => "not run".to_owned(),
        };
        table.add_row(std::iter::once(suite.name().to_owned()).chain(columns.iter().map(cell)));
    }
    let boot = |column: &Column| {
        column.account.boot.map_or_else(|| "-".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()))
    };
    table.add_row(std::iter::once("boot".to_owned()).chain(columns.iter().map(boot)));
    let wrong = |column: &Column| match column.account.wrong.len() {
        0 => "clean".to_owned(),
        count => format!("{count} FAILED"),
    };
    table.add_row(std::iter::once("kernel's log, guest".to_owned()).chain(columns.iter().map(wrong)));
    table
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::test::libtest::Counts;

    fn column(label: &str, failed: &[&str], wrong: &[&str]) -> Column {
        let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
        let skipped = vec![("netkit".to_owned(), "no netkit".to_owned())];
        let counts = Counts { passed: 2, failed: texts(failed), skipped };
        let account = Account {
            suites: [(Suite::Program, (counts, Duration::from_secs(90)))].into(),
            wrong: texts(wrong),
            boot: Some(Duration::from_secs(8)),
            interrupted: None,
        };
        let how = "emulated".to_owned();
        Column { label: label.to_owned(), release: format!("{label}.0-cloud"), how, account }
    }

    #[test]
    fn the_table_is_suite_by_kernel() {
        let columns = [column("6.1", &[], &[]), column("6.12", &["one"], &["panic: x"])];
        let printed = table(&[Suite::Program, Suite::E2e], &columns).to_string();
        for text in
            ["6.1.0-cloud", "6.12.0-cloud", "emulated", "90.0 s", "not run", "8.0 s", "clean", "1 FAILED"]
        {
            assert!(printed.contains(text), "{text}:\n{printed}");
        }
    }

    #[test]
    fn what_is_wrong_with_a_guest_is_a_failure_too() {
        assert_eq!(column("6.1", &["one"], &["panic: x"]).totals().1, ["one", "panic: x"]);
        let code = |columns: &[Column]| format!("{:?}", report(&[Suite::Program], columns, None));
        let (good, bad) = (format!("{:?}", ExitCode::SUCCESS), format!("{:?}", ExitCode::FAILURE));
        assert_eq!(code(&[column("6.1", &[], &[])]), good);
        assert_eq!(code(&[column("6.1", &[], &[]), column("6.12", &[], &["panic: x"])]), bad);
        assert_eq!(code(&[column("6.1", &["one"], &[])]), bad);
        assert_eq!(code(&[]), bad, "nothing was run");
    }
}
