//! The way to a peer, remembered.
//!
//! The node's routing is the one place that knows it, but asking costs about 150 ns, a quarter of sending a packet off
//! (`cargo xtask bench`). So each CPU keeps what it was told for a moment, per peer and for `WAYS` parts of its flows, as
//! equal-cost paths are chosen per flow.

use crate::{
    family::Family,
    maps::{Hop, capacity},
    packet::Failed,
    tables::{Dataplane, Neighbour, NextHop, Tables, Underlay},
    wire::{Mac, load16},
};

/// In how many parts the flows to a peer are remembered.
const WAYS: u32 = 8;

/// For how many jiffies a way is taken as it is: a changed route is followed after 64 ms to 640 ms (`CONFIG_HZ` of 1000 to
/// 100).
pub const FRESH: u64 = 64;

/// A way, and whether the kernel should have a look at it.
pub struct Way {
    /// Where to.
    pub hop: NextHop,
    /// It has been in use for a while. Whoever writes a neighbour's MAC himself never tells the kernel that it is in use, and
    /// so the kernel never asks whether it is still right: now and then a packet has to go the kernel's own way.
    pub recheck: bool,
}

/// Finds the way to `underlay`, the underlay address of the peer in slot `peer`, for a flow with that hash; or to anybody outside, of
/// whom `peer` is any number.
///
/// # Errors
///
/// What the node's routing answers.
#[inline(always)]
pub fn find<O, D>(
    packet: &mut D,
    query: &Underlay<O>,
    peer: u32,
    underlay: &[u8; 16],
    flow: u32,
) -> Result<Way, Failed>
where
    O: Family,
    D: Dataplane + Tables<O>,
{
    let index = place(peer, flow);
    let now = packet.now();
    let mut recheck = false;
    if let Some(known) = packet.hop(index)
        && load16(&known.underlay) == load16(underlay)
    {
        let neighbour = Neighbour::known(Mac::load(&known.dst), Mac::load(&known.src));
        let hop = NextHop { ifindex: known.ifindex, neighbour };
        if now < known.until {
            return Ok(Way { hop, recheck: false });
        }
        recheck = true;
    }
    let hop = Tables::<O>::next_hop(packet, query)?;
    if let Some((dst, src)) = hop.neighbour.macs()
        && let Some(known) = packet.hop(index)
    {
        remember(known, underlay, now, hop.ifindex, dst, src);
    }
    Ok(Way { hop, recheck })
}

/// The way as it is remembered, if that may be taken as it is: device, and the MACs of neighbour and device.
#[inline(always)]
pub fn fresh<D: Dataplane>(
    packet: &mut D,
    peer: u32,
    underlay: &[u8; 16],
    flow: u32,
) -> Option<(u32, Mac, Mac)> {
    let now = packet.now();
    let known = packet.hop(place(peer, flow))?;
    let holds = load16(&known.underlay) == load16(underlay) && now < known.until;
    holds.then(|| (known.ifindex, Mac::load(&known.dst), Mac::load(&known.src)))
}

/// Where the way to a peer is remembered for a flow with that hash.
#[inline(always)]
const fn place(peer: u32, flow: u32) -> u32 {
    (peer.wrapping_mul(WAYS) + flow % WAYS) % capacity::HOPS
}

#[inline(always)]
fn remember(known: &mut Hop, underlay: &[u8; 16], now: u64, ifindex: u32, dst: Mac, src: Mac) {
    crate::wire::store16(load16(underlay), &mut known.underlay);
    known.until = now + FRESH;
    known.ifindex = ifindex;
    dst.store(&mut known.dst);
    src.store(&mut known.src);
}
