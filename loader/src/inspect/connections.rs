//! Connections: listed, and flushed.

use anyhow::Context as _;
use aya::Pod;
use common::maps::{Connection, Tuple, connection_flag};

use super::service_names::ServiceNames;
use crate::{
    conntrack::{
        Entry, Filter, Pair, State, Table, expire_flows,
        filter::forward_of,
        table::{Address, ticks},
    },
    paths::NodePaths,
    report::{ConnectionRow, ConnectionsReport, FlushReport, TupleRow},
};

/// Which connections are meant.
#[derive(Clone, Debug, Default)]
pub struct ConnectionQuery {
    /// What they have to be, but for their service.
    pub filter: Filter,
    /// Name of their service.
    pub service: Option<String>,
}

impl ConnectionQuery {
    /// The filter, with the numbers of its service.
    fn resolve(self, names: &ServiceNames) -> anyhow::Result<Filter> {
        let Self { filter, service } = self;
        let services = service.map(|service| names.ids(&service)).transpose()?;
        Ok(Filter { services, ..filter })
    }
}

/// The connections of a node that are meant.
pub fn connections(paths: &NodePaths, query: ConnectionQuery) -> anyhow::Result<ConnectionsReport> {
    let names = ServiceNames::read(paths)?;
    let filter = query.resolve(&names)?;
    let mut rows = list::<[u8; 4]>(paths, &filter, &names)?;
    rows.extend(list::<[u8; 16]>(paths, &filter, &names)?);
    rows.sort_by(|a, b| (&a.protocol, &a.original).cmp(&(&b.protocol, &b.original)));
    Ok(ConnectionsReport { node: paths.node().to_owned(), connections: rows })
}

/// Forgets the connections that are meant.
pub fn flush(paths: &NodePaths, query: ConnectionQuery) -> anyhow::Result<FlushReport> {
    let filter = query.resolve(&ServiceNames::read(paths)?)?;
    let connections = remove::<[u8; 4]>(paths, &filter)? + remove::<[u8; 16]>(paths, &filter)?;
    if connections > 0 {
        expire_flows(paths).context("map epochs")?;
    }
    Ok(FlushReport { node: paths.node().to_owned(), connections })
}

fn list<A: Address>(
    paths: &NodePaths,
    filter: &Filter,
    names: &ServiceNames,
) -> anyhow::Result<Vec<ConnectionRow>>
where
    Tuple<A>: Pod,
    Connection<A>: Pod,
{
    let now = ticks()?;
    let mut rows = Vec::new();
    for_each::<A>(paths, |_, forward, reply, pair, state| {
        if filter.is_for(&forward, state) {
            rows.push(row(&forward, reply.as_ref(), pair, now, names));
        }
        Ok(())
    })?;
    Ok(rows)
}

fn remove<A: Address>(paths: &NodePaths, filter: &Filter) -> anyhow::Result<u64>
where
    Tuple<A>: Pod,
    Connection<A>: Pod,
{
    let mut connections = 0;
    for_each::<A>(paths, |table, forward, _, _, state| {
        if !filter.is_for(&forward, state) {
            return Ok(());
        }
        let removed = [table.remove(&forward.key)?, table.remove(&forward.partner())?];
        connections += u64::from(removed.contains(&true));
        Ok(())
    })?;
    Ok(connections)
}

/// Calls `each` with every connection: the direction that began it, the other if it is there, and how far it has got.
pub(super) fn for_each<A: Address>(
    paths: &NodePaths,
    mut each: impl FnMut(&mut Table<A>, Entry<A>, Option<Entry<A>>, Pair, State) -> anyhow::Result<()>,
) -> anyhow::Result<()>
where
    Tuple<A>: Pod,
    Connection<A>: Pod,
{
    let what = || format!("read map {}; run `loader run` for a node with services first", A::MAP);
    let mut table = Table::<A>::open(paths).with_context(what)?;
    let mut entries = Vec::new();
    table.for_each(|entry| entries.push(entry)).with_context(what)?;
    for entry in entries {
        let partner = table.get(&entry.partner()).with_context(what)?;
        let pair = entry.pair(partner.as_ref());
        match (entry.is_reply(), partner) {
            // Comes up by its other direction.
            (true, Some(_)) => {}
            (true, None) => each(&mut table, forward_of(&entry), Some(entry), pair, pair.state())?,
            (false, partner) => each(&mut table, entry, partner, pair, pair.state())?,
        }
    }
    Ok(())
}

fn row<A: Address>(
    forward: &Entry<A>,
    reply: Option<&Entry<A>>,
    pair: Pair,
    now: u32,
    names: &ServiceNames,
) -> ConnectionRow {
    let Connection { becomes, service, flags, packets, bytes, .. } = forward.connection;
    let (reply_packets, reply_bytes) =
        reply.map_or((0, 0), |reply| (reply.connection.packets, reply.connection.bytes));
    ConnectionRow {
        protocol: protocol(forward.key.protocol),
        state: pair.state(),
        original: tuple(&forward.key),
        translated: tuple(&becomes),
        service: (service != Connection::<A>::NO_SERVICE).then(|| names.of(service)),
        masqueraded: flags & connection_flag::MASQUERADED != 0,
        inbound: flags & connection_flag::INBOUND != 0,
        idle_seconds: seconds(now.saturating_sub(pair.seen())),
        packets,
        bytes,
        reply_packets,
        reply_bytes,
    }
}

fn seconds(ticks: u32) -> u64 {
    u64::from(ticks) * common::maps::connection::TICK_NS / 1_000_000_000
}

fn tuple<A: Address>(tuple: &Tuple<A>) -> TupleRow {
    TupleRow {
        source: tuple.src.into(),
        source_port: u16::from_be_bytes(tuple.src_port),
        destination: tuple.dst.into(),
        destination_port: u16::from_be_bytes(tuple.dst_port),
    }
}

/// Name of an IP protocol, or its number.
fn protocol(number: u8) -> String {
    match number {
        1 => "icmp".to_owned(),
        6 => "tcp".to_owned(),
        17 => "udp".to_owned(),
        58 => "icmpv6".to_owned(),
        132 => "sctp".to_owned(),
        number => number.to_string(),
    }
}
