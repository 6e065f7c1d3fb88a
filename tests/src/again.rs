//! A program run again and again on one packet, at XDP: one in front of it makes the packet what it was.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result};

use crate::{
    assembly::{EXIT, If, add, call, copy, load32, mask, set, set_map, store, store16, subtract, unless},
    bpf::{self, BPF_F_XDP_HAS_FRAGS, BPF_XDP, Instruction, Kind},
};

const BPF_FUNC_GET_PRANDOM_U32: i32 = 7;
const BPF_FUNC_TAIL_CALL: i32 = 12;
const BPF_FUNC_XDP_ADJUST_HEAD: i32 = 44;
const BPF_FUNC_XDP_ADJUST_META: i32 = 54;
const XDP_TX: i32 = 3;
/// Where the source port is behind headers of Ethernet and IPv4.
const SOURCE_PORT: i16 = 14 + 20;

/// Of how many flows the packets are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flows {
    /// Each packet is as it was given.
    One,
    /// Each packet, TCP or UDP over IPv4 without options, has a source port drawn by lot, of so many, a power of two up to 65,536; its
    /// checksum stays as it was.
    Many(u32),
}

/// The program in front, with the packet in its instructions.
#[derive(Debug)]
pub struct Again {
    front: OwnedFd,
    packet: Vec<u8>,
    ifindex: u32,
    _behind: OwnedFd,
}

impl Again {
    /// In front of a program that takes packets in several pieces, for a packet from that device.
    pub fn new(behind: BorrowedFd<'_>, ifindex: u32, packet: &[u8], flows: Flows) -> Result<Self> {
        let behind = bpf::program_array(behind)?;
        let front = load(&front(&behind, packet, flows)?)?;
        Ok(Self { front, packet: packet.to_vec(), ifindex, _behind: behind })
    }

    /// In front of one that does nothing: what the way there costs, the restoring of a packet that is as it was.
    pub fn of_nothing(ifindex: u32, packet: &[u8], flows: Flows) -> Result<Self> {
        let nothing = load(&[set(0, XDP_TX), EXIT])?;
        Self::new(nothing.as_fd(), ifindex, packet, flows)
    }

    /// Nanoseconds per run, of so many.
    pub fn run(&self, runs: u32) -> Result<f64> {
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let length = u32::try_from(self.packet.len()).context("a long packet")?;
        let context = [0, length, 0, self.ifindex, 0, 0];
        bpf::run(self.front.as_fd(), &self.packet, &context, runs).map(f64::from)
    }
}

fn load(instructions: &[Instruction]) -> Result<OwnedFd> {
    bpf::load(Kind::Xdp, instructions, BPF_XDP, BPF_F_XDP_HAS_FRAGS)
}

/// Register that has the context.
const CONTEXT: u8 = 6;
// Fields of `struct xdp_md`.
const DATA: i16 = 0;
const DATA_END: i16 = 4;
const DATA_META: i16 = 8;

fn front(behind: &OwnedFd, packet: &[u8], flows: Flows) -> Result<Vec<Instruction>> {
    let length = i32::try_from(packet.len()).context("a long packet")?;
    let field = |register, field| load32(register, CONTEXT, field);
    let mut program = vec![copy(CONTEXT, 1), field(2, DATA), field(3, DATA_META)];
    // Metadata of the last time: none.
    let adjust_meta = [subtract(2, 3), copy(1, CONTEXT), call(BPF_FUNC_XDP_ADJUST_META)];
    program.extend(unless(If::Same(2, 3), &adjust_meta)?);
    // A header more or less: as many bytes as it had.
    program.extend([field(2, DATA_END), field(3, DATA), subtract(2, 3), add(2, -length)]);
    program.extend(unless(If::Is(2, 0), &[copy(1, CONTEXT), call(BPF_FUNC_XDP_ADJUST_HEAD)])?);
    if let Flows::Many(flows) = flows {
        let lot = i32::try_from(flows).context("many flows")? - 1;
        program.extend([call(BPF_FUNC_GET_PRANDOM_U32), copy(7, 0), mask(7, lot)]);
    }
    let mut go_on = store(2, packet)?;
    if flows != Flows::One {
        go_on.push(store16(2, SOURCE_PORT, 7));
    }
    go_on.push(copy(1, CONTEXT));
    go_on.extend(set_map(2, behind.as_raw_fd()));
    go_on.extend([set(3, 0), call(BPF_FUNC_TAIL_CALL)]);
    program.extend([field(2, DATA), field(3, DATA_END), copy(4, 2), add(4, length)]);
    program.extend(unless(If::More(4, 3), &go_on)?);
    program.extend([set(0, 0), EXIT]);
    Ok(program)
}
