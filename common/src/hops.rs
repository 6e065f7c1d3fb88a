//! Ways out of the node, remembered: to peers, and to addresses outside the cluster.
//!
//! The node's routing is the one place that knows them, but asking costs about 150 ns, a quarter of sending a packet off
//! (`cargo xtask bench`). So each CPU keeps what it was told for a moment: per peer and for `WAYS` parts of its flows, as
//! equal-cost paths are chosen per flow; and per address outside and who sends to it, as policy routing may go by that.

use crate::{
    family::Family,
    flow,
    maps::{Hop, Route, capacity},
    packet::Failed,
    tables::{Dataplane, Neighbour, NextHop, Tables, Underlay},
    wire::{Mac, load16, store16},
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

/// Finds the way to a peer, for a flow with that hash.
///
/// # Errors
///
/// What the node's routing answers.
#[inline(always)]
pub fn to_peer<O, D>(packet: &mut D, query: &Underlay<O>, route: &Route, flow: u32) -> Result<Way, Failed>
where
    O: Family,
    D: Dataplane + Tables<O>,
{
    let leads = |known: &Hop| load16(&known.route.underlay) == load16(&route.underlay);
    find(packet, query, place(route.peer, flow), leads, |known| known.route = *route)
}

/// Finds the way to an address outside the cluster.
///
/// # Errors
///
/// What the node's routing answers.
#[inline(always)]
pub fn to_outside<F, D>(packet: &mut D, query: &Underlay<F>) -> Result<Way, Failed>
where
    F: Family,
    D: Dataplane + Tables<F>,
{
    let Underlay { source, destination, .. } = *query;
    let leads = |known: &Hop| leads_outside::<F>(known, source, destination);
    find(packet, query, place_outside::<F>(destination), leads, |known| {
        known.route.peer = Hop::NOBODY;
        store16(F::wide(destination), &mut known.route.underlay);
        store16(F::wide(source), &mut known.source);
    })
}

/// The way remembered at `index` if it `leads` there; else the one that the node's routing answers, which has its end written by `note`.
#[inline(always)]
fn find<O, D>(
    packet: &mut D,
    query: &Underlay<O>,
    index: u32,
    leads: impl FnOnce(&Hop) -> bool,
    note: impl FnOnce(&mut Hop),
) -> Result<Way, Failed>
where
    O: Family,
    D: Dataplane + Tables<O>,
{
    let now = packet.now();
    let mut recheck = false;
    if let Some(known) = packet.hop(index)
        && leads(known)
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
        && let Some(known) = packet.hop_mut(index)
    {
        note(known);
        known.until = now + FRESH;
        known.ifindex = hop.ifindex;
        dst.store(&mut known.dst);
        src.store(&mut known.src);
    }
    Ok(Way { hop, recheck })
}

/// Takes note of all that a peer's route says, where the way to it is remembered for a flow with that hash. A way to elsewhere is forgotten:
/// the peer may have had that address before.
#[inline(always)]
pub fn note<D: Dataplane>(packet: &mut D, route: &Route, flow: u32) {
    let Some(known) = packet.hop_mut(place(route.peer, flow)) else { return };
    if load16(&known.route.underlay) == load16(&route.underlay) {
        known.route = *route;
    } else {
        known.until = 0;
    }
}

/// The way to the peer in a slot as it is remembered, and its route with it, if they may be taken as they are.
#[inline(always)]
pub fn fresh<D: Dataplane>(packet: &D, peer: u32, flow: u32) -> Option<&'static Hop> {
    let known = packet.hop(place(peer, flow))?;
    (known.route.peer == peer && packet.now() < known.until).then_some(known)
}

/// The way to an address outside, likewise.
#[inline(always)]
pub fn fresh_outside<F, D>(packet: &D, source: F::Addr, destination: F::Addr) -> Option<&'static Hop>
where
    F: Family,
    D: Dataplane,
{
    let known = packet.hop(place_outside::<F>(destination))?;
    (leads_outside::<F>(known, source, destination) && packet.now() < known.until).then_some(known)
}

#[inline(always)]
fn leads_outside<F: Family>(known: &Hop, source: F::Addr, destination: F::Addr) -> bool {
    load16(&known.route.underlay) == F::wide(destination) && load16(&known.source) == F::wide(source)
}

/// Where the way to a peer is remembered for a flow with that hash.
#[inline(always)]
const fn place(peer: u32, flow: u32) -> u32 {
    (peer.wrapping_mul(WAYS) + flow % WAYS) % capacity::HOPS
}

/// Where the way to an address outside is remembered, whoever sends: few addresses are written to by several.
#[inline(always)]
fn place_outside<F: Family>(destination: F::Addr) -> u32 {
    let hash = flow::hash(F::fold(destination), 0, [0; 4], 0);
    place(hash, hash)
}
