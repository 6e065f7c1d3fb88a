//! `demo`: a cluster of three nodes out of network namespaces, two of them served by Podlane; real traffic along every
//! path; an account of it.

use std::process::ExitCode;

use anyhow::Result;
use clap::Parser;
use testbed::{demo, setup};

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
    setup::clean_up_when_interrupted()?;
    Ok(if demo::run(keep)? { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
