//! A service port as it is in the maps, and what has to be had before it can change.

use std::{
    collections::{BTreeMap, HashSet},
    io,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use common::maps::{FrontendKey, Selection, name, service_flag};
use thiserror::Error;

use super::{Room, fingerprint::Fingerprint, frontends, ranges::Range, recover::Recovered};
use crate::{
    desired::services::{Candidates, Endpoint, Exposure, Kind, ServicePort},
    maglev,
    sync::apply::capacity_key,
};

/// A service port as it is in the maps.
#[derive(Clone, Debug)]
pub(super) struct Port {
    /// What was asked for.
    pub(super) wanted: ServicePort,
    /// Of that.
    pub(super) fingerprint: Fingerprint,
    /// Whether all of it was done.
    pub(super) complete: bool,
    /// Its number.
    pub(super) group: u32,
    /// Elements of `backends`, by address and port.
    pub(super) backends: BTreeMap<(IpAddr, u16), u32>,
    /// Elements of `maglev`.
    pub(super) tables: Vec<Table>,
    /// Elements of `services`, by kind.
    pub(super) services: BTreeMap<Kind, u32>,
}

/// A table of a service port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Table {
    /// Who is in it, with his weight.
    members: Vec<(u32, u16)>,
    random: bool,
    /// Where it is.
    pub(super) range: Range,
}

/// A service port as it is to be, with everything that it needs.
pub(super) struct Plan {
    /// Which one it is, in the order of keys.
    pub(super) place: usize,
    /// As it is, if it is there.
    pub(super) old: Option<Box<Port>>,
    /// As it is to be.
    pub(super) new: Port,
    /// What of that is new.
    pub(super) fresh: Fresh,
}

/// What nobody had before.
#[derive(Debug, Default)]
pub(super) struct Fresh {
    pub(super) group: Option<u32>,
    pub(super) backends: HashSet<u32>,
    pub(super) services: HashSet<u32>,
    /// With what is to be written there.
    pub(super) tables: Vec<(Range, Vec<u32>)>,
}

/// A service port can't become what it is to be.
#[derive(Debug, Error)]
#[error("{service}: {lack}; it stays as it was")]
pub(super) struct Refused {
    service: String,
    lack: Lack,
}

