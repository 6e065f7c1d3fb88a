//! Entries of `frontends`: where services are called, and which addresses are services' at all.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    io,
    net::IpAddr,
};

use common::maps::{Frontend, FrontendKey, scope};

use super::elements::{narrow, wide};
use crate::{
    desired::services::{Exposure, Family, Kind, ServicePort},
    sync::MapOps,
};

/// The map, and what is known of it.
pub(super) struct Frontends {
    map: Box<dyn MapOps<FrontendKey, Frontend>>,
    /// Its entries.
    held: HashMap<FrontendKey, u32>,
    /// How many frontends each address of services has.
    uses: BTreeMap<IpAddr, u32>,
    /// Addresses of nodes: never services' alone.
    nodes: BTreeSet<IpAddr>,
}

impl Frontends {
    /// With the entries that an earlier loader has left.
    pub(super) fn adopt(map: Box<dyn MapOps<FrontendKey, Frontend>>) -> io::Result<Self> {
        let held = map.list()?.into_iter().map(|(key, frontend)| (key, frontend.service)).collect();
        Ok(Self { map, held, uses: BTreeMap::new(), nodes: BTreeSet::new() })
    }

    /// The service that a frontend is now.
    pub(super) fn service(&self, key: &FrontendKey) -> Option<u32> {
        self.held.get(key).copied().filter(|service| *service != Frontend::ADDRESS)
    }

    /// Those that are such a service.
    pub(super) fn of(&self, is_it: impl Fn(u32) -> bool) -> impl Iterator<Item = (FrontendKey, u32)> {
        let services = self.held.iter().filter(move |(_, id)| **id != Frontend::ADDRESS && is_it(**id));
        services.map(|(key, id)| (*key, *id))
    }

    /// How many of `keys` the map does not have.
    pub(super) fn missing(&self, keys: impl Iterator<Item = FrontendKey>) -> usize {
        keys.filter(|key| !self.held.contains_key(key)).count()
    }

    /// How many entries fit in besides those that are there.
    pub(super) fn free(&self) -> usize {
        usize::try_from(self.map.capacity()).unwrap_or(usize::MAX).saturating_sub(self.held.len())
    }

    /// Lets a frontend be that service.
    pub(super) fn insert(&mut self, key: FrontendKey, service: u32) -> io::Result<bool> {
        if self.held.get(&key) == Some(&service) {
            return Ok(false);
        }
        self.map.insert(&key, &Frontend { service })?;
        self.held.insert(key, service);
        Ok(true)
    }

    /// Removes a frontend, if it is that service.
    pub(super) fn remove(&mut self, key: &FrontendKey, service: u32) -> io::Result<bool> {
        if self.held.get(key) != Some(&service) {
            return Ok(false);
        }
        self.map.remove(key)?;
        self.held.remove(key);
        Ok(true)
    }

    /// One more frontend at each of these addresses.
    pub(super) fn use_addresses(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        for address in addresses {
            *self.uses.entry(address).or_default() += 1;
        }
    }

    /// One fewer frontend at each of these addresses.
    pub(super) fn release_addresses(&mut self, addresses: impl Iterator<Item = IpAddr>) {
        for address in addresses {
            if let Some(uses) = self.uses.get_mut(&address) {
                *uses -= 1;
                if *uses == 0 {
                    self.uses.remove(&address);
                }
            }
        }
    }

    /// Which addresses are nodes'. Returns the addresses for which that has changed.
    pub(super) fn set_nodes(&mut self, nodes: BTreeSet<IpAddr>) -> Vec<IpAddr> {
        if self.nodes == nodes {
            return Vec::new();
        }
        let changed = self.nodes.symmetric_difference(&nodes).copied().collect();
        self.nodes = nodes;
        changed
    }

    /// Brings the entry of an address as such to what it should be.
    pub(super) fn settle_address(&mut self, address: IpAddr) -> io::Result<bool> {
        let key = address_key(address);
        if self.uses.contains_key(&address) && !self.nodes.contains(&address) {
            self.insert(key, Frontend::ADDRESS)
        } else {
            self.remove(&key, Frontend::ADDRESS)
        }
    }

    /// Removes what an earlier loader has left and nobody has taken over, but for what `is_spared`.
    pub(super) fn remove_strangers(
        &mut self,
        is_ours: impl Fn(&FrontendKey, u32) -> bool,
        is_spared: impl Fn(u32) -> bool,
    ) -> io::Result<usize> {
        let spared = self.of(&is_spared).map(|(key, _)| narrow(key.address, key.family));
        let addresses = self.uses.keys().copied().chain(spared);
        let addresses: BTreeSet<FrontendKey> =
            addresses.filter(|address| !self.nodes.contains(address)).map(address_key).collect();
        let stranger = |(key, service): &(&FrontendKey, &u32)| match **service {
            Frontend::ADDRESS => !addresses.contains(*key),
            service => !is_ours(key, service) && !is_spared(service),
        };
        let strangers: Vec<_> =
            self.held.iter().filter(stranger).map(|(key, service)| (*key, *service)).collect();
        for (key, service) in &strangers {
            self.remove(key, *service)?;
        }
        Ok(strangers.len())
    }
}

/// The keys of an exposure's frontends.
pub(super) fn keys(port: &ServicePort, exposure: &Exposure) -> impl Iterator<Item = FrontendKey> {
    let protocol = port.protocol.number();
    let scope = if exposure.kind == Kind::HandedOn { scope::HANDED_ON } else { scope::CALLED };
    exposure.frontends.iter().map(move |(address, port)| FrontendKey {
        address: wide(*address),
        port: port.to_be_bytes(),
        protocol,
        family: Family::of(*address).number(),
        scope,
    })
}

/// The addresses of a service port that are its service's alone.
pub(super) fn own_addresses(port: &ServicePort) -> impl Iterator<Item = IpAddr> {
    let exposures = port.exposures.iter().filter(|exposure| exposure.kind.has_own_addresses());
    exposures.flat_map(|exposure| exposure.frontends.iter().map(|(address, _)| *address))
}

/// The key of an address as such.
fn address_key(address: IpAddr) -> FrontendKey {
    FrontendKey {
        address: wide(address),
        port: [0; 2],
        protocol: 0,
        family: Family::of(address).number(),
        scope: scope::CALLED,
    }
}
