//! Finds the BPF object that the binary carries.

use std::{env, path::PathBuf, process::ExitCode};

/// Overrides where the object is, and tells the crate where it was found.
const OBJECT: &str = "PODLANE_EBPF_OBJECT";

fn main() -> ExitCode {
    println!("cargo::rerun-if-env-changed={OBJECT}");
    println!("cargo::rerun-if-changed=build.rs");
    let object = env::var_os(OBJECT).map_or_else(
        || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../target/ebpf/podlane.o")),
        PathBuf::from,
    );
    println!("cargo::rerun-if-changed={}", object.display());
    match object.canonicalize() {
        Ok(object) => {
            println!("cargo::rustc-env={OBJECT}={}", object.display());
            ExitCode::SUCCESS
        }
        Err(error) => {
            let object = object.display();
            println!("cargo::error=the BPF programs ({object}): {error}; run `cargo xtask build-ebpf` first");
            ExitCode::FAILURE
        }
    }
}
