//! Real traffic between namespaces, every byte of it checked.

pub mod http;
pub mod ping;
pub mod probe;
pub mod tcp;
pub mod udp;

pub use ping::{Ping, ping};

use std::net::IpAddr;

use anyhow::Result;

use crate::netns::Netns;

/// One of each: ping, HTTP, a TCP stream, and UDP from one byte to 8 KB in fragments.
pub fn every_kind(from: &Netns, to: (&Netns, IpAddr)) -> Result<()> {
    ping(from, to.1)?;
    http::get(from, to, "a short page")?;
    tcp::transfer(from, to, 4 << 20)?;
    udp::echo(from, to, &[1, 1000, 1400, 8000])
}

/// How long any one step of a conversation may take.
const STEP: std::time::Duration = std::time::Duration::from_secs(10);

/// Fills a buffer with bytes that depend on their place in the stream, so that a byte that is lost, doubled or moved shows.
pub(crate) fn pattern(seed: u64, offset: usize, buffer: &mut [u8]) {
    let mut place = u64::try_from(offset).unwrap_or(u64::MAX);
    for byte in buffer {
        let mixed = (place ^ seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        *byte = mixed.to_be_bytes()[1];
        place = place.wrapping_add(1);
    }
}

/// Place of the first byte that is not as [`pattern`] has it.
pub(crate) fn mismatch(seed: u64, offset: usize, received: &[u8]) -> Option<usize> {
    let mut expected = vec![0; received.len()];
    pattern(seed, offset, &mut expected);
    let place = received.iter().zip(&expected).position(|(received, expected)| received != expected)?;
    Some(offset + place)
}
