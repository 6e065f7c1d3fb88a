//! Entries of `source_ranges`: who may call which service.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use common::maps::name;
use ipnet::IpNet;

use super::{elements::wide, port::Lack};
use crate::sync::{MapOps, Prefix};

/// The map, and what is known of it.
pub(super) struct SourceRanges {
    map: Box<dyn MapOps<Prefix<20>, u32>>,
    /// Its entries, by service.
    held: BTreeMap<u32, BTreeSet<Prefix<20>>>,
    /// How many those are.
    count: usize,
}

impl SourceRanges {
    /// With the entries that an earlier loader has left.
    pub(super) fn adopt(map: Box<dyn MapOps<Prefix<20>, u32>>) -> io::Result<Self> {
        let entries = map.list()?;
        let mut held: BTreeMap<_, BTreeSet<_>> = BTreeMap::new();
        for prefix in entries.keys() {
            held.entry(service(prefix)).or_default().insert(*prefix);
        }
        Ok(Self { map, held, count: entries.len() })
    }

    /// Lets clients in a service's ranges call it, of all of these services or of none. Where old and new ones don't fit in
    /// together, some of the old ones go first: a client whose prefix is withdrawn is refused a moment early, and one whose
    /// prefix is only written otherwise may be refused for that moment.
    pub(super) fn admit<'a>(
        &mut self,
        services: impl Iterator<Item = (u32, &'a [IpNet])>,
    ) -> Result<(), Lack> {
        let (mut new, mut stale) = (Vec::new(), Vec::new());
        let none = BTreeSet::new();
        // Whoever has no ranges any more may be called by everyone, but not yet.
        for (service, ranges) in services.filter(|(_, ranges)| !ranges.is_empty()) {
            let wanted = prefixes(service, ranges);
            let held = self.held.get(&service).unwrap_or(&none);
            new.extend(wanted.difference(held).copied());
            stale.extend(held.difference(&wanted).copied());
        }
        let free = usize::try_from(self.map.capacity()).unwrap_or(usize::MAX).saturating_sub(self.count);
        let lacking = new.len().saturating_sub(free);
        if lacking > stale.len() {
            let free = free + stale.len();
            return Err(Lack::Room { map: name::SOURCE_RANGES, wanted: new.len(), free });
        }
        stale.truncate(lacking);
        self.replace(&stale, &new).map_err(|error| {
            if let Err(error) = self.replace(&new, &stale) {
                log::warn!("source ranges are not what they were: {error}");
            }
            Lack::Written { map: name::SOURCE_RANGES, error }
        })
    }

    /// Lets no other clients call it.
    pub(super) fn keep_only(&mut self, service: u32, ranges: &[IpNet]) -> io::Result<()> {
        let Some(held) = self.held.get(&service) else { return Ok(()) };
        let stale: Vec<_> = held.difference(&prefixes(service, ranges)).copied().collect();
        // Each that can be removed is: one that can't keeps no other client in.
        stale.iter().map(|prefix| self.remove(prefix)).fold(Ok(()), Result::and)
    }

    /// Removes those of services that are nobody's.
    pub(super) fn remove_strangers(&mut self, is_known: impl Fn(u32) -> bool) -> io::Result<()> {
        let strangers: Vec<u32> = self.held.keys().copied().filter(|id| !is_known(*id)).collect();
        strangers.into_iter().try_for_each(|service| self.keep_only(service, &[]))
    }

    fn replace(&mut self, old: &[Prefix<20>], new: &[Prefix<20>]) -> io::Result<()> {
        old.iter().try_for_each(|prefix| self.remove(prefix))?;
        new.iter().try_for_each(|prefix| self.insert(prefix))
    }

    fn insert(&mut self, prefix: &Prefix<20>) -> io::Result<()> {
        self.map.insert(prefix, &1)?;
        if self.held.entry(service(prefix)).or_default().insert(*prefix) {
            self.count += 1;
        }
        Ok(())
    }

    fn remove(&mut self, prefix: &Prefix<20>) -> io::Result<()> {
        let id = service(prefix);
        let Some(held) = self.held.get_mut(&id).filter(|held| held.contains(prefix)) else { return Ok(()) };
        self.map.remove(prefix)?;
        held.remove(prefix);
        self.count -= 1;
        if held.is_empty() {
            self.held.remove(&id);
        }
        Ok(())
    }
}

/// Whose it is.
fn service(prefix: &Prefix<20>) -> u32 {
    prefix.data.first_chunk().map_or(0, |bytes| u32::from_be_bytes(*bytes))
}

fn prefixes(service: u32, ranges: &[IpNet]) -> BTreeSet<Prefix<20>> {
    ranges.iter().map(|range| prefix(service, *range)).collect()
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