/// What it lacks.
#[derive(Debug, Error)]
pub(super) enum Lack {
    /// A map is too small.
    #[error("map {map} has room for {free} of {wanted} new entries: raise `{}` in [maps]", capacity_key(map))]
    Room { map: &'static str, wanted: usize, free: usize },
    /// A map takes no entry.
    #[error("map {map}: {error}")]
    Written { map: &'static str, error: io::Error },
}

/// How a service port is called in messages.
pub(super) fn title(port: &ServicePort) -> String {
    let ServicePort { service, protocol, port, family, .. } = port;
    let protocol = format!("{protocol:?}").to_uppercase();
    format!("service {service}, port {port}/{protocol} (IPv{})", family.number())
}

impl Port {
    /// The frontends of all kinds, each with the service that it is.
    pub(super) fn frontends(&self) -> impl Iterator<Item = (FrontendKey, u32)> {
        self.wanted.exposures.iter().flat_map(|exposure| {
            let id = self.services.get(&exposure.kind).copied();
            frontends::keys(&self.wanted, exposure).filter_map(move |key| Some((key, id?)))
        })
    }

    /// What an exposure selects inside and outside.
    pub(super) fn selections(&self, exposure: &Exposure) -> (Selection, Selection) {
        (self.selection(&exposure.inside), self.selection(&exposure.outside))
    }

    fn selection(&self, candidates: &Candidates) -> Selection {
        let indices = match candidates {
            Candidates::Reject => return Selection::Reject,
            Candidates::Drop => return Selection::Drop,
            Candidates::Endpoints(indices) => indices,
        };
        let members = members(&self.wanted, &self.backends, indices);
        let table = self.tables.iter().find(|table| table.members == members);
        table.map_or(Selection::Reject, |table| Selection::Table {
            first: table.range.first,
            count: table.range.count,
        })
    }
}

/// Bits of [`service_flag`] of an exposure.
pub(super) fn flags(port: &ServicePort, exposure: &Exposure) -> u32 {
    let bit = |set: bool, bit: u32| if set { bit } else { 0 };
    bit(port.random, service_flag::RANDOM)
        | bit(!exposure.source_ranges.is_empty(), service_flag::SOURCE_RANGES)
        | bit(exposure.inside_local, service_flag::INSIDE_LOCAL)
        | bit(exposure.outside_local, service_flag::OUTSIDE_LOCAL)
        | bit(exposure.dsr, service_flag::DSR)
}

/// Gathers what `wanted` needs, keeping what `old` has. If something is missing, what was taken is given back, and what was
/// taken over is spared.
pub(super) fn plan(
    wanted: &ServicePort,
    old: Option<&Port>,
    room: &mut Room,
    recovered: &mut Recovered,
    now: Instant,
) -> Result<(Port, Fresh), Refused> {
    let mut gathering = Gathering { old, room, recovered, now, fresh: Fresh::default() };
    match gathering.gather(wanted) {
        Ok(new) => {
            gathering.recovered.settle();
            Ok((new, gathering.fresh))
        }
        Err(lack) => {
            let Gathering { room, recovered, fresh, .. } = gathering;
            room.restore(fresh);
            recovered.spare();
            Err(Refused { service: title(wanted), lack })
        }
    }
}

/// What is kept of what was asked for: all but the names of nodes.
fn remembered(wanted: &ServicePort) -> ServicePort {
    let endpoints = wanted.endpoints.iter().map(|endpoint| Endpoint { node: None, ..*endpoint });
    ServicePort {
        endpoints: endpoints.collect(),
        service: wanted.service.clone(),
        port_name: wanted.port_name.clone(),
        exposures: wanted.exposures.clone(),
        ..*wanted
    }
}

/// Where what a service port needs comes from.
struct Gathering<'a> {
    old: Option<&'a Port>,
    room: &'a mut Room,
    recovered: &'a mut Recovered,
    now: Instant,
    fresh: Fresh,
}

impl Gathering<'_> {
    fn gather(&mut self, wanted: &ServicePort) -> Result<Port, Lack> {
        let group = self.group(wanted)?;
        let mut port = Port {
            wanted: remembered(wanted),
            fingerprint: Fingerprint::of(wanted),
            complete: false,
            group,
            backends: self.backends(wanted, group)?,
            tables: Vec::new(),
            services: self.services(wanted, group)?,
        };
        for exposure in &wanted.exposures {
            for candidates in [&exposure.inside, &exposure.outside] {
                if let Candidates::Endpoints(indices) = candidates {
                    self.add_table(&mut port, indices)?;
                }
            }
        }
        let frontends = self.missing_frontends(&port)?;
        // Last: of all this, packets see these alone.
        self.admit_clients(&port)?;
        self.room.promised += frontends;
        Ok(port)
    }

    fn group(&mut self, wanted: &ServicePort) -> Result<u32, Lack> {
        let known = self.old.map(|old| old.group).or_else(|| self.recovered.group(wanted, self.room));
        if let Some(group) = known {
            return Ok(group);
        }
        let group =
            self.room.groups.take(self.now).ok_or(Lack::Room { map: name::SERVICES, wanted: 1, free: 0 })?;
        self.fresh.group = Some(group);
        Ok(group)
    }

    fn backends(&mut self, wanted: &ServicePort, group: u32) -> Result<BTreeMap<(IpAddr, u16), u32>, Lack> {
        let mut backends = BTreeMap::new();
        for endpoint in &wanted.endpoints {
            let place = (endpoint.address, endpoint.port);
            let known = self.old.and_then(|old| old.backends.get(&place).copied());
            let known = known.or_else(|| self.recovered.backend(group, endpoint.address, endpoint.port));
            let id = if let Some(id) = known {
                id
            } else {
                let free = self.room.backends.free();
                let wanted = wanted.endpoints.len() - backends.len();
                let id = self.room.backends.take(self.now).ok_or(Lack::Room {
                    map: name::BACKENDS,
                    wanted,
                    free,
                })?;
                self.fresh.backends.insert(id);
                id
            };
            backends.insert(place, id);
        }
        Ok(backends)
    }

