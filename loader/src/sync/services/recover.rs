//! What an earlier loader has left in the maps, found by frontends and by backends' addresses: nothing else needs to be
//! remembered, so a loader may be killed at any point.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use common::{
    interest::Bit,
    maps::{Selection, Service},
};

use super::{
    Room,
    elements::{narrow, read_service, read_used_backend, read_used_service, wide},
    frontends::{self, Frontends},
    interest::{address_bit, endpoint_bit},
    ranges::Range,
};
use crate::{
    desired::services::{Exposure, Family, ServicePort},
    sync::Shared,
};

/// What was found and nobody has taken over yet.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    left: Found,
    /// What the service port that is being planned has taken over.
    taken: Found,
    /// What service ports are that stay as they were, for the next synchronisation: nobody else takes it over.
    spared: Found,
}

/// What an earlier loader has left.
#[derive(Debug, Default)]
struct Found {
    /// Elements of `services` in use.
    services: HashMap<u32, Service>,
    /// Elements of `backends` in use: group, address, port, family.
    backends: HashMap<(u32, [u8; 16], [u8; 2], u8), u32>,
    /// Those of them that are there twice, which a loader that was killed can leave, with their groups.
    doubles: Vec<(u32, u32)>,
    groups: HashSet<u32>,
    ranges: HashSet<Range>,
}

/// What nobody wants any more.
pub(super) struct Leftovers {
    pub(super) services: Vec<u32>,
    pub(super) backends: Vec<u32>,
    pub(super) groups: Vec<u32>,
    pub(super) ranges: Vec<Range>,
}

impl Recovered {
    /// Reads `services` and `backends`.
    pub(super) fn read(services: &Shared, backends: &Shared) -> Self {
        let mut found = Found::default();
        for id in 0..services.len() {
            let Some(service) = read_used_service(services, id) else { continue };
            found.groups.insert(service.group);
            for word in [service.inside, service.outside] {
                found.ranges.extend(range(word));
            }
            found.services.insert(id, service);
        }
        for id in 0..backends.len() {
            let Some(backend) = read_used_backend(backends, id) else { continue };
            found.groups.insert(backend.group);
            let identity = (backend.group, backend.address, backend.port, backend.family);
            if found.backends.insert(identity, id).is_some_and(|other| {
                found.doubles.push((backend.group, other));
                true
            }) {
                log::debug!("backend {id} was there twice");
            }
        }
        Self { left: found, ..Self::default() }
    }

    pub(super) fn service_ids(&self) -> HashSet<u32> {
        self.left.services.keys().copied().collect()
    }

    pub(super) fn backend_ids(&self) -> HashSet<u32> {
        self.left.backend_ids().collect()
    }

    pub(super) fn groups(&self) -> &HashSet<u32> {
        &self.left.groups
    }

    pub(super) fn highest_group(&self) -> u32 {
        self.left.groups.iter().copied().max().unwrap_or_default()
    }

    pub(super) fn ranges(&self) -> Vec<Range> {
        self.left.ranges.iter().copied().collect()
    }

    /// The number that a service port had: that of a service which one of its frontends was.
    pub(super) fn group(&mut self, port: &ServicePort, room: &Room) -> Option<u32> {
        if self.left.services.is_empty() {
            return None;
        }
        let keys = port.exposures.iter().flat_map(|exposure| frontends::keys(port, exposure));
        let mut ids = keys.filter_map(|key| room.frontends.service(&key));
        let group = ids.find_map(|id| {
            let group = self.left.services.get(&id)?.group;
            self.left.groups.contains(&group).then_some(group)
        })?;
        self.taken.groups.extend(self.left.groups.take(&group));
        Some(group)
    }

    /// The service that an exposure's frontends were.
    pub(super) fn service(
        &mut self,
        port: &ServicePort,
        exposure: &Exposure,
        group: u32,
        room: &Room,
    ) -> Option<u32> {
        if self.left.services.is_empty() {
            return None;
        }
        let mut ids = frontends::keys(port, exposure).filter_map(|key| room.frontends.service(&key));
        let id = ids.find(|id| self.left.services.get(id).is_some_and(|service| service.group == group))?;
        self.taken.services.extend(self.left.services.remove_entry(&id));
        Some(id)
    }

