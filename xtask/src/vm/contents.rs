//! What is in a guest's file system.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    image::Image,
    kernel::Kernel,
    machine::Machine,
    modules,
    plan::{self, Plan, Run},
    selection::Selection,
};
use crate::{build_ebpf::Variant, project, test::Built, tools};

/// What a guest needs besides its file system, in MiB.
const WORKING_MEMORY: u64 = 512;

/// What every kernel's guest has.
pub(super) fn common(built: &Built, selection: &Selection) -> Result<Image> {
    let mut image = Image::new()?;
    for (binary, _) in selection.binaries(built) {
        image.built_program(&binary.executable)?;
        // Where it runs, with what lies there to be read.
        image.files(&binary.directory)?;
    }
    for program in [&built.loader, &built.testbed].into_iter().flatten() {
        image.built_program(program)?;
    }
    for program in tools::TOOLS.iter().map(|tool| tool.program).chain(["cat", "dmesg", "nsenter", "unshare"])
    {
        // The tests say what they miss.
        if let Some(path) = project::find_program(program) {
            image.program(&path)?;
        }
    }
    for variant in [Variant::Normal, Variant::Trace] {
        image.file(&variant.path())?;
    }
    image.tree(&project::root().join("examples"))?;
    Ok(image)
}

/// What the guest is to do.
pub(super) fn plan(built: &Built, machine: &Machine, runs: Vec<Run>, patience: Duration) -> Result<Plan> {
    let path = |path: &Option<PathBuf>| -> Result<PathBuf> {
        path.clone().context("cargo has not said where the loader and the testbed are")
    };
    let loader = path(&built.loader)?.to_string_lossy().into_owned();
    let environment = [
        ("PODLANE_LOADER", loader),
        ("PODLANE_PATIENCE", machine.acceleration.slowness().to_string()),
        ("RUST_LIB_BACKTRACE", "0".to_owned()),
    ];
    Ok(Plan {
        modules: Vec::new(),
        environment: environment.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        patience,
        testbed: path(&built.testbed)?,
        runs,
        shell: false,
    })
}

/// Writes the file system of the guest of that number.
pub(super) fn archive(
    kernel: &Kernel,
    number: usize,
    common: &Image,
    mut plan: Plan,
    machine: &Machine,
) -> Result<PathBuf> {
    let mut image = common.clone();
    for module in modules::read(&kernel.modules)? {
        image.bytes(&Path::new(plan::MODULES).join(&module.name), module.content);
        plan.modules.push(module.name);
    }
    image.bytes(Path::new(plan::PATH), plan.write().into_bytes());
    let path = project::target().join("vm").join(format!("{}.{number}.cpio", kernel.release));
    let length = image.write(&path)?;
    check_memory(length, machine.memory)?;
    Ok(path)
}

/// The kernel has the archive in memory while it unpacks it there.
fn check_memory(archive: u64, memory: u32) -> Result<()> {
    let needed = 2 * (archive >> 20) + WORKING_MEMORY;
    ensure!(
        u64::from(memory) >= needed,
        "{memory} MiB of memory are too little for the guest's files: give it `--memory {needed}`"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_without_room_for_its_files_is_refused() {
        check_memory(200 << 20, 1024).unwrap();
        let error = check_memory(300 << 20, 1024).unwrap_err().to_string();
        assert!(error.ends_with("give it `--memory 1112`"), "{error}");
    }
}
