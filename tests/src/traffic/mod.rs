//! Real traffic between namespaces, every byte of it checked.

pub mod conversation;
pub mod dns;
pub mod http;
pub mod load;
pub mod ping;
pub mod probe;
mod stop;
pub mod tcp;
pub mod udp;
pub mod who;

pub use ping::{Ping, Pinging, ping};

use std::{net::IpAddr, sync::OnceLock};

use anyhow::Result;

use crate::netns::Netns;

/// One of each: ping, HTTP, a TCP stream, and UDP from one byte to 8 KB in fragments.
pub fn every_kind(from: &Netns, to: (&Netns, IpAddr)) -> Result<()> {
    ping(from, to.1)?;
    http::get(from, to, "a short page")?;
    tcp::transfer(from, to, 4 << 20)?;
    udp::echo(from, to, &[1, 1000, 1400, 8000])
}

/// Length of the sequence that all content is cut from; prime, so that no packet or buffer size divides it.
const PERIOD: usize = 1_000_003;

/// The sequence, made once: comparing with it has to be quick in an unoptimised build too.
fn sequence() -> &'static [u8] {
    static SEQUENCE: OnceLock<Vec<u8>> = OnceLock::new();
    SEQUENCE.get_or_init(|| {
        let mixed =
            (0..PERIOD as u64).map(|place| place.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes()[1]);
        mixed.collect()
    })
}

/// Cuts a stretch of a stream into the pieces of the sequence that it consists of.
fn pieces(seed: usize, offset: usize, length: usize) -> impl Iterator<Item = &'static [u8]> {
    let mut place = (offset + seed * 7919) % PERIOD;
    let mut left = length;
    std::iter::from_fn(move || {
        let piece = sequence().get(place..PERIOD.min(place + left)).filter(|piece| !piece.is_empty())?;
        left -= piece.len();
        place = (place + piece.len()) % PERIOD;
        Some(piece)
    })
}

/// Fills a buffer with bytes that depend on their place in the stream, so that a byte that is lost, doubled or moved shows.
pub(crate) fn pattern(seed: usize, offset: usize, buffer: &mut [u8]) {
    let length = buffer.len();
    let mut rest = buffer;
    for piece in pieces(seed, offset, length) {
        let (part, behind) = rest.split_at_mut(piece.len());
        part.copy_from_slice(piece);
        rest = behind;
    }
}

/// Place of the first byte that is not as [`pattern`] has it.
pub(crate) fn mismatch(seed: usize, offset: usize, received: &[u8]) -> Option<usize> {
    let mut at = 0;
    for piece in pieces(seed, offset, received.len()) {
        let part = &received[at..at + piece.len()];
        if part != piece {
            let place = part.iter().zip(piece).position(|(received, expected)| received != expected)?;
            return Some(offset + at + place);
        }
        at += piece.len();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_filled_in_matches_and_what_is_changed_does_not() {
        for offset in [0, 1, PERIOD - 5, 3 * PERIOD + 17] {
            let mut buffer = vec![0; 10_000];
            pattern(9, offset, &mut buffer);
            assert_eq!(mismatch(9, offset, &buffer), None);
            assert!(mismatch(9, offset + 1, &buffer).is_some());
            assert!(mismatch(8, offset, &buffer).is_some());
            buffer[7777] ^= 1;
            assert_eq!(mismatch(9, offset, &buffer), Some(offset + 7777));
        }
    }
}
