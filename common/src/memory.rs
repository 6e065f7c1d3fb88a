//! The packet and the tables in memory: what the kernel is to the programs, for tests of the decisions.

mod connections;
mod services;
mod sockets;

use std::{
    boxed::Box,
    cell::RefCell,
    collections::{HashMap, HashSet},
    vec,
    vec::Vec,
};

use bytemuck::Zeroable as _;

pub use self::{connections::ConnectionTable, services::ServiceTables, sockets::SocketTables};
use crate::{
    checksum,
    counters::Reason,
    family::{Family, Ip, walk_extensions},
    flow_cache,
    maps::{Allowed, Budget, Endpoint, Hop, Route, Vtep, capacity},
    nat,
    node::Node,
    packet::{Failed, Helper, Packet},
    stage::{Side, Stage, Step, Taken},
    tables::{Account, Connections, Dataplane, NextHop, Tables, Underlay},
    verdict::Action,
    wire::{ETH_LEN, Wire},
};

/// A packet on a hook of a node, and the node.
///
/// Addresses and prefixes are keyed by their bytes, 4 or 16 of them.
pub struct Memory {
    /// The packet.
    pub bytes: Vec<u8>,
    /// Its length as it came.
    pub received: usize,
    /// The device on whose hook it is.
    pub ifindex: u32,
    /// Whether it has a VLAN tag.
    pub vlan: bool,
    /// Payload bytes per segment, if it is a GSO packet.
    pub gso_size: u32,
    /// The node's facts.
    pub node: &'static Node,
    /// Local pods.
    pub pods: HashMap<Vec<u8>, Endpoint>,
    /// Prefix, its length in bits, its route.
    pub routes: Vec<(Vec<u8>, usize, &'static Route)>,
    /// Peers by underlay address.
    pub vteps: HashMap<Vec<u8>, Vtep>,
    /// Device, prefix, its length in bits, whose it is.
    pub sources: Vec<(u32, Vec<u8>, usize, Allowed)>,
    /// What the node's routing answers to anything.
    pub next_hop: Result<NextHop, Failed>,
    /// What it was asked: destination and UDP source port.
    pub asked: RefCell<Vec<(Vec<u8>, [u8; 2])>>,
    /// What the hook before has decided.
    pub handed: Result<Option<Action>, Failed>,
    /// Whether the packet can be claimed.
    pub claimable: bool,
    /// What every helper that changes the packet's size answers.
    pub refuses: Option<i32>,
    /// Services.
    pub services: ServiceTables,
    /// IPv4 connections.
    pub conntrack4: ConnectionTable<u32>,
    /// IPv6 connections.
    pub conntrack6: ConnectionTable<[u64; 2]>,
    /// What sockets have been given.
    pub resolved: SocketTables,
    /// Tuples that sockets of the node take.
    pub sockets: HashSet<Vec<u8>>,
    /// The time, in ticks.
    pub ticks: u32,
    /// The ways that are remembered.
    pub hops: HashMap<u32, Hop>,
    /// What memories of flows hang on.
    pub epochs: HashMap<u32, u64>,
    /// The time, in jiffies.
    pub now: u64,
    /// What was counted.
    pub counts: Vec<(Reason, usize)>,
    /// What was counted for pods and peers.
    pub accounts: Vec<(Account, usize)>,
    /// Refusals of helpers.
    pub failures: Vec<Failed>,
    /// What is left of the allowance of ICMP errors.
    pub budget: Budget,
}

impl Memory {
    /// A packet without a node around it.
    #[must_use]
    pub fn packet(bytes: &[u8]) -> Self {
        Self {
            bytes: bytes.to_vec(),
            received: bytes.len(),
            ifindex: 1,
            vlan: false,
            gso_size: 0,
            node: Box::leak(Box::new(Node::zeroed())),
            pods: HashMap::new(),
            routes: Vec::new(),
            vteps: HashMap::new(),
            sources: Vec::new(),
            next_hop: Err(Failed { helper: Helper::FibLookup, code: 4 }),
            asked: RefCell::default(),
            handed: Ok(None),
            claimable: true,
            refuses: None,
            services: ServiceTables::default(),
            conntrack4: ConnectionTable::default(),
            conntrack6: ConnectionTable::default(),
            resolved: SocketTables::default(),
            sockets: HashSet::new(),
            ticks: 1000,
            hops: HashMap::new(),
            epochs: HashMap::new(),
            now: 1000,
            counts: Vec::new(),
            accounts: Vec::new(),
            failures: Vec::new(),
            budget: Budget { updated_ns: 0, tokens: 100 },
        }
    }

