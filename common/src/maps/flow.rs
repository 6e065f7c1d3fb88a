//! What is remembered of flows that keep coming.

use bytemuck::{Pod, Zeroable};

use super::{Endpoint, Tuple};

/// A translated flow and the way that its packets go.
///
/// Of IPv4 a cache line: with tens of thousands of flows each packet finds its own in no cache, and what it costs is how many lines have to
/// be fetched, and how many pages they are spread over.
#[repr(C, align(8))]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Flow<A> {
    /// Tuple of its packets as they come.
    pub key: Tuple<A>,
    /// And as they leave.
    pub becomes: Tuple<A>,
    /// Until when it holds, by [`flow_cache::clock`](crate::flow_cache::clock); zero if it does not.
    pub until: u32,
    /// What `epochs` said when its first packet was decided about: the lower half, which does not come round in the time that it holds.
    pub epoch: u32,
    /// Packets that its connection does not know of yet.
    pub packets: u32,
    /// Bytes that its connection does not know of yet, from the Ethernet header on.
    pub bytes: u32,
    /// Whom it goes to: bytes of a `ToPod` or a [`ToPeer`], as `outcome` says.
    pub to: [u32; 3],
    /// By how much its addresses change a sum over them (see [`checksum::difference`](crate::checksum::difference)), folded.
    pub addresses: u16,
    /// From where it comes: a [`Side`](crate::stage::Side).
    pub side: u8,
    /// Where it goes: one of [`outcome`].
    pub outcome: u8,
}

/// The pod that a flow goes to: what there is of an [`Endpoint`].
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct ToPod {
    ifindex: u32,
    mac: [u8; 6],
    slot: u16,
}

/// The peer that a flow goes to.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct ToPeer {
    /// Its slot in `peer_traffic`.
    pub peer: u32,
    /// Hash of the flow that leaves (see [`flow`](crate::flow)).
    pub hash: u32,
    /// Zero.
    pub reserved: u32,
}

impl<A> Flow<A> {
    /// It goes to a pod of this node; there is no room for one of a slot beyond 65,535.
    #[inline(always)]
    pub fn lead_to_pod(&mut self, pod: &Endpoint) {
        if let Ok(slot) = u16::try_from(pod.slot) {
            self.to = bytemuck::cast(ToPod { ifindex: pod.ifindex, mac: pod.mac, slot });
            self.outcome = outcome::POD;
        }
    }

    /// It goes to a peer.
    #[inline(always)]
    pub fn lead_to_peer(&mut self, peer: u32, hash: u32) {
        self.to = bytemuck::cast(ToPeer { peer, hash, reserved: 0 });
        self.outcome = outcome::PEER;
    }

    /// The pod, of [`outcome::POD`].
    #[inline(always)]
    #[must_use]
    pub fn pod(&self) -> Endpoint {
        let ToPod { ifindex, mac, slot } = bytemuck::cast(self.to);
        Endpoint { ifindex, slot: u32::from(slot), mac, reserved: [0; 2] }
    }

    /// The peer, of [`outcome::PEER`].
    #[inline(always)]
    #[must_use]
    pub fn peer(&self) -> ToPeer {
        bytemuck::cast(self.to)
    }
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

/// How many elements `flows4` and `flows6` have for that many flows each.
#[must_use]
pub const fn flow_sets(flows: u32) -> u32 {
    flows.div_ceil(WAYS)
}

impl<A> FlowSet<A> {
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
    pub const OTHER: u8 = 0;
    /// To a pod of this node.
    pub const POD: u8 = 1;
    /// To a peer.
    pub const PEER: u8 = 2;
    /// Out of the cluster, to whom a service has answered.
    pub const CLIENT: u8 = 3;
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
    assert!(size_of::<Flow<u32>>() == 64 && size_of::<Flow<[u8; 4]>>() == 64);
    assert!(size_of::<Flow<[u64; 2]>>() == 112 && size_of::<Flow<[u8; 16]>>() == 112);
};

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow;

    #[test]
    fn whom_a_flow_goes_to_comes_out_as_it_went_in() {
        let pod = Endpoint { ifindex: 0x0102_0304, slot: 65_535, mac: [1, 2, 3, 4, 5, 6], reserved: [0; 2] };
        let mut flow = Flow::<u32>::default();
        flow.lead_to_pod(&Endpoint { slot: 65_536, ..pod });
        assert_eq!(flow.outcome, outcome::OTHER, "a slot that there is no room for");
        flow.lead_to_pod(&pod);
        assert_eq!((flow.outcome, flow.pod()), (outcome::POD, pod));
        flow.lead_to_peer(7, 0xdead_beef);
        assert_eq!(
            (flow.outcome, flow.peer()),
            (outcome::PEER, ToPeer { peer: 7, hash: 0xdead_beef, reserved: 0 })
        );
    }

    /// What [`WAYS`] says, of the flows of one client's ports.
    #[test]
    fn of_half_as_many_flows_as_places_one_in_27_has_none() {
        let flows = 1 << 15;
        let mut sets = std::vec![0_u32; flow_sets(2 * flows) as usize];
        let mut without = 0;
        for port in 0..flows as u16 {
            let [a, b] = (port + 1024).to_be_bytes();
            let hash = flow::hash(0x0ac8_0002, 0x0ac8_0103, [a, b, 0, 80], 6);
            let set = &mut sets[flow::place(hash, flow_sets(2 * flows)) as usize];
            *set += 1;
            without += u32::from(*set > WAYS);
        }
        assert!((flows / 32..flows / 23).contains(&without), "{without} of {flows}");
    }
}
