//! `bench`: Podlane's dataplane against the kernel's own and against a bare wire, in one run.

use std::{process::ExitCode, thread};

use anyhow::{Context as _, Result};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use testbed::{bench, registry};

/// Measure Podlane against the kernel's own dataplane and against a bare wire, all in one run.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Arguments {
    #[command(flatten)]
    options: bench::Options,
}

fn main() -> ExitCode {
    let Arguments { options } = Arguments::parse();
    match clean_up_when_interrupted().and_then(|()| bench::run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C takes the namespaces down too.
fn clean_up_when_interrupted() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    // Before any other thread is made: each inherits that these wait for the one that asks for them.
    signals.thread_block().context("block SIGINT and SIGTERM")?;
    thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            eprintln!("\n{signal}: taking everything down");
            if let Err(error) = registry::clean_own() {
                eprintln!("error: {error:#}");
            }
            std::process::exit(130);
        }
    });
    Ok(())
}