    /// The element that an endpoint had.
    pub(super) fn backend(&mut self, group: u32, address: IpAddr, port: u16) -> Option<u32> {
        let identity = (group, wide(address), port.to_be_bytes(), Family::of(address).number());
        let id = self.left.backends.remove(&identity)?;
        self.taken.backends.insert(identity, id);
        Some(id)
    }

    /// Where a table is already that one of these services has.
    pub(super) fn table(
        &mut self,
        services: impl Iterator<Item = u32>,
        elements: &[u32],
        room: &Room,
    ) -> Option<Range> {
        if self.left.ranges.is_empty() {
            return None;
        }
        let selections = services.flat_map(|id| {
            let Service { inside, outside, .. } = read_service(&room.maps.services, id);
            [inside, outside]
        });
        let found = selections.filter_map(range).find(|found| {
            let same = |(at, element): (u32, &u32)| room.maps.maglev.load(at, 0) == u64::from(*element);
            self.left.ranges.contains(found)
                && usize::try_from(found.count) == Ok(elements.len())
                && (found.first..).zip(elements).all(same)
        })?;
        self.taken.ranges.extend(self.left.ranges.take(&found));
        Some(found)
    }

    /// What was taken over is what it is to be.
    pub(super) fn settle(&mut self) {
        self.taken = Found::default();
    }

    /// What was taken over stays as it was.
    pub(super) fn spare(&mut self) {
        self.spared.extend(std::mem::take(&mut self.taken));
    }

    /// What service ports are that stay as they were, if there are any, and all the rest.
    pub(super) fn divide(self) -> (Option<Self>, Leftovers) {
        let Self { mut left, taken: _, mut spared } = self;
        let groups = std::mem::take(&mut spared.groups);
        spared.extend(left.split_off(&groups));
        let selections = spared.services.values().flat_map(|service| [service.inside, service.outside]);
        spared.ranges.extend(selections.filter_map(range).filter_map(|range| left.ranges.take(&range)));
        let leftovers = Leftovers {
            services: left.services.keys().copied().collect(),
            backends: left.backend_ids().collect(),
            groups: left.groups.into_iter().collect(),
            ranges: left.ranges.into_iter().collect(),
        };
        let is_any = !groups.is_empty();
        spared.groups = groups;
        (is_any.then(|| Self { left: spared, ..Self::default() }), leftovers)
    }

    /// Whether a service is what an earlier loader has left.
    pub(super) fn has_service(&self, id: u32) -> bool {
        self.left.services.contains_key(&id)
    }

    /// The bits of the interest filter that packets need to come to what is left, and back.
    pub(super) fn bits(&self, frontends: &Frontends) -> Vec<Bit> {
        let (mut bits, mut protocols) = (Vec::new(), HashMap::new());
        for (key, id) in frontends.of(|id| self.has_service(id)) {
            let (address, port) = (narrow(key.address, key.family), u16::from_be_bytes(key.port));
            bits.extend([address_bit(address), endpoint_bit(address, port, key.protocol)]);
            protocols.extend(self.left.services.get(&id).map(|service| (service.group, key.protocol)));
        }
        for (group, address, port, family) in self.left.backends.keys() {
            let Some(protocol) = protocols.get(group) else { continue };
            bits.push(endpoint_bit(narrow(*address, *family), u16::from_be_bytes(*port), *protocol));
        }
        bits
    }
}

impl Found {
    fn backend_ids(&self) -> impl Iterator<Item = u32> {
        self.backends.values().copied().chain(self.doubles.iter().map(|(_, id)| *id))
    }

    fn extend(&mut self, other: Self) {
        let Self { services, backends, doubles, groups, ranges } = other;
        self.services.extend(services);
        self.backends.extend(backends);
        self.doubles.extend(doubles);
        self.groups.extend(groups);
        self.ranges.extend(ranges);
    }

    /// The services and backends of these groups.
    fn split_off(&mut self, groups: &HashSet<u32>) -> Self {
        Self {
            services: self.services.extract_if(|_, service| groups.contains(&service.group)).collect(),
            backends: self.backends.extract_if(|(group, ..), _| groups.contains(group)).collect(),
            doubles: self.doubles.extract_if(.., |(group, _)| groups.contains(group)).collect(),
            ..Self::default()
        }
    }
}

fn range(word: u64) -> Option<Range> {
    match Selection::unpack(word) {
        Selection::Table { first, count } => Some(Range { first, count }),
        Selection::Reject | Selection::Drop => None,
    }
}
