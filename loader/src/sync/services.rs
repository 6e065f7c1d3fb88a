//! Services: brings the maps from one set of service ports to another so that a packet sees the old one or the new one, and
//! never one without a backend that has one.
//!
//! | module | what it holds |
//! |---|---|
//! | `port` | a service port as it is in the maps, and what it needs to become another |
//! | `recover` | what an earlier loader has left |
//! | `fingerprint` | whether one is what it was |
//! | `elements` | `services` and `backends`, word by word |
//! | `frontends`, `source_ranges`, [`interest`] | the maps of that name |
//! | `indices`, `ranges` | which elements are nobody's |
//!
//! The order of a change: new prefixes of `source_ranges`, without which nothing changes; bits of `interest`; elements of
//! `backends` and `maglev` that nothing refers to yet; the words of `services` that do, and prefixes that are withdrawn;
//! `frontends`, new ones before old ones go. Then every packet that is under way is waited for (`grace`), and only then is
//! what nothing refers to any more made invalid, so that none of them meets it.

mod elements;
mod fingerprint;
mod frontends;
mod grace;
mod indices;
pub mod interest;
mod port;
mod ranges;
mod recover;
mod source_ranges;

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet, HashSet},
    io,
    net::IpAddr,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use ::common::{
    interest::Bit,
    maps::{Backend, Frontend, FrontendKey, Service, backend_flag, backend_state},
};

use self::{
    fingerprint::Fingerprint,
    frontends::Frontends,
    indices::Indices,
    interest::{Interest, address_bit, endpoint_bit},
    port::{Fresh, Plan, Port, plan, title},
    ranges::Ranges,
    recover::Recovered,
    source_ranges::SourceRanges,
};
use super::{MapOps, Prefix, Shared};
use crate::desired::services::{Endpoint, Family, Kind, Placement, ServicePort, State};

/// The maps of services.
#[expect(missing_docs, reason = "each is named as the map, see `common::maps::name`")]
pub struct ServiceMaps {
    pub services: Shared,
    pub backends: Shared,
    pub maglev: Shared,
    pub interest: Shared,
    pub frontends: Box<dyn MapOps<FrontendKey, Frontend>>,
    pub source_ranges: Box<dyn MapOps<Prefix<20>, u32>>,
}

/// What the services should be.
#[derive(Clone, Debug)]
pub struct Wanted<'a> {
    /// Sorted by key.
    pub ports: &'a [ServicePort],
    /// Addresses that are nodes', and so never services' alone.
    pub nodes: BTreeSet<IpAddr>,
    /// Addresses that stand for clients.
    pub loopback: Vec<IpAddr>,
}

/// What came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Synced {
    /// Service ports that were added, changed or removed.
    pub changed: usize,
    /// Backends that have gone.
    pub gone: usize,
    /// Why some stay as they were.
    pub problems: Vec<String>,
}

/// The service ports that are in the maps.
pub struct Services {
    room: Room,
    /// Sorted by key.
    #[expect(clippy::vec_box, reason = "all are moved for a change of one, and they are large")]
    ports: Vec<Box<Port>>,
    interest: Interest,
    loopback: Vec<IpAddr>,
    is_new: bool,
    /// What has been left by an earlier loader: until the first synchronisation, all of it; then, that of service ports for
    /// which there has been no room since.
    recovered: Option<Recovered>,
    /// The bits of those.
    spared_bits: Vec<Bit>,
    /// Generation of elements that never had one.
    first_generation: u32,
}

/// What there is to be had.
struct Room {
    maps: Arrays,
    groups: Indices,
    services: Indices,
    backends: Indices,
    ranges: Ranges,
    frontends: Frontends,
    source_ranges: SourceRanges,
    /// Entries of `frontends` that are as good as taken.
    promised: usize,
}

struct Arrays {
    services: Shared,
    backends: Shared,
    maglev: Shared,
}

