//! The connections of a node, read straight from its pinned maps, and single entries taken out of them.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result};
use aya::{
    Pod,
    maps::{HashMap, Map},
};
use common::maps::{Connection, Tuple, connection_flag, name};

use crate::counters;

/// One direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// IP protocol number.
    pub protocol: u8,
    /// Where its packets come from.
    pub from: SocketAddr,
    /// Where they go.
    pub to: SocketAddr,
    /// Where they come from once they are translated.
    pub becomes_from: SocketAddr,
    /// Where they go then.
    pub becomes_to: SocketAddr,
    /// Bits of [`connection_flag`].
    pub flags: u32,
    /// Packets.
    pub packets: u64,
}

impl Entry {
    /// Whether it is of the answers.
    #[must_use]
    pub const fn is_reply(&self) -> bool {
        self.flags & connection_flag::REPLY != 0
    }
}

/// Every entry, of both families.
pub fn list(pins: &Path) -> Result<Vec<Entry>> {
    let mut entries = entries::<[u8; 4]>(pins, name::CONNTRACK4)?;
    entries.extend(self::entries::<[u8; 16]>(pins, name::CONNTRACK6)?);
    Ok(entries)
}

/// Takes out the entries that `which` picks; returns how many.
pub fn remove(pins: &Path, which: impl Fn(&Entry) -> bool) -> Result<usize> {
    Ok(remove_from::<[u8; 4]>(pins, name::CONNTRACK4, &which)?
        + remove_from::<[u8; 16]>(pins, name::CONNTRACK6, &which)?)
}

fn open<A>(pins: &Path, map: &str) -> Result<HashMap<aya::maps::MapData, Tuple<A>, Connection<A>>>
where
    Tuple<A>: Pod,
    Connection<A>: Pod,
{
    let map = Map::HashMap(counters::open(pins, map)?);
    map.try_into().context("a map of connections")
}

fn entries<A>(pins: &Path, map: &str) -> Result<Vec<Entry>>
where
    A: Copy + Into<IpAddr>,
    Tuple<A>: Pod,
    Connection<A>: Pod,
{
    let map = open::<A>(pins, map)?;
    map.iter().map(|entry| entry.map(|(key, value)| read(&key, &value)).context("read connections")).collect()
}

fn remove_from<A>(pins: &Path, map: &str, which: impl Fn(&Entry) -> bool) -> Result<usize>
where
    A: Copy + Into<IpAddr>,
    Tuple<A>: Pod,
    Connection<A>: Pod,
{
    let mut map = open::<A>(pins, map)?;
    let all: Vec<_> = map.iter().collect::<Result<_, _>>().context("read connections")?;
    let mut removed = 0;
    for (key, value) in all {
        if which(&read(&key, &value)) {
            map.remove(&key).context("remove a connection")?;
            removed += 1;
        }
    }
    Ok(removed)
}

fn read<A: Copy + Into<IpAddr>>(key: &Tuple<A>, value: &Connection<A>) -> Entry {
    let place = |address: A, port| SocketAddr::new(address.into(), u16::from_be_bytes(port));
    let becomes = &value.becomes;
    Entry {
        protocol: key.protocol,
        from: place(key.src, key.src_port),
        to: place(key.dst, key.dst_port),
        becomes_from: place(becomes.src, becomes.src_port),
        becomes_to: place(becomes.dst, becomes.dst_port),
        flags: value.flags,
        packets: value.packets,
    }
}
