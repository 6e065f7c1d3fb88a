//! Bits of the interest filter: set before anything refers to what they stand for, cleared when nobody does and no
//! connection is left.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use common::{
    family::{Family as _, V4, V6},
    interest::{self, Bit},
};

use crate::sync::Shared;

/// The bit of an address.
#[must_use]
pub fn address_bit(address: IpAddr) -> Bit {
    interest::address(fold(address))
}

/// The bit of a backend or a frontend: its address, its port and its IP protocol number.
#[must_use]
pub fn endpoint_bit(address: IpAddr, port: u16, protocol: u8) -> Bit {
    interest::endpoint(fold(address), port.to_be_bytes(), protocol)
}

fn fold(address: IpAddr) -> u32 {
    match address {
        IpAddr::V4(address) => V4::fold(u32::from_ne_bytes(address.octets())),
        IpAddr::V6(address) => V6::fold(bytemuck::cast(address.octets())),
    }
}

/// The filter, and who wants which bits.
pub(super) struct Interest {
    filter: Shared,
    wanted: HashMap<Bit, u32>,
    /// Set, and no longer wanted: connections may still need them.
    lingering: HashSet<Bit>,
}

impl Interest {
    /// Whatever bits are set already linger until somebody wants them.
    pub(super) fn adopt(filter: Shared) -> Self {
        let bits = |word: u32, set: u64| {
            (0..u64::BITS)
                .map(|bit| 1 << bit)
                .filter(move |mask| set & mask != 0)
                .map(move |mask| Bit { word, mask })
        };
        // Most words are zero, and there are a million bits.
        let words = (0..filter.len()).map(|word| (word, filter.load(word, 0))).filter(|(_, set)| *set != 0);
        let lingering = words.flat_map(|(word, set)| bits(word, set)).collect();
        Self { filter, wanted: HashMap::new(), lingering }
    }

    /// Sets the bit.
    pub(super) fn want(&mut self, bit: Bit) {
        let wanted = self.wanted.entry(bit).or_default();
        *wanted += 1;
        if *wanted == 1 {
            self.lingering.remove(&bit);
            self.filter.set(bit.word, bit.mask);
        }
    }

    /// One fewer wants the bit.
    pub(super) fn release(&mut self, bit: Bit) {
        let Some(wanted) = self.wanted.get_mut(&bit) else { return };
        *wanted -= 1;
        if *wanted == 0 {
            self.wanted.remove(&bit);
            self.lingering.insert(bit);
        }
    }

    /// The bits that are set and that nobody wants.
    pub(super) fn lingering(&self) -> &HashSet<Bit> {
        &self.lingering
    }

    /// Clears those of `candidates` that still nobody wants, for no connection has needed them since they were such.
    pub(super) fn clear(&mut self, candidates: impl IntoIterator<Item = Bit>) {
        for bit in candidates {
            if self.lingering.remove(&bit) {
                self.filter.clear(bit.word, bit.mask);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bits_stay_until_nobody_wants_them_and_nobody_needs_them() {
        let mut interest = Interest::adopt(Shared::in_memory(interest::WORDS, 8));
        let bit = address_bit([10, 0, 0, 1].into());
        interest.want(bit);
        interest.want(bit);
        interest.release(bit);
        assert!(interest.lingering().is_empty());
        interest.clear([bit]);
        assert_ne!(interest.filter.load(bit.word, 0) & bit.mask, 0, "one still wants it");
        interest.release(bit);
        assert_eq!(interest.lingering().iter().copied().collect::<Vec<_>>(), [bit]);
        assert_ne!(interest.filter.load(bit.word, 0) & bit.mask, 0, "a connection may need it");
        let Interest { filter, .. } = interest;
        let mut interest = Interest::adopt(filter);
        assert!(interest.lingering().contains(&bit), "an earlier loader's");
        interest.clear([bit]);
        assert_eq!(interest.filter.load(bit.word, 0), 0);
    }

    #[test]
    fn folds_are_the_programs() {
        // As `Ip` has the addresses: the bytes of the packet, taken as words.
        assert_eq!(fold([10, 0, 0, 1].into()), u32::from_ne_bytes([10, 0, 0, 1]));
        let address: std::net::Ipv6Addr = "fd00::1:2".parse().unwrap();
        assert_eq!(fold(address.into()), V6::fold(common::wire::load16(&address.octets())));
    }
}
