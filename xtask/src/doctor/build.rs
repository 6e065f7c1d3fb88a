//! The toolchain of the programs and the tools of the tests.

use std::path::Path;

use super::{Finding, State};
use crate::{build_ebpf::Variant, project, toolchain::Inventory, tools};

pub(super) fn findings() -> Vec<Finding> {
    let mut findings = toolchain();
    findings.push(object());
    findings.extend(tools::TOOLS.iter().chain(&tools::FOR_VMS).map(tool));
    findings.push(kvm());
    findings
}

fn toolchain() -> Vec<Finding> {
    const AREA: &str = "toolchain";
    let inventory = Inventory::take();
    if let Some(toolchain) = inventory.pair() {
        let finding = |(what, which)| Finding::new(AREA, what, State::Present).detail(which);
        return toolchain.facts().into_iter().map(finding).collect();
    }
    let explained = inventory.explain();
    let mut lines = explained.lines().map(str::trim);
    let summary = lines.next().unwrap_or_default();
    let rest: Vec<&str> = lines.collect();
    vec![
        Finding::new(AREA, "rustc and bpf-linker", State::Absent)
            .detail(summary)
            .cost(format!("`cargo xtask build-ebpf` installs it, or else: {}", rest.join("; "))),
    ]
}

fn object() -> Finding {
    let path = Variant::Normal.path();
    let state = if path.is_file() { State::Present } else { State::Absent };
    Finding::new("toolchain", "BPF object", state)
        .detail(project::shown(&path))
        .cost("the loader does not compile before `cargo xtask build-ebpf`")
}

fn kvm() -> Finding {
    let path = "/dev/kvm";
    let state = if Path::new(path).exists() { State::Present } else { State::Absent };
    Finding::new("test tools", "KVM", state)
        .detail(format!("{path}; `cargo xtask vm-test` tries whether it works"))
        .cost("`cargo xtask vm-test` emulates its machines in software, ten to twenty times slower")
}

fn tool(tool: &tools::Tool) -> Finding {
    let tools::Tool { program, package, purpose } = tool;
    match project::find_program(program) {
        Some(path) => Finding::new("test tools", *program, State::Present).detail(project::shown(&path)),
        None => Finding::new("test tools", *program, State::Absent)
            .detail(*purpose)
            .cost(format!("`apt-get install {package}`; `cargo xtask test` does it where it can")),
    }
}
