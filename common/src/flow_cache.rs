//! The way of a translated flow, remembered whole ("flow cache").
//!
//! What a packet of a connection becomes and where it goes then takes a look-up of the connection, of its service and backend, of the
//! pod and of the route. The next packet of the same flow comes to the same, as long as nothing of that changes. So each CPU
//! keeps the outcome of the flows that it sees many packets of, for a moment: one element of an array, chosen by the flow's hash, with
//! all that the packet is rewritten with.
//!
//! What may change is followed in three ways:
//!
//! - what the loader writes, and a connection that is forgotten: `epochs`, numbers that are part of what is remembered. Whoever
//!   changes something advances them afterwards, and then nothing that was remembered before holds any more;
//! - the way to a peer, as the node's routing has it: is remembered apart ([`hops`]), and asked for anew as ever;
//! - anything else, at the latest after [`FRESH`]: then a packet goes the long way, which also notes that its connection is in use.
//!
//! Only packets that change nothing for their connection go the short way: UDP, and TCP with no flag but ACK and PSH. All others, and
//! whatever is not to be sent as it is (too large, no hop left), is left to the long way, as it came.

use crate::{
    counters::Reason,
    family::{Family, Fragment, Ip, V4, V6},
    flow, forward, hops,
    maps::{Flow, Route, capacity, outcome, route_kind},
    nat::{Side, rewrite, tuple},
    tables::{Account, Connections, Dataplane, Tables, Underlay},
    verdict::Action,
    vxlan,
    wire::{ETH_LEN, Eth, Mac, Ports, protocol},
};

/// For how many jiffies a flow is remembered: 256 ms to 2.6 s (`CONFIG_HZ` of 1000 to 100). Little may go unnoticed that long: entries
/// written by hand, a closed connection that sends again.
const FRESH: u64 = 256;

/// How many packets a connection has had before it is remembered: most have less, and are not worth the trouble.
pub const STEADY: u64 = 16;

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

/// What a packet that went the short way came to; one number, as a BPF function can return it: an interface index, and above it one
/// of the kinds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken(u64);

impl Taken {
    /// It did not: it is as it was.
    pub const NOT: Self = Self(0);
    const POD: u64 = 1;
    const OVERLAY: u64 = 2;
    const DIRECT: u64 = 3;
    const CLIENT: u64 = 4;
    const FAILED: u64 = 5;

    #[inline(always)]
    const fn by(kind: u64, ifindex: u32) -> Self {
        Self(kind << 32 | ifindex as u64)
    }

    /// By number.
    #[inline(always)]
    #[must_use]
    pub const fn of(number: u64) -> Self {
        Self(number)
    }

    /// As a number.
    #[inline(always)]
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    /// What is to be done with it, and what it is counted as.
    #[inline(always)]
    #[must_use]
    pub const fn settled(self) -> Option<(Reason, Action)> {
        let ifindex = self.0 as u32;
        Some(match self.0 >> 32 {
            Self::POD => (Reason::ToPod, Action::Pod { ifindex }),
            Self::OVERLAY => (Reason::ToOverlay, Action::Device { ifindex }),
            Self::DIRECT => (Reason::ToDirect, Action::Device { ifindex }),
            Self::CLIENT => (Reason::ToClient, Action::Device { ifindex }),
            Self::FAILED => (Reason::HelperFailed, Action::Drop),
            _ => return None,
        })
    }
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
    // SAFETY: asked for once, and given back before the rest is decided.
    let Some(flow) = (unsafe { Connections::<F>::flow(packet, hash % capacity::FLOWS) }) else {
        return Taken::NOT;
    };
    let changes = changes(packet, ip);
    let known = is_of(flow, ip, ports, side);
    if changes || !known || flow.epoch != epoch || packet.now() >= flow.until {
        if known {
            forget::<F, D>(packet, flow);
        }
        await_steady::<F, D>(packet, (!changes).then_some((hash, epoch)));
        return Taken::NOT;
    }
    let taken = match flow.outcome {
        outcome::POD => to_pod(packet, ip, flow),
        outcome::PEER => to_peer(packet, ip, flow),
        outcome::CLIENT => to_client(packet, ip, flow),
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
    // SAFETY: asked for once.
    let Some(flow) = (unsafe { Connections::<F>::flow(packet, staged.hash % capacity::FLOWS) }) else {
        return;
    };
    let now = packet.now();
    // Whoever has the place has it for its time: of two flows with the same, one goes the short way.
    if now < flow.until && flow.epoch == staged.epoch {
        return;
    }
    forget::<F, D>(packet, flow);
    let [a, b, c, d] = ports;
    flow.key = staged.key;
    flow.becomes.src = ip.src;
    flow.becomes.dst = ip.dst;
    flow.becomes.src_port = [a, b];
    flow.becomes.dst_port = [c, d];
    flow.becomes.protocol = ip.protocol;
    flow.side = side as u32;
    flow.epoch = staged.epoch;
    flow.hash = flow::hash(F::fold(ip.src), F::fold(ip.dst), ports, ip.protocol);
    flow.outcome = outcome::OTHER;
    if let Some(pod) = Tables::<F>::pod(packet, &ip.dst) {
        flow.pod = pod;
        flow.outcome = outcome::POD;
    } else {
        match Tables::<F>::route(packet, &ip.dst) {
            Some(route) if route.is_peer() => {
                flow.route = *route;
                flow.outcome = outcome::PEER;
            }
            Some(route) if route.kind != route_kind::OUTSIDE => {}
            _ => flow.outcome = outcome::CLIENT,
        }
    }
    flow.until = now + FRESH;
}

/// Whether a connection that has had so many packets is worth it.
#[inline(always)]
#[must_use]
pub const fn is_steady(packets: u64) -> bool {
    packets >= STEADY
}

/// What has been remembered of a connection with that tuple holds no more, on any CPU.
#[inline(always)]
pub fn expire<F: Family, D: Dataplane>(packet: &mut D, tuple: &crate::maps::Tuple<F::Addr>) {
    let ([a, b], [c, d]) = (tuple.src_port, tuple.dst_port);
    packet.advance(flow::hash(F::fold(tuple.src), F::fold(tuple.dst), [a, b, c, d], tuple.protocol));
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
        && flow.side == side as u32
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
        entry.add(u64::from(flow.packets), flow.bytes);
    }
    flow.packets = 0;
    flow.bytes = 0;
    flow.until = 0;
}

