//! Programs that have run for one test run for the next: nothing of the first is to be seen.

use std::{collections::BTreeMap, sync::Mutex};

use anyhow::{Context as _, Result, anyhow, ensure};
use aya::Ebpf;
use common::{counters::Hook, maps::name, node::feature};
use testbed::{
    bpf_map::{Bytes, Entry, has_entries},
    frame::Ip,
    progrun::{self, Family},
    require, setup,
};

use crate::services::{services, vip};

/// All that is in the maps, by name.
fn contents(ebpf: &Ebpf) -> Result<BTreeMap<String, Vec<Entry>>> {
    ebpf.maps()
        .filter(|(_, map)| has_entries(map))
        .map(|(name, map)| {
            let entries = Bytes::of(map).and_then(|map| map.entries());
            Ok((name.to_owned(), entries.with_context(|| format!("read map {name}"))?))
        })
        .collect()
}

/// Puts something into each map that does not belong there.
fn spoil(ebpf: &Ebpf) -> Result<()> {
    for name in name::ALL {
        // Keys of these begin with the length of a prefix in bits.
        let prefix = match name {
            name::ROUTES4 => Some(4 + 4),
            name::ROUTES6 => Some(4 + 16),
            name::SOURCES4 => Some(4 + 8),
            name::SOURCES6 | name::SOURCE_RANGES => Some(4 + 20),
            _ => None,
        };
        let key = prefix.map(|length| [&8_u32.to_ne_bytes()[..], &vec![0x5a; length - 4]].concat());
        let map = ebpf.map(name).with_context(|| format!("no map {name}"))?;
        if !has_entries(map) {
            continue;
        }
        Bytes::of(map)?.spoil(key.as_deref()).with_context(|| format!("spoil map {name}"))?;
    }
    Ok(())
}

/// Whatever was in whichever map, afterwards each holds what it does in programs that were just loaded.
#[test]
fn maps_are_for_the_next_test_as_they_were_for_the_first() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        let [here, _] = node.pods();
        let anew = contents(&node.anew()?)?;
        ensure!(contents(node.ebpf())? == anew, "a test does not begin with maps as they are loaded");

        // What programs leave: connections, counts, errors sent.
        for family in Family::BOTH {
            let ip = Ip::new(here.address(family), vip(family));
            node.from_pod(here, &here.sends(&ip.tcp((4000, 80), 2)))?;
            node.from_pod(here, &here.sends(&ip.tcp((4000, 9999), 2)))?;
        }
        let used = contents(node.ebpf())?;
        for name in [name::CONNTRACK4, name::CONNTRACK6, name::COUNTERS, name::POD_TRAFFIC] {
            ensure!(used[name] != anew[name], "nothing was left in {name}: this test shows nothing");
        }
        spoil(node.ebpf())?;
        let spoilt = contents(node.ebpf())?;
        for name in name::ALL.into_iter().filter(|name| anew.contains_key(*name)) {
            ensure!(spoilt[name] != anew[name], "{name} was not spoilt: this test shows nothing");
        }

        node.start_over()?;
        let left = contents(node.ebpf())?;
        for (name, entries) in &anew {
            ensure!(
                left[name] == *entries,
                "left in map {name}: {:02x?}\ninstead of {entries:02x?}",
                left[name]
            );
        }
        Ok(())
    })
}

/// A test that goes wrong leaves nothing to the next one.
#[test]
fn programs_of_a_failed_test_are_not_used_again() -> Result<()> {
    require!(setup::ready());
    let ids = Mutex::new(Vec::new());
    for fails in [true, false, false] {
        // No other test is about a node like this.
        let result = progrun::on_node_with("podlane.o", feature::SERVICE_ECHO, |node| {
            let id = node.info(Hook::ToPod)?.id();
            ids.lock().map_err(|_poisoned| anyhow!("a panic"))?.push(id);
            ensure!(!fails, "as it is to");
            Ok(())
        });
        ensure!(result.is_err() == fails, "{result:?}");
    }
    let ids = ids.into_inner()?;
    ensure!(ids[0] != ids[1], "a failed test's program was used again");
    ensure!(ids[1] == ids[2], "a program was loaded twice");
    Ok(())
}
