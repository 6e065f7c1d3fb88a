//! Translation: service addresses into pods, pods into the node's address, and back.
//!
//! A stage before forwarding. Packets that cannot concern it pay for the test of two bits ([`concerns`]); the others have
//! their tuple looked up among the connections, or begin one. What then is forwarded is an ordinary packet from one address
//! to another.
//!
//! | module | what it holds |
//! |---|---|
//! | [`established`] | a packet of a connection that is known |
//! | [`service`] | the first packet to a service: who may, and whom it gets |
//! | [`reserve`] | both entries of a new connection, and its source port |
//! | [`related`] | ICMP errors about a packet of a connection |
//!
//! A hook calls it through [`Stage`](crate::stage::Stage). Which connection a packet is of says [`mod@tuple`]; the bytes are
//! [`rewrite`]'s. The steps have their tuples and entries in a map element of this CPU's own ([`Staged`]): the stack that a chain of
//! calls shares has no room for them.

pub mod established;
pub mod related;
pub mod reserve;
pub mod service;

use crate::{
    family::{self, Family, Fragment, Ip},
    interest,
    maps::Staged,
    node::feature,
    rewrite,
    stage::{Side, Step},
    tables::{Connections, Dataplane, Tables},
    tuple,
    wire::{Ports, protocol},
};

/// Whether anything is ever translated.
#[inline(always)]
pub fn is_on<D: Dataplane>(packet: &D) -> bool {
    packet.node().has_any(feature::SERVICES | feature::MASQUERADE)
}

/// Whether a packet may be for a service, from one, or of a masqueraded connection: what is not has no entry anywhere, but
/// for what a pod sends outside, which [`masquerade`] is for.
#[inline(always)]
pub fn concerns<F: Family, D: Dataplane>(packet: &D, ip: &Ip<F>) -> bool {
    let node = packet.node();
    if !is_on(packet) {
        return false;
    }
    // Later fragments follow what was said of the packet, whoever it was for: of each one the first is noted.
    if ip.fragment != Fragment::No || ip.protocol == F::ICMP {
        return true;
    }
    // The node's own address is called by all that its own services have clients for, too: of it only some ports are of interest.
    let own = ip.dst == F::underlay(node);
    if !own && packet.interesting(interest::address(F::fold(ip.dst))) {
        return true;
    }
    if !family::has_ports(ip.protocol) {
        return own;
    }
    let Some([a, b, c, d]) = packet.at::<Ports>(ip.payload()).copied() else { return false };
    if own {
        let port = u16::from_be_bytes([c, d]);
        // Masqueraded SCTP keeps the ports that it came with: its checksum is a CRC over them.
        if port >= node.answers_first && port <= node.answers_last || ip.protocol == protocol::SCTP {
            return true;
        }
        if packet.interesting(interest::endpoint(F::fold(ip.dst), [c, d], ip.protocol)) {
            return true;
        }
    }
    packet.interesting(interest::endpoint(F::fold(ip.src), [a, b], ip.protocol))
}

/// Translates a packet, if it is of a connection or begins one with a service. `ip` then says
/// what the packet says.
#[inline(always)]
pub fn translate<F, D>(packet: &mut D, ip: &mut Ip<F>, side: Side) -> Step
where
    F: Family,
    D: Dataplane + Connections<F> + Tables<F>,
{
    // Not within the other: that stack is needed, too.
    if tuple::is_icmp_error(packet, ip) {
        return related::translate(packet, ip);
    }
    of_connection(packet, ip, side)
}

#[inline(always)]
fn of_connection<F, D>(packet: &mut D, ip: &mut Ip<F>, side: Side) -> Step
where
    F: Family,
    D: Dataplane + Connections<F> + Tables<F>,
{
    if side == Side::Large {
        // The connection begins once more, as one that this node translates.
        forget(packet, ip);
    }
    let staged = match unknown(packet, ip) {
        Ok(staged) => staged,
        Err(step) => return step,
    };
    if !packet.node().has(feature::SERVICES) {
        return Step::Untouched;
    }
    let step = service::begin::<F, D>(packet, staged, side);
    if step != Step::Begun {
        return step;
    }
    begun(packet, ip, staged)
}

