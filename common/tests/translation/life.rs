//! The life of one connection to a service whose backends come and go.

use common::{
    counters::Reason,
    flow_cache,
    maps::{Connection, Route, Tuple, backend_state, connection_flag},
    memory::ConnectionTable,
    tables::{Neighbour, NextHop},
};
use proptest::prelude::*;

use crate::{
    cases,
    cluster::{
        pod,
        serving::{self, BACKENDS},
    },
    message::{Message, Upper, flag},
    world::{Called, Party, World, ip},
};

/// What happens.
#[derive(Clone, Copy, Debug)]
enum Event {
    /// The client sends.
    Client(u8),
    /// The backend that it last reached answers.
    Answer(u8),
    /// Both talk for so long that the ways of their flows are remembered.
    Talk,
    /// A backend gets another state.
    State(usize, u8),
    /// So many ticks pass, or only as long as a flow is remembered for.
    Wait(u32),
    /// The table loses one direction's entries.
    Lose {
        /// Which.
        answers: bool,
    },
}

fn event() -> impl Strategy<Value = Event> {
    let flags = || {
        proptest::sample::select(vec![
            flag::SYN,
            flag::ACK,
            flag::ACK,
            flag::ACK,
            flag::FIN | flag::ACK,
            flag::RST,
        ])
    };
    prop_oneof![
        6 => flags().prop_map(Event::Client),
        4 => flags().prop_map(|flags| Event::Answer(if flags == flag::SYN { flag::SYN | flag::ACK } else { flags })),
        2 => Just(Event::Talk),
        2 => (0..BACKENDS.len(), 0_u8..4).prop_map(|(nth, state)| Event::State(nth, state)),
        1 => (0_u32..4).prop_map(Event::Wait),
        1 => any::<bool>().prop_map(|answers| Event::Lose { answers }),
    ]
}

/// What is known of the connection.
#[derive(Default)]
struct Known {
    /// Whom its last packet reached, if he has not gone since.
    backend: Option<usize>,
    /// The client, or the backend, has sent a FIN; or a RST, and nothing since.
    closed: [u8; 2],
    /// Whom it had has gone, and the client's entry still names him.
    cut: bool,
    /// The client's entry is lost.
    lost: bool,
    /// The answers' entry is lost.
    answers_lost: bool,
    /// A tick has passed since each direction's last packet, and its entry was made.
    rested: [bool; 2],
}

impl Known {
    /// One end sends a TCP segment.
    fn sends(&mut self, end: usize, flags: u8) {
        let fin = self.closed[end] & flag::FIN;
        self.closed[end] = fin | flags & if flags & flag::RST == 0 { flag::FIN } else { flag::RST };
    }
}

struct Life {
    world: World,
    tcp: bool,
    known: Known,
}

impl Life {
    fn message(&self, flags: u8) -> Message {
        let v6 = self.world.v6();
        let upper = if self.tcp { Upper::Tcp(flags) } else { Upper::Udp { checksum: true } };
        Message {
            src: (Party::Backend(0).address(v6), 40_000),
            dst: Called::Service.place(v6),
            upper,
            payload: vec![1, 2, 3],
        }
    }

    fn state(&self, nth: usize) -> u8 {
        self.world.memory.services.backends[&serving::backend(self.world.v6(), nth)].state
    }

    /// Who may be given a new connection.
    fn eligible(&self) -> Vec<usize> {
        let in_state =
            |state| (0..BACKENDS.len()).filter(|nth| self.state(*nth) == state).collect::<Vec<_>>();
        let ready = in_state(backend_state::READY);
        if ready.is_empty() { in_state(backend_state::TERMINATING) } else { ready }
    }

