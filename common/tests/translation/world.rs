//! A node that serves, and who talks by way of it.

use std::net::IpAddr;

use common::{
    counters::{Hook, Outcome, Reason},
    hooks,
    memory::Memory,
    verdict::Action,
};
use proptest::prelude::*;

use crate::{
    cluster::{
        Here, mac, memory, pod,
        serving::{self, BACKENDS},
        underlay,
    },
    message::{Message, Upper},
};

/// Who sends or gets packets, seen from node 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Party {
    /// One of the backends, by number.
    Backend(usize),
    /// Outside the cluster.
    Outside,
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Called {
    /// The service by its own address.
    Service,
    /// The service by a port of the node.
    NodePort,
    /// Somebody outside.
    Outside,
}

/// Who calls what: a pod anything, an outsider the node.
pub fn call() -> impl Strategy<Value = (Party, Called)> {
    prop_oneof![
        3 => Just((Party::Backend(0), Called::Service)),
        1 => Just((Party::Backend(0), Called::NodePort)),
        2 => Just((Party::Backend(0), Called::Outside)),
        2 => Just((Party::Outside, Called::NodePort)),
    ]
}

impl Party {
    /// Its address.
    pub fn address(self, v6: bool) -> IpAddr {
        match self {
            Self::Backend(nth) => ip(&pod(v6, BACKENDS[nth].0, BACKENDS[nth].1)),
            Self::Outside => ip(&pod(v6, 200, 1)),
        }
    }

    /// Whose address that is.
    pub fn of(address: IpAddr) -> Self {
        let mut backends = (0..BACKENDS.len()).map(Self::Backend);
        backends.find(|party| party.address(address.is_ipv6()) == address).unwrap_or(Self::Outside)
    }
}

impl Called {
    /// Its address and port.
    pub fn place(self, v6: bool) -> (IpAddr, u16) {
        match self {
            Self::Service => (ip(&serving::address(v6)), serving::PORT),
            Self::NodePort => (ip(&underlay(v6, 0)), serving::NODE_PORT),
            Self::Outside => (Party::Outside.address(v6), 53),
        }
    }
}

/// An address.
pub fn ip(bytes: &[u8]) -> IpAddr {
    match bytes {
        [a, b, c, d] => [*a, *b, *c, *d].into(),
        _ => <[u8; 16]>::try_from(bytes).unwrap().into(),
    }
}

/// What became of a packet.
#[derive(Clone, Debug)]
pub struct Fate {
    /// What it was counted as.
    pub reason: Reason,
    /// The IP packet that went on, out of any tunnel; nothing if it was dropped.
    pub packet: Option<Vec<u8>>,
}

impl Fate {
    /// What the packet says that went on.
    pub fn message(&self) -> Option<Message> {
        self.packet.as_deref().map(Message::read)
    }
}

/// The node.
pub struct World {
    /// Its tables.
    pub memory: Memory,
    v6: bool,
}

impl World {
    /// Whose packets are of that family.
    pub fn new(v6: bool) -> Self {
        let here = Here { serving: true, ..Here::default() };
        Self { memory: memory(&here, 0, &[]), v6 }
    }

    /// An IP packet that comes from somebody.
    pub fn send(&mut self, from: Party, packet: &[u8]) -> Fate {
        let frame = ethernet(packet);
        let (hook, ifindex, bytes) = match from {
            Party::Backend(nth @ (0 | 1)) => (Hook::FromPod, 10 + u32::try_from(nth).unwrap(), frame),
            Party::Backend(2) => (Hook::FromUplink, 5, tunnelled(&frame)),
            _ => (Hook::FromUplink, 5, frame),
        };
        self.run(hook, ifindex, bytes)
    }

    /// A message that comes from somebody.
    pub fn say(&mut self, from: Party, message: &Message) -> Fate {
        self.send(from, &message.packet(64, 0))
    }

    /// A message from outside to another node, which hands it on to this one.
    pub fn hand_on(&mut self, message: &Message) -> Fate {
        let frame = ethernet(&message.packet(64, 0));
        self.run(Hook::FromUplink, 5, tunnelled(&frame))
    }

    /// How many packets of a message's connection have been counted since it began.
    pub fn packets(&self, message: &Message) -> u64 {
        let memory = &self.memory;
        let of = |port: [u8; 2], packets: u64| (port == message.src.1.to_be_bytes()).then_some(packets);
        let found: Option<u64> = if self.v6 {
            memory.conntrack6.entries().iter().find_map(|(key, entry)| of(key.src_port, entry.packets))
        } else {
            memory.conntrack4.entries().iter().find_map(|(key, entry)| of(key.src_port, entry.packets))
        };
        found.unwrap_or_default()
    }

    fn run(&mut self, hook: Hook, ifindex: u32, bytes: Vec<u8>) -> Fate {
        let memory = &mut self.memory;
        memory.received = bytes.len();
        memory.bytes = bytes;
        memory.ifindex = ifindex;
        memory.counts.clear();
        memory.accounts.clear();
        let action = match hook {
            Hook::FromPod => hooks::from_pod(memory),
            _ => hooks::from_uplink(memory),
        };
        let mut counted = memory.counts.iter().map(|(reason, _)| *reason);
        let reason = counted.rfind(|reason| reason.outcome() != Outcome::Generated).unwrap();
        let packet = (action != Action::Drop).then(|| {
            let frame = &memory.bytes;
            // Nobody but the two nodes talks between their addresses.
            let ends = [underlay(false, 0), underlay(false, 1)].concat();
            frame[if frame[26..34] == ends { 64 } else { 14 }..].to_vec()
        });
        Fate { reason, packet }
    }

    /// The family of its packets.
    pub const fn v6(&self) -> bool {
        self.v6
    }
}

fn ethernet(packet: &[u8]) -> Vec<u8> {
    let ether_type = if packet[0] >> 4 == 6 { [0x86, 0xdd] } else { [8, 0] };
    [&mac(0)[..], &mac(1), &ether_type, packet].concat()
}

fn tunnelled(inner: &[u8]) -> Vec<u8> {
    let outer = Message {
        src: (ip(&underlay(false, 1)), 50_000),
        dst: (ip(&underlay(false, 0)), 8472),
        upper: Upper::Udp { checksum: false },
        payload: [&[8, 0, 0, 0, 0, 0, 1, 0], inner].concat(),
    };
    [&mac(0)[..], &mac(1), &[8, 0], &outer.packet(64, 0)].concat()
}
