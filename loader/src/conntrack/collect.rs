//! One pass over a table.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::IpAddr,
};

use aya::Pod;
use common::{
    interest::Bit,
    maps::{Backend, Connection, Service, Tuple, connection_flag},
};

use super::{
    expiry::{Circumstances, is_silent, may_be_over, shortest},
    table::{Address, Entry, Table},
};
use crate::{
    desired::Timeouts,
    sync::{
        Shared,
        services::interest::{address_bit, endpoint_bit},
    },
};

/// Fill, in percent, from which on connections that were never answered are forgotten early.
const PRESSED_PERCENT: u64 = 80;

/// What a pass goes by.
pub struct Rules<'a> {
    /// When connections are forgotten.
    pub timeouts: Timeouts,
    /// The node's addresses on the underlay: connections that were given another are of no use.
    pub underlays: &'a [IpAddr],
    /// The time, in ticks.
    pub now: u32,
    /// Elements of `services`.
    pub services: &'a Shared,
    /// Elements of `backends`.
    pub backends: &'a Shared,
    /// Bits of the interest filter that are set for connections alone.
    pub lingering: &'a HashSet<Bit>,
    /// How many entries the last pass over this table found.
    pub entries_before: u64,
    /// Whether every connection is looked at that has been silent for a moment, and not only those of which one direction says that they may
    /// be over: some have lost that.
    pub is_thorough: bool,
}

/// What connections have counted, in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Total {
    /// How many there were.
    pub connections: u64,
    /// Their packets.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl Total {
    /// One more connection, or part of one.
    pub fn add(&mut self, connections: u64, packets: u64, bytes: u64) {
        self.connections += connections;
        self.packets += packets;
        self.bytes += bytes;
    }
}

/// A backend: index and generation.
pub type BackendId = (u32, u32);

/// What a pass found.
#[derive(Clone, Debug, Default)]
pub struct Pass {
    /// Entries that were there.
    pub entries: u64,
    /// Entries that are not any more.
    pub removed: u64,
    /// What they had counted.
    pub totals: HashMap<BackendId, Total>,
    /// Those of the lingering bits that a connection needs.
    pub needed: HashSet<Bit>,
}

