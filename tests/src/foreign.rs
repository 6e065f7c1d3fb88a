//! Somebody else's program on a hook: one that counts how often it runs and lets every packet go on.

use std::{
    fs::File,
    io,
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result};
use aya::programs::{ProgramInfo, SchedClassifier, TcAttachType, loaded_programs};

use crate::netns::Netns;

const BPF_PROG_LOAD: i64 = 5;
const BPF_PROG_TEST_RUN: i64 = 10;
const BPF_LINK_CREATE: i64 = 28;
const BPF_PROG_TYPE_SCHED_CLS: u32 = 3;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;

/// One BPF instruction.
#[repr(C)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    immediate: i32,
}

/// What a TC program says that lets a packet go on.
const TCX_NEXT: i32 = -1;
/// What an XDP program says that does.
const XDP_PASS: i32 = 2;

/// The fields of `union bpf_attr` that loading a program takes.
#[repr(C)]
struct ProgramAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The fields of `union bpf_attr` that attaching by a link takes.
#[repr(C)]
struct LinkAttributes {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    reserved: u32,
    expected_revision: u64,
}

/// The fields of `union bpf_attr` that running a program takes.
#[repr(C)]
struct RunAttributes {
    program: u32,
    returned: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
}

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
        Self::link(load(BPF_PROG_TYPE_SCHED_CLS)?, netns, device, attach_type)
    }

    /// Attaches an XDP program, of which a device has one.
    pub fn attach_xdp(netns: &Netns, device: &str) -> Result<Self> {
        Self::link(load(BPF_PROG_TYPE_XDP)?, netns, device, BPF_XDP)
    }

    fn link(program: OwnedFd, netns: &Netns, device: &str, attach_type: u32) -> Result<Self> {
        let interface = netns.ifindex(device)?;
        let attributes = LinkAttributes {
            program: u32::try_from(program.as_raw_fd()).context("a negative descriptor")?,
            interface,
            attach_type,
            flags: 0,
            relative: 0,
            reserved: 0,
            expected_revision: 0,
        };
        // The index is looked up in the namespace of the caller.
        let link = netns.enter(|| {
            bpf(BPF_LINK_CREATE, &attributes).with_context(|| format!("attach a program to {device}"))
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
        Ok(Self { program: load(if xdp { BPF_PROG_TYPE_XDP } else { BPF_PROG_TYPE_SCHED_CLS })? })
    }

    /// Runs it once on a packet.
    pub fn run(&self, packet: &[u8]) -> Result<()> {
        let attributes = RunAttributes {
            program: u32::try_from(self.program.as_raw_fd()).context("a negative descriptor")?,
            returned: 0,
            size_in: u32::try_from(packet.len()).context("a long packet")?,
            size_out: 0,
            data_in: u64::try_from(packet.as_ptr().addr()).context("an address")?,
            data_out: 0,
            repeat: 1,
            duration: 0,
        };
        call(BPF_PROG_TEST_RUN, &attributes).map(drop)
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

/// Ids of the TCX programs of a device, in the order in which they run.
pub fn programs(netns: &Netns, device: &str, direction: Direction) -> Result<Vec<u32>> {
    let attach_type =
        if direction == Direction::Ingress { TcAttachType::Ingress } else { TcAttachType::Egress };
    netns.enter(|| {
        let (_, programs) = SchedClassifier::query_tcx(device, attach_type)
            .with_context(|| format!("list programs of {device}"))?;
        Ok(programs.iter().map(ProgramInfo::id).collect())
    })
}

fn load(program_type: u32) -> Result<OwnedFd> {
    // `r0 = verdict; exit`.
    let verdict = if program_type == BPF_PROG_TYPE_XDP { XDP_PASS } else { TCX_NEXT };
    let instructions = [
        Instruction { code: 0xb7, registers: 0, offset: 0, immediate: verdict },
        Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 },
    ];
    let license = c"GPL";
    let mut name = [0; 16];
    name[..7].copy_from_slice(b"foreign");
    let attributes = ProgramAttributes {
        program_type,
        instruction_count: u32::try_from(instructions.len()).context("a long program")?,
        instructions: u64::try_from(instructions.as_ptr().addr()).context("an address")?,
        license: u64::try_from(license.as_ptr().addr()).context("an address")?,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags: 0,
        name,
    };
    bpf(BPF_PROG_LOAD, &attributes).context("load a program")
}

/// A call that opens a descriptor.
fn bpf<T>(command: i64, attributes: &T) -> Result<OwnedFd> {
    let descriptor = call(command, attributes)?;
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn call<T>(command: i64, attributes: &T) -> Result<i32> {
    // SAFETY: the pointer and the size describe `attributes`, whose own pointers are to what outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    let answer = i32::try_from(result).context("an answer beyond i32")?;
    if answer < 0 { Err(io::Error::last_os_error()).context("bpf") } else { Ok(answer) }
}
