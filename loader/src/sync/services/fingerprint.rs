//! Whether a service port is what it was, told without looking at what it was: of ten thousand, all lie somewhere else in memory.

use std::{
    hash::{Hash, Hasher},
    net::IpAddr,
};

use crate::desired::services::{Candidates, Endpoint, ServicePort};

/// 128 bits of everything about a service port that the maps or other verbs know, its key included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(u64, u64);

impl Fingerprint {
    /// Of a service port.
    pub(super) fn of(port: &ServicePort) -> Self {
        let mut lanes = Lanes(0x9e37_79b9_7f4a_7c15, 0xc2b2_ae3d_27d4_eb4f);
        port.key().hash(&mut lanes);
        port.port_name.hash(&mut lanes);
        (port.affinity_seconds, port.random).hash(&mut lanes);
        lanes.write_usize(port.endpoints.len());
        for endpoint in &port.endpoints {
            lanes.mix_endpoint(endpoint);
        }
        for exposure in &port.exposures {
            (exposure.kind, &exposure.frontends, &exposure.source_ranges).hash(&mut lanes);
            (exposure.inside_local, exposure.outside_local, exposure.dsr).hash(&mut lanes);
            for candidates in [&exposure.inside, &exposure.outside] {
                match candidates {
                    Candidates::Reject => lanes.write_u8(0),
                    Candidates::Drop => lanes.write_u8(1),
                    Candidates::Endpoints(indices) => indices.hash(&mut lanes),
                }
            }
        }
        Self(lanes.0, lanes.1)
    }
}

/// Two sums of folded products, of different factors.
struct Lanes(u64, u64);

impl Lanes {
    fn mix(&mut self, word: u64) {
        self.0 = folded(self.0 ^ word, 0xa076_1d64_78bd_642f);
        self.1 = folded(self.1.rotate_left(23) ^ word, 0xe703_7ed1_a0b4_28db).wrapping_add(word);
    }
}

impl Lanes {
    /// In as few words as it has room in: there may be very many of them.
    fn mix_endpoint(&mut self, endpoint: &Endpoint) {
        let Endpoint { address, port, weight, state, placement, node: _ } = endpoint;
        let rest = [*port, *weight, *state as u16, *placement as u16].map(u64::from);
        let rest = rest[0] << 48 | rest[1] << 32 | rest[2] << 8 | rest[3];
        match address {
            IpAddr::V4(address) => self.mix(u64::from(address.to_bits())),
            IpAddr::V6(address) => {
                let [a, b]: [u64; 2] = bytemuck::cast(address.octets());
                self.mix(a);
                self.mix(b);
            }
        }
        self.mix(rest);
    }
}

/// The halves of the product, one upon the other.
fn folded(a: u64, b: u64) -> u64 {
    let [low, high]: [u64; 2] = bytemuck::cast(u128::from(a) * u128::from(b));
    low ^ high
}

impl Hasher for Lanes {
    fn write(&mut self, bytes: &[u8]) {
        let mut words = bytes.chunks_exact(size_of::<u64>());
        for word in &mut words {
            self.mix(word.try_into().map_or(0, u64::from_ne_bytes));
        }
        let mut last = [0; size_of::<u64>()];
        let rest = words.remainder();
        last[..rest.len()].copy_from_slice(rest);
        self.mix(u64::from_ne_bytes(last) ^ (bytes.len() as u64) << 56);
    }

    fn write_u8(&mut self, number: u8) {
        self.mix(number.into());
    }

    fn write_u16(&mut self, number: u16) {
        self.mix(number.into());
    }

    fn write_u32(&mut self, number: u32) {
        self.mix(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.mix(number);
    }

    fn write_usize(&mut self, number: usize) {
        self.mix(number as u64);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::desired::services::{Family, Owner, Placement, Protocol, State};

    #[test]
    fn whatever_the_maps_know_counts() {
        let endpoint = Endpoint {
            address: [10, 0, 0, 1].into(),
            port: 80,
            node: None,
            weight: 1,
            state: State::Ready,
            placement: Placement::Local,
        };
        let port = ServicePort {
            owner: Owner::Service,
            service: "a".to_owned(),
            port_name: None,
            family: Family::V4,
            protocol: Protocol::Tcp,
            port: 80,
            affinity_seconds: 0,
            random: false,
            endpoints: vec![endpoint.clone()],
            exposures: Vec::new(),
        };
        let with = |endpoint: Endpoint| ServicePort { endpoints: vec![endpoint], ..port.clone() };
        let before = Fingerprint::of(&port);
        for other in [
            with(Endpoint { address: [10, 0, 0, 2].into(), ..endpoint.clone() }),
            with(Endpoint { port: 81, ..endpoint.clone() }),
            with(Endpoint { weight: 2, ..endpoint.clone() }),
            with(Endpoint { state: State::NotReady, ..endpoint.clone() }),
            with(Endpoint { placement: Placement::Remote, ..endpoint.clone() }),
            ServicePort { service: "b".to_owned(), ..port.clone() },
            ServicePort { affinity_seconds: 1, ..port.clone() },
            ServicePort { random: true, ..port.clone() },
            ServicePort { endpoints: Vec::new(), ..port.clone() },
        ] {
            assert_ne!(Fingerprint::of(&other), before, "{other:?}");
        }
        assert_eq!(Fingerprint::of(&with(Endpoint { node: Some("b".to_owned()), ..endpoint })), before);
    }
}
