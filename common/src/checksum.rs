//! The internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! Sums are taken over big-endian 16-bit words and kept unfolded in a `u32`, which holds those of 64 KB.

use crate::packet::Packet;

/// Folds a sum to the value that goes into a header, network byte order.
#[inline(always)]
#[must_use]
pub fn finish(sum: u32) -> [u8; 2] {
    (!fold(sum)).to_be_bytes()
}

/// Folds a sum to 16 bits.
#[inline(always)]
#[must_use]
pub fn fold(sum: u32) -> u16 {
    let once = (sum & 0xffff) + (sum >> 16);
    let twice = (once & 0xffff) + (once >> 16);
    // Cannot exceed 16 bits after two folds of 32.
    (twice & 0xffff) as u16
}

/// Sum of an even number of bytes.
#[inline(always)]
#[must_use]
pub fn sum<const N: usize>(bytes: &[u8; N]) -> u32 {
    const { assert!(N % 2 == 0) };
    let mut sum = 0;
    let mut at = 0;
    while at < N {
        sum += u32::from(u16::from_be_bytes([bytes[at], bytes[at + 1]]));
        at += 2;
    }
    sum
}

/// Header checksum after one 16-bit word of what it covers went from `old` to `new` (RFC 1624, equation 3).
#[inline(always)]
#[must_use]
pub fn update(check: [u8; 2], old: u16, new: u16) -> [u8; 2] {
    finish(u32::from(!u16::from_be_bytes(check)) + u32::from(!old) + u32::from(new))
}

/// Sum of a packet's bytes from `offset` to its end, `2 * WORDS` bytes at most; an odd last byte is padded with zero.
#[inline(always)]
#[must_use]
pub fn sum_tail<P: Packet, const WORDS: usize>(packet: &P, offset: usize) -> u32 {
    let mut sum = 0;
    let mut word = 0;
    while word < WORDS {
        let at = offset + 2 * word;
        if let Some(bytes) = packet.at::<[u8; 2]>(at) {
            sum += u32::from(u16::from_be_bytes(*bytes));
        } else {
            if let Some(last) = packet.at::<u8>(at) {
                sum += u32::from(*last) << 8;
            }
            break;
        }
        word += 1;
    }
    sum
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::memory::Memory;

    /// Straight from RFC 1071: every word, every carry.
    fn reference(bytes: &[u8]) -> u16 {
        let mut sum = 0_u64;
        for pair in bytes.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]));
        }
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !u16::try_from(sum).unwrap()
    }

    proptest! {
        #[test]
        fn a_sum_over_a_packet_is_the_reference(bytes in proptest::collection::vec(any::<u8>(), 0..128)) {
            let packet = Memory::packet(&bytes);
            prop_assert_eq!(finish(sum_tail::<_, 64>(&packet, 0)), reference(&bytes).to_be_bytes());
        }

        #[test]
        fn an_update_is_a_new_sum(mut bytes in any::<[u8; 20]>(), word in 0_usize..9, value in any::<u16>()) {
            // The checksum is the last word; another one changes.
            bytes[18..].fill(0);
            let check = reference(&bytes).to_be_bytes();
            let old = u16::from_be_bytes([bytes[2 * word], bytes[2 * word + 1]]);
            bytes[2 * word..2 * word + 2].copy_from_slice(&value.to_be_bytes());
            let updated = update(check, old, value);
            bytes[18..].copy_from_slice(&updated);
            // All ones and all zeros are the same number to a receiver: it only asks whether the sum comes to zero.
            prop_assert_eq!(reference(&bytes), 0);
        }
    }
}
