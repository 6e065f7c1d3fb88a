//! `cargo xtask verifier-budget`: what the kernel's verifier makes of the programs, and recording it.

use std::{path::PathBuf, process::ExitCode};

use anyhow::Result;

use crate::{
    build_ebpf::{self, Variant},
    command, project,
};

/// Measure what each program costs the verifier of this kernel: what `tests/verifier-budget.toml` has is the limit of a test.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Record the figures, in place of those of the same kernel series.
    #[arg(long)]
    write: bool,
    /// Record what `podlane-testbed verifier -o json` has printed elsewhere, on another kernel: a file, or `-` for stdin. Other lines in
    /// it do not matter.
    #[arg(long, requires = "write")]
    from: Option<PathBuf>,
}

/// Runs the verb.
pub(crate) fn run(Options { write, from }: &Options) -> Result<ExitCode> {
    build_ebpf::build(&[Variant::Normal], true)?;
    command::run(command::cargo().args(["build", "--package", "tests", "--bin", "podlane-testbed"]))?;
    let testbed = project::cargo_target().join("debug/podlane-testbed");
    // Only to measure takes root.
    let mut testbed =
        if from.is_some() { std::process::Command::new(testbed) } else { command::as_root(testbed)? };
    testbed.arg("verifier");
    if *write {
        testbed.arg("--write").arg(project::root().join("tests/verifier-budget.toml"));
    }
    if let Some(from) = from {
        testbed.arg("--from").arg(from);
    }
    command::run(&mut testbed)?;
    Ok(ExitCode::SUCCESS)
}