    fn happens(&mut self, event: Event) -> Result<(), TestCaseError> {
        match event {
            Event::Client(flags) => self.client(flags)?,
            Event::Answer(flags) => self.answer(flags)?,
            Event::Talk => {
                for _ in 0..=flow_cache::STEADY {
                    self.client(flag::ACK)?;
                    self.answer(flag::ACK)?;
                }
            }
            Event::State(nth, state) => self.becomes(nth, state),
            Event::Wait(ticks) => {
                self.world.memory.ticks += ticks;
                self.world.memory.now += flow_cache::FRESH;
                if ticks > 0 {
                    self.known.rested = [true; 2];
                }
            }
            Event::Lose { answers } => {
                let memory = &mut self.world.memory;
                lose(&mut memory.conntrack4, answers);
                lose(&mut memory.conntrack6, answers);
                // Nobody tells of it: it is noticed a moment later.
                memory.now += flow_cache::FRESH;
                self.known.cut &= answers;
                *(if answers { &mut self.known.answers_lost } else { &mut self.known.lost }) = true;
                self.known.closed[usize::from(answers)] = 0;
            }
        }
        pairs_agree(&self.world.memory.conntrack4)?;
        pairs_agree(&self.world.memory.conntrack6)
    }

    /// As the loader does it: the table of choices first, then who has gone; at last, what is remembered of flows ends.
    fn becomes(&mut self, nth: usize, state: u8) {
        let v6 = self.world.v6();
        let tables = &mut self.world.memory.services;
        if let Some(backend) = tables.backends.get_mut(&serving::backend(v6, nth)) {
            backend.state = state;
            if state == backend_state::GONE {
                backend.generation += 1;
            }
        }
        serving::select(tables, v6);
        self.world.memory.expire_flows();
        if state == backend_state::GONE && self.known.backend == Some(nth) {
            self.known.backend = None;
            self.known.cut = !self.known.lost;
        }
    }

    fn client(&mut self, flags: u8) -> Result<(), TestCaseError> {
        let sent = self.message(flags);
        let fate = self.world.say(Party::Backend(0), &sent);
        let known = &self.known;
        let eligible = self.eligible();
        let opens = self.tcp && flags == flag::SYN;
        if self.tcp && !opens && known.cut {
            prop_assert_eq!(fate.reason, Reason::BackendGone, "a segment is no use to another backend");
        }
        let Some(got) = fate.message() else {
            match fate.reason {
                // Whom it had has gone.
                Reason::BackendGone => prop_assert!(self.tcp && !opens && known.backend.is_none()),
                reason => prop_assert!(reason == Reason::NoBackend && eligible.is_empty(), "{reason:?}"),
            }
            self.known = Known::default();
            return Ok(());
        };
        if fate.reason == Reason::NoBackend {
            prop_assert!(eligible.is_empty());
            self.known = Known::default();
            return Ok(());
        }
        if fate.reason == Reason::BackendGone {
            // Told by a reset.
            prop_assert!(self.tcp && !opens && known.backend.is_none());
            self.known = Known::default();
            return Ok(());
        }
        let Party::Backend(nth) = Party::of(got.dst.0) else { panic!("{got:?} reached nobody") };
        prop_assert!(
            self.state(nth) != backend_state::GONE,
            "a packet reached backend {} that has gone",
            nth
        );
        match known.backend.filter(|_| !known.lost) {
            Some(before) if self.stays(before, opens) => {
                prop_assert_eq!(nth, before, "a live connection was moved");
                if known.rested[0] && known.answers_lost {
                    self.known.answers_lost = false;
                    self.known.rested[1] = false;
                }
            }
            before => {
                prop_assert!(
                    eligible.contains(&nth) || before == Some(nth),
                    "backend {nth} is not to have new connections"
                );
                let fresh = before != Some(nth) || opens;
                if fresh {
                    self.known = Known::default();
                }
            }
        }
        if !self.tcp {
            prop_assert!(
                self.state(nth) != backend_state::NOT_READY,
                "UDP reached a backend that is not ready"
            );
        }
        self.known.backend = Some(nth);
        self.known.lost = false;
        self.known.rested[0] = false;
        self.known.sends(0, flags);
        Ok(())
    }

