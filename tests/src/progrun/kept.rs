//! What packets leave behind for the next ones: connections, affinity, cut packets.

use std::collections::HashMap;

use common::{
    maps::{Affinity, Client, Connection, FragmentKey, FragmentPorts, Tuple},
    memory::Memory,
};

/// Entries of a connection table.
type Entries<A> = Vec<(Tuple<A>, Connection<A>)>;

/// The model's, from run to run.
#[derive(Default)]
pub struct Kept {
    connections4: Entries<u32>,
    connections6: Entries<[u64; 2]>,
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
        memory.services.affinity.clone_from(&self.affinity);
        memory.services.fragments.clone_from(&self.fragments);
    }

    /// Takes what a run has left.
    pub fn take(&mut self, memory: &Memory) {
        self.connections4 = memory.conntrack4.entries();
        self.connections6 = memory.conntrack6.entries();
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
