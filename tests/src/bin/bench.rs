//! `bench`: Podlane's dataplane against the kernel's own and against a bare wire, in one run.

use std::process::ExitCode;

use clap::Parser;
use testbed::{bench, setup};

/// Measure Podlane against the kernel's own dataplane and against a bare wire, all in one run.
#[derive(Parser)]
#[command(name = "bench", version)]
struct Arguments {
    #[command(flatten)]
    options: bench::Options,
}

fn main() -> ExitCode {
    let Arguments { options } = Arguments::parse();
    match setup::clean_up_when_interrupted().and_then(|()| bench::run(&options)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