    fn services(&mut self, wanted: &ServicePort, group: u32) -> Result<BTreeMap<Kind, u32>, Lack> {
        let mut services = BTreeMap::new();
        for exposure in &wanted.exposures {
            let known = self.old.and_then(|old| old.services.get(&exposure.kind).copied());
            let known = known.or_else(|| self.recovered.service(wanted, exposure, group, self.room));
            let id = if let Some(id) = known {
                id
            } else {
                let (wanted, free) = (wanted.exposures.len() - services.len(), self.room.services.free());
                let id = self.room.services.take(self.now).ok_or(Lack::Room {
                    map: name::SERVICES,
                    wanted,
                    free,
                })?;
                self.fresh.services.insert(id);
                id
            };
            services.insert(exposure.kind, id);
        }
        Ok(services)
    }

    fn add_table(&mut self, port: &mut Port, indices: &[usize]) -> Result<(), Lack> {
        let members = members(&port.wanted, &port.backends, indices);
        let random = port.wanted.random;
        if port.tables.iter().any(|table| table.members == members) {
            return Ok(());
        }
        let same = |table: &&Table| table.members == members && table.random == random;
        if let Some(table) = self.old.and_then(|old| old.tables.iter().find(same)) {
            port.tables.push(table.clone());
            return Ok(());
        }
        let elements = elements(&port.wanted, indices, &members);
        let count = match u32::try_from(elements.len()) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(_) => return Err(Lack::Room { map: name::MAGLEV, wanted: elements.len(), free: 0 }),
        };
        let known = self.recovered.table(port.services.values().copied(), &elements, self.room);
        let range = if let Some(range) = known {
            range
        } else {
            let free = usize::try_from(self.room.ranges.free()).unwrap_or(usize::MAX);
            let range = self.room.ranges.take(count, self.now).ok_or(Lack::Room {
                map: name::MAGLEV,
                wanted: elements.len(),
                free,
            })?;
            self.fresh.tables.push((range, elements));
            range
        };
        port.tables.push(Table { members, random, range });
        Ok(())
    }

    fn missing_frontends(&self, port: &Port) -> Result<usize, Lack> {
        let missing = self.room.frontends.missing(port.frontends().map(|(key, _)| key));
        // One more for each address, as such.
        let wanted = missing + frontends::own_addresses(&port.wanted).count().min(missing);
        let free = self.room.frontends.free().saturating_sub(self.room.promised);
        if wanted > free {
            return Err(Lack::Room { map: name::FRONTENDS, wanted, free });
        }
        Ok(wanted)
    }

    fn admit_clients(&mut self, port: &Port) -> Result<(), Lack> {
        let exposures = port.wanted.exposures.iter();
        let services = exposures.filter_map(|exposure| {
            Some((*port.services.get(&exposure.kind)?, exposure.source_ranges.as_slice()))
        });
        self.room.source_ranges.admit(services)
    }
}

fn members(
    port: &ServicePort,
    backends: &BTreeMap<(IpAddr, u16), u32>,
    indices: &[usize],
) -> Vec<(u32, u16)> {
    let endpoints = indices.iter().filter_map(|index| port.endpoints.get(*index));
    endpoints
        .filter_map(|endpoint| Some((*backends.get(&(endpoint.address, endpoint.port))?, endpoint.weight)))
        .collect()
}

/// What is written into `maglev`.
fn elements(port: &ServicePort, indices: &[usize], members: &[(u32, u16)]) -> Vec<u32> {
    let endpoints: Vec<(SocketAddr, u16)> = indices
        .iter()
        .filter_map(|index| port.endpoints.get(*index))
        .map(|endpoint| (SocketAddr::new(endpoint.address, endpoint.port), endpoint.weight))
        .collect();
    let order = if port.random { maglev::random(&endpoints) } else { maglev::table(&endpoints) };
    order.into_iter().filter_map(|index| members.get(usize::from(index)).map(|(id, _)| *id)).collect()
}
