//! The programs that the tests, the demo and the benchmark call, in one place.

use anyhow::{Result, ensure};

use crate::{packages, project};

/// A program of the machine.
pub(crate) struct Tool {
    /// Its name on `PATH`.
    pub(crate) program: &'static str,
    /// The Debian package that has it.
    pub(crate) package: &'static str,
    /// What calls it, and so what its absence costs.
    pub(crate) purpose: &'static str,
}

/// Every one of them.
pub(crate) const TOOLS: [Tool; 6] = [
    Tool { program: "ip", package: "iproute2", purpose: "the testbed: namespaces, links, kernel VTEPs" },
    Tool {
        program: "bridge",
        package: "iproute2",
        purpose: "the testbed: forwarding tables of kernel VTEPs",
    },
    Tool { program: "tc", package: "iproute2", purpose: "tests of other people's filters" },
    Tool { program: "bpftool", package: "bpftool", purpose: "the test that maps dump with named fields" },
    Tool { program: "ethtool", package: "ethtool", purpose: "tests and benchmarks that switch offloads" },
    Tool { program: "ping", package: "iputils-ping", purpose: "the demo, and commands that it suggests" },
];

/// What the benches load kube-proxy's rules with, besides; nothing else of Podlane needs them.
const FOR_BENCHES: [Tool; 2] = [
    Tool { program: "iptables-restore", package: "iptables", purpose: "benches against iptables mode" },
    Tool { program: "nft", package: "nftables", purpose: "benches against nftables mode" },
];

/// What virtual machines are run with, and what their kernels' modules are unpacked with.
pub(crate) const FOR_VMS: [Tool; 2] = [
    Tool {
        program: "qemu-system-x86_64",
        package: "qemu-system-x86",
        purpose: "tests on other kernels, in virtual machines",
    },
    Tool { program: "xz", package: "xz-utils", purpose: "modules of those kernels" },
];

/// Those that are not there.
pub(crate) fn missing() -> impl Iterator<Item = &'static Tool> {
    missing_of(&TOOLS)
}

/// Installs those that are not there, where that is possible; where it is not, their tests skip and say so.
pub(crate) fn install_missing() {
    install(missing(), "some tests will be skipped");
}

/// As [`install_missing`], for what only the benches need.
pub(crate) fn install_missing_for_benches() {
    install(missing_of(&FOR_BENCHES), "the benches of services can't run");
}

/// Installs what virtual machines need, and fails where they can't be had: nothing else could be run instead.
pub(crate) fn install_missing_for_vms() -> Result<()> {
    install(missing_of(&FOR_VMS), "no virtual machine can be run");
    let missing: Vec<&str> = missing_of(&FOR_VMS).map(|tool| tool.program).collect();
    ensure!(missing.is_empty(), "not on this machine: {}", missing.join(", "));
    Ok(())
}

fn missing_of(tools: &'static [Tool]) -> impl Iterator<Item = &'static Tool> {
    tools.iter().filter(|tool| project::find_program(tool.program).is_none())
}

fn install(tools: impl Iterator<Item = &'static Tool>, consequence: &str) {
    let mut names: Vec<&str> = tools.map(|tool| tool.package).collect();
    names.dedup();
    if names.is_empty() {
        return;
    }
    if !packages::can_install() {
        eprintln!("warning: {consequence} for want of: {}", names.join(" "));
    } else if let Err(error) = packages::install(&names) {
        eprintln!("warning: {consequence}: {error:#}");
    }
}
