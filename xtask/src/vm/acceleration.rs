//! By what a guest's instructions are carried out.

use std::{fs::File, path::Path, process::Command, time::Duration};

use anyhow::Result;

use super::qemu;
use crate::child::{self, End, Follower, Stream};

/// How long a kernel that KVM runs may take to print its first line.
const PROBE: Duration = Duration::from_secs(5);

/// How the guest's instructions are carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Acceleration {
    /// By the processor.
    Kvm,
    /// By software, and why: ten to twenty times slower.
    Emulation(String),
}

impl Acceleration {
    /// Finds out which one works, by starting a kernel: that there is a `/dev/kvm` says little inside a VM.
    pub(crate) fn find(image: &Path) -> Result<Self> {
        let device = "/dev/kvm";
        if let Err(error) = File::options().read(true).write(true).open(device) {
            return Ok(Self::Emulation(format!("{device}: {error}")));
        }
        let mut probe = Probe { started: false, said: String::new() };
        let mut qemu = Command::new(qemu::PROGRAM);
        qemu.args(["-accel", "kvm", "-cpu", "host", "-machine", "q35", "-m", "512M", "-nodefaults"]);
        qemu.args(["-display", "none", "-no-reboot", "-serial", "stdio", "-kernel"]).arg(image);
        // There is nothing to boot into: it panics, and goes.
        qemu.args(["-append", "earlyprintk=ttyS0 console=ttyS0 panic=-1"]);
        let end = child::followed(&mut qemu, &mut probe)?;
        let why = match end {
            End::Hung => format!("a kernel says nothing within {PROBE:?}"),
            _ if probe.said.is_empty() => "a kernel does not start".to_owned(),
            _ => probe.said,
        };
        Ok(if probe.started { Self::Kvm } else { Self::Emulation(format!("KVM does not work: {why}")) })
    }

    /// In a word.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Kvm => "KVM",
            Self::Emulation(_) => "emulated",
        }
    }

    /// How many times longer than on the host tests wait for what is to come.
    pub(crate) fn slowness(&self) -> u32 {
        match self {
            Self::Kvm => 1,
            // Three tests at once on one of its processors, each with several loaders that load programs.
            Self::Emulation(_) => 30,
        }
    }
}

/// Whether a kernel begins to talk.
struct Probe {
    started: bool,
    said: String,
}

impl Follower for Probe {
    fn line(&mut self, stream: Stream, line: &str) {
        match stream {
            Stream::Out => self.started |= line.contains("Linux version"),
            Stream::Err => line.clone_into(&mut self.said),
        }
    }

    fn patience(&self) -> Duration {
        PROBE
    }

    fn is_over(&self) -> bool {
        self.started
    }
}
