//! A packet of a connection that is known.

use super::{reserve, service};
use crate::{
    family::{Family, Ip},
    flow_cache::{self, learning},
    maps::{Connection, Staged, backend_state, connection_flag},
    rewrite,
    stage::Step,
    tables::{Connections, Dataplane, Entry, Origin},
    tuple::tcp_flags,
    wire::{load16, protocol},
};

const FIN: u8 = 0x01;
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// Translates the packet whose tuple is staged, if there is a connection that it is of.
///
/// One that is over, or whose service or backend is gone, is forgotten, and [`Step::Unknown`] says that another may begin.
/// A TCP segment can't begin one: its connection is [`Step::BackendGone`].
#[inline(always)]
pub fn translate<F, D>(packet: &mut D, ip: &mut Ip<F>, staged: &mut Staged<F::Addr>) -> Step
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    let tcp = tcp_flags(packet, ip);
    let Some(entry) = Connections::<F>::connection(packet, &staged.key) else { return Step::Unknown };
    let flags = entry.flags();
    if flags & connection_flag::REPLY == 0 {
        let standing = standing::<F, D>(packet, staged, entry, tcp);
        if standing != Standing::Good {
            entry.becomes().reverse_into(&mut staged.answer);
            forget::<F, D>(packet, staged);
            return if standing == Standing::Cut { Step::BackendGone } else { Step::Unknown };
        }
    }
    apply(packet, ip, staged, entry)
}

/// Forgets the connection whose tuples are staged, and what is remembered of its flows.
#[inline(always)]
pub fn forget<F, D>(packet: &mut D, staged: &Staged<F::Addr>)
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    Connections::<F>::forget(packet, &staged.key);
    Connections::<F>::forget(packet, &staged.answer);
    flow_cache::expire::<F, D>(packet, &staged.key);
    flow_cache::expire::<F, D>(packet, &staged.answer);
}

/// Translates the first packet of a connection that has just been made, whose tuple is staged: what it depends on has been looked at.
#[inline(always)]
pub fn first<F, D>(packet: &mut D, ip: &mut Ip<F>, staged: &mut Staged<F::Addr>) -> Step
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    match Connections::<F>::connection(packet, &staged.key) {
        Some(entry) => apply(packet, ip, staged, entry),
        None => Step::ConntrackFull,
    }
}

/// Translates the packet whose tuple is staged as its entry says.
#[inline(never)]
fn apply<F, D>(packet: &mut D, ip: &mut Ip<F>, staged: &mut Staged<F::Addr>, entry: Entry<F::Addr>) -> Step
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    let tcp = tcp_flags(packet, ip);
    let flags = entry.flags();
    let len = packet.len();
    if entry.count(len, packet.ticks(), note(flags, staged.key.protocol, tcp)) {
        reserve::heal::<F, D>(packet, staged, entry);
    }
    if staged.learning == learning::ASKED && flow_cache::is_steady(entry.packets()) {
        staged.learning = learning::STEADY;
    }
    if flags & (connection_flag::INBOUND | connection_flag::HANDED_ON) != 0 {
        return as_it_is(packet, ip, entry);
    }
    rewrite::packet(packet, ip, &staged.key, entry.becomes());
    match flags & (connection_flag::MASQUERADED | connection_flag::REPLY) {
        connection_flag::MASQUERADED => Step::Masqueraded,
        _ => Step::Translated,
    }
}

/// A packet of a connection that this node does not translate.
#[inline(always)]
pub fn as_it_is<F, D>(packet: &D, ip: &mut Ip<F>, entry: Entry<F::Addr>) -> Step
where
    F: Family,
    D: Dataplane,
{
    const ON: u32 = connection_flag::HANDED_ON;
    if entry.flags() & (ON | connection_flag::REPLY) != ON {
        return Step::Untouched;
    }
    let Some(backend) = packet.backend(entry.origin().backend) else { return Step::BackendGone };
    ip.dst = F::narrow(load16(&backend.address));
    Step::HandedOn
}

/// Whether a connection is still what it was; one number, as a BPF function can return it.
#[repr(u32)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It is.
    Good,
    /// It is not, and the packet may begin another.
    Renew,
    /// It is not, and the packet is of no use any more.
    Cut,
}

#[inline(never)]
fn standing<F, D>(packet: &D, staged: &mut Staged<F::Addr>, entry: Entry<F::Addr>, tcp: u8) -> Standing
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    let protocol = staged.key.protocol;
    let opens = tcp & (SYN | ACK) == SYN;
    // A segment that opens nothing can't be given to another backend.
    let changed = if protocol == protocol::TCP && !opens { Standing::Cut } else { Standing::Renew };
    let Origin { service, service_generation, backend, backend_generation } = entry.origin();
    if service != Connection::<F::Addr>::NO_SERVICE {
        let Some((state, generation)) = packet.health(backend) else { return changed };
        if generation != backend_generation || packet.service_generation(service) != Some(service_generation)
        {
            return changed;
        }
        // SV-4, SV-6: what opens a connection goes by what holds now; SV-5: so does UDP to what is not ready.
        let moves = opens && state != backend_state::READY;
        if moves || (protocol == protocol::UDP && state == backend_state::NOT_READY) {
            return Standing::Renew;
        }
    }
    let masqueraded = entry.flags() & connection_flag::MASQUERADED != 0;
    if masqueraded && entry.becomes().src != F::underlay(packet.node()) {
        return changed;
    }
    if opens && is_over::<F, D>(packet, staged, entry) {
        return Standing::Renew;
    }
    // A frontend may have become another service's, or nobody's: TCP goes on with whom it has, as everywhere.
    let may_move = service != Connection::<F::Addr>::NO_SERVICE && (opens || protocol == protocol::UDP);
    if may_move && !service::is_called::<F, D>(packet, &staged.key, service) {
        return Standing::Renew;
    }
    Standing::Good
}

/// Whether a SYN begins something new: either end has closed what had this tuple before (CT-2).
#[inline(always)]
fn is_over<F, D>(packet: &D, staged: &mut Staged<F::Addr>, entry: Entry<F::Addr>) -> bool
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    if entry.flags() & connection_flag::CLOSED != 0 {
        return true;
    }
    entry.becomes().reverse_into(&mut staged.answer);
    let answers = Connections::<F>::connection(packet, &staged.answer);
    answers.is_some_and(|answers| answers.flags() & connection_flag::CLOSED != 0)
}

/// A direction's flags after a packet of it.
#[inline(always)]
const fn note(flags: u32, protocol: u8, tcp: u8) -> u32 {
    let mut flags = flags | connection_flag::SEEN;
    if protocol != protocol::TCP {
        return flags;
    }
    if tcp & RST != 0 {
        return flags | connection_flag::RST;
    }
    // It was somebody else's (CT-3): who has reset a connection sends nothing more.
    flags &= !connection_flag::RST;
    if tcp & FIN != 0 {
        flags |= connection_flag::FIN;
    }
    if tcp & SYN == 0 {
        flags |= connection_flag::ESTABLISHED;
    }
    flags
}
