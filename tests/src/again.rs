//! A program run again and again on one packet, at XDP: one in front of it makes the packet what it was.

use std::os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result};

use crate::bpf::{self, BPF_F_XDP_HAS_FRAGS, BPF_XDP, Instruction, Kind};

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

const EXIT: Instruction = Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 };

const fn set(register: u8, immediate: i32) -> Instruction {
    Instruction { code: 0xb7, registers: register, offset: 0, immediate }
}

const fn copy(to: u8, from: u8) -> Instruction {
    Instruction { code: 0xbf, registers: from << 4 | to, offset: 0, immediate: 0 }
}

const fn subtract(from: u8, register: u8) -> Instruction {
    Instruction { code: 0x1f, registers: register << 4 | from, offset: 0, immediate: 0 }
}

const fn add(register: u8, immediate: i32) -> Instruction {
    Instruction { code: 0x07, registers: register, offset: 0, immediate }
}

const fn mask(register: u8, immediate: i32) -> Instruction {
    Instruction { code: 0x57, registers: register, offset: 0, immediate }
}

const fn call(helper: i32) -> Instruction {
    Instruction { code: 0x85, registers: 0, offset: 0, immediate: helper }
}

/// A field of the context, which register 6 has.
const fn field(register: u8, offset: i16) -> Instruction {
    Instruction { code: 0x61, registers: 6 << 4 | register, offset, immediate: 0 }
}

const DATA: i16 = 0;
const DATA_END: i16 = 4;
const DATA_META: i16 = 8;

fn front(behind: &OwnedFd, packet: &[u8], flows: Flows) -> Result<Vec<Instruction>> {
    let length = i32::try_from(packet.len()).context("a long packet")?;
    let array = behind.as_raw_fd();
    let mut program = vec![
        copy(6, 1),
        // Metadata of the last time: none.
        field(2, DATA),
        field(3, DATA_META),
        Instruction { code: 0x1d, registers: 3 << 4 | 2, offset: 3, immediate: 0 },
        subtract(2, 3),
        copy(1, 6),
        call(BPF_FUNC_XDP_ADJUST_META),
        // A header more or less: as many bytes as it had.
        field(2, DATA_END),
        field(3, DATA),
        subtract(2, 3),
        add(2, -length),
        Instruction { code: 0x15, registers: 2, offset: 2, immediate: 0 },
        copy(1, 6),
        call(BPF_FUNC_XDP_ADJUST_HEAD),
    ];
    if let Flows::Many(flows) = flows {
        let lot = i32::try_from(flows).context("many flows")? - 1;
        program.extend([call(BPF_FUNC_GET_PRANDOM_U32), copy(7, 0), mask(7, lot)]);
    }
    program.extend([field(2, DATA), field(3, DATA_END), copy(4, 2), add(4, length)]);
    let mut stores: Vec<_> = stores(packet)?;
    if flows != Flows::One {
        stores.push(Instruction { code: 0x6b, registers: 7 << 4 | 2, offset: SOURCE_PORT, immediate: 0 });
    }
    let past = i16::try_from(stores.len() + 5).context("a long packet")?;
    program.push(Instruction { code: 0x2d, registers: 3 << 4 | 4, offset: past, immediate: 0 });
    program.extend(stores);
    program.extend([
        copy(1, 6),
        // Of a map, by its descriptor: two instructions long.
        Instruction { code: 0x18, registers: 1 << 4 | 2, offset: 0, immediate: array },
        Instruction { code: 0, registers: 0, offset: 0, immediate: 0 },
        set(3, 0),
        call(BPF_FUNC_TAIL_CALL),
        set(0, 0),
        EXIT,
    ]);
    Ok(program)
}

/// Writes the packet to where register 2 points, four bytes at a time.
fn stores(packet: &[u8]) -> Result<Vec<Instruction>> {
    let store = |(nth, bytes): (usize, &[u8])| {
        let offset = i16::try_from(4 * nth).context("a long packet")?;
        let mut word = [0; 4];
        word[..bytes.len()].copy_from_slice(bytes);
        Ok(match bytes.len() {
            4 => vec![Instruction { code: 0x62, registers: 2, offset, immediate: i32::from_ne_bytes(word) }],
            _ => bytes
                .iter()
                .zip(offset..)
                .map(|(byte, offset)| Instruction {
                    code: 0x72,
                    registers: 2,
                    offset,
                    immediate: i32::from(*byte),
                })
                .collect(),
        })
    };
    let stores: Result<Vec<Vec<_>>> = packet.chunks(4).enumerate().map(store).collect();
    Ok(stores?.concat())
}