    /// What is remembered of flows holds no longer, as after anything that the loader changes.
    pub fn expire_flows(&mut self) {
        for index in 0..capacity::EPOCHS {
            *self.epochs.entry(index).or_default() += 1;
        }
    }

    fn resize(&self, helper: Helper) -> Result<(), Failed> {
        self.refuses.map_or(Ok(()), |code| Err(Failed { helper, code }))
    }
}

/// Whether the first `bits` bits are the same.
fn matches_prefix(prefix: &[u8], bits: usize, address: &[u8]) -> bool {
    prefix.len() == address.len()
        && (0..bits).all(|bit| (prefix[bit / 8] ^ address[bit / 8]) & (0x80 >> (bit % 8)) == 0)
}

impl Packet for Memory {
    fn len(&self) -> usize {
        self.bytes.len()
    }

    fn at<T: Wire>(&self, offset: usize) -> Option<&T> {
        let bytes = self.bytes.get(offset..offset.checked_add(size_of::<T>())?)?;
        // SAFETY: the slice has the type's size; a `Wire` type has alignment 1 and is valid for any bytes.
        Some(unsafe { &*bytes.as_ptr().cast() })
    }

    fn at_mut<T: Wire>(&mut self, offset: usize) -> Option<&mut T> {
        let bytes = self.bytes.get_mut(offset..offset.checked_add(size_of::<T>())?)?;
        // SAFETY: as above, and the borrow is exclusive.
        Some(unsafe { &mut *bytes.as_mut_ptr().cast() })
    }

    fn ifindex(&self) -> u32 {
        self.ifindex
    }

    fn has_vlan(&self) -> bool {
        self.vlan
    }

    fn gso_size(&self) -> u32 {
        self.gso_size
    }

    fn word_changed(&mut self, _: [u8; 2], _: [u8; 2]) {}

    fn upper_changed(&mut self, at: usize, addresses: u32, ports: u32, optional: bool) {
        let Some(check) = self.at_mut::<[u8; 2]>(at) else { return };
        *check = checksum::followed(*check, addresses, ports, optional);
    }

    fn addresses_changed(&mut self, _: u32) {}

    fn encapsulate(&mut self, room: usize, _: bool) -> Result<(), Failed> {
        self.resize(Helper::AdjustRoom)?;
        // Not zero: whatever the program does not write would show.
        self.bytes.splice(ETH_LEN..ETH_LEN, vec![0xaa; room]);
        Ok(())
    }

    fn decapsulate(&mut self, room: usize, _: bool) -> Result<(), Failed> {
        self.resize(Helper::AdjustRoom)?;
        self.bytes.drain(ETH_LEN..ETH_LEN + room);
        Ok(())
    }

    fn claim(&mut self) -> bool {
        self.claimable
    }

    fn sum_tail(&self, offset: usize) -> u32 {
        checksum::sum_tail(self, offset)
    }

    fn walk_extensions(&self, payload: usize, protocol: u8) -> u64 {
        walk_extensions(self, payload, protocol)
    }

    fn quote(&mut self, keep: usize, room: usize) -> Result<(), Failed> {
        self.resize(Helper::ChangeTail)?;
        self.bytes.truncate(keep);
        self.bytes.splice(ETH_LEN..ETH_LEN, vec![0xaa; room]);
        Ok(())
    }
}

impl<F: Family> Tables<F> for Memory {
    fn pod(&self, address: &F::Addr) -> Option<Endpoint> {
        self.pods.get(bytemuck::bytes_of(address)).copied()
    }

