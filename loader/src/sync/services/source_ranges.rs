//! Entries of `source_ranges`: who may call which service.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    io,
};

use ipnet::IpNet;

use super::elements::wide;
use crate::sync::{MapOps, Prefix};

/// The map, and what is known of it.
pub(super) struct SourceRanges {
    map: Box<dyn MapOps<Prefix<20>, u32>>,
    held: BTreeMap<u32, BTreeSet<Prefix<20>>>,
}

impl SourceRanges {
    /// With the entries that an earlier loader has left.
    pub(super) fn adopt(map: Box<dyn MapOps<Prefix<20>, u32>>) -> io::Result<Self> {
        let mut held: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for prefix in map.list()?.into_keys() {
            let service = prefix.data.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes));
            held.entry(service).or_default().insert(prefix);
        }
        Ok(Self { map, held })
    }

    /// Lets clients in `ranges` call a service.
    pub(super) fn add(&mut self, service: u32, ranges: &[IpNet]) -> io::Result<()> {
        for prefix in ranges.iter().map(|range| prefix(service, *range)) {
            if !self.held.get(&service).is_some_and(|held| held.contains(&prefix)) {
                self.map.insert(&prefix, &1).map_err(full)?;
                self.held.entry(service).or_default().insert(prefix);
            }
        }
        Ok(())
    }

    /// Lets no other clients call it.
    pub(super) fn keep_only(&mut self, service: u32, ranges: &[IpNet]) -> io::Result<()> {
        let Some(held) = self.held.get_mut(&service) else { return Ok(()) };
        let wanted: BTreeSet<_> = ranges.iter().map(|range| prefix(service, *range)).collect();
        for stale in held.difference(&wanted) {
            self.map.remove(stale)?;
        }
        *held = wanted;
        if held.is_empty() {
            self.held.remove(&service);
        }
        Ok(())
    }

    /// Removes those of services that are nobody's.
    pub(super) fn remove_strangers(&mut self, services: &HashSet<u32>) -> io::Result<()> {
        let strangers: Vec<u32> = self.held.keys().filter(|id| !services.contains(id)).copied().collect();
        strangers.into_iter().try_for_each(|service| self.keep_only(service, &[]))
    }
}

fn full(error: io::Error) -> io::Error {
    if error.raw_os_error() == Some(libc::ENOSPC) {
        return io::Error::other("map source_ranges is full: raise `source-ranges` in [maps]");
    }
    error
}

/// The service in network byte order, then the client's address: [`common::maps::SourceRange`].
fn prefix(service: u32, range: IpNet) -> Prefix<20> {
    let range = range.trunc();
    let mut data = [0; 20];
    data[..4].copy_from_slice(&service.to_be_bytes());
    data[4..].copy_from_slice(&wide(range.addr()));
    Prefix { len: u32::BITS + u32::from(range.prefix_len()), data }
}

#[cfg(test)]
mod tests {
    use common::maps::SourceRange;

    use super::*;

    #[test]
    fn a_prefix_is_what_the_programs_look_up() {
        let prefix = prefix(7, "192.0.2.9/24".parse().unwrap());
        let mut address = [0; 16];
        address[..3].copy_from_slice(&[192, 0, 2]);
        let key = SourceRange { service: 7_u32.to_be_bytes(), address };
        assert_eq!((prefix.len, prefix.data), (56, bytemuck::cast(key)));
    }
}
