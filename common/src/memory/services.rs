//! Services in memory.

use std::collections::{HashMap, HashSet};

use super::Memory;
use crate::{
    interest::Bit,
    maps::{
        Affinity, Backend, Client, FragmentKey, FragmentPorts, Frontend, FrontendKey, Service, SourceRange,
    },
    tables::Services,
};

/// What the maps of services hold.
#[derive(Clone, Debug, Default)]
pub struct ServiceTables {
    /// Bits of the interest filter that are set.
    pub interest: HashSet<Bit>,
    /// Frontends.
    pub frontends: HashMap<FrontendKey, Frontend>,
    /// Services.
    pub services: HashMap<u32, Service>,
    /// Indices into `backends`.
    pub maglev: HashMap<u32, u32>,
    /// Backends.
    pub backends: HashMap<u32, Backend>,
    /// Prefix length in bits, the 32 of the service among them, and prefix.
    pub source_ranges: Vec<(usize, SourceRange)>,
    /// Who got whom.
    pub affinity: HashMap<Client, Affinity>,
    /// Ports of cut packets.
    pub fragments: HashMap<FragmentKey, FragmentPorts>,
    /// What stands for a random number.
    pub random: u32,
}

impl Services for Memory {
    fn interesting(&self, bit: Bit) -> bool {
        self.services.interest.contains(&bit)
    }

    fn frontend(&self, key: &FrontendKey) -> Option<Frontend> {
        self.services.frontends.get(key).copied()
    }

    fn service(&self, index: u32) -> Option<Service> {
        self.services.services.get(&index).copied()
    }

    fn service_generation(&self, index: u32) -> Option<u32> {
        self.service(index).map(|service| service.generation)
    }

    fn choice(&self, index: u32) -> Option<u32> {
        self.services.maglev.get(&index).copied()
    }

    fn backend(&self, index: u32) -> Option<Backend> {
        self.services.backends.get(&index).copied()
    }

    fn health(&self, index: u32) -> Option<(u8, u32)> {
        self.backend(index).map(|backend| (backend.state, backend.generation))
    }

    fn in_source_ranges(&self, client: &SourceRange) -> bool {
        let client = bytemuck::bytes_of(client);
        self.services
            .source_ranges
            .iter()
            .any(|(bits, range)| super::matches_prefix(bytemuck::bytes_of(range), *bits, client))
    }

    fn affinity(&mut self, client: &Client) -> Option<&mut Affinity> {
        self.services.affinity.get_mut(client)
    }

    fn keep(&mut self, client: &Client, affinity: Affinity) {
        self.services.affinity.insert(*client, affinity);
    }

    fn fragment(&self, key: &FragmentKey) -> Option<FragmentPorts> {
        self.services.fragments.get(key).copied()
    }

    fn cut(&mut self, key: &FragmentKey, ports: FragmentPorts) {
        self.services.fragments.insert(*key, ports);
    }

    fn random(&self) -> u32 {
        self.services.random
    }
}
