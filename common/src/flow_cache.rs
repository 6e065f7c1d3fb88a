//! The way of a translated flow, remembered whole ("flow cache").
//!
//! What a packet of a connection becomes and where it goes then takes a look-up of the connection, of its service and backend, of the
//! pod and of the route. The next packet of the same flow comes to the same, as long as nothing of that changes. So each CPU
//! keeps the outcome of the flows that it sees many packets of, for a moment: in an element of an array that the flow's hash chooses,
//! which has places for four ([`FlowSet`](crate::maps::FlowSet)), with all that the packet is rewritten with.
//!
//! What may change is followed in three ways:
//!
//! - what the loader writes, and a connection that is forgotten: `epochs`, numbers that are part of what is remembered. Whoever
//!   changes something advances them afterwards, and then nothing that was remembered before holds any more;
//! - the way to a peer, as the node's routing has it: is remembered apart ([`hops`]), and asked for anew as ever;
//! - anything else (what is written by hand), after [`FRESH`]: the next packet goes the long way, which also notes that the connection is
//!   in use.
//!
//! Only packets that change nothing for their connection go the short way: UDP, and TCP with no flag but ACK and PSH. All others, and
//! whatever is not to be sent as it is (too large, no hop left), is left to the long way, as it came.

mod short_way;

use crate::{
    checksum,
    family::{Family, Fragment, Ip},
    flow, forward, hops,
    maps::{Flow, Route, Tuple, outcome},
    rewrite,
    stage::{Side, Taken},
    tables::{Connections, Dataplane, Tables},
    tuple,
    wire::{Ports, protocol},
};

/// How many packets a connection has had before it is remembered: most have less, and are not worth the trouble.
pub const STEADY: u64 = 16;

/// For how many jiffies a flow is remembered at most: a quarter of a second to 2.6 s (`CONFIG_HZ` of 1000 to 100), about as long as its
/// connection need not be noted ([tick](crate::maps::connection::TICK_NS)).
pub const FRESH: u64 = 256;

/// Jiffies in a unit of [`clock`].
const UNIT: u64 = 64;

/// From how many bytes on, short of 2^32 by more than any packet, a flow has to tell its connection of them.
const UNTOLD: u32 = 1 << 31;

/// TCP flags that change nothing: PSH and ACK.
const PSH: u8 = 0x08;
const ACK: u8 = 0x10;

/// Whether the packet at hand may be remembered: how far that is known.
pub mod learning {
    /// It may not.
    pub const NO: u32 = 0;
    /// As far as the packet goes.
    pub const ASKED: u32 = 1;
    /// Its connection has many.
    pub const STEADY: u32 = 2;
}

/// Sends a packet the way that its flow is remembered to go, if it is.
#[inline(always)]
pub fn take<F, D>(packet: &mut D, ip: &mut Ip<F>, side: Side) -> Taken
where
    F: Family,
    D: Dataplane + Connections<F> + Tables<F>,
{
    let Some(ports) = ports(packet, ip) else {
        await_steady::<F, D>(packet, None);
        return Taken::NOT;
    };
    let hash = flow::hash(F::fold(ip.src), F::fold(ip.dst), ports, ip.protocol);
    let epoch = packet.epoch(hash);
    let index = index(packet, hash);
    // SAFETY: asked for once.
    let Some(flows) = (unsafe { Connections::<F>::flows(packet, index) }) else { return Taken::NOT };
    let changes = changes(packet, ip);
    let Some(flow) = flows.find(hash, |flow| is_of(flow, ip, ports, side)) else {
        await_steady::<F, D>(packet, (!changes).then_some((hash, epoch)));
        return Taken::NOT;
    };
    let is_over = clock(packet.now()) >= flow.until || flow.bytes >= UNTOLD;
    if changes || is_over || flow.epoch != epoch as u32 {
        forget::<F, D>(packet, flow);
        await_steady::<F, D>(packet, (!changes).then_some((hash, epoch)));
        return Taken::NOT;
    }
    let taken = match flow.outcome {
        outcome::POD => short_way::to_pod(packet, ip, flow),
        outcome::PEER => short_way::to_peer(packet, ip, flow),
        outcome::CLIENT => short_way::to_client(packet, ip, flow),
        _ => Taken::NOT,
    };
    if taken == Taken::NOT {
        await_steady::<F, D>(packet, None);
    }
    taken
}