/// Forgets the connections that are over.
pub fn pass<A: Address>(table: &mut Table<A>, rules: &Rules<'_>) -> io::Result<Pass>
where
    Tuple<A>: Pod,
    Connection<A>: Pod,
{
    let mut pass = Pass::default();
    let mut silent = Vec::new();
    let is_pressed = rules.entries_before * 100 > u64::from(table.capacity()) * PRESSED_PERCENT;
    table.for_each(|entry| {
        pass.entries += 1;
        if !rules.lingering.is_empty() {
            let needed = bits(&entry).into_iter().filter(|bit| rules.lingering.contains(bit));
            pass.needed.extend(needed);
        }
        let protocol = entry.key.protocol;
        if !is_silent(entry.connection.seen, rules.now, shortest(protocol, &rules.timeouts)) {
            return;
        }
        if rules.is_thorough {
            silent.push(entry.key);
            return;
        }
        let circumstances = Circumstances { is_stale: is_stale(&entry, rules), is_pressed };
        if may_be_over(protocol, entry.half(), rules.now, &rules.timeouts, circumstances) {
            // It is judged by the direction that began it.
            silent.push(if entry.is_reply() { entry.partner() } else { entry.key });
        }
    })?;
    for key in silent {
        // As it is now: a packet may have come since.
        let Some(entry) = table.get(&key)? else { continue };
        let partner = table.get(&entry.partner())?.filter(|partner| partner.partner() == key);
        if entry.is_reply() && partner.is_some() {
            // Comes up by its other direction.
            continue;
        }
        let circumstances = Circumstances { is_stale: is_stale(&entry, rules), is_pressed };
        if !entry.pair(partner.as_ref()).is_over(rules.now, &rules.timeouts, circumstances) {
            continue;
        }
        for half in [Some(entry), partner].into_iter().flatten() {
            if table.remove(&half.key)? {
                pass.removed += 1;
                pass.count(&half);
            }
        }
    }
    Ok(pass)
}

impl Pass {
    fn count<A: Address>(&mut self, entry: &Entry<A>) {
        if let Some(backend) = backend_of(entry) {
            let connections = u64::from(!entry.is_reply());
            let Connection { packets, bytes, .. } = entry.connection;
            self.totals.entry(backend).or_default().add(connections, packets, bytes);
        }
    }
}

/// The backend of a connection, if it is with a service.
pub fn backend_of<A>(entry: &Entry<A>) -> Option<BackendId> {
    let Connection { service, backend, backend_generation, .. } = entry.connection;
    (service != Connection::<A>::NO_SERVICE).then_some((backend, backend_generation))
}

/// Whether what it depends on is gone.
fn is_stale<A: Address>(entry: &Entry<A>, rules: &Rules<'_>) -> bool {
    let Connection { service, service_generation, backend, backend_generation, flags, .. } = entry.connection;
    if flags & connection_flag::MASQUERADED != 0 {
        let own = if entry.is_reply() { entry.key.dst } else { entry.connection.becomes.src };
        if !rules.underlays.contains(&own.into()) {
            return true;
        }
    }
    if service == Connection::<A>::NO_SERVICE {
        return false;
    }
    service_generation != generation_of_service(rules.services, service)
        || backend_generation != generation_of_backend(rules.backends, backend)
}

/// The generation of an element of `services`.
#[must_use]
pub fn generation_of_service(services: &Shared, id: u32) -> u32 {
    let service: Service = bytemuck::cast([0, 1, 2, 3].map(|word| services.load(id, word)));
    service.generation
}

/// The generation of an element of `backends`.
#[must_use]
pub fn generation_of_backend(backends: &Shared, id: u32) -> u32 {
    let backend: Backend = bytemuck::cast([0, 1, 2, 3].map(|word| backends.load(id, word)));
    backend.generation
}

/// The bits without which the packets of a connection would not be looked up: those of what was called, and that of who answers.
fn bits<A: Address>(entry: &Entry<A>) -> [Bit; 3] {
    let Entry { key, connection: Connection { becomes, .. } } = entry;
    let (called, answering) = if entry.is_reply() {
        ((becomes.src, becomes.src_port), (key.src, key.src_port))
    } else {
        ((key.dst, key.dst_port), (becomes.dst, becomes.dst_port))
    };
    let endpoint =
        |(address, port): (A, [u8; 2])| endpoint_bit(address.into(), u16::from_be_bytes(port), key.protocol);
    [address_bit(called.0.into()), endpoint(called), endpoint(answering)]
}

#[cfg(test)]
mod tests {
    use bytemuck::Zeroable as _;

    use super::*;

    #[test]
    fn both_directions_need_the_same_bits() {
        let tuple = |(src, src_port): ([u8; 4], u16), (dst, dst_port): ([u8; 4], u16)| Tuple {
            src,
            dst,
            src_port: src_port.to_be_bytes(),
            dst_port: dst_port.to_be_bytes(),
            protocol: 6,
            ..Tuple::zeroed()
        };
        let (client, called) = (([192, 0, 2, 1], 40_000), ([10, 240, 0, 20], 30_080));
        let (mapped, backend) = (([10, 240, 0, 20], 61_000), ([10, 200, 0, 1], 8080));
        let entry = |key, becomes, flags| Entry {
            key,
            connection: Connection { becomes, flags, ..Connection::zeroed() },
        };
        let forward = entry(tuple(client, called), tuple(mapped, backend), 0);
        let reply = entry(tuple(backend, mapped), tuple(called, client), connection_flag::REPLY);
        let wanted = [
            address_bit(called.0.into()),
            endpoint_bit(called.0.into(), called.1, 6),
            endpoint_bit(backend.0.into(), backend.1, 6),
        ];
        assert_eq!((bits(&forward), bits(&reply)), (wanted, wanted));
    }
}
