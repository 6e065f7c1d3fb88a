//! What packets leave behind for the next ones: connections, flows, affinity, cut packets.

use std::{
    collections::{BTreeMap, HashMap},
    ops::Range,
};

use common::{
    maps::{Affinity, Client, Connection, Flow, FlowSet, FragmentKey, FragmentPorts, Tuple},
    memory::Memory,
};

/// Entries of a connection table.
type Entries<A> = Vec<(Tuple<A>, Connection<A>)>;

/// The model's, from run to run.
#[derive(Default)]
pub struct Kept {
    connections4: Entries<u32>,
    connections6: Entries<[u64; 2]>,
    /// By index.
    pub flows4: BTreeMap<u32, FlowSet<u32>>,
    /// By index.
    pub flows6: BTreeMap<u32, FlowSet<[u64; 2]>>,
    epochs: HashMap<u32, u64>,
    affinity: HashMap<Client, Affinity>,
    fragments: HashMap<FragmentKey, FragmentPorts>,
}

impl Kept {
    /// Gives a run what the ones before have left.
    pub fn give(&self, memory: &mut Memory) {
        for (key, connection) in &self.connections4 {
            memory.conntrack4.insert(*key, *connection);
        }
        for (key, connection) in &self.connections6 {
            memory.conntrack6.insert(*key, *connection);
        }
        for (index, flows) in &self.flows4 {
            memory.conntrack4.remember(*index, *flows);
        }
        for (index, flows) in &self.flows6 {
            memory.conntrack6.remember(*index, *flows);
        }
        memory.epochs.clone_from(&self.epochs);
        memory.services.affinity.clone_from(&self.affinity);
        memory.services.fragments.clone_from(&self.fragments);
    }

    /// Nothing that is remembered of flows of those epochs holds any more.
    pub fn expire_flows(&mut self, of: Range<u32>) {
        for index in of {
            *self.epochs.entry(index).or_default() += 1;
        }
    }

    /// Takes what a run has left.
    pub fn take(&mut self, memory: &Memory) {
        self.connections4 = memory.conntrack4.entries();
        self.connections6 = memory.conntrack6.entries();
        self.flows4 = memory.conntrack4.flows();
        self.flows6 = memory.conntrack6.flows();
        self.epochs.clone_from(&memory.epochs);
        self.affinity.clone_from(&memory.services.affinity);
        self.fragments.clone_from(&memory.services.fragments);
    }
}

/// An entry of the connection table as a line: everything in it but when it was last seen.
#[must_use]
pub fn line<A: bytemuck::NoUninit + Copy>(key: &Tuple<A>, connection: &Connection<A>) -> String
where
    Tuple<A>: bytemuck::NoUninit,
{
    let Connection {
        becomes,
        packets,
        bytes,
        flags,
        service,
        service_generation,
        backend,
        backend_generation,
        ..
    } = connection;
    format!(
        "{:02x?} becomes {:02x?}: {packets} packets, {bytes} bytes, flags {flags:#x}, service {service} \
         ({service_generation}), backend {backend} ({backend_generation})",
        bytemuck::bytes_of(key),
        bytemuck::bytes_of(becomes),
    )
}

/// An element of what is remembered of flows, a line for each flow that was ever written.
#[must_use]
pub fn flow_lines<A: bytemuck::NoUninit + Copy>(index: u32, flows: &FlowSet<A>) -> Vec<String>
where
    Tuple<A>: bytemuck::NoUninit,
{
    let line = |(way, flow)| flow_line(flow).map(|line| format!("flow {index}.{way}, {line}"));
    flows.ways.iter().enumerate().filter_map(line).collect()
}

/// A flow as a line: everything in it but until when; none of one that was never written.
fn flow_line<A: bytemuck::NoUninit + Copy>(flow: &Flow<A>) -> Option<String>
where
    Tuple<A>: bytemuck::NoUninit,
{
    let Flow { key, becomes, until, epoch, packets, bytes, to, addresses, side, outcome } = flow;
    let (key, becomes) = (bytemuck::bytes_of(key), bytemuck::bytes_of(becomes));
    key.iter().any(|byte| *byte != 0).then(|| {
        let holds = if *until == 0 { "over" } else { "holds" };
        format!(
            "{holds}: {key:02x?} becomes {becomes:02x?} ({addresses:x}): {packets} packets, {bytes} bytes, from {side} \
             to {outcome} {to:08x?}, epoch {epoch}",
        )
    })
}
