//! `cargo xtask`: the commands that build, test and show Podlane. One file per verb.

mod build_ebpf;
mod child;
mod command;
mod doctor;
mod lint;
mod object_file;
mod packages;
mod project;
mod signals;
mod test;
mod testbed;
mod toolchain;
mod tools;
mod verifier_budget;
mod vm;

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
    /// Build everything, make a cluster out of network namespaces, send traffic along every path and show it.
    ///
    /// `--keep` leaves the cluster up and prints commands to look around with.
    Demo(testbed::Options),
    Test(test::Options),
    VmTest(vm::Options),
    /// Measure the dataplane against the kernel's own and against kube-proxy's rules, in one run.
    Bench(testbed::Options),
    VerifierBudget(verifier_budget::Options),
    Lint(lint::Options),
    Doctor(doctor::Options),
}

fn main() -> ExitCode {
    // The first process of a virtual machine of `vm-test` is this program too.
    if vm::guest::is_guest() {
        vm::guest::run();
    }
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
        Verb::Demo(options) => testbed::run("demo", testbed::Profile::Dev, options),
        Verb::Test(options) => test::run(options),
        Verb::VmTest(options) => vm::run(options),
        Verb::Bench(options) => {
            tools::install_missing_for_benches();
            testbed::run("bench", testbed::Profile::Release, options)
        }
        Verb::VerifierBudget(options) => verifier_budget::run(options),
        Verb::Lint(options) => lint::run(*options),
        Verb::Doctor(options) => doctor::run(*options),
    }
}
