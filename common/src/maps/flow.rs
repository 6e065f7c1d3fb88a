//! What is remembered of a flow that keeps coming.

use bytemuck::{Pod, Zeroable};

use super::{Endpoint, Route, Tuple};

/// A translated flow and the way that its packets go: an element of `flows4` or `flows6`.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow<A> {
    /// Tuple of its packets as they come.
    pub key: Tuple<A>,
    /// And as they leave.
    pub becomes: Tuple<A>,
    /// Until when it holds, in jiffies; zero if it does not.
    pub until: u64,
    /// What `epochs` said when its first packet was decided about.
    pub epoch: u64,
    /// Bytes that its connection does not know of yet, from the Ethernet header on.
    pub bytes: u64,
    /// Packets that its connection does not know of yet.
    pub packets: u32,
    /// By how much its addresses change a sum over them (see [`checksum::difference`](crate::checksum::difference)).
    pub addresses: u32,
    /// By how much its ports do.
    pub ports: u32,
    /// From where it comes: a [`Side`](crate::stage::Side).
    pub side: u32,
    /// Where it goes: one of [`outcome`].
    pub outcome: u32,
    /// Hash of the flow that leaves (see [`flow`](crate::flow)).
    pub hash: u32,
    /// The peer, of [`outcome::PEER`].
    pub route: Route,
    /// The pod, of [`outcome::POD`].
    pub pod: Endpoint,
}

/// Values of [`Flow::outcome`].
pub mod outcome {
    /// Anywhere else: nothing is gained by remembering it.
    pub const OTHER: u32 = 0;
    /// To a pod of this node.
    pub const POD: u32 = 1;
    /// To a peer.
    pub const PEER: u32 = 2;
    /// Out of the cluster, to whom a service has answered.
    pub const CLIENT: u32 = 3;
}

/// Marks the types of both families, which a derive can't: it sees no padding in a generic type.
macro_rules! plain {
    ($($address:ty),+) => {
        $(
            // SAFETY: `repr(C)` without padding (see the sizes below) and valid for any bits.
            unsafe impl Zeroable for Flow<$address> {}
            // SAFETY: as above.
            unsafe impl Pod for Flow<$address> {}
        )+
    };
}

plain!(u32, [u8; 4], [u64; 2], [u8; 16]);

#[cfg(feature = "user")]
mod user {
    use super::Flow;

    // SAFETY: `repr(C)` without padding and valid for any bits, see above.
    unsafe impl aya::Pod for Flow<[u8; 4]> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Flow<[u8; 16]> {}
}

const _: () = {
    assert!(size_of::<Flow<u32>>() == 128 && size_of::<Flow<[u8; 4]>>() == 128);
    assert!(size_of::<Flow<[u64; 2]>>() == 176 && size_of::<Flow<[u8; 16]>>() == 176);
};
