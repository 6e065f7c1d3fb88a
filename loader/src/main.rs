//! The `loader` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    loader::cli::main()
}
