//! TCP resets, made out of the segment that they answer.

use crate::{
    answer::{self, Answer},
    checksum,
    counters::Reason,
    family::{Family, Fields, Fragment, Ip, TTL},
    icmp,
    tables::Dataplane,
    wire::{ETH_LEN, Wire, protocol},
};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// TCP header without options (RFC 9293, section 3.1); numbers in network byte order.
#[repr(C)]
#[derive(Clone, Copy)]
struct Header {
    src_port: [u8; 2],
    dst_port: [u8; 2],
    sequence: [u8; 4],
    acknowledgment: [u8; 4],
    /// Length of the header in units of four bytes, in the high half.
    offset: u8,
    flags: u8,
    window: [u8; 2],
    check: [u8; 2],
    urgent: [u8; 2],
}

// SAFETY: bytes and arrays of them.
unsafe impl Wire for Header {}

const LEN: usize = size_of::<Header>();

/// Turns a TCP segment into the reset that its destination would send, having no such connection (RFC 9293, section 3.10.7.1).
///
/// Never of a reset, and within the allowance of ICMP errors. A function of its own in the program too: it is long and rarely
/// run.
#[inline(never)]
pub fn reset<F: Family, D: Dataplane>(packet: &mut D, ip: &mut Ip<F>) -> Answer {
    let Some(Header { src_port, dst_port, sequence, acknowledgment, offset, flags, .. }) =
        packet.at::<Header>(ip.payload()).copied()
    else {
        return Answer::Withheld;
    };
    let whole = ip.protocol == protocol::TCP && ip.fragment == Fragment::No;
    if !whole || flags & RST != 0 || !icmp::allowance(packet) {
        packet.count(Reason::IcmpWithheld, 0);
        return Answer::Withheld;
    }
    let header_len = ip.payload() - ETH_LEN + usize::from(offset >> 4) * 4;
    let data = (ip.len.wrapping_sub(header_len)) as u32;
    let length = data.wrapping_add(u32::from(flags & SYN != 0)).wrapping_add(u32::from(flags & FIN != 0));
    if let Err(failure) = packet.quote(ETH_LEN + F::HEADER_LEN + LEN, 0) {
        packet.failed(failure);
        return Answer::Failed;
    }
    let (sequence, acknowledgment, flags) = if flags & ACK != 0 {
        (acknowledgment, [0; 4], RST)
    } else {
        ([0; 4], u32::from_be_bytes(sequence).wrapping_add(length).to_be_bytes(), RST | ACK)
    };
    let mut header = Header {
        src_port: dst_port,
        dst_port: src_port,
        sequence,
        acknowledgment,
        offset: ((LEN / 4) as u8) << 4,
        flags,
        window: [0; 2],
        check: [0; 2],
        urgent: [0; 2],
    };
    let numbers = checksum::words(u32::from_ne_bytes(sequence))
        + checksum::words(u32::from_ne_bytes(acknowledgment))
        + checksum::word(src_port)
        + checksum::word(dst_port)
        + checksum::word([header.offset, flags]);
    let pseudo =
        F::sum(ip.src) + F::sum(ip.dst) + checksum::word([0, protocol::TCP]) + checksum::word([0, LEN as u8]);
    header.check = checksum::finish(numbers + pseudo);
    if let Some(place) = packet.at_mut::<Header>(ETH_LEN + F::HEADER_LEN) {
        *place = header;
    }
    let fields = Fields { src: ip.dst, dst: ip.src, protocol: protocol::TCP, tos: 0, ttl: TTL, payload: LEN };
    if let Some(place) = packet.at_mut::<F::Header>(ETH_LEN) {
        F::write(place, &fields);
    }
    answer::turn(packet);
    *ip = Ip {
        payload: ETH_LEN + F::HEADER_LEN,
        len: F::HEADER_LEN + LEN,
        src: ip.dst,
        dst: ip.src,
        id: 0,
        protocol: protocol::TCP,
        tos: 0,
        fragment: Fragment::No,
        may_fragment: true,
    };
    packet.count(Reason::TcpReset, ETH_LEN + ip.len);
    Answer::Ready
}