/// Takes a hop off a packet, if it may be changed: what leaves by the device that it came by any hook can send back; for anything else it
/// has to be claimed, if that has not been done.
#[inline(always)]
fn is_ready<F: Family, D: Dataplane>(packet: &mut D, flow: &Flow<F::Addr>, out: Option<u32>) -> bool {
    let claimed = flow.side != Side::Outside as u32 || out == Some(packet.ifindex());
    F::hops(packet, ETH_LEN) > 1 && (claimed || packet.claim()) && F::take_hop(packet, ETH_LEN).is_ok()
}

#[inline(always)]
fn to_pod<F, D>(packet: &mut D, ip: &mut Ip<F>, flow: &mut Flow<F::Addr>) -> Taken
where
    F: Family,
    D: Dataplane,
{
    if !is_ready::<F, D>(packet, flow, None) {
        return Taken::NOT;
    }
    translate(packet, ip, flow);
    forward::arrive_at(packet, &flow.pod);
    Taken::by(Taken::POD, flow.pod.ifindex)
}

#[inline(always)]
fn to_peer<F, D>(packet: &mut D, ip: &mut Ip<F>, flow: &mut Flow<F::Addr>) -> Taken
where
    F: Family,
    D: Dataplane,
{
    match flow.route.underlay_family {
        6 => send::<F, V6, D>(packet, ip, flow),
        _ => send::<F, V4, D>(packet, ip, flow),
    }
}

/// Over an underlay of family `O`.
#[inline(always)]
fn send<F, O, D>(packet: &mut D, ip: &mut Ip<F>, flow: &mut Flow<F::Addr>) -> Taken
where
    F: Family,
    O: Family,
    D: Dataplane,
{
    let Some((ifindex, dst, src)) = hops::fresh(packet, flow.route.peer, &flow.route.underlay, flow.hash)
    else {
        return Taken::NOT;
    };
    if forward::exceeds(packet, ip, flow.route.mtu) || !is_ready::<F, D>(packet, flow, Some(ifindex)) {
        return Taken::NOT;
    }
    translate(packet, ip, flow);
    let Route { kind, peer, .. } = flow.route;
    let len = packet.len();
    let overlay = kind == route_kind::OVERLAY;
    if overlay {
        let way = Underlay::<O> {
            destination: O::from_route(&flow.route.underlay),
            source_port: flow::source_port(flow.hash),
            destination_port: packet.node().port,
            tos: ip.tos,
        };
        if vxlan::encapsulate(packet, &way, &flow.route.vtep_mac, F::ETHER_TYPE).is_err() {
            return Taken::by(Taken::FAILED, 0);
        }
    }
    packet.account(Account::PeerTx(peer), len);
    address(packet, dst, src);
    Taken::by(if overlay { Taken::OVERLAY } else { Taken::DIRECT }, ifindex)
}

#[inline(always)]
fn to_client<F, D>(packet: &mut D, ip: &mut Ip<F>, flow: &mut Flow<F::Addr>) -> Taken
where
    F: Family,
    D: Dataplane,
{
    let Some((ifindex, dst, src)) = forward::fresh_way_outside::<F, D>(packet, flow.becomes.dst) else {
        return Taken::NOT;
    };
    if !is_ready::<F, D>(packet, flow, Some(ifindex)) {
        return Taken::NOT;
    }
    translate(packet, ip, flow);
    address(packet, dst, src);
    Taken::by(Taken::CLIENT, ifindex)
}

#[inline(always)]
fn address<D: Dataplane>(packet: &mut D, dst: Mac, src: Mac) {
    if let Some(eth) = packet.at_mut::<Eth>(0) {
        dst.store(&mut eth.dst);
        src.store(&mut eth.src);
    }
}

/// Makes the packet what its flow's become, and counts it.
#[inline(always)]
fn translate<F, D>(packet: &mut D, ip: &mut Ip<F>, flow: &mut Flow<F::Addr>)
where
    F: Family,
    D: Dataplane,
{
    flow.packets = flow.packets.wrapping_add(1);
    flow.bytes += packet.len() as u64;
    rewrite::packet(packet, ip, &flow.key, &flow.becomes);
}
