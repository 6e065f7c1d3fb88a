//! The connections of one family.

use core::ptr::NonNull;

use crate::{
    family::Family,
    maps::{Connection, FlowSet, Staged, Tuple},
};

/// Why an entry was not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotMade {
    /// There is one with that key.
    Exists,
    /// There is no room.
    Full,
}

/// The connection table, and the sockets that share ports with it.
pub trait Connections<F: Family> {
    /// The entry of packets with that tuple.
    fn connection(&self, key: &Tuple<F::Addr>) -> Option<Entry<F::Addr>>;

    /// Where this CPU works on a connection. It has what the last packet left in it.
    ///
    /// # Safety
    ///
    /// Nobody has another reference to it: it is asked for once per packet and decision.
    unsafe fn workspace(&mut self) -> Option<&'static mut Staged<F::Addr>>;

    /// What this CPU remembers of flows at that index, if it is within the table.
    ///
    /// # Safety
    ///
    /// Nobody has another reference to it.
    unsafe fn flows(&mut self, index: u32) -> Option<&'static mut FlowSet<F::Addr>>;

    /// Makes an entry; with `replace` also where there is one with its key.
    fn insert(
        &mut self,
        key: &Tuple<F::Addr>,
        connection: &Connection<F::Addr>,
        replace: bool,
    ) -> Result<(), NotMade>;

    /// Removes an entry, if it is there.
    fn forget(&mut self, key: &Tuple<F::Addr>);

    /// Whether a socket of the node's takes packets with that tuple.
    fn has_socket(&self, tuple: &Tuple<F::Addr>) -> bool;
}

/// A connection where it lies in the table: shared with the other CPUs and with user space.
///
/// What identifies it (`becomes`, the service, the backend) is written once, before it is in the table. The rest is counted and
/// noted by whoever has a packet of it, without a lock: two CPUs with packets of the same direction may count one where there were
/// two, and a lost note is noted again by the next packet.
#[derive(Debug)]
pub struct Entry<A>(NonNull<Connection<A>>);

impl<A> Clone for Entry<A> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<A> Copy for Entry<A> {}

/// What a connection depends on, besides its tuple.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Origin {
    /// See [`Connection::service`].
    pub service: u32,
    /// See [`Connection::service_generation`].
    pub service_generation: u32,
    /// See [`Connection::backend`].
    pub backend: u32,
    /// See [`Connection::backend_generation`].
    pub backend_generation: u32,
}

impl Origin {
    /// No service was called.
    pub const NONE: Self = Self {
        service: Connection::<u32>::NO_SERVICE,
        service_generation: 0,
        backend: 0,
        backend_generation: 0,
    };
}

impl<A: Copy> Entry<A> {
    /// The connection at `place`.
    ///
    /// # Safety
    ///
    /// It stays there, initialised, for as long as the packet at hand is worked on.
    #[inline(always)]
    #[must_use]
    pub const unsafe fn new(place: NonNull<Connection<A>>) -> Self {
        Self(place)
    }

    /// What its packets become.
    #[inline(always)]
    #[must_use]
    pub fn becomes(&self) -> &Tuple<A> {
        // SAFETY: valid, as `new` asks, and not written to any more.
        unsafe { &(*self.0.as_ptr()).becomes }
    }

    /// What it depends on.
    #[inline(always)]
    #[must_use]
    pub fn origin(self) -> Origin {
        // SAFETY: valid, as `new` asks.
        unsafe {
            let connection = self.0.as_ptr();
            Origin {
                service: (*connection).service,
                service_generation: (*connection).service_generation,
                backend: (*connection).backend,
                backend_generation: (*connection).backend_generation,
            }
        }
    }

    /// Bits of [`connection_flag`](crate::maps::connection_flag).
    #[inline(always)]
    #[must_use]
    pub fn flags(self) -> u32 {
        // SAFETY: valid, as `new` asks.
        unsafe { (*self.0.as_ptr()).flags }
    }

    /// How many packets have been counted.
    #[inline(always)]
    #[must_use]
    pub fn packets(self) -> u64 {
        // SAFETY: valid, as `new` asks.
        unsafe { (*self.0.as_ptr()).packets }
    }

    /// Counts packets that have been noted elsewhere.
    #[inline(always)]
    pub fn add(self, packets: u64, bytes: u64) {
        // SAFETY: valid, as `new` asks; each access is one word.
        unsafe {
            let connection = self.0.as_ptr();
            (*connection).packets += packets;
            (*connection).bytes += bytes;
        }
    }

    /// Counts a packet of `bytes` bytes that comes at tick `now` and makes the flags what they are given as. Whether it is the
    /// first in this tick.
    #[inline(always)]
    #[must_use]
    pub fn count(self, bytes: usize, now: u32, flags: u32) -> bool {
        // SAFETY: valid, as `new` asks; each access is one word.
        unsafe {
            let connection = self.0.as_ptr();
            (*connection).packets += 1;
            (*connection).bytes += bytes as u64;
            if (*connection).flags != flags {
                (*connection).flags = flags;
            }
            let first = (*connection).seen != now;
            if first {
                (*connection).seen = now;
            }
            first
        }
    }
}
