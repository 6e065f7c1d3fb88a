//! A service, resolved for a socket: once, where its owner connects or sends, instead of for each of its packets.
//!
//! What the packets would have come to in effect, and nothing else: whatever hangs on the client's address, and whatever has
//! to be told to the caller, is left to the packets ([`nat`](crate::nat)), which come to the service's address then.

use crate::{
    counters::Reason,
    maps::{
        Backend, Choice, FrontendKey, Resolved, Selection, Service, SocketKey, backend_flag, backend_state,
        namespace_kind, scope, service_flag,
    },
    node::feature,
    pick,
    tables::Sockets,
    wire::{protocol, store16},
};

/// A socket whose owner calls somebody.
#[derive(Clone, Copy, Debug)]
pub struct Caller {
    /// The socket's cookie.
    pub cookie: u64,
    /// Cookie of its network namespace.
    pub namespace: u64,
    /// Whether it has an address of its own already, which it keeps.
    pub bound: bool,
}

/// How somebody is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// For all that the socket sends from now on.
    Connect,
    /// With one datagram.
    Send,
}

/// Whose address and port `words` and `port` are, by that protocol, as the tables know it. An IPv4 address that is mapped into
/// IPv6 is an IPv4 address.
#[inline(always)]
#[must_use]
pub fn place(words: [u32; 4], v6: bool, port: [u8; 2], protocol: u8) -> FrontendKey {
    let mapped = v6 && is_mapped(&words);
    let words = if mapped { [words[3], 0, 0, 0] } else { words };
    let family = if v6 && !mapped { 6 } else { 4 };
    let mut place = FrontendKey { address: [0; 16], port, protocol, family, scope: scope::CALLED };
    store16(bytemuck::cast(words), &mut place.address);
    place
}

/// Whether an IPv6 address stands for an IPv4 one.
#[inline(always)]
#[must_use]
pub const fn is_mapped(words: &[u32; 4]) -> bool {
    words[0] == 0 && words[1] == 0 && words[2] == MAPPED
}

/// Third word of an IPv6 address that stands for an IPv4 one, as it lies in memory.
pub const MAPPED: u32 = 0xffff_u32.to_be();

/// The backend that a caller gets for a service; none if whom it calls is to stay as it is.
#[inline(always)]
pub fn resolve<S: Sockets>(
    tables: &mut S,
    socket: &Caller,
    called: &FrontendKey,
    call: Call,
) -> Option<Backend> {
    let kind = tables.namespace(socket.namespace)?;
    let wanted = match called.protocol {
        protocol::TCP => feature::SOCKETS,
        protocol::UDP => feature::UDP_SOCKETS,
        _ => return None,
    };
    let Some(frontend) = tables.frontend(called) else {
        // It may have been a backend of the socket's; from now on it is called by its own name.
        if call == Call::Connect {
            tables.forget(&SocketKey { cookie: socket.cookie, peer: *called });
        }
        return None;
    };
    let service = tables.service(frontend.service)?;
    let mut chosen = None;
    // A process of the node that has chosen its address keeps it, and other nodes may not have a way back to it.
    if tables.node().has(wanted) && !(kind == namespace_kind::NODE && socket.bound) {
        chosen = choose(tables, socket, called, &service, call);
    }
    let Some((choice, backend)) = chosen else {
        tables.count(Reason::ToPackets);
        return None;
    };
    let key = SocketKey { cookie: socket.cookie, peer: peer(&backend, called) };
    let resolved = Resolved { called: *called, namespace: socket.namespace, choice };
    if tables.resolved(&key) != Some(resolved) {
        tables.remember(&key, resolved);
    }
    tables.count(Reason::Resolved);
    Some(backend)
}

/// Whom the socket has called by that backend's address; none if it has called it by its own.
#[inline(always)]
pub fn called<S: Sockets>(tables: &S, cookie: u64, peer: &FrontendKey) -> Option<FrontendKey> {
    tables.resolved(&SocketKey { cookie, peer: *peer }).map(|resolved| resolved.called)
}

/// Chooses a backend, if a packet would get one of the service's table and nothing hangs on who the client is.
#[inline(always)]
fn choose<S: Sockets>(
    tables: &mut S,
    socket: &Caller,
    called: &FrontendKey,
    service: &Service,
    call: Call,
) -> Option<(Choice, Backend)> {
    let Selection::Table { first, count } = Selection::unpack(service.inside) else { return None };
    if service.affinity != 0 || service.flags & service_flag::SOURCE_RANGES != 0 {
        return None;
    }
    let key = SocketKey { cookie: socket.cookie, peer: *called };
    if call == Call::Send
        && let Some(kept) = kept(tables, &key, service)
    {
        return Some(kept);
    }
    let index = pick::nth(tables, first, count, tables.random())?;
    let backend = pick::living(tables, service, index)?;
    // From the node's address and a port of the masquerade's, which is given per packet.
    if backend.flags & backend_flag::EXTERNAL != 0 {
        return None;
    }
    let choice = Choice { backend: index, generation: backend.generation };
    if call == Call::Send {
        tables.choose(&key, choice);
    }
    Some((choice, backend))
}

/// Whom a socket that keeps sending to a service had before, if it may have him still.
#[inline(always)]
fn kept<S: Sockets>(tables: &S, key: &SocketKey, service: &Service) -> Option<(Choice, Backend)> {
    let choice = tables.chosen(key)?;
    let backend = pick::living(tables, service, choice.backend)?;
    let local = service.flags & service_flag::INSIDE_LOCAL != 0;
    let may = backend.generation == choice.generation
        && backend.state == backend_state::READY
        && (!local || backend.flags & backend_flag::LOCAL != 0);
    may.then_some((choice, backend))
}

/// Where a backend is called, by the protocol of the frontend.
#[inline(always)]
fn peer(backend: &Backend, called: &FrontendKey) -> FrontendKey {
    FrontendKey { address: backend.address, port: backend.port, ..*called }
}

#[cfg(test)]
mod tests;
