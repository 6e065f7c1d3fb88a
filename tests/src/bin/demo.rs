//! `demo`: a cluster of three nodes out of network namespaces, two of them served by Podlane; real traffic along every
//! path; an account of it.

use std::{process::ExitCode, thread};

use anyhow::{Context as _, Result};
use clap::Parser;
use nix::sys::signal::{SigSet, Signal};
use testbed::{demo, registry};

/// Podlane at work: three nodes, real loaders, real traffic along every path.
#[derive(Parser)]
#[command(name = "demo", version)]
struct Arguments {
    /// Leave everything up, and print what to try with it.
    #[arg(long)]
    keep: bool,
}

fn main() -> Result<ExitCode> {
    let Arguments { keep } = Arguments::parse();
    clean_up_when_interrupted()?;
    Ok(if demo::run(keep)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Ctrl-C takes the cluster down too.
fn clean_up_when_interrupted() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    // Before any other thread is made: each inherits that these wait for the one that asks for them.
    signals.thread_block().context("block SIGINT and SIGTERM")?;
    thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            eprintln!("\n{signal}: taking the cluster down");
            if let Err(error) = registry::clean_own() {
                eprintln!("error: {error:#}");
            }
            std::process::exit(130);
        }
    });
    Ok(())
}