    /// Whether what the client sends must go to whom it went before.
    fn stays(&self, before: usize, opens: bool) -> bool {
        match (self.tcp, opens) {
            (true, false) => true,
            (true, true) => self.state(before) == backend_state::READY && self.known.closed == [0; 2],
            (false, _) => self.state(before) != backend_state::NOT_READY,
        }
    }

    fn answer(&mut self, flags: u8) -> Result<(), TestCaseError> {
        let Some(nth) = self.known.backend else { return Ok(()) };
        let v6 = self.world.v6();
        let sent = self.message(flag::ACK);
        // Whom the client knows as itself, a backend knows as the node's loopback address.
        let client = if nth == 0 { (ip(&pod(v6, 0, 0)), 40_000) } else { sent.src };
        let backend = (Party::Backend(nth).address(v6), serving::BACKEND_PORT);
        let mut answer = Message { src: backend, dst: client, ..sent.clone() };
        if self.tcp {
            answer.upper = Upper::Tcp(flags);
        }
        let fate = self.world.say(Party::Backend(nth), &answer);
        if self.known.answers_lost {
            return Ok(());
        }
        let got = fate.message();
        prop_assert!(got.is_some(), "{:?}", fate.reason);
        let got = got.unwrap();
        prop_assert_eq!((got.src, got.dst), (sent.dst, sent.src), "an answer from whom nobody called");
        if self.known.rested[1] {
            // The answers' entry has made the other one anew.
            if self.known.lost {
                self.known.lost = false;
                self.known.rested[0] = false;
            }
            self.known.rested[1] = false;
        }
        self.known.sends(1, flags);
        Ok(())
    }
}

/// Loses the entries of one direction.
fn lose<A: Copy + Eq + std::hash::Hash + Ord>(table: &mut ConnectionTable<A>, answers: bool) {
    for (key, entry) in table.entries() {
        if (entry.flags & connection_flag::REPLY != 0) == answers {
            table.remove(&key);
        }
    }
}

/// Both directions' entries say the same of their connection, where both are there.
fn pairs_agree<A>(table: &ConnectionTable<A>) -> Result<(), TestCaseError>
where
    A: Copy + Eq + std::hash::Hash + Ord + std::fmt::Debug,
{
    for (key, entry) in table.entries() {
        let Some(answers) = table.get(&entry.becomes.reverse()) else { continue };
        let origin = |entry: &Connection<A>| {
            (entry.service, entry.service_generation, entry.backend, entry.backend_generation)
        };
        let back: Tuple<A> = answers.becomes.reverse();
        // One that was left behind by a connection that moved may have been taken over by nobody.
        if back == key {
            prop_assert_eq!(origin(&entry), origin(&answers), "the halves of {:?} disagree", key);
            prop_assert_ne!(entry.flags & connection_flag::REPLY, answers.flags & connection_flag::REPLY);
        }
    }
    Ok(())
}

/// Packets and ticks that the client's entry says, and what its flow has been counted beyond that.
fn counted(world: &World) -> (u64, u32, u32) {
    let entries = world.memory.conntrack4.entries();
    let is_clients = |entry: &&(_, Connection<u32>)| entry.1.flags & connection_flag::REPLY == 0;
    let (key, entry) = entries.iter().find(is_clients).unwrap();
    let flows = world.memory.conntrack4.flows();
    let flow = flows.values().flat_map(|set| &set.ways).find(|flow| flow.key == *key).unwrap();
    (entry.packets, entry.seen, flow.packets)
}

/// Long talk over TCP with one of the other backends.
fn talk_without(gone: &[usize]) -> Life {
    let mut life = Life { world: World::new(false), tcp: true, known: Known::default() };
    for &nth in gone {
        life.happens(Event::State(nth, backend_state::GONE)).unwrap();
    }
    life.happens(Event::Client(flag::SYN)).unwrap();
    life.happens(Event::Talk).unwrap();
    life
}

