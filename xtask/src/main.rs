//! `cargo xtask`: the commands that build, test and show Podlane. One file per verb.

mod build_ebpf;
mod command;
mod object_file;
mod packages;
mod project;
mod toolchain;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Build, test and show Podlane.
#[derive(Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    BuildEbpf(build_ebpf::Options),
}

fn main() -> ExitCode {
    let Cli { verb } = Cli::parse();
    match run(&verb) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(verb: &Verb) -> Result<ExitCode> {
    match verb {
        Verb::BuildEbpf(options) => build_ebpf::run(*options).map(|()| ExitCode::SUCCESS),
    }
}
