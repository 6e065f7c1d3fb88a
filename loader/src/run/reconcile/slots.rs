//! Which traffic counters belonged to whom before this loader was started.

use std::{collections::BTreeMap, io, net::IpAddr};

use common::maps::{Endpoint, Route};
use ipnet::IpNet;

use crate::{
    desired::Desired,
    state::State,
    sync::{Prefix, Slots, Tables},
};

/// What the state file of the previous loader says. The maps say it too, of those whose addresses are the same.
#[derive(Clone, Debug, Default)]
pub(in crate::run) struct RememberedSlots {
    pods: Vec<(String, u32)>,
    peers: Vec<(String, u32)>,
}

impl RememberedSlots {
    /// From the previous loader's state.
    pub(in crate::run) fn of(state: &State) -> Self {
        Self {
            pods: state.pods.iter().map(|pod| (pod.name.clone(), pod.slot)).collect(),
            peers: state.peers.iter().map(|peer| (peer.name.clone(), peer.slot)).collect(),
        }
    }

    /// Slots of pods and of peers, with what the maps know besides.
    pub(super) fn with_maps(&self, tables: &Tables, desired: &Desired) -> io::Result<(Slots, Slots)> {
        let known = Known {
            pods4: tables.pods4.list()?,
            pods6: tables.pods6.list()?,
            routes4: tables.routes4.list()?,
            routes6: tables.routes6.list()?,
        };
        let pods = desired.pods.iter().filter_map(|pod| {
            Some((pod.name.clone(), pod.addresses.iter().find_map(|address| known.pod(*address))?))
        });
        let peers = desired.peers.iter().filter_map(|peer| {
            Some((peer.name.clone(), peer.pod_cidrs.iter().find_map(|cidr| known.peer(*cidr))?))
        });
        Ok((
            Slots::remembered(self.pods.iter().cloned().chain(pods)),
            Slots::remembered(self.peers.iter().cloned().chain(peers)),
        ))
    }
}

/// Entries as they were found.
struct Known {
    pods4: BTreeMap<[u8; 4], Endpoint>,
    pods6: BTreeMap<[u8; 16], Endpoint>,
    routes4: BTreeMap<Prefix<4>, Route>,
    routes6: BTreeMap<Prefix<16>, Route>,
}

impl Known {
    fn pod(&self, address: IpAddr) -> Option<u32> {
        let endpoint = match address {
            IpAddr::V4(address) => self.pods4.get(&address.octets()),
            IpAddr::V6(address) => self.pods6.get(&address.octets()),
        };
        endpoint.map(|endpoint| endpoint.slot)
    }

    fn peer(&self, cidr: IpNet) -> Option<u32> {
        let len = cidr.prefix_len().into();
        let route = match cidr.trunc() {
            IpNet::V4(net) => self.routes4.get(&Prefix { len, data: net.addr().octets() }),
            IpNet::V6(net) => self.routes6.get(&Prefix { len, data: net.addr().octets() }),
        };
        route.filter(|route| route.underlay_family != 0).map(|route| route.peer)
    }
}
