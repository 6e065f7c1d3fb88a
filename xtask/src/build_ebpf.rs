//! `cargo xtask build-ebpf`: the BPF programs, as objects that the loader embeds.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::{command, object_file, object_file::Function, project, toolchain::Toolchain};

/// The package of the programs and its one binary.
const PACKAGE: &str = "dataplane-ebpf";
const BINARY: &str = "podlane";

/// Build the BPF programs, installing a toolchain for them where there is none.
#[derive(clap::Args, Clone, Copy)]
pub(crate) struct Options {
    /// Build the programs that log what they do to each packet, for `loader run --object`.
    #[arg(long)]
    trace: bool,
    /// Only look for a toolchain: install nothing.
    #[arg(long)]
    no_install: bool,
}

/// Which of the two objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Variant {
    /// What the loader embeds: logs nothing.
    Normal,
    /// With aya-log on every decision.
    Trace,
}

impl Variant {
    fn file_name(self) -> &'static str {
        match self {
            Self::Normal => "podlane.o",
            Self::Trace => "podlane-trace.o",
        }
    }

    /// Where the finished object is.
    pub(crate) fn path(self) -> PathBuf {
        project::ebpf_objects().join(self.file_name())
    }
}

/// Runs the verb.
pub(crate) fn run(options: Options) -> Result<()> {
    let variant = if options.trace { Variant::Trace } else { Variant::Normal };
    build(&[variant], !options.no_install)
}

/// Builds those objects with one toolchain, and says which.
pub(crate) fn build(variants: &[Variant], may_install: bool) -> Result<()> {
    let toolchain = Toolchain::find_or_install(may_install)?;
    for (what, which) in toolchain.facts() {
        eprintln!("{what:>10}  {which}");
    }
    for variant in variants {
        let built = compile(&toolchain, *variant)?;
        let elf = fs::read(&built).with_context(|| format!("cannot read {}", built.display()))?;
        let functions = object_file::functions(&elf)
            .with_context(|| format!("{} is not usable", project::shown(&built)))?;
        let path = variant.path();
        let changed = write_if_changed(&path, &elf)?;
        print(&path, elf.len(), changed, &functions);
    }
    Ok(())
}

/// Compiles and links; the result is cargo's own file.
fn compile(toolchain: &Toolchain, variant: Variant) -> Result<PathBuf> {
    let mut cargo = toolchain.cargo_build(project::root(), &project::ebpf_build());
    cargo
        .args(["--package", PACKAGE, "--bin", BINARY, "--message-format", "json-render-diagnostics"])
        .stdin(Stdio::null())
        .stderr(Stdio::inherit());
    if variant == Variant::Trace {
        cargo.args(["--features", "trace"]);
    }
    let output = cargo.output().with_context(|| format!("cannot start `{}`", command::shown(&cargo)))?;
    if !output.status.success() {
        bail!("the BPF programs do not build (`{}`: {})", command::shown(&cargo), output.status);
    }
    let messages = String::from_utf8_lossy(&output.stdout);
    executable(&messages).with_context(|| format!("cargo built no binary `{BINARY}` of {PACKAGE}"))
}

/// The file that cargo's messages name as the programs' binary.
fn executable(messages: &str) -> Option<PathBuf> {
    messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find_map(|message| {
        let is_ours = message["reason"] == "compiler-artifact" && message["target"]["name"] == BINARY;
        is_ours.then(|| message["executable"].as_str().map(PathBuf::from)).flatten()
    })
}

/// Writes the object where it differs from what is there, so that cargo does not rebuild the loader for nothing. The
/// file appears whole or not at all.
fn write_if_changed(path: &Path, elf: &[u8]) -> Result<bool> {
    if fs::read(path).is_ok_and(|present| present == elf) {
        return Ok(false);
    }
    let directory = project::ebpf_objects();
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {}", directory.display()))?;
    let new = path.with_extension("new");
    fs::write(&new, elf).with_context(|| format!("cannot write {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("cannot replace {}", path.display()))?;
    Ok(true)
}

fn print(path: &Path, size: usize, changed: bool, functions: &[Function]) {
    let state = if changed { "written" } else { "unchanged" };
    println!("{}  {size} bytes, {state}", project::shown(path));
    let (subprograms, programs): (Vec<_>, Vec<_>) = functions.iter().partition(|f| f.is_subprogram());
    for Function { name, section, instructions } in programs {
        println!("  {name:<16} {section:<16} {instructions:>6} instructions");
    }
    if !subprograms.is_empty() {
        let instructions: u64 = subprograms.iter().map(|function| function.instructions).sum();
        let name = format!("{} subprograms", subprograms.len());
        println!("  {name:<16} {:<16} {instructions:>6} instructions", ".text");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_found_among_cargos_messages() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"common"},"executable":null}
not json
{"reason":"compiler-artifact","target":{"name":"podlane"},"executable":"/t/release/podlane"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(executable(messages), Some(PathBuf::from("/t/release/podlane")));
        assert_eq!(executable(r#"{"reason":"build-finished","success":true}"#), None);
    }

    #[test]
    fn the_objects_are_where_the_loader_looks() {
        assert!(Variant::Normal.path().ends_with("target/ebpf/podlane.o"));
        assert!(Variant::Trace.path().ends_with("target/ebpf/podlane-trace.o"));
    }
}
