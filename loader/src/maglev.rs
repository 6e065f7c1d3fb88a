//! In what order a service's endpoints stand in its table, so that the same connection gets the same one on every node.
//!
//! Maglev hashing (Eisenbud et al., "Maglev: A Fast and Reliable Software Network Load Balancer", 2016): each endpoint
//! has a permutation of the table's elements that follows from its address and port alone, and they take turns, each
//! claiming the first element of its permutation that is still free. Shares are even, and when one endpoint goes, few
//! elements change hands among the others.

use std::net::{IpAddr, SocketAddr};

/// Lengths of tables: primes, so that any step walks through all elements.
const LENGTHS: [usize; 5] = [251, 1021, 4093, 16381, 65521];
/// At least so many elements per endpoint: what an endpoint gets is then off by less than two in a hundred.
const ELEMENTS_EACH: usize = 64;
/// Most endpoints of a service port: what the longest table has room for.
pub const MAX_ENDPOINTS: usize = LENGTHS[LENGTHS.len() - 1] / ELEMENTS_EACH;
/// Most elements of a table.
pub const MAX_LENGTH: usize = LENGTHS[LENGTHS.len() - 1];

/// How many elements [`table`] has for so many endpoints.
#[must_use]
pub fn length(endpoints: usize) -> usize {
    match endpoints {
        0 | 1 => endpoints,
        _ => LENGTHS.into_iter().find(|length| *length >= ELEMENTS_EACH * endpoints).unwrap_or(MAX_LENGTH),
    }
}

/// The table of `endpoints`, each once and with its weight: elements are indices into the slice.
///
/// Whatever their order in the slice, the same endpoints stand at the same elements. One without a weight stands at none,
/// any other at one at least.
#[must_use]
pub fn table(endpoints: &[(SocketAddr, u16)]) -> Vec<u16> {
    let turns = in_turn(endpoints);
    let length = length(turns.len());
    let most = turns.iter().map(|(_, weight)| u64::from(*weight)).max().unwrap_or_default();
    let mut walks: Vec<_> =
        turns.into_iter().map(|(index, weight)| Walk::new(endpoints, index, weight, length)).collect();
    let mut table = vec![FREE; length];
    let mut free = length;
    let mut round = 0;
    while free > 0 {
        round += 1;
        for walk in &mut walks {
            // The heaviest takes one element in each round, the others by their part of that.
            if free > 0 && walk.taken * most < round * walk.weight {
                walk.take(&mut table);
                free -= 1;
            }
        }
    }
    table
}

/// The table of endpoints that are picked at random: each as often as its weight, in lowest terms.
#[must_use]
pub fn random(endpoints: &[(SocketAddr, u16)]) -> Vec<u16> {
    let turns = in_turn(endpoints);
    let unit = common_divisor(turns.iter().map(|(_, weight)| *weight));
    turns.into_iter().flat_map(|(index, weight)| std::iter::repeat_n(index, (weight / unit).into())).collect()
}

/// How many elements [`random`] has for endpoints of these weights.
#[must_use]
pub fn random_length(weights: &[u16]) -> usize {
    let unit = common_divisor(weights.iter().copied());
    weights.iter().map(|weight| usize::from(weight / unit)).sum()
}

fn common_divisor(weights: impl Iterator<Item = u16>) -> u16 {
    let divisor = weights.fold(0, |mut a, mut b| {
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    });
    divisor.max(1)
}

/// Index and weight of those that have one, in the order in which they take turns.
fn in_turn(endpoints: &[(SocketAddr, u16)]) -> Vec<(u16, u16)> {
    let mut turns: Vec<_> = (0..).zip(endpoints).filter(|(_, (_, weight))| *weight > 0).collect();
    turns.sort_unstable_by_key(|(_, (endpoint, _))| *endpoint);
    turns.into_iter().map(|(index, (_, weight))| (index, *weight)).collect()
}

/// An element that nobody has taken; no index, as there are fewer endpoints.
const FREE: u16 = u16::MAX;

/// An endpoint's walk through the elements of the table.
struct Walk {
    index: u16,
    weight: u64,
    /// How many elements it has taken.
    taken: u64,
    /// The next element of its permutation.
    at: usize,
    step: usize,
}

impl Walk {
    fn new(endpoints: &[(SocketAddr, u16)], index: u16, weight: u16, length: usize) -> Self {
        let hash = endpoints.get(usize::from(index)).map_or(0, |(endpoint, _)| identity(*endpoint));
        Self {
            index,
            weight: weight.into(),
            taken: 0,
            at: below(hash, length),
            step: 1 + below(mix(hash), length.saturating_sub(1)),
        }
    }

    /// Takes the first element that is free, which there is.
    fn take(&mut self, table: &mut [u16]) {
        loop {
            let at = self.at;
            self.at += self.step;
            if self.at >= table.len() {
                self.at -= table.len();
            }
            if table[at] == FREE {
                table[at] = self.index;
                self.taken += 1;
                return;
            }
        }
    }
}

/// A number below `limit`, or zero if there is none: by the upper half of the product.
fn below(hash: u64, limit: usize) -> usize {
    let product = u128::from(hash) * limit as u128;
    usize::try_from(product >> u64::BITS).unwrap_or_default()
}

/// A hash of who an endpoint is, the same on every node and in every release.
#[expect(clippy::cast_possible_truncation, reason = "the halves of an address")]
fn identity(endpoint: SocketAddr) -> u64 {
    let bits = match endpoint.ip() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits(),
    };
    let [high, low] = [(bits >> 64) as u64, bits as u64];
    mix(mix(mix(high) ^ low) ^ u64::from(endpoint.port()))
}

/// The finalizer of `SplitMix64`: each bit of the result depends on each of the input.
const fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

#[cfg(test)]
mod tests;
