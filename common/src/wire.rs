//! Headers as they lie in a packet: byte arrays only, so that any offset is aligned and any bytes are valid.

use network_types::{
    arp::ArpHdr,
    icmp::{Icmpv4Hdr, Icmpv6Hdr},
    ip::{Ipv4Hdr, Ipv6Hdr},
    udp::UdpHdr,
};

/// A type that may be laid over any bytes of a packet.
///
/// # Safety
///
/// The type has alignment 1, no padding, and every bit pattern is valid for it.
pub unsafe trait Wire: Copy {}

/// Ethernet header.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Eth {
    /// Destination MAC.
    pub dst: [u8; 6],
    /// Source MAC.
    pub src: [u8; 6],
    /// EtherType, network byte order.
    pub ether_type: [u8; 2],
}

/// Length of an Ethernet header, and so where its payload starts.
pub const ETH_LEN: usize = size_of::<Eth>();

/// A MAC address as it lies in memory, in two machine words: a copy of six single bytes costs a program six loads and stores.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Mac {
    first: u32,
    last: u16,
}

impl Mac {
    /// Loads an address.
    #[inline(always)]
    #[must_use]
    pub fn load(from: &[u8; 6]) -> Self {
        Self {
            first: from.first_chunk().map_or(0, |bytes| u32::from_ne_bytes(*bytes)),
            last: from.last_chunk().map_or(0, |bytes| u16::from_ne_bytes(*bytes)),
        }
    }

    /// An address given in three words as they lie in memory.
    #[inline(always)]
    #[must_use]
    pub fn from_words([first, second, last]: [u16; 3]) -> Self {
        let ([a, b], [c, d]) = (first.to_ne_bytes(), second.to_ne_bytes());
        Self { first: u32::from_ne_bytes([a, b, c, d]), last }
    }

    /// As two words: the first four bytes as they lie in memory, then the last two.
    #[inline(always)]
    #[must_use]
    pub const fn words(self) -> [u32; 2] {
        [self.first, self.last as u32]
    }

    /// The address with those words.
    #[inline(always)]
    #[must_use]
    pub const fn of_words([first, last]: [u32; 2]) -> Self {
        Self { first, last: last as u16 }
    }

    /// Stores it.
    #[inline(always)]
    pub fn store(self, to: &mut [u8; 6]) {
        if let Some(first) = to.first_chunk_mut() {
            *first = self.first.to_ne_bytes();
        }
        if let Some(last) = to.last_chunk_mut() {
            *last = self.last.to_ne_bytes();
        }
    }
}

/// Loads sixteen bytes as they lie in memory, in two machine words.
#[inline(always)]
#[must_use]
pub fn load16(from: &[u8; 16]) -> [u64; 2] {
    [
        from.first_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes)),
        from.last_chunk().map_or(0, |bytes| u64::from_ne_bytes(*bytes)),
    ]
}

/// Stores two machine words.
#[inline(always)]
pub fn store16(words: [u64; 2], to: &mut [u8; 16]) {
    if let Some(first) = to.first_chunk_mut() {
        *first = words[0].to_ne_bytes();
    }
    if let Some(last) = to.last_chunk_mut() {
        *last = words[1].to_ne_bytes();
    }
}

/// Values of an EtherType, network byte order.
pub mod ether_type {
    /// IPv4.
    pub const IPV4: [u8; 2] = [0x08, 0x00];
    /// ARP.
    pub const ARP: [u8; 2] = [0x08, 0x06];
    /// IPv6.
    pub const IPV6: [u8; 2] = [0x86, 0xdd];
}

/// IP protocol numbers.
pub mod protocol {
    /// IPv6 hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 0;
    /// ICMP for IPv4.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// IPv6 routing header.
    pub const ROUTING: u8 = 43;
    /// IPv6 fragment header.
    pub const FRAGMENT: u8 = 44;
    /// ICMP for IPv6.
    pub const ICMPV6: u8 = 58;
    /// IPv6 destination options.
    pub const DESTINATION: u8 = 60;
    /// SCTP.
    pub const SCTP: u8 = 132;
}

/// The first four bytes of TCP, UDP and SCTP: source and destination port, network byte order.
pub type Ports = [u8; 4];

/// An IPv6 extension header, as long as all of them are at least.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Extension {
    /// Protocol of what follows.
    pub next: u8,
    /// Length in units of 8 bytes, without the first 8; meaningless in a fragment header.
    pub length: u8,
    /// Fragment header: offset in units of 8 bytes (13 bits), reserved (2), more fragments (1).
    pub fragment: [u8; 2],
    /// Fragment header: identification.
    pub id: [u8; 4],
}

// SAFETY: byte arrays only.
unsafe impl Wire for Eth {}
// SAFETY: bytes only.
unsafe impl Wire for Extension {}
// SAFETY: bytes.
unsafe impl Wire for u8 {}
// SAFETY: byte arrays of any length.
unsafe impl<const N: usize> Wire for [u8; N] {}
// SAFETY: `repr(C)`, fields are `u8` and arrays of them.
unsafe impl Wire for Ipv4Hdr {}
// SAFETY: as above.
unsafe impl Wire for Ipv6Hdr {}
// SAFETY: as above.
unsafe impl Wire for UdpHdr {}
// SAFETY: as above.
unsafe impl Wire for ArpHdr {}
// SAFETY: as above.
unsafe impl Wire for Icmpv4Hdr {}
// SAFETY: as above.
unsafe impl Wire for Icmpv6Hdr {}

const _: () = {
    assert!(align_of::<Eth>() == 1 && ETH_LEN == 14);
    assert!(align_of::<Ipv4Hdr>() == 1 && size_of::<Ipv4Hdr>() == 20);
    assert!(align_of::<Ipv6Hdr>() == 1 && size_of::<Ipv6Hdr>() == 40);
    assert!(align_of::<UdpHdr>() == 1 && size_of::<UdpHdr>() == 8);
    assert!(align_of::<ArpHdr>() == 1 && size_of::<ArpHdr>() == 28);
    assert!(align_of::<Icmpv4Hdr>() == 1 && size_of::<Icmpv4Hdr>() == 8);
    assert!(align_of::<Icmpv6Hdr>() == 1 && size_of::<Icmpv6Hdr>() == 8);
};