/// What a flow has been counted has no room for more than so much, and its connection is told before.
#[test]
fn a_flow_of_many_bytes_tells_its_connection() {
    let mut life = talk_without(&[2, 3]);
    let (packets, _, beyond) = counted(&life.world);
    for (index, mut set) in life.world.memory.conntrack4.flows() {
        for flow in &mut set.ways {
            flow.bytes = 1 << 31;
        }
        life.world.memory.conntrack4.remember(index, set);
    }
    life.happens(Event::Client(flag::ACK)).unwrap();
    assert_eq!(counted(&life.world).0, packets + u64::from(beyond) + 1);
    let entries = life.world.memory.conntrack4.entries();
    assert!(entries.iter().any(|(_, entry)| entry.bytes > 1 << 31), "its connection does not know");
}

/// What a peer's route says besides the way is followed as soon as what was remembered is over, though the way itself has not changed.
#[test]
fn a_changed_route_is_followed_at_once() {
    // To the backend behind the tunnel.
    let mut life = talk_without(&[0, 1, 3]);
    let memory = &mut life.world.memory;
    for (.., route) in &mut memory.routes {
        *route = Box::leak(Box::new(Route { vtep_mac: [0xee; 6], ..**route }));
    }
    memory.expire_flows();
    for short in [0, 1] {
        life.happens(Event::Client(flag::ACK)).unwrap();
        assert_eq!(counted(&life.world).2, short, "packets that went the short way");
        assert_eq!(life.world.memory.bytes[50..56], [0xee; 6], "the VTEP's MAC");
    }
}

/// A peer at another address, whose neighbour is not known yet: nothing goes to the address that it has left.
#[test]
fn a_peer_that_has_moved_is_followed_at_once() {
    let mut life = talk_without(&[0, 1, 3]);
    let memory = &mut life.world.memory;
    for (.., route) in &mut memory.routes {
        let mut underlay = route.underlay;
        underlay[2] = 99;
        *route = Box::leak(Box::new(Route { underlay, ..**route }));
    }
    memory.next_hop = Ok(NextHop { ifindex: 5, neighbour: Neighbour::unknown([7; 4], false) });
    memory.expire_flows();
    let message = life.message(flag::ACK);
    for _ in 0..3 {
        life.world.say(Party::Backend(0), &message);
        assert_eq!(life.world.memory.bytes[30..34], [10, 240, 99, 21], "where the tunnel leads");
    }
}

/// A flow's connection is told of it when its time is over; a packet goes the long way then, and the flow is remembered anew.
#[test]
fn a_flow_goes_on_and_its_connection_knows() {
    // To a pod of this node: the way to a peer has a time of its own.
    let mut life = talk_without(&[2, 3]);
    let (packets, tick, beyond) = counted(&life.world);
    assert!(beyond > 0, "it is not remembered");
    life.happens(Event::Wait(1)).unwrap();
    life.happens(Event::Client(flag::ACK)).unwrap();
    let all = packets + u64::from(beyond) + 1;
    assert_eq!(counted(&life.world), (all, tick + 1, 0), "its connection does not know");
    life.happens(Event::Client(flag::ACK)).unwrap();
    assert_eq!(counted(&life.world), (all, tick + 1, 1), "it is not remembered anew");
    life.happens(Event::Client(flag::FIN | flag::ACK)).unwrap();
    assert_eq!(counted(&life.world), (all + 2, tick + 1, 0), "who has sent a FIN did not go the long way");
}

proptest! {
    #![proptest_config(cases(4000))]

    /// SV-3, SV-5, SV-6, CT-2, CT-3, CT-4, SN-3: a live connection keeps its backend, a packet never reaches one that has gone, and an
    /// entry that is lost is made anew from the other.
    #[test]
    fn a_connection_keeps_its_backend_while_it_lives(
        v6 in any::<bool>(),
        tcp in any::<bool>(),
        events in proptest::collection::vec(event(), 1..60),
    ) {
        let mut life = Life { world: World::new(v6), tcp, known: Known::default() };
        for event in events {
            life.happens(event)?;
        }
    }
}
