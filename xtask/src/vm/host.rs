//! The same suites on the kernel of this machine.

use std::process::Command;

use anyhow::Result;

use super::{console, machine::Account, report::Column, selection::Selection};
use crate::{
    command,
    test::{self, Built},
};

/// Runs them, and watches the log meanwhile.
pub(super) fn run(built: &Built, selection: &Selection) -> Result<Column> {
    let before = kernel_log();
    let (suites, interrupted) = test::on_host(&selection.suites, built, &selection.arguments)?;
    // The log is a ring: what has been pushed out of it is not in either.
    let last = before.lines().last().unwrap_or_default().to_owned();
    let after = kernel_log();
    let new = after.rsplit_once(&last).map_or(after.as_str(), |(_, new)| new);
    let wrong = if last.is_empty() { "" } else { new }.lines().filter_map(console::judge);
    let wrong = wrong.map(|finding| format!("{}: {}", finding.meaning, finding.line)).collect();
    let release = command::output(Command::new("uname").arg("-r"))?.trim_end().to_owned();
    let account = Account { suites, wrong, interrupted, boot: None };
    Ok(Column { label: "host".to_owned(), release, how: "as it is".to_owned(), account })
}

/// What this machine's kernel has said; nothing where that may not be read.
fn kernel_log() -> String {
    command::as_root("dmesg").and_then(|mut dmesg| command::output(&mut dmesg)).unwrap_or_default()
}
