//! The programs: instructions with what they would have to look up.

use anyhow::{Context as _, Result};

use crate::{
    address::Mac,
    assembly::{
        EXIT, If, add, add_register, call, copy, flip, load8, load16, load32, mask, set, set_wide,
        shift_right, store, store16, to_network16, unless,
    },
    bpf::Instruction,
    foreign::TCX_NEXT,
    frame::{self, Ip},
};

const VXLAN_PORT: u16 = 8472;

// Numbers of helpers and their flags, `enum bpf_func_id` and others of the kernel's `bpf.h`.
const BPF_FUNC_REDIRECT: i32 = 23;
const BPF_FUNC_SKB_ADJUST_ROOM: i32 = 50;
const BPF_FUNC_REDIRECT_PEER: i32 = 155;
const BPF_ADJ_ROOM_MAC: i32 = 1;
const BPF_F_ADJ_ROOM_FIXED_GSO: i32 = 1;
const BPF_F_ADJ_ROOM_ENCAP_L3_IPV4: i32 = 1 << 1;
const BPF_F_ADJ_ROOM_ENCAP_L4_UDP: i32 = 1 << 4;
const BPF_F_ADJ_ROOM_NO_CSUM_RESET: i32 = 1 << 5;
const BPF_F_ADJ_ROOM_ENCAP_L2_ETH: i32 = 1 << 6;
const BPF_F_ADJ_ROOM_DECAP_L3_IPV6: i32 = 1 << 8;
/// In the upper half of the flags.
const BPF_ADJ_ROOM_ENCAP_L2_SHIFT: i32 = 56 - 32;
const TC_ACT_SHOT: i32 = 2;

/// Register that has the context.
const CONTEXT: u8 = 6;
// Fields of `struct __sk_buff`.
const LENGTH: i16 = 0;
const PROTOCOL: i16 = 16;
const DATA: i16 = 76;
const DATA_END: i16 = 80;

// Where things are in an encapsulated frame: Ethernet, IPv4, UDP, VXLAN, Ethernet.
const ETHERNET: i32 = 14;
const OUTER_TYPE: i16 = 12;
const IP: usize = 14;
const IP_LENGTH: i16 = 16;
const IP_PROTOCOL: i16 = 23;
const IP_CHECKSUM: i16 = 24;
const UDP: usize = 34;
const UDP_PORT: i16 = 36;
const UDP_LENGTH: i16 = 38;
const INNER_TYPE: i16 = 62;
/// All of them.
const HEADERS: i32 = 64;
/// What the inner frame has before it, counted by UDP and by IP.
const UDP_AND_VXLAN: i32 = 8 + 8;
const IP_UDP_AND_VXLAN: i32 = 20 + UDP_AND_VXLAN;
/// What is to be made for them.
const ROOM: i32 = HEADERS - ETHERNET;

/// Sends everything into the pod behind a device.
pub fn redirect(device: u32) -> Result<Vec<Instruction>> {
    Ok(vec![set(1, index(device)?), set(2, 0), call(BPF_FUNC_REDIRECT_PEER), EXIT])
}

