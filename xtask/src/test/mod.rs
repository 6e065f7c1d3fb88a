//! `cargo xtask test`: every layer of tests, one account at the end.

pub(crate) mod libtest;
pub(crate) mod suite;

use std::{
    collections::BTreeMap,
    env,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use comfy_table::{CellAlignment, Table, presets};
use nix::sys::signal::Signal;

use self::{
    libtest::{Counts, Reader},
    suite::{Binary, Suite},
};
use crate::{
    build_ebpf::{self, Variant},
    child::{self, End},
    command, signals, tools, vm,
};

/// A test binary that prints nothing for so long hangs.
const PATIENCE: Duration = Duration::from_mins(10);

/// Run the tests: host, program-run, end-to-end, and some of those on other kernels in virtual machines.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Run only this suite (may be given more than once).
    #[arg(long, value_enum)]
    only: Vec<Suite>,
    /// For every test binary: a part of the names of the tests to run, and any option of libtest.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// What cargo has built for a run.
#[derive(Debug)]
pub(crate) struct Built {
    /// The test binaries.
    pub(crate) binaries: Vec<Binary>,
    /// The loader that tests start.
    pub(crate) loader: Option<PathBuf>,
    /// What removes what killed tests left.
    pub(crate) testbed: Option<PathBuf>,
}

/// What each suite came to, with the time that it took.
pub(crate) type Results = BTreeMap<Suite, (Counts, Duration)>;

/// Runs the verb.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let Options { only, arguments } = options;
    let suites: Vec<Suite> =
        Suite::ALL.into_iter().filter(|suite| only.is_empty() || only.contains(suite)).collect();
    let loads_programs = suites.iter().any(|suite| suite.loads_programs());

    if loads_programs {
        tools::install_missing();
    }
    let vms = suites.contains(&Suite::Vm).then(vm::prepare_suite);
    // The loader embeds the normal programs, so even host tests need them; the trace build is only ever loaded.
    let variants: &[Variant] =
        if loads_programs { &[Variant::Normal, Variant::Trace] } else { &[Variant::Normal] };
    build_ebpf::build(variants, true)?;
    let built = build(&suites)?;

    signals::catch()?;
    let (mut results, mut interrupted) = on_host(&suites, &built, arguments)?;
    if let Some(prepared) = vms
        && interrupted.is_none()
    {
        let started = Instant::now();
        let (counts, signal) = vm::suite(prepared, &built, arguments)?;
        results.insert(Suite::Vm, (counts, started.elapsed()));
        interrupted = signal;
    }
    Ok(report(&suites, only, &results, interrupted))
}

/// Runs those of the suites that run on this machine's own kernel, until a signal comes.
pub(crate) fn on_host(
    suites: &[Suite],
    built: &Built,
    arguments: &[String],
) -> Result<(Results, Option<Signal>)> {
    let needs_root = suites.iter().any(|suite| suite.needs_root());
    if needs_root {
        clean(built.testbed.as_deref());
    }
    let mut results = Results::new();
    let mut interrupted = None;
    for run in runs(suites, &built.binaries) {
        let started = Instant::now();
        let mut command = run.command(built.loader.as_deref(), arguments)?;
        let (counts, end) = follow(&mut command, run.suite(), &run.name())?;
        let (total, time) = results.entry(run.suite()).or_default();
        total.add(counts);
        *time += started.elapsed();
        if let End::Interrupted(signal) = end {
            interrupted = Some(signal);
            break;
        }
    }
    if needs_root {
        clean(built.testbed.as_deref());
    }
    Ok((results, interrupted))
}

/// Builds the test binaries of these suites and the programs that they start.
pub(crate) fn build(suites: &[Suite]) -> Result<Built> {
    let mut packages: Vec<&str> = suites.iter().flat_map(|suite| suite.packages()).copied().collect();
    packages.sort_unstable();
    packages.dedup();
    let build = |arguments: &[&str], packages: &[&str]| {
        let mut cargo = command::cargo();
        cargo.args(arguments).args(["--message-format", "json-render-diagnostics"]);
        for package in packages {
            cargo.args(["--package", package]);
        }
        command::output_with_stderr(&mut cargo)
    };

    let mut loader = None;
    let mut testbed = None;
    if suites.iter().any(|suite| suite.loads_programs()) {
        let messages = build(&["build", "--bins"], &["loader", "tests"])?;
        loader = suite::program(&messages, "loader");
        testbed = suite::program(&messages, "podlane-testbed");
    }
    let messages = build(&["test", "--no-run"], &packages)?;
    let mut binaries = suite::binaries(&messages);
    let in_vms = suites.contains(&Suite::Vm);
    binaries.retain(|b| suites.contains(&b.suite) || (in_vms && b.suite.loads_programs()));
    Ok(Built { binaries, loader, testbed })
}

/// A step of a run.
enum Run<'a> {
    Binary(&'a Binary),
    /// The examples in the documentation of the libraries, which only cargo can run.
    Documentation,
}

/// Every step, in order.
fn runs<'a>(suites: &[Suite], binaries: &'a [Binary]) -> Vec<Run<'a>> {
    let documentation = suites.contains(&Suite::Host).then_some(Run::Documentation);
    let binaries = binaries.iter().filter(|binary| suites.contains(&binary.suite));
    let mut runs: Vec<Run<'a>> = binaries.map(Run::Binary).chain(documentation).collect();
    runs.sort_by_key(Run::suite);
    runs
}

