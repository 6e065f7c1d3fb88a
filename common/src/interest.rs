//! Which packets may need translation: one bit per address or endpoint, so that all others pay for a bit's test only.
//!
//! `interest` is a Bloom filter of one hash: a clear bit means no, a set one maybe. The loader sets the bits of frontends, of their
//! addresses, of backends and of the node's loopback address before anything refers to them, and clears one when the last connection
//! that needs it is gone. The programs test the bit of a packet's destination address (it may call a service), and of its source
//! address, port and protocol (it may be a service's answer).
//!
//! With node ports the node's own address is a frontend's, but most packets to it are for the node itself: ssh, kubelet, metrics. So
//! there the bit of its port and protocol is tested in the address's stead, and the node's own clients pay for a bit, too.

use crate::flow;

/// Elements of `interest`, 64 bits each: a power of two. A million bits: with 100,000 backends and frontends one packet in ten that
/// concerns no service is looked up in vain, at some 12 ns.
pub const WORDS: u32 = 16384;

/// Bits in all, as a power of two.
const BITS: u32 = (WORDS * 64).ilog2();

/// The bit of an address, given as [`Family::fold`](crate::family::Family::fold).
#[inline(always)]
#[must_use]
pub fn address(address: u32) -> Bit {
    Bit::of(flow::hash(address, 0, [0; 4], 0))
}

/// The bit of a backend or a frontend: its folded address, its port in network byte order and its IP protocol number.
#[inline(always)]
#[must_use]
pub fn endpoint(address: u32, port: [u8; 2], protocol: u8) -> Bit {
    Bit::of(flow::hash(address, 1, [port[0], port[1], 0, 0], protocol))
}

/// Where a bit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bit {
    /// Index into `interest`.
    pub word: u32,
    /// The bit of that element.
    pub mask: u64,
}

impl Bit {
    #[inline(always)]
    fn of(hash: u32) -> Self {
        let bit = hash >> (u32::BITS - BITS);
        Self { word: bit / 64, mask: 1 << (bit % 64) }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn bits_are_within_and_spread() {
        let mut seen = HashSet::new();
        for host in 0..10_000_u32 {
            let bit = endpoint(0x0ac8_0000 + host, 8080_u16.to_be_bytes(), 6);
            assert!(bit.word < WORDS && bit.mask.is_power_of_two());
            seen.insert(bit);
        }
        // 10,000 of a million bits: about 50 collide.
        assert!(seen.len() > 9_900, "{} distinct bits", seen.len());
    }
}
