//! One number per flow, the same at every hook, so that all packets of a flow take the same underlay path.

use crate::wire::Ports;

/// First of the outer source ports: Linux's default ephemeral range, as the kernel's own VXLAN uses it.
pub const PORT_FIRST: u16 = 32768;
/// Last of the outer source ports.
pub const PORT_LAST: u16 = 60999;

/// Hash of a flow's folded addresses, its ports (zero for a fragment, so that all fragments share it) and its protocol.
///
/// Computed rather than taken from `skb->hash`: XDP has none, a socket changes its own when it retransmits, and test
/// packets carry none. Two multiplications per input and a finaliser; about 3 ns.
#[inline(always)]
#[must_use]
pub fn hash(source: u32, destination: u32, ports: Ports, protocol: u8) -> u32 {
    let mixed = source.wrapping_mul(0x9e37_79b1).rotate_left(13)
        ^ destination.wrapping_mul(0x85eb_ca77).rotate_left(7)
        ^ u32::from_ne_bytes(ports).wrapping_mul(0xc2b2_ae3d)
        ^ u32::from(protocol);
    // The finaliser of a 32-bit hash: each input bit reaches each output bit.
    let mixed = (mixed ^ (mixed >> 16)).wrapping_mul(0x7feb_352d);
    let mixed = (mixed ^ (mixed >> 15)).wrapping_mul(0x846c_a68b);
    mixed ^ (mixed >> 16)
}

/// Outer UDP source port of a flow, network byte order (RFC 7348, section 5, asks for entropy in a dynamic range).
#[inline(always)]
#[must_use]
pub fn source_port(hash: u32) -> [u8; 2] {
    (PORT_FIRST + place(hash, u32::from(PORT_LAST - PORT_FIRST) + 1) as u16).to_be_bytes()
}

/// Place of a flow among so many, from zero on.
#[inline(always)]
#[must_use]
pub fn place(hash: u32, places: u32) -> u32 {
    // The high half of the product is in 0..places: a range reduction without a division.
    ((u64::from(hash) * u64::from(places)) >> 32) as u32
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;

    #[test]
    fn ports_stay_in_range() {
        for hash in [0, 1, u32::MAX / 2, u32::MAX - 1, u32::MAX] {
            let port = u16::from_be_bytes(source_port(hash));
            assert!((PORT_FIRST..=PORT_LAST).contains(&port), "{hash} gives {port}");
        }
        assert_eq!(source_port(0), PORT_FIRST.to_be_bytes());
        assert_eq!(source_port(u32::MAX), PORT_LAST.to_be_bytes());
    }

    /// OV-2: flows that differ only in their source port spread over the underlay's paths.
    #[test]
    fn neighbouring_flows_spread() {
        for paths in [2_u16, 4, 8, 16] {
            let mut load = HashMap::new();
            for port in 0..4096_u16 {
                let [high, low] = (20000 + port).to_be_bytes();
                let outer =
                    u16::from_be_bytes(source_port(hash(0x0ac8_0002, 0x0ac8_0103, [high, low, 0, 80], 6)));
                *load.entry(outer % paths).or_insert(0_u16) += 1;
            }
            let fair = 4096 / paths;
            for (path, flows) in load {
                assert!(flows.abs_diff(fair) < fair / 4, "path {path} of {paths} has {flows} of 4096 flows");
            }
        }
    }
}