/// Remembers the way that a packet goes that has just been translated.
#[inline(always)]
pub fn learn<F, D>(packet: &mut D, ip: &Ip<F>, side: Side)
where
    F: Family,
    D: Dataplane + Connections<F> + Tables<F>,
{
    // SAFETY: asked for once.
    let Some(staged) = (unsafe { Connections::<F>::workspace(packet) }) else { return };
    if staged.learning != learning::STEADY {
        return;
    }
    let Some(ports) = tuple::ports(packet, ip) else { return };
    let index = index(packet, staged.hash);
    // SAFETY: asked for once.
    let Some(flows) = (unsafe { Connections::<F>::flows(packet, index) }) else { return };
    let now = clock(packet.now());
    // Whoever has a place has it for its time: of five flows with the same four, four go the short way. The first that is free is taken,
    // which comes before any that this flow has had: so that is the one that is found.
    let free = flows.find(staged.hash, |flow| !holds::<F, D>(packet, flow, now));
    let Some(flow) = free else { return };
    forget::<F, D>(packet, flow);
    let [a, b, c, d] = ports;
    flow.key = staged.key;
    flow.becomes.src = ip.src;
    flow.becomes.dst = ip.dst;
    flow.becomes.src_port = [a, b];
    flow.becomes.dst_port = [c, d];
    flow.becomes.protocol = ip.protocol;
    flow.addresses = checksum::fold(rewrite::address_change::<F>(&flow.key, &flow.becomes));
    flow.side = side as u8;
    flow.epoch = staged.epoch as u32;
    flow.outcome = outcome::OTHER;
    // By what is in the map: Linux 6.1's verifier takes no memory that a function was given for a key.
    if let Some(pod) = Tables::<F>::pod(packet, &flow.becomes.dst) {
        flow.lead_to_pod(&pod);
    } else {
        match forward::route(packet, ip) {
            Some(route) if route.is_peer() => {
                let hash = flow::hash(F::fold(ip.src), F::fold(ip.dst), ports, ip.protocol);
                flow.lead_to_peer(route.peer, hash);
                hops::note(packet, route, hash);
            }
            route if Route::leads_out(route) => flow.outcome = outcome::CLIENT,
            _ => {}
        }
    }
    flow.until = now.wrapping_add((FRESH / UNIT) as u32);
}

/// The time in units of 64 jiffies: 32 bits of them are eight years at 1000 jiffies a second, and more at any slower clock.
#[inline(always)]
#[must_use]
pub const fn clock(jiffies: u64) -> u32 {
    (jiffies / UNIT) as u32
}

/// Whether a connection that has had so many packets is worth it.
#[inline(always)]
#[must_use]
pub const fn is_steady(packets: u64) -> bool {
    packets >= STEADY
}

/// What has been remembered of a connection with that tuple holds no more, on any CPU.
#[inline(always)]
pub fn expire<F: Family, D: Dataplane>(packet: &mut D, tuple: &Tuple<F::Addr>) {
    packet.advance(hash::<F>(tuple));
}

/// Where flows with that hash may be remembered.
#[inline(always)]
fn index<D: Dataplane>(packet: &D, hash: u32) -> u32 {
    flow::place(hash, packet.node().flow_sets)
}

/// Whether what is remembered there is still gone by, as the epoch of its own flow says.
#[inline(always)]
fn holds<F: Family, D: Dataplane>(packet: &D, flow: &Flow<F::Addr>, now: u32) -> bool {
    now < flow.until && flow.epoch == packet.epoch(hash::<F>(&flow.key)) as u32
}

/// The hash of the flow whose packets have that tuple.
#[inline(always)]
fn hash<F: Family>(tuple: &Tuple<F::Addr>) -> u32 {
    let ([a, b], [c, d]) = (tuple.src_port, tuple.dst_port);
    flow::hash(F::fold(tuple.src), F::fold(tuple.dst), [a, b, c, d], tuple.protocol)
}

/// The ports of a packet of a kind that is remembered.
#[inline(always)]
fn ports<F: Family, D: Dataplane>(packet: &D, ip: &Ip<F>) -> Option<Ports> {
    if ip.fragment != Fragment::No || !matches!(ip.protocol, protocol::TCP | protocol::UDP) {
        return None;
    }
    packet.at::<Ports>(ip.payload()).copied()
}

/// Whether it is one that says something new about its connection.
#[inline(always)]
fn changes<F: Family, D: Dataplane>(packet: &D, ip: &Ip<F>) -> bool {
    ip.protocol == protocol::TCP && tuple::tcp_flags(packet, ip) & !PSH != ACK
}

#[inline(always)]
fn is_of<F: Family>(flow: &Flow<F::Addr>, ip: &Ip<F>, ports: Ports, side: Side) -> bool {
    let ([a, b], [c, d]) = (flow.key.src_port, flow.key.dst_port);
    flow.key.src == ip.src
        && flow.key.dst == ip.dst
        && u32::from_ne_bytes([a, b, c, d]) == u32::from_ne_bytes(ports)
        && flow.key.protocol == ip.protocol
        && flow.side == side as u8
}

/// Notes for [`learn`] what is known of the packet at hand.
#[inline(always)]
fn await_steady<F, D>(packet: &mut D, flow: Option<(u32, u64)>)
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    // SAFETY: asked for once, and not kept.
    let Some(staged) = (unsafe { Connections::<F>::workspace(packet) }) else { return };
    staged.learning = learning::NO;
    if let Some((hash, epoch)) = flow {
        staged.learning = learning::ASKED;
        staged.hash = hash;
        staged.epoch = epoch;
    }
}

/// Tells its connection what has been counted, and forgets a flow.
#[inline(always)]
fn forget<F, D>(packet: &mut D, flow: &mut Flow<F::Addr>)
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    if flow.packets != 0
        && let Some(entry) = Connections::<F>::connection(packet, &flow.key)
    {
        entry.add(u64::from(flow.packets), u64::from(flow.bytes));
    }
    flow.packets = 0;
    flow.bytes = 0;
    flow.until = 0;
}
