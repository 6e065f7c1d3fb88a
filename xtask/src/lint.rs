//! `cargo xtask lint`: everything that a change is held to and that is no test.

use std::{
    process::{Command, ExitCode, Stdio},
    time::Instant,
};

use anyhow::Result;
use comfy_table::{Table, presets};

use crate::{
    build_ebpf::{self, Variant},
    command,
};

/// Check formatting, lints, documentation and the lock file.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Options {
    /// Repair what can be repaired (formatting) instead of complaining about it.
    #[arg(long)]
    fix: bool,
}

/// One check: what it is about, and the command that makes it.
struct Check {
    name: &'static str,
    arguments: &'static [&'static str],
    /// Set for the command: (variable, value).
    environment: Option<(&'static str, &'static str)>,
}

const FORMAT: Check = Check { name: "format", arguments: &["fmt", "--all", "--check"], environment: None };
const REFORMAT: Check = Check { name: "format", arguments: &["fmt", "--all"], environment: None };

/// `dataplane-ebpf` is linted here as what it is on the host; for BPF it is compiled with the same lint table by
/// `build-ebpf`.
const CHECKS: [Check; 3] = [
    Check {
        name: "lock file",
        arguments: &["metadata", "--quiet", "--locked", "--format-version", "1"],
        environment: None,
    },
    Check {
        name: "clippy",
        arguments: &["clippy", "--workspace", "--all-targets", "--locked", "--", "-D", "warnings"],
        environment: None,
    },
    Check {
        name: "documentation",
        arguments: &["doc", "--workspace", "--no-deps", "--document-private-items", "--locked"],
        environment: Some(("RUSTDOCFLAGS", "-D warnings")),
    },
];

/// Runs the verb.
pub(crate) fn run(options: Options) -> Result<ExitCode> {
    // The loader does not compile without the programs that it embeds.
    if !Variant::Normal.path().is_file() {
        build_ebpf::build(&[Variant::Normal], true)?;
    }
    let format = if options.fix { REFORMAT } else { FORMAT };
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["check", "result", "seconds", "command"]);
    let mut clean = true;
    for check in std::iter::once(format).chain(CHECKS) {
        let mut cargo = command(&check);
        let started = Instant::now();
        let passed = command::run(&mut cargo).is_ok();
        clean &= passed;
        let result = if passed { "ok" } else { "FAILED" };
        let seconds = format!("{:.1}", started.elapsed().as_secs_f64());
        let shown = format!("cargo {}", check.arguments.join(" "));
        table.add_row([check.name, result, &seconds, &shown]);
    }
    println!("{table}");
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn command(check: &Check) -> Command {
    let Check { name: _, arguments, environment } = check;
    let mut cargo = command::cargo();
    cargo.args(*arguments).envs(*environment);
    if arguments.first() == Some(&"metadata") {
        // Asked for its exit code only; what is wrong it says on stderr.
        cargo.stdout(Stdio::null());
    }
    cargo
}
