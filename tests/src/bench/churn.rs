//! A million connections through a service, one packet each: what the connection table does with them.
//!
//! Each is a frame from a pod's device to one of several ports of a service whose backend is on the same node. A table that
//! has room for all of them, and one that has not, show how it fills, what it refuses, and how it is emptied. One TCP
//! connection stands through all of it.

mod cluster;

use std::{
    collections::BTreeMap,
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use common::{
    counters::{Outcome, Reason},
    maps::capacity,
};
use serde::Serialize;

use self::cluster::Cluster;
use super::{
    cores::{self, Cores},
    services::Protocol,
};
use crate::{capture::Capture, counters::Counters, frame, pod::DEVICE, wait};

/// Connections of each kind.
const FLOWS: u32 = 1_000_000;
/// Those of a quick run.
const QUICK_FLOWS: u32 = 50_000;
/// After which a connection of one packet is forgotten, in seconds: longer than it takes to make all of them.
const TIMEOUT: u32 = 20;
/// A table with room for a million connections.
const LARGE: u32 = 4 * 1024 * 1024;
/// How long the collection may take, after the last connection has timed out.
const COLLECTION: Duration = Duration::from_mins(1);

/// What became of the connections of one protocol.
#[derive(Clone, Debug, Serialize)]
pub struct Churn {
    /// Protocol.
    pub protocol: &'static str,
    /// Entries that the table can have; a connection has two.
    pub capacity: u32,
    /// Connections that were begun.
    pub flows: u32,
    /// Seconds that this took.
    pub seconds: f64,
    /// Entries after the last of them.
    pub entries: usize,
    /// Connections that went through but were no longer there then: the table evicts none, so they had timed out while the
    /// others were made.
    pub gone: u64,
    /// What the node's programs counted, as `hook/reason` to packets.
    pub counted: BTreeMap<String, u64>,
    /// Packets dropped, by reason.
    pub drops: BTreeMap<&'static str, u64>,
    /// Whether a connection that was there before still works.
    pub established_kept: bool,
    /// Seconds between the time out of the last connection and an empty table; absent if it was not empty in time.
    pub collection_seconds: Option<f64>,
}

impl Churn {
    /// The time that collection took, for tables.
    #[must_use]
    pub fn collected_in(&self) -> String {
        let late = || format!("more than {} s", COLLECTION.as_secs());
        self.collection_seconds.map_or_else(late, |seconds| format!("{seconds:.1} s"))
    }
}

/// Makes the connections, with a table of the usual size and with a large one.
pub fn run(quick: bool) -> Result<Vec<Churn>> {
    let flows = if quick { QUICK_FLOWS } else { FLOWS };
    let mut churns = Vec::new();
    for capacity in [capacity::CONNTRACK, LARGE] {
        let mut cluster = Cluster::build(capacity, TIMEOUT)?;
        for protocol in Protocol::ALL {
            let churn = once(&mut cluster, protocol, flows, capacity)
                .with_context(|| format!("{flows} connections of {}", protocol.name()))?;
            let Churn { seconds, entries, .. } = &churn;
            let _unheard = writeln!(
                std::io::stderr(),
                "  {} with {capacity} entries: {seconds:.1} s, {entries} entries, collected in {}",
                protocol.name(),
                churn.collected_in()
            );
            churns.push(churn);
        }
    }
    Ok(churns)
}

fn once(cluster: &mut Cluster, protocol: Protocol, flows: u32, capacity: u32) -> Result<Churn> {
    let before = cluster.counters()?;
    let begin = Instant::now();
    send(cluster, protocol, flows)?;
    let seconds = begin.elapsed().as_secs_f64();
    let last = Instant::now();
    let entries = cluster.entries(usize::MAX)?;
    let after = cluster.counters()?;
    let drops = drops(&before, &after);
    let established_kept = is_open(&mut cluster.established).is_ok();
    let is_empty = || -> Result<_> {
        Ok((cluster.entries(cluster::ESTABLISHED + 1)? <= cluster::ESTABLISHED).then(|| last.elapsed()))
    };
    let usual = Duration::from_secs(u64::from(TIMEOUT)) + COLLECTION;
    let emptied = wait::until_after(usual, "the connection table to be empty", is_empty).ok();
    let refused: u64 = drops.values().sum();
    let taken = u64::from(flows).saturating_sub(refused);
    let kept = u64::try_from(entries.saturating_sub(cluster::ESTABLISHED))? / 2;
    Ok(Churn {
        protocol: protocol.name(),
        capacity,
        flows,
        seconds,
        entries,
        gone: taken.saturating_sub(kept),
        counted: after.since(&before),
        drops,
        established_kept,
        collection_seconds: emptied.map(|after| (after.as_secs_f64() - cluster::timeout(TIMEOUT)).max(0.0)),
    })
}

/// One packet of each connection: all source ports that a client may have, to one port of the service after the other.
fn send(cluster: &Cluster, protocol: Protocol, flows: u32) -> Result<()> {
    let device = Capture::open(cluster.client()?, DEVICE)?;
    let (own, gateway) = cluster.macs()?;
    let ip = cluster.ip()?;
    let ports = cluster::PORTS.flat_map(|port| cluster::SOURCE_PORTS.map(move |source| (source, port)));
    cluster.client()?.enter(|| {
        cores::pin(Cores::find()?.sender)?;
        for ports in ports.take(flows.try_into()?) {
            let packet = match protocol {
                Protocol::Tcp => ip.tcp(ports, SYN),
                Protocol::Udp => ip.udp(ports, &[0; 8]),
            };
            device.inject(&frame::ethernet(own, gateway, &packet))?;
        }
        Ok(())
    })
}

const SYN: u8 = 0x02;

/// Dropped packets by reason, over all hooks of the node.
fn drops(before: &Counters, after: &Counters) -> BTreeMap<&'static str, u64> {
    let mut drops = BTreeMap::new();
    for reason in Reason::ALL.iter().filter(|reason| reason.outcome() == Outcome::Dropped) {
        let count = |counters: &Counters| -> u64 {
            counters
                .iter()
                .filter(|(_, name, ..)| *name == reason.name())
                .map(|(_, _, packets, _)| packets)
                .sum()
        };
        let new = count(after).saturating_sub(count(before));
        if new > 0 {
            drops.insert(reason.name(), new);
        }
    }
    drops
}

/// One byte there and back.
fn is_open((client, server): &mut (TcpStream, TcpStream)) -> Result<()> {
    let mut byte = [0];
    client.write_all(&[7]).and_then(|()| server.read_exact(&mut byte)).context("a byte to the backend")?;
    server.write_all(&byte).and_then(|()| client.read_exact(&mut byte)).context("a byte to the client")
}
