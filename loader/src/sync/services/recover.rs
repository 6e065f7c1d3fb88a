//! What an earlier loader has left in the maps, found by frontends and by backends' addresses: nothing else needs to be
//! remembered, so a loader may be killed at any point.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use common::maps::{Selection, Service};

use super::{
    Room,
    elements::{read_service, read_used_backend, read_used_service, wide},
    frontends,
    ranges::Range,
};
use crate::{
    desired::services::{Exposure, Family, ServicePort},
    sync::Shared,
};

/// What was found and nobody has taken over yet.
#[derive(Debug, Default)]
pub(super) struct Recovered {
    /// Elements of `services` in use.
    services: HashMap<u32, Service>,
    /// Elements of `backends` in use: group, address, port, family.
    backends: HashMap<(u32, [u8; 16], [u8; 2], u8), u32>,
    /// Those of them that are there twice, which a loader that was killed can leave.
    doubles: Vec<u32>,
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
        let mut found = Self::default();
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
                found.doubles.push(other);
                true
            }) {
                log::debug!("backend {id} was there twice");
            }
        }
        found
    }

    pub(super) fn service_ids(&self) -> HashSet<u32> {
        self.services.keys().copied().collect()
    }

    pub(super) fn backend_ids(&self) -> HashSet<u32> {
        self.backends.values().chain(&self.doubles).copied().collect()
    }

    pub(super) fn groups(&self) -> &HashSet<u32> {
        &self.groups
    }

    pub(super) fn highest_group(&self) -> u32 {
        self.groups.iter().copied().max().unwrap_or_default()
    }

    pub(super) fn ranges(&self) -> Vec<Range> {
        self.ranges.iter().copied().collect()
    }

    /// The number that a service port had: that of a service which one of its frontends was.
    pub(super) fn group(&mut self, port: &ServicePort, room: &Room) -> Option<u32> {
        if self.services.is_empty() {
            return None;
        }
        let keys = port.exposures.iter().flat_map(|exposure| frontends::keys(port, exposure));
        let mut ids = keys.filter_map(|key| room.frontends.service(&key));
        let group = ids.find_map(|id| {
            let group = self.services.get(&id)?.group;
            self.groups.contains(&group).then_some(group)
        })?;
        self.groups.remove(&group);
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
        if self.services.is_empty() {
            return None;
        }
        let mut ids = frontends::keys(port, exposure).filter_map(|key| room.frontends.service(&key));
        let id = ids.find(|id| self.services.get(id).is_some_and(|service| service.group == group))?;
        self.services.remove(&id);
        Some(id)
    }

    /// The element that an endpoint had.
    pub(super) fn backend(&mut self, group: u32, address: IpAddr, port: u16) -> Option<u32> {
        let family = Family::of(address).number();
        self.backends.remove(&(group, wide(address), port.to_be_bytes(), family))
    }

    /// Where a table is already that one of these services has.
    pub(super) fn table(
        &mut self,
        services: impl Iterator<Item = u32>,
        elements: &[u32],
        room: &Room,
    ) -> Option<Range> {
        if self.ranges.is_empty() {
            return None;
        }
        let selections = services.flat_map(|id| {
            let Service { inside, outside, .. } = read_service(&room.maps.services, id);
            [inside, outside]
        });
        let found = selections.filter_map(range).find(|found| {
            let same = |(at, element): (u32, &u32)| room.maps.maglev.load(at, 0) == u64::from(*element);
            self.ranges.contains(found)
                && usize::try_from(found.count) == Ok(elements.len())
                && (found.first..).zip(elements).all(same)
        })?;
        self.ranges.remove(&found);
        Some(found)
    }

    /// All the rest.
    pub(super) fn leftovers(self) -> Leftovers {
        let Self { services, backends, doubles, groups, ranges } = self;
        Leftovers {
            services: services.into_keys().collect(),
            backends: backends.into_values().chain(doubles).collect(),
            groups: groups.into_iter().collect(),
            ranges: ranges.into_iter().collect(),
        }
    }
}

fn range(word: u64) -> Option<Range> {
    match Selection::unpack(word) {
        Selection::Table { first, count } => Some(Range { first, count }),
        Selection::Reject | Selection::Drop => None,
    }
}