    fn route(&self, destination: &F::Addr) -> Option<&'static Route> {
        let address = bytemuck::bytes_of(destination);
        let matching = self.routes.iter().filter(|(prefix, bits, _)| matches_prefix(prefix, *bits, address));
        matching.max_by_key(|(_, bits, _)| *bits).map(|(_, _, route)| *route)
    }

    fn vtep(&self, address: &F::Addr) -> Option<Vtep> {
        self.vteps.get(bytemuck::bytes_of(address)).copied()
    }

    fn allowed(&self, ifindex: u32, source: &F::Addr) -> Option<Allowed> {
        let address = bytemuck::bytes_of(source);
        let found = self
            .sources
            .iter()
            .find(|(device, prefix, bits, _)| *device == ifindex && matches_prefix(prefix, *bits, address));
        found.map(|(_, _, _, allowed)| *allowed)
    }

    fn next_hop(&self, query: &Underlay<F>) -> Result<NextHop, Failed> {
        let destination = bytemuck::bytes_of(&query.destination).to_vec();
        self.asked.borrow_mut().push((destination, query.source_port));
        self.next_hop
    }
}

impl<F: Family> Stage<F> for Memory
where
    Self: Connections<F>,
{
    fn translate(&mut self, ip: &mut Ip<F>, side: Side) -> Step {
        nat::translate(self, ip, side)
    }

    fn masquerade(&mut self, ip: &mut Ip<F>) -> Step {
        nat::masquerade(self, ip)
    }

    fn inbound(&mut self, ip: &mut Ip<F>) -> Step {
        nat::inbound(self, ip)
    }

    fn take(&mut self, ip: &mut Ip<F>, side: Side) -> Taken {
        flow_cache::take(self, ip, side)
    }

    fn learn(&mut self, ip: &mut Ip<F>, side: Side) {
        flow_cache::learn(self, ip, side);
    }

    fn undo(&mut self, ip: &mut Ip<F>) {
        nat::undo(self, ip);
    }
}

impl Dataplane for Memory {
    type Done = Action;

    fn received(&self) -> usize {
        self.received
    }

    fn act(&mut self, action: Action) -> Action {
        action
    }

    fn handed(&mut self) -> Result<Option<Action>, Failed> {
        self.handed
    }

    fn node(&self) -> &'static Node {
        self.node
    }

    fn count(&mut self, reason: Reason, bytes: usize) {
        self.counts.push((reason, bytes));
    }

    fn account(&mut self, account: Account, bytes: usize) {
        self.accounts.push((account, bytes));
    }

    fn failed(&mut self, failure: Failed) {
        self.failures.push(failure);
    }

    fn hop(&self, index: u32) -> Option<&'static Hop> {
        Some(Box::leak(Box::new(self.hops.get(&index).copied().unwrap_or_default())))
    }

    fn hop_mut(&mut self, index: u32) -> Option<&mut Hop> {
        Some(self.hops.entry(index).or_default())
    }

    fn epoch(&self, hash: u32) -> u64 {
        self.epochs.get(&(hash % capacity::EPOCHS)).copied().unwrap_or(0)
    }

    fn advance(&mut self, hash: u32) {
        *self.epochs.entry(hash % capacity::EPOCHS).or_default() += 1;
    }

    fn repeat<F: FnMut(&mut Self, u32) -> bool>(&mut self, times: u32, mut turn: F) {
        for index in 0..times {
            if turn(self, index) {
                return;
            }
        }
    }

    fn now(&self) -> u64 {
        self.now
    }

    fn ticks(&self) -> u32 {
        self.ticks
    }

    fn budget(&mut self) -> Option<(&mut Budget, u64)> {
        Some((&mut self.budget, 0))
    }
}
