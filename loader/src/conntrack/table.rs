//! The tables of connections, one per family.

use std::{
    io,
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
};

use aya::{
    Pod,
    maps::{HashMap, Map, MapData, MapError},
};
use common::maps::{Connection, Tuple, connection_flag, name};
use nix::time::{ClockId, clock_gettime};

use super::expiry::{Half, Pair};
use crate::{
    bpf::{batch, errno},
    paths::NodePaths,
};

/// An address as a table has it.
pub trait Address: Copy + PartialEq + Into<IpAddr> + Send + 'static {
    /// Name of its table.
    const MAP: &'static str;
}

impl Address for [u8; 4] {
    const MAP: &'static str = name::CONNTRACK4;
}

impl Address for [u8; 16] {
    const MAP: &'static str = name::CONNTRACK6;
}

/// An entry: one direction of a connection.
#[derive(Clone, Copy, Debug)]
pub struct Entry<A> {
    /// What its packets have.
    pub key: Tuple<A>,
    /// What they become, and what is known of them.
    pub connection: Connection<A>,
}

impl<A: Copy + PartialEq> Entry<A> {
    /// Whether this is the direction of the answers.
    #[must_use]
    pub const fn is_reply(&self) -> bool {
        self.connection.flags & connection_flag::REPLY != 0
    }

    /// The key of the other direction.
    #[must_use]
    pub const fn partner(&self) -> Tuple<A> {
        self.connection.becomes.reverse()
    }

    /// What matters for its end.
    #[must_use]
    pub const fn half(&self) -> Half {
        Half { flags: self.connection.flags, seen: self.connection.seen }
    }

    /// As a connection, with the other direction if that is there.
    #[must_use]
    pub fn pair(&self, partner: Option<&Self>) -> Pair {
        let (own, other) = (Some(self.half()), partner.map(Self::half));
        let (forward, reply) = if self.is_reply() { (other, own) } else { (own, other) };
        Pair { protocol: self.key.protocol, forward, reply }
    }
}

/// A table of connections.
pub struct Table<A: Address>
where
    Tuple<A>: Pod,
    Connection<A>: Pod,
{
    map: HashMap<MapData, Tuple<A>, Connection<A>>,
    fd: OwnedFd,
    capacity: u32,
}

impl<A: Address> Table<A>
where
    Tuple<A>: Pod,
    Connection<A>: Pod,
{
    /// The pinned table of a node.
    pub fn open(paths: &NodePaths) -> io::Result<Self> {
        let data = MapData::from_pin(paths.map(A::MAP)).map_err(errno)?;
        let fd = data.fd().as_fd().try_clone_to_owned()?;
        let capacity = data.info().map_err(errno)?.max_entries();
        let map = Map::from_map_data(data).and_then(HashMap::try_from).map_err(errno)?;
        Ok(Self { map, fd, capacity })
    }

    /// How many entries it has room for.
    #[must_use]
    pub const fn capacity(&self) -> u32 {
        self.capacity
    }

    /// Calls `each` with every entry.
    pub fn for_each(&self, mut each: impl FnMut(Entry<A>)) -> io::Result<()> {
        batch::for_each(self.fd.as_fd(), |key, connection| each(Entry { key, connection }))
    }

    /// The entry with that key.
    pub fn get(&self, key: &Tuple<A>) -> io::Result<Option<Entry<A>>> {
        match self.map.get(key, 0) {
            Ok(connection) => Ok(Some(Entry { key: *key, connection })),
            Err(MapError::KeyNotFound) => Ok(None),
            Err(error) => Err(errno(error)),
        }
    }

    /// Removes the entry with that key; whether it was there.
    pub fn remove(&mut self, key: &Tuple<A>) -> io::Result<bool> {
        match self.map.remove(key).map_err(errno) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }
}

/// The time as entries have it: [`TICK_NS`](common::maps::connection::TICK_NS).
pub fn ticks() -> io::Result<u32> {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC_COARSE)?;
    let nanoseconds = i128::from(now.tv_sec()) * 1_000_000_000 + i128::from(now.tv_nsec());
    u32::try_from(nanoseconds >> common::maps::connection::TICK_SHIFT).map_err(io::Error::other)
}
