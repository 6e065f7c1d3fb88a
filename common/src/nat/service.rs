//! The first packet to a service: who may call it, and whom he gets.

use super::reserve::{self, Source};
use crate::{
    family::{Family, has_ports},
    flow,
    maps::{
        Affinity, Backend, Client, Frontend, FrontendKey, Route, Selection, Service, SourceRange, Staged,
        Tuple, backend_flag, backend_state, connection::TICK_NS, scope, service_flag,
    },
    node::feature,
    pick,
    stage::{Side, Step},
    tables::{Connections, Dataplane, Origin, Tables},
    wire::{load16, protocol, store16},
};

/// Stages a connection with the service that the packet calls whose tuple is staged, if it calls one.
#[inline(never)]
pub fn begin<F, D>(packet: &mut D, staged: &mut Staged<F::Addr>, side: Side) -> Step
where
    F: Family,
    D: Dataplane + Connections<F> + Tables<F>,
{
    let key = &staged.key;
    let Some(id) = called::<F, D>(packet, key, side) else { return nobody::<F, D>(packet, key) };
    let Some(service) = packet.service(id) else { return Step::NoSuchService };
    if service.flags & service_flag::SOURCE_RANGES != 0 && !may_call::<F, D>(packet, id, key.src) {
        return Step::SourceRange;
    }
    let index = match choose::<F, D>(packet, &service, key, side) {
        Ok(index) => index,
        Err(step) => return step,
    };
    let Some(backend) = pick::living(packet, &service, index) else { return Step::NoBackend };
    let origin = Origin {
        service: id,
        service_generation: service.generation,
        backend: index,
        backend_generation: backend.generation,
    };
    let may_hand_on = side == Side::Outside && service.flags & service_flag::DSR != 0 && backend.flags == 0;
    if may_hand_on && !is_peers::<F, D>(packet, key.src) {
        reserve::hand_on::<F, D>(packet, staged, &origin);
        return Step::Begun;
    }
    let source = source::<F, D>(packet, key, &backend, side);
    reserve::stage::<F, D>(packet, staged, source, &origin);
    let becomes = &mut staged.connection.becomes;
    becomes.dst = F::narrow(load16(&backend.address));
    // SCTP's ports are left alone: its checksum is a CRC over the whole packet.
    if has_ports(becomes.protocol) && becomes.protocol != protocol::SCTP {
        becomes.dst_port = backend.port;
    }
    Step::Begun
}

/// Whether an address is a peer's. Handed on, its packet would be that peer's own to the backend's node, and not somebody's outside.
#[inline(always)]
fn is_peers<F: Family, D: Tables<F>>(packet: &D, address: F::Addr) -> bool {
    Tables::<F>::route(packet, &address).is_some_and(Route::is_peer)
}

/// The service at a packet's destination.
#[inline(always)]
fn called<F: Family, D: Dataplane>(packet: &D, key: &Tuple<F::Addr>, side: Side) -> Option<u32> {
    let mut frontend = frontend::<F>(key.dst, key.dst_port, key.protocol);
    if side == Side::HandedOn {
        frontend.scope = scope::HANDED_ON;
    }
    packet.frontend(&frontend).map(|frontend| frontend.service)
}

/// Whether a packet's destination is that service's still, for whomever.
#[inline(always)]
pub fn is_called<F: Family, D: Dataplane>(packet: &D, key: &Tuple<F::Addr>, service: u32) -> bool {
    let mut frontend = frontend::<F>(key.dst, key.dst_port, key.protocol);
    if packet.frontend(&frontend).is_some_and(|found| found.service == service) {
        return true;
    }
    frontend.scope = scope::HANDED_ON;
    packet.frontend(&frontend).is_some_and(|found| found.service == service)
}

/// What becomes of a packet that calls no service: a service address has no other ports.
#[inline(always)]
fn nobody<F: Family, D: Dataplane>(packet: &D, key: &Tuple<F::Addr>) -> Step {
    if !owns::<F, D>(packet, key.dst) {
        return Step::Untouched;
    }
    // The tuple of an echo request has its identifier in the place of the source port.
    let request = key.protocol == F::ICMP && key.dst_port == [0; 2];
    if request && packet.node().has(feature::SERVICE_ECHO) { Step::Echo } else { Step::NoSuchService }
}

/// Whether an address is services', and nobody else's.
#[inline(always)]
pub fn owns<F: Family, D: Dataplane>(packet: &D, address: F::Addr) -> bool {
    let address = packet.frontend(&frontend::<F>(address, [0; 2], 0));
    address.is_some_and(|address| address.service == Frontend::ADDRESS)
}

