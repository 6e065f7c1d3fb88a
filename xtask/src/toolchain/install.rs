//! Installing what is missing, by the way that works on the machine: Debian packages, rustup, cargo.

use std::process::Command;

use anyhow::{Context as _, Result, bail};

use super::{Rustc, linker::Linker, llvm_prefix};
use crate::{
    command::{self, announce_and_run},
    packages, project,
};

/// The release of bpf-linker that the programs are tested with.
const LINKER_VERSION: &str = "0.13.0";

/// The LLVM versions that it can be built with.
const LINKER_LLVMS: std::ops::RangeInclusive<u32> = 21..=23;

/// What to do by hand where no compiler could be installed.
pub(super) const RUSTC_ADVICE: &str = "the sources of `core`: `rustup component add rust-src`, \
     or on Debian a compiler that has it compiled: `apt-get install rustc-web cargo-web libstd-rust-web-dev-bpf`";

/// Sets of Debian packages that hold a compiler, its cargo and a compiled BPF `core`.
const DEBIAN_RUSTC: [[&str; 3]; 2] =
    [["rustc-web", "cargo-web", "libstd-rust-web-dev-bpf"], ["rustc", "cargo", "libstd-rust-dev-bpf"]];

/// What to do by hand where no linker could be installed.
pub(super) fn linker_advice(llvm: u32) -> String {
    if !LINKER_LLVMS.contains(&llvm) {
        let (first, last) = (LINKER_LLVMS.start(), LINKER_LLVMS.end());
        return format!(
            "a rustc whose LLVM is between {first} and {last}: bpf-linker {LINKER_VERSION} knows no other"
        );
    }
    format!(
        "LLVM {llvm} with its headers (Debian: llvm-{llvm}-dev libpolly-{llvm}-dev libzstd-dev zlib1g-dev) and \
         `cargo install bpf-linker@{LINKER_VERSION} --no-default-features --features llvm-{llvm}`"
    )
}

/// Installs a compiler that can build for BPF: Debian's, whose `core` comes compiled; or the sources of `core` for the
/// rustup toolchain that is there; or rustup's nightly. A way that fails says why and makes room for the next.
pub(super) fn rustc(present: &[Rustc]) -> Result<()> {
    if packages::can_install() {
        match debian_rustc() {
            Ok(()) => return Ok(()),
            Err(error) => eprintln!("warning: {error:#}"),
        }
    }
    let Some(rustup) = project::find_program("rustup") else {
        bail!("neither Debian's packages nor rustup can provide a compiler here");
    };
    // The compiler that is there already is the one whose behaviour is known, and only its sources are fetched.
    let known = present.iter().filter(|rustc| LINKER_LLVMS.contains(&rustc.version.llvm_major));
    for toolchain in known.filter_map(|rustc| rustc.rustup.as_ref()) {
        let mut add = Command::new(&rustup);
        add.args(["component", "add", "rust-src", "--toolchain", toolchain]);
        match announce_and_run(&mut add) {
            Ok(()) => return Ok(()),
            Err(error) => eprintln!("warning: {error:#}"),
        }
    }
    let nightly = ["toolchain", "install", "nightly", "--profile", "minimal", "--component", "rust-src"];
    announce_and_run(Command::new(rustup).args(nightly))
}

/// Debian's compiler, from the first set of packages that is recent enough.
fn debian_rustc() -> Result<()> {
    packages::refresh()?;
    let is_usable = |set: &&[&str; 3]| {
        packages::candidate(set[0]).is_some_and(|version| is_at_least(&version, project::RUST_VERSION))
            && set.iter().all(|name| packages::candidate(name).is_some())
    };
    let Some(set) = DEBIAN_RUSTC.iter().find(is_usable) else {
        bail!("Debian's packages have no compiler that is recent enough and builds for BPF");
    };
    packages::install(set)
}

/// Installs a bpf-linker for that LLVM into this checkout's tools.
pub(super) fn linker(llvm: u32) -> Result<()> {
    if !LINKER_LLVMS.contains(&llvm) {
        bail!("bpf-linker {LINKER_VERSION} cannot be built with LLVM {llvm}");
    }
    if llvm_prefix(llvm).is_none()
        && packages::can_install()
        && let Err(error) = debian_llvm(llvm)
    {
        eprintln!("warning: {error:#}");
    }
    let Some(prefix) = llvm_prefix(llvm) else { return released_linker(llvm) };
    let mut cargo = command::cargo();
    cargo
        // A target directory of this workspace is no place for another project's crates.
        .env_remove("CARGO_TARGET_DIR")
        .env("LLVM_PREFIX", prefix)
        .args(["install", &format!("bpf-linker@{LINKER_VERSION}"), "--locked", "--no-default-features"])
        .args(["--features", &format!("llvm-{llvm}"), "--root"])
        .arg(project::tools());
    announce_and_run(&mut cargo)
}

/// LLVM with its headers, and what it is linked with.
fn debian_llvm(llvm: u32) -> Result<()> {
    let versioned = [format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
    let [llvm_dev, polly_dev] = &versioned;
    packages::install(&[llvm_dev, polly_dev, "libzstd-dev", "zlib1g-dev"])
}

/// A linker that its authors built, where cargo-binstall is there to fetch it and its LLVM happens to be the right one.
fn released_linker(llvm: u32) -> Result<()> {
    if project::find_program("cargo-binstall").is_none() {
        bail!("LLVM {llvm} with its headers is not installed, so bpf-linker cannot be built");
    }
    let mut cargo = command::cargo();
    cargo
        .args(["binstall", "--no-confirm", "--root"])
        .arg(project::tools())
        .arg(format!("bpf-linker@{LINKER_VERSION}"));
    announce_and_run(&mut cargo)?;
    let linker = Linker::inspect(&project::tools().join("bin/bpf-linker"))
        .context("cargo-binstall installed no bpf-linker that starts")?;
    if linker.llvm_major.is_some_and(|major| major != llvm) {
        bail!("the released bpf-linker is {}: LLVM {llvm} is needed", linker.shown());
    }
    Ok(())
}

/// Whether a Debian version such as `1.96.0+dfsg1-1~deb12u2` is of that release or later.
fn is_at_least(version: &str, (major, minor): (u32, u32)) -> bool {
    let without_epoch = version.split_once(':').map_or(version, |(_, rest)| rest);
    let mut numbers = without_epoch.split('.').map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(have_major)), Some(Ok(have_minor))) => (have_major, have_minor) >= (major, minor),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debian_versions_are_compared_by_release() {
        assert!(is_at_least("1.96.0+dfsg1-1~deb12u2", (1, 95)));
        assert!(is_at_least("2:1.95.1-1", (1, 95)));
        assert!(!is_at_least("1.85.0+dfsg3-1~deb12u3", (1, 95)));
        assert!(!is_at_least("(none)", (1, 95)));
    }

    #[test]
    fn advice_names_the_llvm_that_is_needed() {
        assert!(linker_advice(22).contains("llvm-22-dev"));
        assert!(linker_advice(20).contains("between 21 and 23"));
    }
}
