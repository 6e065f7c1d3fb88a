//! What is remembered of flows that keep coming.

use bytemuck::{Pod, Zeroable};

use super::{Endpoint, Route, Tuple};

/// A translated flow and the way that its packets go.
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

/// How many flows an element of `flows4` or `flows6` has room for, in any of whose places a flow may be.
///
/// With half as many flows as places, one in 27 finds all four taken; with two it would be one in ten, with one one in five. They are one
/// element, so that one look-up finds them all, and a per-CPU array's table of addresses, which has to be read first, is a fourth as large.
pub const WAYS: u32 = 4;

/// Flows whose hash leads to the same element of `flows4` or `flows6`.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowSet<A> {
    /// In any order.
    pub ways: [Flow<A>; WAYS as usize],
}

impl<A> FlowSet<A> {
    /// How many of them it takes for that many flows.
    #[must_use]
    pub const fn number(flows: u32) -> u32 {
        flows.div_ceil(WAYS)
    }

    /// The first one of which something holds, in the order that a flow of that hash looks for its place.
    #[inline(always)]
    pub fn find(&mut self, hash: u32, mut holds: impl FnMut(&Flow<A>) -> bool) -> Option<&mut Flow<A>> {
        let at = |nth| (hash.wrapping_add(nth) % WAYS) as usize;
        let found = (0..WAYS).map(at).find(|at| self.ways.get(*at).is_some_and(&mut holds))?;
        self.ways.get_mut(found)
    }
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
            // SAFETY: an array of them.
            unsafe impl Zeroable for FlowSet<$address> {}
            // SAFETY: as above.
            unsafe impl Pod for FlowSet<$address> {}
        )+
    };
}

plain!(u32, [u8; 4], [u64; 2], [u8; 16]);

#[cfg(feature = "user")]
mod user {
    use super::{Flow, FlowSet};

    // SAFETY: `repr(C)` without padding and valid for any bits, see above.
    unsafe impl aya::Pod for Flow<[u8; 4]> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for Flow<[u8; 16]> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FlowSet<[u8; 4]> {}
    // SAFETY: as above.
    unsafe impl aya::Pod for FlowSet<[u8; 16]> {}
}

const _: () = {
    assert!(size_of::<Flow<u32>>() == 128 && size_of::<Flow<[u8; 4]>>() == 128);
    assert!(size_of::<Flow<[u64; 2]>>() == 176 && size_of::<Flow<[u8; 16]>>() == 176);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow;

    /// What [`WAYS`] says, of the flows of one client's ports.
    #[test]
    fn of_half_as_many_flows_as_places_one_in_27_has_none() {
        let flows = 1 << 15;
        let mut sets = std::vec![0_u32; FlowSet::<u32>::number(2 * flows) as usize];
        let mut without = 0;
        for port in 0..flows as u16 {
            let [a, b] = (port + 1024).to_be_bytes();
            let hash = flow::hash(0x0ac8_0002, 0x0ac8_0103, [a, b, 0, 80], 6);
            let set = &mut sets[flow::place(hash, FlowSet::<u32>::number(2 * flows)) as usize];
            *set += 1;
            without += u32::from(*set > WAYS);
        }
        assert!((flows / 32..flows / 23).contains(&without), "{without} of {flows}");
    }
}