/// Gives a packet from a pod to the outside the node's own address.
#[inline(always)]
pub fn masquerade<F, D>(packet: &mut D, ip: &mut Ip<F>) -> Step
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    let staged = match unknown(packet, ip) {
        Ok(staged) => staged,
        // Its first one left under the node's address, if at all.
        Err(Step::Untouched) if ip.fragment == Fragment::Later => return Step::FragmentUnknown,
        Err(step) => return step,
    };
    reserve::masquerade::<F, D>(packet, staged);
    begun(packet, ip, staged)
}

/// Remembers a connection that comes from outside as it is, so that its answers are not masqueraded.
#[inline(always)]
pub fn inbound<F, D>(packet: &mut D, ip: &mut Ip<F>) -> Step
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    let staged = match unknown(packet, ip) {
        Ok(staged) => staged,
        Err(step) => return step,
    };
    reserve::inbound::<F, D>(packet, staged);
    begun(packet, ip, staged)
}

/// Makes the entries of the connection that is staged, and translates its first packet.
#[inline(always)]
fn begun<F, D>(packet: &mut D, ip: &mut Ip<F>, staged: &mut Staged<F::Addr>) -> Step
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    match reserve::pair::<F, D>(packet, staged) {
        Step::Begun => established::first(packet, ip, staged),
        step => step,
    }
}

/// Gives a packet back the addresses and ports that it came with, so that its source can be told of it.
///
/// The other direction's entry has them; a packet that was not translated has none.
#[inline(always)]
pub fn undo<F, D>(packet: &mut D, ip: &mut Ip<F>)
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    let Some(staged) = workspace::<F, D>(packet) else { return };
    if !tuple::read(packet, ip, &mut staged.key) {
        return;
    }
    staged.key.reverse_into(&mut staged.answer);
    let Some(entry) = Connections::<F>::connection(packet, &staged.answer) else { return };
    entry.becomes().reverse_into(&mut staged.answer);
    rewrite::packet(packet, ip, &staged.key, &staged.answer);
}

/// Forgets the connection of a packet that is not translated.
#[inline(never)]
fn forget<F, D>(packet: &mut D, ip: &Ip<F>)
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    let Some(staged) = workspace::<F, D>(packet) else { return };
    if tuple::read(packet, ip, &mut staged.key) {
        staged.key.reverse_into(&mut staged.answer);
        established::forget::<F, D>(packet, staged);
    }
}

/// Where this CPU works on a connection.
#[inline(always)]
fn workspace<F, D>(packet: &mut D) -> Option<&'static mut Staged<F::Addr>>
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    // SAFETY: each function of this module asks once, and none calls another while it has it.
    unsafe { Connections::<F>::workspace(packet) }
}

/// Translates a packet of a connection that is known. Of one that is not, its tuple is staged.
///
/// # Errors
///
/// What a packet has come to that begins nothing.
#[inline(always)]
fn unknown<F, D>(packet: &mut D, ip: &mut Ip<F>) -> Result<&'static mut Staged<F::Addr>, Step>
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    let Some(staged) = workspace::<F, D>(packet) else { return Err(Step::Untouched) };
    if !tuple::read(packet, ip, &mut staged.key) {
        return Err(nameless(packet, ip));
    }
    if ip.fragment == Fragment::First {
        // Of anybody's: another packet may have had its number before.
        tuple::remember(packet, ip, &staged.key);
    }
    match established::translate(packet, ip, staged) {
        Step::Unknown => Ok(staged),
        step => Err(step),
    }
}

/// A packet that names no connection: a later fragment of nobody knows what. To a service address it is of no use to anybody; to
/// the node's own address it may be anything.
#[inline(always)]
fn nameless<F: Family, D: Dataplane>(packet: &D, ip: &Ip<F>) -> Step {
    let useless = ip.fragment == Fragment::Later && service::owns::<F, D>(packet, ip.dst);
    if useless { Step::FragmentUnknown } else { Step::Untouched }
}