/// How what is wanted differs from what is there.
struct Compared {
    /// The places of all service ports, with those that stay.
    places: Vec<Option<Box<Port>>>,
    /// Those that change.
    plans: Vec<Plan>,
    /// Those that go.
    #[expect(clippy::vec_box, reason = "they come boxed")]
    gone: Vec<Box<Port>>,
}

/// What nothing refers to any more, but packets under way may.
#[derive(Default)]
struct Retired {
    services: Vec<u32>,
    backends: Vec<u32>,
    ranges: Vec<ranges::Range>,
}

impl Services {
    /// Adopts what is in the maps.
    pub fn adopt(maps: ServiceMaps) -> io::Result<Self> {
        let ServiceMaps { services, backends, maglev, interest, frontends, source_ranges } = maps;
        let recovered = Recovered::read(&services, &backends);
        // Twice as many as there can be services, so that one in quarantine is not missed.
        let groups = recovered.highest_group().max(services.len().saturating_mul(2)).saturating_add(2);
        let room = Room {
            groups: Indices::new(1, groups, recovered.groups()),
            services: Indices::new(0, services.len(), &recovered.service_ids()),
            backends: Indices::new(0, backends.len(), &recovered.backend_ids()),
            ranges: Ranges::new(maglev.len(), recovered.ranges()),
            frontends: Frontends::adopt(frontends)?,
            source_ranges: SourceRanges::adopt(source_ranges)?,
            promised: 0,
            maps: Arrays { services, backends, maglev },
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(1, |since| since.as_secs());
        Ok(Self {
            room,
            ports: Vec::new(),
            interest: Interest::adopt(interest),
            loopback: Vec::new(),
            is_new: true,
            recovered: Some(recovered),
            spared_bits: Vec::new(),
            first_generation: u32::try_from(now & u64::from(u32::MAX)).unwrap_or(1),
        })
    }

    /// Brings the maps to `wanted`. A service port for which there is no room stays as it is and keeps no other from
    /// changing.
    pub fn sync(&mut self, wanted: Wanted<'_>) -> Synced {
        let started = Instant::now();
        let Wanted { ports, nodes, loopback } = wanted;
        self.set_loopback(loopback);
        let mut addresses = self.room.frontends.set_nodes(nodes);
        let mut synced = Synced::default();
        let has_recovered = self.recovered.is_some();
        let mut recovered = self.recovered.take().unwrap_or_default();
        self.room.promised = 0;

        let Compared { mut places, plans, gone } = self.compare(ports, &mut recovered, &mut synced, started);
        let compared = started.elapsed();
        synced.changed = plans.len() + gone.len();
        for plan in &plans {
            self.prepare(plan);
        }
        let mut retired = Retired::default();
        let mut changes = Vec::with_capacity(plans.len());
        for Plan { place, old, mut new, fresh: _ } in plans {
            addresses.extend(frontends::own_addresses(&new.wanted));
            let outcome = self.switch(&new);
            new.complete = outcome.is_ok();
            synced.note(&new.wanted, outcome);
            changes.push((place, old, new));
        }
        let switched = started.elapsed();
        for (place, old, new) in changes {
            if let Some(old) = old {
                addresses.extend(frontends::own_addresses(&old.wanted));
                let outcome = self.retire(&old, Some(&new), &mut retired);
                synced.note(&old.wanted, outcome);
            }
            if let Some(place) = places.get_mut(place) {
                *place = Some(Box::new(new));
            }
        }
        for port in gone {
            addresses.extend(frontends::own_addresses(&port.wanted));
            let outcome = self.retire(&port, None, &mut retired);
            synced.note(&port.wanted, outcome);
        }
        self.ports = places.into_iter().flatten().collect();
        addresses.sort_unstable();
        addresses.dedup();
        for address in addresses {
            if let Err(error) = self.room.frontends.settle_address(address) {
                synced.problems.push(format!("service address {address}: {error}"));
            }
        }
        if has_recovered && let Err(error) = self.remove_strangers(recovered, &mut retired) {
            synced.problems.push(format!("what an earlier loader has left: {error}"));
        }
        self.is_new = false;
        synced.gone = retired.backends.len();
        self.release(retired);
        if synced.changed > 0 {
            log::debug!(
                "services: {} of {} ports changed; compared in {compared:.1?}, in the maps after {switched:.1?}, done after {:.1?}",
                synced.changed,
                self.ports.len(),
                started.elapsed()
            );
        }
        synced
    }

    /// What of the service ports stays as it is, and what has to be done about the others.
    fn compare(
        &mut self,
        wanted: &[ServicePort],
        recovered: &mut Recovered,
        synced: &mut Synced,
        now: Instant,
    ) -> Compared {
        let (mut places, mut plans, mut gone) = (Vec::with_capacity(wanted.len()), Vec::new(), Vec::new());
        let mut ports = std::mem::take(&mut self.ports).into_iter().peekable();
        for port in wanted.iter().filter(|port| !port.exposures.is_empty()) {
            let fingerprint = Fingerprint::of(port);
            if let Some(same) = ports.next_if(|old| old.complete && old.fingerprint == fingerprint) {
                places.push(Some(same));
                continue;
            }
            let mut old = None;
            while let Some(next) = ports.peek() {
                match next.wanted.key().cmp(&port.key()) {
                    Ordering::Less => gone.extend(ports.next()),
                    Ordering::Equal => {
                        old = ports.next();
                        break;
                    }
                    Ordering::Greater => break,
                }
            }
            match old {
                Some(old) if old.complete && old.fingerprint == fingerprint => places.push(Some(old)),
                mut old => match plan(port, old.as_deref(), &mut self.room, recovered, now) {
                    Ok((new, fresh)) => {
                        plans.push(Plan { place: places.len(), old, new, fresh });
                        places.push(None);
                    }
                    Err(error) => {
                        synced.problems.push(error.to_string());
                        if let Some(old) = &mut old {
                            old.complete = false;
                        }
                        places.push(old);
                    }
                },
            }
        }
        gone.extend(ports);
        Compared { places, plans, gone }
    }

    fn set_loopback(&mut self, loopback: Vec<IpAddr>) {
        for address in &loopback {
            self.interest.want(address_bit(*address));
        }
        let before = std::mem::replace(&mut self.loopback, loopback);
        for address in before {
            self.interest.release(address_bit(address));
        }
    }

    /// Writes what nothing refers to yet.
    fn prepare(&mut self, plan: &Plan) {
        let Plan { new, fresh, .. } = plan;
        for bit in bits(&new.wanted) {
            self.interest.want(bit);
        }
        self.room.frontends.use_addresses(frontends::own_addresses(&new.wanted));
        let maps = &self.room.maps;
        for endpoint in &new.wanted.endpoints {
            let Some(id) = new.backends.get(&(endpoint.address, endpoint.port)) else { continue };
            if fresh.backends.contains(id) {
                let generation = self.generation(elements::read_backend(&maps.backends, *id).generation);
                elements::fill_backend(&maps.backends, *id, backend(endpoint, new.group, generation));
            }
        }
        for (range, elements) in &fresh.tables {
            for (at, element) in (range.first..).zip(elements) {
                maps.maglev.store(at, 0, u64::from(*element));
            }
        }
        for exposure in &new.wanted.exposures {
            let Some(id) = new.services.get(&exposure.kind).filter(|id| fresh.services.contains(id)) else {
                continue;
            };
            let (inside, outside) = new.selections(exposure);
            let service = Service {
                inside: inside.pack(),
                outside: outside.pack(),
                generation: self.generation(elements::read_service(&maps.services, *id).generation),
                group: new.group,
                affinity: new.wanted.affinity_seconds,
                flags: port::flags(&new.wanted, exposure),
            };
            elements::fill_service(&maps.services, *id, service);
        }
    }

    /// That of an element which is taken into use, where it was `before`.
    fn generation(&self, before: u32) -> u32 {
        if before == 0 { self.first_generation.max(1) } else { before }
    }

    /// Lets packets see it: all that can be, since what is not of it is taken away next.
    fn switch(&mut self, new: &Port) -> io::Result<()> {
        let mut outcome = Ok(());
        for exposure in &new.wanted.exposures {
            let Some(id) = new.services.get(&exposure.kind).copied() else { continue };
            let (inside, outside) = new.selections(exposure);
            let maps = &self.room.maps;
            let flags = port::flags(&new.wanted, exposure);
            elements::set_options(&maps.services, id, new.wanted.affinity_seconds, flags);
            elements::select(&maps.services, id, inside, outside);
            outcome = outcome.and(self.room.source_ranges.keep_only(id, &exposure.source_ranges));
        }
        for endpoint in &new.wanted.endpoints {
            if let Some(id) = new.backends.get(&(endpoint.address, endpoint.port)) {
                let maps = &self.room.maps;
                elements::update_backend(
                    &maps.backends,
                    *id,
                    state(endpoint.state),
                    flags(endpoint.placement),
                );
            }
        }
        for (key, id) in new.frontends() {
            outcome = outcome.and(self.room.frontends.insert(key, id).map(|_| ()));
        }
        outcome
    }

    /// Takes away how packets come to what `new` does not have of `old`.
    fn retire(&mut self, old: &Port, new: Option<&Port>, retired: &mut Retired) -> io::Result<()> {
        bits(&old.wanted).for_each(|bit| self.interest.release(bit));
        self.room.frontends.release_addresses(frontends::own_addresses(&old.wanted));
        let keep: HashSet<_> = new.iter().flat_map(|new| new.frontends()).collect();
        for (key, id) in old.frontends().filter(|entry| !keep.contains(entry)) {
            self.room.frontends.remove(&key, id)?;
        }
        let services: HashSet<_> = new.iter().flat_map(|new| new.services.values()).collect();
        retired.services.extend(old.services.values().filter(|id| !services.contains(id)));
        let backends: HashSet<_> = new.iter().flat_map(|new| new.backends.values()).collect();
        retired.backends.extend(old.backends.values().filter(|id| !backends.contains(id)));
        let ranges: HashSet<_> = new.iter().flat_map(|new| &new.tables).map(|table| table.range).collect();
        retired
            .ranges
            .extend(old.tables.iter().map(|table| table.range).filter(|range| !ranges.contains(range)));
        if new.is_none() {
            self.room.groups.give_back(old.group, Instant::now());
        }
        Ok(())
    }

    /// Of what an earlier loader has left, takes away what nobody has taken over. What is spared stays served as it was.
    fn remove_strangers(&mut self, recovered: Recovered, retired: &mut Retired) -> io::Result<()> {
        let (spared, leftovers) = recovered.divide();
        let bits = spared.as_ref().map_or_else(Vec::new, |spared| spared.bits(&self.room.frontends));
        for bit in &bits {
            self.interest.want(*bit);
        }
        // Those of before only now, so that none lingers in between.
        for bit in std::mem::replace(&mut self.spared_bits, bits) {
            self.interest.release(bit);
        }
        self.recovered = spared;

        let is_spared = |id: u32| self.recovered.as_ref().is_some_and(|spared| spared.has_service(id));
        let ours: HashSet<_> = self.ports.iter().flat_map(|port| port.frontends()).collect();
        let is_ours = |key: &FrontendKey, service: u32| ours.contains(&(*key, service));
        let removed = self.room.frontends.remove_strangers(is_ours, is_spared)?;
        let services: HashSet<_> =
            self.ports.iter().flat_map(|port| port.services.values().copied()).collect();
        self.room.source_ranges.remove_strangers(|id| services.contains(&id) || is_spared(id))?;
        if removed > 0 {
            log::info!("removed {removed} frontends that are no longer asked for");
        }
        retired.services.extend(leftovers.services);
        retired.backends.extend(leftovers.backends);
        retired.ranges.extend(leftovers.ranges);
        leftovers.groups.into_iter().for_each(|group| self.room.groups.give_back(group, Instant::now()));
        Ok(())
    }

    /// Makes invalid what nothing refers to any more, and gives it back.
    fn release(&mut self, retired: Retired) {
        let Retired { services, backends, ranges } = retired;
        if services.is_empty() && backends.is_empty() && ranges.is_empty() {
            return;
        }
        if !services.is_empty() || !backends.is_empty() {
            grace::wait();
        }
        let now = Instant::now();
        for id in services {
            elements::clear_service(&self.room.maps.services, id, self.first_generation);
            if let Err(error) = self.room.source_ranges.keep_only(id, &[]) {
                log::warn!("source ranges of service {id}: {error}");
            }
            self.room.services.give_back(id, now);
        }
        for id in backends {
            elements::clear_backend(&self.room.maps.backends, id, self.first_generation);
            self.room.backends.give_back(id, now);
        }
        for range in ranges {
            self.room.ranges.give_back(range, now);
        }
    }

    /// The bits of the interest filter that nobody wants, but connections may need.
    #[must_use]
    pub fn lingering_bits(&self) -> &HashSet<Bit> {
        self.interest.lingering()
    }

    /// Clears those of `bits` that still nobody wants.
    pub fn clear_bits(&mut self, bits: impl IntoIterator<Item = Bit>) {
        self.interest.clear(bits);
    }

    /// Whether nothing has been synchronised yet.
    #[must_use]
    pub const fn is_new(&self) -> bool {
        self.is_new
    }

    /// How many service ports are in the maps.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ports.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ports.is_empty()
    }

