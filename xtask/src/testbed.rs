//! `cargo xtask demo` and `cargo xtask bench`: programs of package `tests`, built and run as root.

use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::{
    build_ebpf::{self, Variant},
    child::{self, End},
    command, project, signals, tools,
};

/// What is handed to the program as it is.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// The program's own arguments (`-- --help` lists them).
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// How the loader and the program are built; the BPF programs are always optimised.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Profile {
    /// As for the tests: minutes sooner.
    Dev,
    /// Optimised: for what measures.
    Release,
}

/// Builds the BPF programs, the loader and that binary of package `tests`, and runs it as root.
pub(crate) fn run(binary: &str, profile: Profile, options: &Options) -> Result<ExitCode> {
    tools::install_missing();
    build_ebpf::build(&[Variant::Normal], true)?;
    let mut build = command::cargo();
    build.args(["build", "--package", "loader", "--package", "tests"]);
    build.args(["--bin", "loader", "--bin", "podlane-testbed", "--bin", binary]);
    if profile == Profile::Release {
        build.arg("--release");
    }
    command::run(&mut build)?;
    let directory = project::cargo_target().join(match profile {
        Profile::Dev => "debug",
        Profile::Release => "release",
    });
    signals::catch()?;
    let mut program = command::as_root(directory.join(binary))?;
    program.env("PODLANE_LOADER", directory.join("loader")).args(&options.arguments);
    match child::attached(&mut program)? {
        End::Exited(status) => {
            let code = status.code().and_then(|code| u8::try_from(code).ok());
            Ok(code.map_or(ExitCode::FAILURE, ExitCode::from))
        }
        End::Interrupted(_) | End::Hung | End::Lost => {
            // It takes its own things down when it is told to stop; where it could not, this does.
            let clean = command::run(command::as_root(directory.join("podlane-testbed"))?.arg("clean"));
            clean.context("the testbed was not cleaned up")?;
            Ok(ExitCode::FAILURE)
        }
    }
}