/// Puts headers in front of everything and sends it by a device, from the first address to the second.
pub fn encapsulate(macs: [Mac; 2], ip: &Ip, device: u32) -> Result<Vec<Instruction>> {
    let flags = BPF_F_ADJ_ROOM_FIXED_GSO
        | BPF_F_ADJ_ROOM_NO_CSUM_RESET
        | BPF_F_ADJ_ROOM_ENCAP_L3_IPV4
        | BPF_F_ADJ_ROOM_ENCAP_L4_UDP
        | BPF_F_ADJ_ROOM_ENCAP_L2_ETH;
    let headers = headers(macs, ip);
    let of_the_rest = frame::sum(&headers[IP..UDP], 0);
    let [length, protocol] = [8, 7];
    let mut send = store(2, &headers)?;
    send.extend([
        store16(2, INNER_TYPE, protocol),
        copy(3, length),
        add(3, UDP_AND_VXLAN),
        to_network16(3),
        store16(2, UDP_LENGTH, 3),
        add(length, IP_UDP_AND_VXLAN),
        copy(3, length),
        to_network16(3),
        store16(2, IP_LENGTH, 3),
        // RFC 1071, of two numbers.
        add(length, of_the_rest.into()),
        copy(3, length),
        shift_right(3, 16),
        mask(length, 0xffff),
        add_register(length, 3),
        flip(length, 0xffff),
        to_network16(length),
        store16(2, IP_CHECKSUM, length),
        set(1, index(device)?),
        set(2, 0),
        call(BPF_FUNC_REDIRECT),
        EXIT,
    ]);
    let mut program = vec![
        copy(CONTEXT, 1),
        load32(length, CONTEXT, LENGTH),
        load32(protocol, CONTEXT, PROTOCOL),
        set(2, ROOM),
        set(3, BPF_ADJ_ROOM_MAC),
    ];
    program.extend(set_wide(4, ETHERNET << BPF_ADJ_ROOM_ENCAP_L2_SHIFT, flags));
    program.push(call(BPF_FUNC_SKB_ADJUST_ROOM));
    program.extend(unless(If::IsNot(0, 0), &with_headers(&send)?)?);
    program.extend([set(0, TC_ACT_SHOT), EXIT]);
    Ok(program)
}

/// The headers of an IPv4 frame of no length, with all that depends on it left zero.
fn headers([source, destination]: [Mac; 2], ip: &Ip) -> Vec<u8> {
    let inner = frame::ethernet(source, destination, &[]);
    let packet = ip.udp_without_checksum((0xc000, VXLAN_PORT), &frame::vxlan(1, &inner));
    let mut headers = frame::ethernet(source, destination, &packet);
    for at in [IP_LENGTH, IP_CHECKSUM, UDP_LENGTH].map(|at| usize::from(at.unsigned_abs())) {
        headers[at..at + 2].fill(0);
    }
    headers
}

/// Takes the headers off VXLAN packets and sends them into the pod behind a device.
pub fn decapsulate(device: u32) -> Result<Vec<Instruction>> {
    let inner_type = 7;
    let network = |number: u16| i32::from(number.to_be());
    let flags = BPF_F_ADJ_ROOM_FIXED_GSO | BPF_F_ADJ_ROOM_NO_CSUM_RESET;
    let mut take_off = vec![load16(inner_type, 2, INNER_TYPE), set(4, flags)];
    let of_ipv6 = [add(4, BPF_F_ADJ_ROOM_DECAP_L3_IPV6)];
    take_off.extend(unless(If::IsNot(inner_type, network(frame::IPV6)), &of_ipv6)?);
    take_off.extend([
        copy(1, CONTEXT),
        set(2, -ROOM),
        set(3, BPF_ADJ_ROOM_MAC),
        call(BPF_FUNC_SKB_ADJUST_ROOM),
    ]);
    take_off.extend(unless(If::IsNot(0, 0), &redirect(device)?)?);
    take_off.extend([set(0, TC_ACT_SHOT), EXIT]);

    // From the innermost condition to the outermost.
    let of_our_port =
        [vec![load16(4, 2, UDP_PORT)], unless(If::IsNot(4, network(VXLAN_PORT)), &take_off)?].concat();
    let of_udp =
        [vec![load8(4, 2, IP_PROTOCOL)], unless(If::IsNot(4, libc::IPPROTO_UDP), &of_our_port)?].concat();
    let of_ipv4 =
        [vec![load16(4, 2, OUTER_TYPE)], unless(If::IsNot(4, network(frame::IPV4)), &of_udp)?].concat();
    let mut program = vec![copy(CONTEXT, 1)];
    program.extend(with_headers(&of_ipv4)?);
    program.extend([set(0, TCX_NEXT), EXIT]);
    Ok(program)
}

/// What is done if all headers can be accessed, from register 2 on.
fn with_headers(body: &[Instruction]) -> Result<Vec<Instruction>> {
    let begin = [load32(2, CONTEXT, DATA), load32(3, CONTEXT, DATA_END), copy(4, 2), add(4, HEADERS)];
    Ok([&begin, unless(If::More(4, 3), body)?.as_slice()].concat())
}

fn index(device: u32) -> Result<i32> {
    i32::try_from(device).context("the index of a device")
}
