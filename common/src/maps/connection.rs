//! Connections whose packets are translated, and what is remembered with them.
//!
//! A connection has two entries in `conntrack4` or `conntrack6`, one per direction. Each says what a packet with the tuple of
//! its key becomes, whole; so either can be made anew from the other:
//! `reply key = reverse(becomes)`, `reply becomes = reverse(key)`.

use bytemuck::{Pod, Zeroable};

/// Length of a tick in nanoseconds of `CLOCK_MONOTONIC`, a little more than a second: when a connection was last seen is
/// `CLOCK_MONOTONIC_COARSE >> TICK_SHIFT`, a shift instead of a division, and written at most once a tick.
pub const TICK_NS: u64 = 1 << TICK_SHIFT;
/// See [`TICK_NS`].
pub const TICK_SHIFT: u32 = 30;

/// What identifies a connection, one way.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Tuple<A> {
    /// Source address.
    pub src: A,
    /// Destination address.
    pub dst: A,
    /// Source port, network byte order; the identifier of an ICMP echo request; zero without either.
    pub src_port: [u8; 2],
    /// Destination port, network byte order; the identifier of an ICMP echo reply; zero without either.
    pub dst_port: [u8; 2],
    /// IP protocol number.
    pub protocol: u8,
    /// Zero.
    pub reserved: [u8; 3],
}

impl<A: Copy + PartialEq> Tuple<A> {
    /// That of the answer.
    #[inline(always)]
    #[must_use]
    pub const fn reverse(&self) -> Self {
        Self {
            src: self.dst,
            dst: self.src,
            src_port: self.dst_port,
            dst_port: self.src_port,
            protocol: self.protocol,
            reserved: [0; 3],
        }
    }

    /// Writes that of the answer to where it is wanted, part by part: as a whole it would lie on the stack meanwhile.
    #[inline(always)]
    pub fn reverse_into(&self, answer: &mut Self) {
        answer.src = self.dst;
        answer.dst = self.src;
        answer.src_port = self.dst_port;
        answer.dst_port = self.src_port;
        answer.protocol = self.protocol;
        answer.reserved = [0; 3];
    }

    /// Whether that is the tuple of the answer.
    #[inline(always)]
    #[must_use]
    pub fn is_reverse_of(&self, other: &Self) -> bool {
        self.src == other.dst
            && self.dst == other.src
            && self.src_port == other.dst_port
            && self.dst_port == other.src_port
    }
}

/// One direction of a connection.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Connection<A> {
    /// What its packets become.
    pub becomes: Tuple<A>,
    /// Packets of this direction, a GSO packet being one.
    pub packets: u64,
    /// Their bytes, from the Ethernet header on.
    pub bytes: u64,
    /// When the last one came, in ticks (see [`TICK_NS`]).
    pub seen: u32,
    /// Bits of [`connection_flag`].
    pub flags: u32,
    /// Index into `services`; [`Connection::NO_SERVICE`] if no service was called.
    pub service: u32,
    /// [`Service::generation`](super::Service::generation) when it began.
    pub service_generation: u32,
    /// Index into `backends`, if a service was called.
    pub backend: u32,
    /// [`Backend::generation`](super::Backend::generation) when it began.
    pub backend_generation: u32,
}

impl<A> Connection<A> {
    /// No service was called.
    pub const NO_SERVICE: u32 = u32::MAX;
}

/// Bits of [`Connection::flags`]. The TCP ones are what this direction has sent.
pub mod connection_flag {
    /// This is the direction of the answers.
    pub const REPLY: u32 = 1;
    /// It has sent something.
    pub const SEEN: u32 = 2;
    /// TCP: it has sent something other than its SYN.
    pub const ESTABLISHED: u32 = 4;
    /// TCP: it has sent a FIN.
    pub const FIN: u32 = 8;
    /// TCP: it has sent a RST, and nothing since.
    pub const RST: u32 = 16;
    /// TCP: it has ended the connection, one way or the other.
    pub const CLOSED: u32 = FIN | RST;
    /// It began outside and is not translated: it is here so that its answers are not masqueraded.
    pub const INBOUND: u32 = 32;
    /// Masqueraded: `becomes` (of the answers: the key) has a port of the masquerade's on one of the node's addresses.
    pub const MASQUERADED: u32 = 64;
    /// It is another node's to translate, the backend's, to which its packets go as they came: the entry is here so that all of
    /// them go to the same one. No answers come this way.
    pub const HANDED_ON: u32 = 128;
}

