//! The internet checksum (RFC 1071) and its incremental update (RFC 1624).
//!
//! A one's complement sum comes out the same in either byte order, its bytes swapped (RFC 1071, section 2 (B)). So sums are
//! taken over 16-bit words as they lie in memory, without swapping, and kept unfolded in a `u32`, which holds those of 64 KB.

use crate::packet::Packet;

/// A word of a sum.
#[inline(always)]
#[must_use]
pub fn word(bytes: [u8; 2]) -> u32 {
    u32::from(u16::from_ne_bytes(bytes))
}

/// Two words of a sum, as they lie in memory.
#[inline(always)]
#[must_use]
pub const fn words(pair: u32) -> u32 {
    (pair & 0xffff) + (pair >> 16)
}

/// Folds a sum to the value that goes into a header.
#[inline(always)]
#[must_use]
pub fn finish(sum: u32) -> [u8; 2] {
    let once = words(sum);
    // Cannot exceed 16 bits after two folds of 32.
    (!(words(once) as u16)).to_ne_bytes()
}

/// A sum in 16 bits. Of anything but zero that is not zero either.
#[inline(always)]
#[must_use]
pub const fn fold(sum: u32) -> u16 {
    words(words(sum)) as u16
}

/// What a change from words of the sum `old` to words of the sum `new` does to a sum that covers them.
#[inline(always)]
#[must_use]
pub const fn difference(old: u32, new: u32) -> u32 {
    (words(words(old)) ^ 0xffff) + words(words(new))
}

/// Header checksum after what it covers has changed by `difference` (RFC 1624, equation 3).
#[inline(always)]
#[must_use]
pub fn adjust(check: [u8; 2], difference: u32) -> [u8; 2] {
    finish((word(check) ^ 0xffff) + words(difference))
}

/// Upper checksum after the addresses that it covers have changed by `addresses` and what is behind them by `ports`. With
/// `optional`, zero says that there is none, and the other zero of one's complement stands for a sum of zero (RFC 768).
#[inline(always)]
#[must_use]
pub fn followed(check: [u8; 2], addresses: u32, ports: u32, optional: bool) -> [u8; 2] {
    if optional && check == [0; 2] {
        return check;
    }
    let new = adjust(check, words(addresses) + words(ports));
    if optional && new == [0; 2] { [0xff; 2] } else { new }
}

/// Sum of an even number of bytes.
#[inline(always)]
#[must_use]
pub fn sum<const N: usize>(bytes: &[u8; N]) -> u32 {
    const { assert!(N.is_multiple_of(2)) };
    let mut sum = 0;
    let mut at = 0;
    while at < N {
        sum += word([bytes[at], bytes[at + 1]]);
        at += 2;
    }
    sum
}

/// Header checksum after one 16-bit word of what it covers went from `old` to `new` (RFC 1624, equation 3).
#[inline(always)]
#[must_use]
pub fn update(check: [u8; 2], old: [u8; 2], new: [u8; 2]) -> [u8; 2] {
    adjust(check, (word(old) ^ 0xffff) + word(new))
}

/// The longest end of a packet that is summed up, in bytes.
pub const TAIL: usize = 128;

/// Sum of a packet's bytes from `offset` to its end, [`TAIL`] bytes at most; an odd last byte is padded with zero.
#[inline(always)]
#[must_use]
pub fn sum_tail<P: Packet>(packet: &P, offset: usize) -> u32 {
    let mut sum = 0;
    let mut index = 0;
    while index < TAIL / 2 {
        let at = offset + 2 * index;
        if let Some(bytes) = packet.at::<[u8; 2]>(at) {
            sum += word(*bytes);
        } else {
            if let Some(last) = packet.at::<u8>(at) {
                sum += word([*last, 0]);
            }
            break;
        }
        index += 1;
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
            prop_assert_eq!(finish(sum_tail(&packet, 0)), reference(&bytes).to_be_bytes());
        }

        #[test]
        fn an_update_is_a_new_sum(mut bytes in any::<[u8; 20]>(), word in 0_usize..9, value in any::<[u8; 2]>()) {
            // The checksum is the last word; another one changes.
            bytes[18..].fill(0);
            let check = reference(&bytes).to_be_bytes();
            let old = [bytes[2 * word], bytes[2 * word + 1]];
            bytes[2 * word..2 * word + 2].copy_from_slice(&value);
            let updated = update(check, old, value);
            bytes[18..].copy_from_slice(&updated);
            // All ones and all zeros are the same number to a receiver: it only asks whether the sum comes to zero.
            prop_assert_eq!(reference(&bytes), 0);
        }
    }
}