#[inline(always)]
fn frontend<F: Family>(address: F::Addr, port: [u8; 2], protocol: u8) -> FrontendKey {
    let mut key = FrontendKey { address: [0; 16], port, protocol, family: F::NUMBER, scope: scope::CALLED };
    store16(F::wide(address), &mut key.address);
    key
}

#[inline(always)]
fn may_call<F: Family, D: Dataplane>(packet: &D, service: u32, client: F::Addr) -> bool {
    let mut range = SourceRange { service: service.to_be_bytes(), address: [0; 16] };
    store16(F::wide(client), &mut range.address);
    packet.in_source_ranges(&range)
}

/// Chooses a backend for a new connection; its index.
#[inline(always)]
fn choose<F: Family, D: Dataplane>(
    packet: &mut D,
    service: &Service,
    key: &Tuple<F::Addr>,
    side: Side,
) -> Result<u32, Step> {
    let (word, local) = match side {
        Side::Outside | Side::Large | Side::HandedOn => (service.outside, service_flag::OUTSIDE_LOCAL),
        // Other nodes' pods, too: what comes in the tunnel comes from inside the cluster.
        Side::Pod | Side::Peer | Side::Host => (service.inside, service_flag::INSIDE_LOCAL),
    };
    let (first, count) = match Selection::unpack(word) {
        Selection::Reject => return Err(Step::NoBackend),
        Selection::Drop => return Err(Step::NoLocalBackend),
        Selection::Table { first, count } => (first, count),
    };
    if service.affinity != 0 {
        let local = service.flags & local != 0;
        if let Some(index) = kept::<F, D>(packet, service, key.src, local) {
            return Ok(index);
        }
    }
    let number = if service.flags & service_flag::RANDOM != 0 {
        packet.random()
    } else {
        let ([a, b], [c, d]) = (key.src_port, key.dst_port);
        flow::hash(F::fold(key.src), F::fold(key.dst), [a, b, c, d], key.protocol)
    };
    let index = pick::nth(packet, first, count, number).ok_or(Step::NoBackend)?;
    if service.affinity != 0 {
        keep::<F, D>(packet, service, key.src, index);
    }
    Ok(index)
}

/// Whom a client had, if that is not too long ago and he may have him still. The time starts anew.
#[inline(always)]
fn kept<F, D>(packet: &mut D, service: &Service, client: F::Addr, local: bool) -> Option<u32>
where
    F: Family,
    D: Dataplane,
{
    let now = packet.ticks();
    let affinity = packet.affinity(&caller::<F>(service, client))?;
    let Affinity { backend: index, generation, seen, .. } = *affinity;
    let past = u64::from(now.wrapping_sub(seen)) * TICK_NS;
    if past > u64::from(service.affinity) * 1_000_000_000 {
        return None;
    }
    affinity.seen = now;
    let Backend { generation: current, state, flags, .. } = packet.backend(index)?;
    let may = generation == current
        && state == backend_state::READY
        && (!local || flags & backend_flag::LOCAL != 0);
    may.then_some(index)
}

/// Remembers whom a client has got.
#[inline(always)]
fn keep<F, D>(packet: &mut D, service: &Service, client: F::Addr, index: u32)
where
    F: Family,
    D: Dataplane,
{
    let Some((_, generation)) = packet.health(index) else { return };
    let affinity = Affinity { backend: index, generation, seen: packet.ticks(), reserved: 0 };
    packet.keep(&caller::<F>(service, client), affinity);
}

#[inline(always)]
fn caller<F: Family>(service: &Service, address: F::Addr) -> Client {
    let mut client = Client { address: [0; 16], group: service.group, family: u32::from(F::NUMBER) };
    store16(F::wide(address), &mut client.address);
    client
}

/// What the backend sees as the client: the client itself, unless its answers would then not come back through this node.
#[inline(always)]
fn source<F: Family, D: Dataplane>(
    packet: &D,
    key: &Tuple<F::Addr>,
    backend: &Backend,
    side: Side,
) -> Source {
    const HERE: u32 = backend_flag::LOCAL | backend_flag::HOST;
    let node = packet.node();
    if backend.flags & backend_flag::EXTERNAL != 0 {
        return Source::Underlay;
    }
    match backend.flags & HERE {
        // The node would answer a client itself, past this node's programs; a pod's gateway is the node, and it comes to them.
        HERE if side == Side::Pod => Source::Client,
        HERE => Source::Loopback,
        // Whoever calls himself would answer himself.
        backend_flag::LOCAL if F::narrow(load16(&backend.address)) == key.src => Source::Loopback,
        backend_flag::LOCAL => Source::Client,
        _ if side == Side::Pod || key.src == F::gateway(node) => Source::Client,
        // Without pods of this family there is no such address, and nothing that would be routed to it.
        _ if F::loopback(node) == F::narrow([0; 2]) => Source::Underlay,
        _ => Source::Loopback,
    }
}