    /// The service ports, each with its number in [`Service::group`] and its elements of `services` by kind.
    pub fn numbers(&self) -> impl Iterator<Item = (&ServicePort, u32, &BTreeMap<Kind, u32>)> {
        self.ports.iter().map(|port| (&port.wanted, port.group, &port.services))
    }
}

impl Synced {
    fn note(&mut self, port: &ServicePort, outcome: io::Result<()>) {
        if let Err(error) = outcome {
            self.problems.push(format!("{}: {error}", title(port)));
        }
    }
}

impl Room {
    fn restore(&mut self, fresh: Fresh) {
        fresh.group.into_iter().for_each(|group| self.groups.restore(group));
        fresh.backends.into_iter().for_each(|id| self.backends.restore(id));
        fresh.services.into_iter().for_each(|id| self.services.restore(id));
        fresh.tables.into_iter().for_each(|(range, _)| self.ranges.restore(range));
    }
}

/// The bits of a service port: those of each frontend and of its address, and of each backend.
fn bits(port: &ServicePort) -> impl Iterator<Item = Bit> {
    let protocol = port.protocol.number();
    let frontends = port.exposures.iter().flat_map(|exposure| &exposure.frontends);
    let called = frontends
        .flat_map(move |(address, port)| [address_bit(*address), endpoint_bit(*address, *port, protocol)]);
    let answering = port.endpoints.iter();
    called.chain(answering.map(move |endpoint| endpoint_bit(endpoint.address, endpoint.port, protocol)))
}

fn backend(endpoint: &Endpoint, group: u32, generation: u32) -> Backend {
    Backend {
        address: elements::wide(endpoint.address),
        port: endpoint.port.to_be_bytes(),
        family: Family::of(endpoint.address).number(),
        state: state(endpoint.state),
        generation,
        group,
        flags: flags(endpoint.placement),
    }
}

const fn state(state: State) -> u8 {
    match state {
        State::Ready => backend_state::READY,
        State::ServingTerminating => backend_state::TERMINATING,
        State::NotReady => backend_state::NOT_READY,
    }
}

const fn flags(placement: Placement) -> u32 {
    match placement {
        Placement::Local => backend_flag::LOCAL,
        Placement::Host => backend_flag::LOCAL | backend_flag::HOST,
        Placement::Remote => 0,
        Placement::External => backend_flag::EXTERNAL,
    }
}

#[cfg(test)]
mod tests;