impl Run<'_> {
    fn suite(&self) -> Suite {
        match self {
            Self::Binary(binary) => binary.suite,
            Self::Documentation => Suite::Host,
        }
    }

    fn name(&self) -> String {
        match self {
            Self::Binary(binary) => binary.name.clone(),
            Self::Documentation => "documentation".into(),
        }
    }

    fn command(&self, loader: Option<&Path>, arguments: &[String]) -> Result<Command> {
        let mut command = match self {
            Self::Binary(Binary { suite, executable, directory, .. }) => {
                let mut command =
                    if suite.needs_root() { command::as_root(executable)? } else { Command::new(executable) };
                command.current_dir(directory).env("CARGO_MANIFEST_DIR", directory);
                if let Some(threads) = suite.threads() {
                    command.arg(format!("--test-threads={threads}"));
                }
                command
            }
            Self::Documentation => {
                let mut cargo = command::cargo();
                cargo.args(["test", "--quiet", "--doc", "--package", "common", "--package", "loader", "--"]);
                cargo.arg("--format=pretty");
                cargo
            }
        };
        if let Some(loader) = loader {
            command.env("PODLANE_LOADER", loader);
        }
        // Errors name what failed by themselves; panics still follow RUST_BACKTRACE.
        if env::var_os("RUST_LIB_BACKTRACE").is_none() {
            command.env("RUST_LIB_BACKTRACE", "0");
        }
        command.args(["--show-output", "--color=never"]).args(arguments);
        Ok(command)
    }
}

/// Runs a step, shows what a person wants to see of it, and reads its account.
fn follow(command: &mut Command, suite: Suite, name: &str) -> Result<(Counts, End)> {
    let mut reader = Reader::default();
    let mut said = false;
    let end = child::streamed(command, PATIENCE, |line| {
        if reader.line(line) {
            if !said {
                println!("\n{}: {name}", suite.name());
                said = true;
            }
            println!("{line}");
        }
    })?;
    Ok((reader.finish(name, end), end))
}

/// Removes what killed tests left: namespaces, pins, processes. A failure is a warning: the tests themselves tell
/// whether it matters.
fn clean(testbed: Option<&Path>) {
    let cleaned = testbed
        .context("package `tests` has no binary `podlane-testbed`")
        .and_then(command::as_root)
        .and_then(|mut command| command::run(command.arg("clean")));
    if let Err(error) = cleaned {
        eprintln!("warning: nothing was cleaned up: {error:#}");
    }
}

/// What there is to say against a run of nothing, which proves nothing: of a suite that was asked for by name, or of all together.
fn nothing_run(only: &[Suite], results: &Results) -> Vec<String> {
    let ran = |suite: &Suite| results.get(suite).is_some_and(|(counts, _)| *counts != Counts::default());
    if only.is_empty() && !Suite::ALL.iter().any(ran) {
        return vec!["no test was run: none has such a name".to_owned()];
    }
    let idle = only.iter().filter(|suite| !ran(suite));
    idle.map(|suite| format!("{}: no test was run: none has such a name", suite.name())).collect()
}

/// Prints the account. Its last line is alone on its line and always of the same form, for programs to read.
fn report(suites: &[Suite], only: &[Suite], results: &Results, interrupted: Option<Signal>) -> ExitCode {
    let mut table = Table::new();
    table.load_style(presets::NOTHING).set_header(["suite", "passed", "failed", "skipped", "seconds"]);
    let mut total = Counts::default();
    for suite in suites {
        let (counts, time) = results.get(suite).cloned().unwrap_or_default();
        let numbers = [counts.passed, counts.failed.len(), counts.skipped.len()].map(|n| n.to_string());
        let seconds = format!("{:.1}", time.as_secs_f64());
        table.add_row(std::iter::once(suite.name().to_owned()).chain(numbers).chain([seconds]));
        total.add(counts);
    }
    for column in table.column_iter_mut().skip(1) {
        column.set_cell_alignment(CellAlignment::Right);
    }
    let Counts { passed, mut failed, skipped } = total;
    if interrupted.is_none() {
        failed.extend(nothing_run(only, results));
    }
    println!();
    for (name, reason) in &skipped {
        println!("skipped  {name}: {reason}");
    }
    for name in &failed {
        println!("FAILED   {name}");
    }
    println!("\n{table}\n");
    if let Some(signal) = interrupted {
        println!("stopped by {signal}: what had not run by then is not counted\n");
    }
    println!("{passed} passed, {} failed, {} skipped", failed.len(), skipped.len());
    match interrupted {
        Some(signal) => ExitCode::from(128_u8.saturating_add(u8::try_from(signal as i32).unwrap_or(0))),
        None if failed.is_empty() => ExitCode::SUCCESS,
        None => ExitCode::FAILURE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_of_nothing_proves_nothing() {
        let skipped = Counts { skipped: vec![("udp".into(), "no root".into())], ..Counts::default() };
        let results = [(Suite::Host, Counts::default()), (Suite::E2e, skipped)];
        let mut results: Results = results.map(|(suite, counts)| (suite, (counts, Duration::ZERO))).into();
        assert_eq!(nothing_run(&[], &results).len(), 0);
        assert_eq!(nothing_run(&[Suite::E2e], &results).len(), 0, "skipped with a reason");
        let said = nothing_run(&[Suite::Host, Suite::E2e], &results);
        assert_eq!(said, ["host: no test was run: none has such a name"]);
        results.remove(&Suite::E2e);
        assert_eq!(nothing_run(&[], &results).len(), 1);
    }
}