/// Key of `fragments`: a packet that was cut.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Pod, Zeroable)]
pub struct FragmentKey {
    /// Source address; IPv4 in the first four bytes, the rest zero.
    pub src: [u8; 16],
    /// Destination address, likewise.
    pub dst: [u8; 16],
    /// Identification, as it lies in the packet.
    pub id: u32,
    /// IP protocol number.
    pub protocol: u8,
    /// Family of the addresses: 4 or 6.
    pub family: u8,
    /// Zero.
    pub reserved: [u8; 2],
}

/// Value of `fragments`: what the first fragment said, and the later ones don't.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct FragmentPorts {
    /// Source port, network byte order.
    pub src_port: [u8; 2],
    /// Destination port, network byte order.
    pub dst_port: [u8; 2],
}

/// Element of `staged4` and `staged6`: the connection that a program works on. Its parts are too large for a program's stack.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Staged<A> {
    /// The tuple of the packet at hand.
    pub key: Tuple<A>,
    /// Its entry, if it is being made.
    pub connection: Connection<A>,
    /// The tuple of the answers.
    pub answer: Tuple<A>,
    /// Their entry, if it is being made.
    pub answers: Connection<A>,
    /// What `epochs` said before anything was looked up for the packet at hand.
    pub epoch: u64,
    /// Hash of the flow that it is of (see [`flow`](crate::flow)).
    pub hash: u32,
    /// Whether its way is to be remembered: one of [`learning`](crate::flow_cache::learning).
    pub learning: u32,
}

/// Marks the types of both families, which a derive can't: it sees no padding in a generic type.
macro_rules! plain {
    ($($address:ty),+) => {
        $(
            // SAFETY: `repr(C)` without padding (see the sizes below) and valid for any bits.
            unsafe impl Zeroable for Tuple<$address> {}
            // SAFETY: as above.
            unsafe impl Pod for Tuple<$address> {}
            // SAFETY: as above.
            unsafe impl Zeroable for Connection<$address> {}
            // SAFETY: as above.
            unsafe impl Pod for Connection<$address> {}
            // SAFETY: as above.
            unsafe impl Zeroable for Staged<$address> {}
            // SAFETY: as above.
            unsafe impl Pod for Staged<$address> {}
        )+
    };
}

plain!(u32, [u8; 4], [u64; 2], [u8; 16]);

#[cfg(feature = "user")]
mod user {
    use super::{Connection, FragmentKey, FragmentPorts, Tuple};

    // SAFETY: each is `repr(C)` without padding and valid for any bits, see above.
    unsafe impl aya::Pod for Connection<[u8; 4]> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Connection<[u8; 16]> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FragmentKey {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FragmentPorts {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Tuple<[u8; 4]> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Tuple<[u8; 16]> {}
}

const _: () = {
    assert!(size_of::<Tuple<u32>>() == 16 && size_of::<Tuple<[u8; 4]>>() == 16);
    assert!(size_of::<Tuple<[u64; 2]>>() == 40 && size_of::<Tuple<[u8; 16]>>() == 40);
    assert!(size_of::<Connection<[u8; 4]>>() == 56);
    assert!(size_of::<Connection<[u8; 16]>>() == 80);
    assert!(size_of::<Staged<[u8; 4]>>() == 160);
    assert!(size_of::<Staged<[u8; 16]>>() == 256);
    assert!(size_of::<FragmentKey>() == 40);
};
