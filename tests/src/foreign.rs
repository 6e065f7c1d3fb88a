//! Somebody else's program on a hook: one that counts how often it runs and lets every packet go on, unless its instructions are given.

use std::{
    fs::File,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType, loaded_programs};
use serde_json::Value;

use crate::{
    assembly::{EXIT, set},
    bpf::{self, BPF_XDP, Instruction, Kind},
    netns::Netns,
};

const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

/// What a TC program says that lets a packet go on.
pub const TCX_NEXT: i32 = -1;
/// What an XDP program says that does.
const XDP_PASS: i32 = 2;

/// Which way packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// Received by the device.
    Ingress,
    /// Sent by the device.
    Egress,
}

/// A program on a device; dropping it takes it off.
#[derive(Debug)]
pub struct Foreign {
    program: OwnedFd,
    _link: OwnedFd,
}

impl Foreign {
    /// Attaches the program behind those that are there.
    pub fn attach(netns: &Netns, device: &str, direction: Direction) -> Result<Self> {
        let attach_type = if direction == Direction::Ingress { BPF_TCX_INGRESS } else { BPF_TCX_EGRESS };
        Self::link(load(Kind::Tc)?, netns, device, attach_type)
    }

    /// Attaches a program of those instructions to TC, for what a device receives.
    pub fn attach_made(netns: &Netns, device: &str, instructions: &[Instruction]) -> Result<Self> {
        Self::link(bpf::load(Kind::Tc, instructions, 0, 0)?, netns, device, BPF_TCX_INGRESS)
    }

    /// Attaches an XDP program, of which a device has one.
    pub fn attach_xdp(netns: &Netns, device: &str) -> Result<Self> {
        Self::link(load(Kind::Xdp)?, netns, device, BPF_XDP)
    }

    fn link(program: OwnedFd, netns: &Netns, device: &str, attach_type: u32) -> Result<Self> {
        let interface = netns.ifindex(device)?;
        let link = netns.enter(|| {
            bpf::link(program.as_fd(), interface, attach_type)
                .with_context(|| format!("attach a program to {device}"))
        })?;
        Ok(Self { program, _link: link })
    }

    /// Id of the program.
    pub fn id(&self) -> Result<u32> {
        id(&self.program)
    }

    /// How often it has run since [`count_runs`].
    pub fn runs(&self) -> Result<u64> {
        Ok(info(&self.program)?.run_count())
    }
}

/// A program that does nothing, on no device.
#[derive(Debug)]
pub struct Empty {
    program: OwnedFd,
}

impl Empty {
    /// For TC, or for XDP.
    pub fn new(xdp: bool) -> Result<Self> {
        Ok(Self { program: load(if xdp { Kind::Xdp } else { Kind::Tc })? })
    }

    /// Runs it once on a packet.
    pub fn run(&self, packet: &[u8]) -> Result<()> {
        bpf::run(self.program.as_fd(), packet, &[], 1).map(drop)
    }

    /// What the kernel knows of it.
    pub fn info(&self) -> Result<ProgramInfo> {
        info(&self.program)
    }
}

fn id(program: &OwnedFd) -> Result<u32> {
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", program.as_raw_fd()))
        .context("read fdinfo of a program")?;
    let line = info.lines().find_map(|line| line.strip_prefix("prog_id:")).context("no prog_id in fdinfo")?;
    line.trim().parse().context("prog_id in fdinfo")
}

fn info(program: &OwnedFd) -> Result<ProgramInfo> {
    let id = id(program)?;
    for program in loaded_programs() {
        let program = program.context("list programs")?;
        if program.id() == id {
            return Ok(program);
        }
    }
    anyhow::bail!("program {id} is not loaded")
}

/// Makes the kernel count runs of programs, for as long as the value lives.
pub fn count_runs() -> Result<File> {
    let descriptor = aya::sys::enable_stats(aya::sys::Stats::RunTime).context("BPF_ENABLE_STATS")?;
    Ok(File::from(descriptor))
}

/// Ids of the programs of a device at traffic control, in the order in which they run: those of TCX, then filters.
pub fn programs(netns: &Netns, device: &str, direction: Direction) -> Result<Vec<u32>> {
    let mut programs = if has_tcx().is_ok() { links(netns, device, direction)? } else { Vec::new() };
    programs.extend(filters(netns, device, direction)?.into_iter().map(|(_, id)| id));
    Ok(programs)
}

/// Says so where the kernel has no TCX.
pub fn has_tcx() -> Result<()> {
    SchedClassifier::query_tcx("lo", TcAttachType::Ingress).map(drop).context("this kernel has no TCX")
}

/// Ids of the TCX programs of a device, in the order in which they run.
pub fn links(netns: &Netns, device: &str, direction: Direction) -> Result<Vec<u32>> {
    let attach_type =
        if direction == Direction::Ingress { TcAttachType::Ingress } else { TcAttachType::Egress };
    netns.enter(|| {
        let (_, programs) = SchedClassifier::query_tcx(device, attach_type)
            .with_context(|| format!("list programs of {device}"))?;
        Ok(programs.iter().map(ProgramInfo::id).collect())
    })
}

/// Names and ids of the programs that are filters of a device, in the order in which they run.
pub fn filters(netns: &Netns, device: &str, direction: Direction) -> Result<Vec<(String, u32)>> {
    let direction = if direction == Direction::Ingress { "ingress" } else { "egress" };
    let listed = netns.run(&format!("tc -j filter show dev {device} {direction}"))?;
    let listed: Value = serde_json::from_str(&listed).context("what `tc -j filter` printed")?;
    let filter = |filter: &Value| {
        let options = &filter["options"];
        Some((options["bpf_name"].as_str()?.to_owned(), options["prog"]["id"].as_u64()?.try_into().ok()?))
    };
    Ok(listed.as_array().context("no list of filters")?.iter().filter_map(filter).collect())
}

fn load(kind: Kind) -> Result<OwnedFd> {
    let verdict = if kind == Kind::Xdp { XDP_PASS } else { TCX_NEXT };
    bpf::load(kind, &[set(0, verdict), EXIT], 0, 0)
}
