//! The same decisions in memory, with the same tables.

use common::{
    counters::Hook,
    hooks,
    maps::Budget,
    memory::Memory,
    packet::{Failed, Helper},
    verdict::Action,
};

use super::{
    devices::Hops,
    kept::Kept,
    program::REMEMBERED,
    rig::Input,
    tables::{Tables, octets},
};

/// Runs a packet; the memory afterwards and what was decided.
#[must_use]
pub fn run(tables: &Tables, hops: &Hops, kept: &Kept, input: &Input<'_>) -> (Memory, Action) {
    let unknown = Err(Failed { helper: Helper::FibLookup, code: i32::MIN });
    // Which way is asked for comes out of the decision: a first run finds it out.
    let mut first = memory(tables, kept, input);
    first.next_hop = unknown;
    let action = decide(input.hook, &mut first);
    let Some((asked, _)) = first.asked.borrow().first().cloned() else { return (first, action) };
    let mut second = memory(tables, kept, input);
    let hop = hops.iter().find(|(address, _)| octets(**address) == asked);
    second.next_hop = hop.map_or(unknown, |(_, hop)| *hop);
    let action = decide(input.hook, &mut second);
    (second, action)
}

fn decide(hook: Hook, memory: &mut Memory) -> Action {
    match hook {
        Hook::FromPod => hooks::from_pod(memory),
        Hook::ToPod => hooks::to_pod(memory),
        Hook::FromUplink => hooks::from_uplink(memory),
        Hook::FromHost => hooks::from_host(memory),
        Hook::UplinkXdp => hooks::uplink_xdp(memory),
        Hook::Sock => unreachable!("sockets have no packets"),
    }
}

fn memory(tables: &Tables, kept: &Kept, input: &Input<'_>) -> Memory {
    let mut memory = Memory::packet(input.bytes);
    memory.ifindex = input.ifindex;
    memory.gso_size = input.gso_size;
    memory.refuses = input.refused;
    memory.budget = Budget { updated_ns: u64::MAX, tokens: input.tokens };
    memory.services.clone_from(&tables.services);
    kept.give(&mut memory);
    memory.hops = (0..REMEMBERED).map(|index| (index, input.remembered)).collect();
    memory.node = tables.node;
    memory.pods = tables.pods.iter().map(|(address, pod)| (octets(*address), *pod)).collect();
    memory.vteps = tables.vteps.iter().map(|(address, vtep)| (octets(*address), *vtep)).collect();
    memory.routes = tables
        .routes
        .iter()
        .map(|(prefix, route)| (octets(prefix.addr()), usize::from(prefix.prefix_len()), *route))
        .collect();
    memory.sources = tables
        .sources
        .iter()
        .map(|(device, prefix, allowed)| {
            (*device, octets(prefix.addr()), usize::from(prefix.prefix_len()), *allowed)
        })
        .collect();
    memory
}
