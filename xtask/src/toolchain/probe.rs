//! Trying a linker out, for those that do not tell which LLVM is inside them.

use std::{fs, path::Path, process::Stdio};

use anyhow::{Context as _, Result};

use super::{TARGET, Toolchain};
use crate::{object_file, project};

const MANIFEST: &str = r#"[package]
name = "probe"
edition = "2024"

[profile.release]
lto = true

[workspace]
"#;

/// The smallest program: one function in a section of its own.
const PROGRAM: &str = r#"#![no_std]
#![no_main]

#[unsafe(no_mangle)]
#[unsafe(link_section = "classifier")]
extern "C" fn probe(length: u32) -> u32 {
    length & 1
}

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}
"#;

/// Whether the toolchain makes an object that has programs and BTF in it.
pub(super) fn links(toolchain: &Toolchain) -> bool {
    build(toolchain, &project::ebpf_build().join("probe")).is_ok()
}

fn build(toolchain: &Toolchain, directory: &Path) -> Result<()> {
    let write = |path: &str, text: &str| {
        let path = directory.join(path);
        fs::write(&path, text).with_context(|| format!("cannot write {}", path.display()))
    };
    let source = directory.join("src");
    fs::create_dir_all(&source).with_context(|| format!("cannot make {}", source.display()))?;
    write("Cargo.toml", MANIFEST)?;
    write("src/main.rs", PROGRAM)?;
    let mut cargo = toolchain.cargo_build(directory, &directory.join("target"));
    let output = cargo.stdin(Stdio::null()).output().context("cannot start cargo")?;
    anyhow::ensure!(output.status.success(), "the probe does not build: {}", output.status);
    let object = directory.join("target").join(TARGET).join("release/probe");
    object_file::functions(&fs::read(object)?).map(drop)
}
