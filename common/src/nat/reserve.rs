//! The entries of a new connection, and its source port.
//!
//! The answers' entry is made first, and only if there is none with its key: that reserves the port, in one step among all
//! CPUs.

use crate::{
    family::{Family, has_ports},
    maps::{Connection, Staged, connection_flag},
    node::Node,
    stage::Step,
    tables::{Connections, Dataplane, Entry, NotMade, Origin},
    wire::protocol,
};

/// How many source ports are tried. With nine tenths of them taken, one connection in 700,000 finds none free.
const TRIES: u32 = 128;

/// What the source of a connection becomes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Itself.
    Client,
    /// The node's loopback address.
    Loopback,
    /// The node's address on the underlay.
    Underlay,
}

/// Stages the connection of the tuple that is staged: what its packets become differs from them in the source so far.
#[inline(always)]
pub fn stage<F, D>(packet: &D, staged: &mut Staged<F::Addr>, source: Source, origin: &Origin)
where
    F: Family,
    D: Dataplane,
{
    let node = packet.node();
    let (src, flags) = match source {
        Source::Client => (staged.key.src, 0),
        Source::Loopback => (F::loopback(node), 0),
        Source::Underlay => (F::underlay(node), connection_flag::MASQUERADED),
    };
    fill(&mut staged.connection, origin, packet.ticks(), flags);
    let becomes = &mut staged.connection.becomes;
    *becomes = staged.key;
    becomes.src = src;
}

/// Stages a connection from a pod to the outside.
#[inline(always)]
pub fn masquerade<F: Family, D: Dataplane>(packet: &D, staged: &mut Staged<F::Addr>) {
    stage::<F, D>(packet, staged, Source::Underlay, &Origin::NONE);
}

/// Stages a connection that is left as it is.
#[inline(always)]
pub fn inbound<F: Family, D: Dataplane>(packet: &D, staged: &mut Staged<F::Addr>) {
    stage::<F, D>(packet, staged, Source::Client, &Origin::NONE);
    staged.connection.flags = connection_flag::INBOUND;
}

/// Stages a connection that the backend's node translates.
#[inline(always)]
pub fn hand_on<F: Family, D: Dataplane>(packet: &D, staged: &mut Staged<F::Addr>, origin: &Origin) {
    stage::<F, D>(packet, staged, Source::Client, origin);
    staged.connection.flags = connection_flag::HANDED_ON;
}

#[inline(always)]
fn fill<A>(connection: &mut Connection<A>, origin: &Origin, now: u32, flags: u32) {
    connection.packets = 0;
    connection.bytes = 0;
    connection.seen = now;
    connection.flags = flags;
    connection.service = origin.service;
    connection.service_generation = origin.service_generation;
    connection.backend = origin.backend;
    connection.backend_generation = origin.backend_generation;
}

/// Makes both entries of the connection that is staged, with a source port that no other connection has.
#[inline(never)]
pub fn pair<F, D>(packet: &mut D, staged: &mut Staged<F::Addr>) -> Step
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    let Staged { key, connection, answer, answers, .. } = staged;
    *answers = *connection;
    answers.flags |= connection_flag::REPLY;
    key.reverse_into(&mut answers.becomes);
    connection.becomes.reverse_into(answer);
    let step = reserve_port::<F, D>(packet, staged);
    if step != Step::Begun {
        return step;
    }
    if Connections::<F>::insert(packet, &staged.key, &staged.connection, true).is_err() {
        Connections::<F>::forget(packet, &staged.answer);
        return Step::ConntrackFull;
    }
    Step::Begun
}

/// Makes the answers' entry, with the first source port that is free.
#[inline(always)]
fn reserve_port<F, D>(packet: &mut D, staged: &mut Staged<F::Addr>) -> Step
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    let node = packet.node();
    let protocol = staged.key.protocol;
    let own = u16::from_be_bytes(staged.key.src_port);
    let masqueraded = staged.connection.flags & connection_flag::MASQUERADED != 0;
    // The identifier of an echo reply is what was asked with.
    let request = protocol == F::ICMP && staged.key.dst_port == [0; 2];
    let fixed = !(has_ports(protocol) || request) || protocol == protocol::SCTP;
    // The node's own sockets have the ports below.
    let keep = fixed || !masqueraded || (own >= node.ports_first && own <= node.ports_last);
    let random = packet.random();
    let mut outcome = TAKEN;
    let claimed = &mut outcome;
    // Moved: of what is borrowed, the stack has a pointer besides.
    packet.repeat(TRIES, move |packet, attempt| {
        if attempt > 0 || !keep {
            let port = port(packet.node(), random, attempt);
            staged.connection.becomes.src_port = port;
            staged.answer.dst_port = port;
        }
        *claimed = claim::<F, D>(packet, staged, masqueraded);
        *claimed != TAKEN || fixed
    });
    match outcome {
        CLAIMED => Step::Begun,
        FULL => Step::ConntrackFull,
        _ => Step::PortsExhausted,
    }
}

/// The port that is tried at that attempt, network byte order: a walk over the whole range, from anywhere, in steps of its
/// golden section, so that however few attempts there are and however small the range is, they lie far apart.
#[inline(always)]
fn port(node: &Node, random: u32, attempt: u32) -> [u8; 2] {
    /// 2^16 divided by the golden ratio, an odd number: every one of 2^16 attempts is another.
    const STEP: u32 = 40503;
    let first = u32::from(node.ports_first);
    let span = u32::from(node.ports_last).wrapping_sub(first).wrapping_add(1);
    let nth = random.wrapping_add(attempt.wrapping_mul(STEP)) & 0xffff;
    (first.wrapping_add(nth.wrapping_mul(span) >> 16) as u16).to_be_bytes()
}

/// What a claim came to, as a BPF function returns it.
const CLAIMED: u32 = 0;
const TAKEN: u32 = 1;
const FULL: u32 = 2;

/// Makes the answers' entry, if its port is free.
#[inline(always)]
fn claim<F, D>(packet: &mut D, staged: &mut Staged<F::Addr>, masqueraded: bool) -> u32
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    let Staged { answer, answers, .. } = staged;
    if masqueraded && Connections::<F>::has_socket(packet, answer) {
        return TAKEN;
    }
    let mut made = Connections::<F>::insert(packet, answer, answers, false);
    if made == Err(NotMade::Exists)
        && Connections::<F>::connection(packet, answer)
            .is_some_and(|entry| *entry.becomes() == answers.becomes)
    {
        // What is left of this very connection, its other entry being gone.
        made = Connections::<F>::insert(packet, answer, answers, true);
    }
    match made {
        Ok(()) => CLAIMED,
        Err(NotMade::Exists) => TAKEN,
        Err(NotMade::Full) => FULL,
    }
}

/// Sees to it that the other direction has its entry, too (SN-3): the one with the staged tuple is `entry`.
#[inline(never)]
pub fn heal<F, D>(packet: &mut D, staged: &mut Staged<F::Addr>, entry: Entry<F::Addr>)
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    const LASTING: u32 = connection_flag::INBOUND | connection_flag::MASQUERADED | connection_flag::HANDED_ON;
    let Staged { key, answer, answers, .. } = staged;
    entry.becomes().reverse_into(answer);
    if Connections::<F>::connection(packet, answer).is_some() {
        return;
    }
    let flags = entry.flags();
    let direction = !flags & connection_flag::REPLY;
    fill(answers, &entry.origin(), packet.ticks(), (flags & LASTING) | direction);
    key.reverse_into(&mut answers.becomes);
    // Full: the next tick tries again.
    let _ = Connections::<F>::insert(packet, answer, answers, false);
}
