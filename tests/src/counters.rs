//! The counters of a node, read straight from its pinned maps: a second opinion on what `loader counters` prints.

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::maps::{HashMap, Map, MapData, PerCpuArray};
use common::{
    counters::{Hook, HookCounters, Outcome, Reason},
    maps::{Endpoint, Traffic, name},
};
use serde_json::Value;

use crate::{config, wait};

/// A snapshot.
#[derive(Clone, Debug)]
pub struct Counters {
    pins: PathBuf,
    /// Of reasons that have happened.
    counts: Counts,
}

/// Packets and bytes by names of hook and reason.
pub type Counts = BTreeMap<(&'static str, &'static str), (u64, u64)>;

impl Counters {
    /// Reads a node's counters, summed over CPUs.
    pub fn read(pins: &Path) -> Result<Self> {
        let map = open(pins, name::COUNTERS)?;
        let map: PerCpuArray<_, HookCounters> =
            Map::PerCpuArray(map).try_into().context("the `counters` map")?;
        let mut counts = BTreeMap::new();
        for hook in Hook::ALL {
            let values = map.get(&(hook as u32), 0).with_context(|| format!("look {} up", hook.name()))?;
            for reason in Reason::ALL {
                let (packets, bytes) = values.iter().fold((0, 0), |(packets, bytes), on_cpu| {
                    let counter = on_cpu.get(*reason);
                    (packets + counter.packets, bytes + counter.bytes)
                });
                add(&mut counts, (hook, *reason), (packets, bytes));
            }
        }
        Ok(Self { pins: pins.to_owned(), counts })
    }

    /// Packets of one reason at one hook.
    #[must_use]
    pub fn packets(&self, hook: Hook, reason: Reason) -> u64 {
        self.counts.get(&(hook.name(), reason.name())).map_or(0, |(packets, _)| *packets)
    }

    /// Bytes of one reason at one hook.
    #[must_use]
    pub fn bytes(&self, hook: Hook, reason: Reason) -> u64 {
        self.counts.get(&(hook.name(), reason.name())).map_or(0, |(_, bytes)| *bytes)
    }

    /// Packets of one outcome at one hook.
    #[must_use]
    pub fn outcome(&self, hook: Hook, outcome: Outcome) -> u64 {
        let reasons = Reason::ALL.iter().filter(|reason| reason.outcome() == outcome);
        reasons.map(|reason| self.packets(hook, *reason)).sum()
    }

    /// Packets that a hook has received: forwarded, passed and dropped.
    #[must_use]
    pub fn received(&self, hook: Hook) -> u64 {
        [Outcome::Forwarded, Outcome::Passed, Outcome::Dropped]
            .map(|outcome| self.outcome(hook, outcome))
            .iter()
            .sum()
    }

    /// Packets dropped anywhere on the node.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        Hook::ALL.map(|hook| self.outcome(hook, Outcome::Dropped)).iter().sum()
    }

    /// What has happened since an earlier snapshot, as `hook/reason` to packets.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> BTreeMap<String, u64> {
        let mut new = BTreeMap::new();
        for ((hook, reason), (packets, _)) in &self.counts {
            let before = earlier.counts.get(&(*hook, *reason)).map_or(0, |(packets, _)| *packets);
            if *packets > before {
                new.insert(format!("{hook}/{reason}"), packets - before);
            }
        }
        new
    }

    /// The counter of every hook and reason that has happened: `(hook, reason, packets, bytes)`.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, &'static str, u64, u64)> + '_ {
        self.counts.iter().map(|((hook, reason), (packets, bytes))| (*hook, *reason, *packets, *bytes))
    }

    /// All of them.
    #[must_use]
    pub const fn counts(&self) -> &Counts {
        &self.counts
    }

    /// Where it was read.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.pins
    }
}

/// Adds what a hook has counted, at the hook that tests know it by, if it is anything.
fn add(counts: &mut Counts, (hook, reason): (Hook, Reason), (packets, bytes): (u64, u64)) {
    let hook = if config::xdp_mode().is_some() { at_tc(hook, reason) } else { Some(hook) };
    if let Some(hook) = hook.filter(|_| packets > 0) {
        let (all, of_all) = counts.entry((hook.name(), reason.name())).or_insert((0, 0));
        (*all, *of_all) = (*all + packets, *of_all + bytes);
    }
}

/// What `loader counters -o json` prints, as [`Counters::counts`] has it.
pub fn printed(report: &Value) -> Result<Counts> {
    let mut counts = Counts::new();
    for row in report["counters"].as_array().context("no `counters`")? {
        let hook = Hook::ALL.into_iter().find(|hook| row["hook"] == hook.name());
        let reason = Reason::ALL.iter().find(|reason| row["reason"] == reason.name());
        let numbers = (row["packets"].as_u64(), row["bytes"].as_u64());
        let (Some(hook), Some(reason), (Some(packets), Some(bytes))) = (hook, reason, numbers) else {
            bail!("counters: {row}")
        };
        add(&mut counts, (hook, *reason), (packets, bytes));
    }
    Ok(counts)
}

/// The hook that would have counted a packet without XDP: tests that know nothing of it are run with it, too.
fn at_tc(hook: Hook, reason: Reason) -> Option<Hook> {
    match (hook, reason) {
        // Counted by the other of the two programs.
        (Hook::UplinkXdp, Reason::ToTc | Reason::Foreign) | (Hook::FromUplink, Reason::FromXdp) => None,
        (Hook::UplinkXdp, _) => Some(Hook::FromUplink),
        _ => Some(hook),
    }
}

/// Waits until exactly so many packets of a reason have been counted since an earlier snapshot.
pub fn wait_for(before: &Counters, hook: Hook, reason: Reason, packets: u64) -> Result<Counters> {
    let earlier = before.packets(hook, reason);
    wait::until(&format!("{packets} packets counted as {}/{}", hook.name(), reason.name()), || {
        let now = Counters::read(&before.pins)?;
        let more = now.packets(hook, reason) - earlier;
        ensure!(more >= packets, "counted {:?}", now.since(before));
        Ok(Some(now))
    })
    .and_then(|now| {
        let more = now.packets(hook, reason) - earlier;
        ensure!(more == packets, "{more} packets instead of {packets}: {:?}", now.since(before));
        Ok(now)
    })
}

/// A pod's traffic, found by one of its addresses.
pub fn pod_traffic(pins: &Path, address: IpAddr) -> Result<Traffic> {
    let endpoint = endpoint(pins, address)?.with_context(|| format!("no pod has {address}"))?;
    let map: PerCpuArray<_, Traffic> =
        Map::PerCpuArray(open(pins, name::POD_TRAFFIC)?).try_into().context("the `pod_traffic` map")?;
    Ok(sum(map.get(&endpoint.slot, 0).context("look the pod's slot up")?.iter()))
}

/// What the programs know of the pod with an address.
pub fn endpoint(pins: &Path, address: IpAddr) -> Result<Option<Endpoint>> {
    let found = match address {
        IpAddr::V4(address) => {
            let map: HashMap<_, [u8; 4], Endpoint> = Map::HashMap(open(pins, name::PODS4)?).try_into()?;
            map.get(&address.octets(), 0)
        }
        IpAddr::V6(address) => {
            let map: HashMap<_, [u8; 16], Endpoint> = Map::HashMap(open(pins, name::PODS6)?).try_into()?;
            map.get(&address.octets(), 0)
        }
    };
    match found {
        Ok(endpoint) => Ok(Some(endpoint)),
        Err(aya::maps::MapError::KeyNotFound) => Ok(None),
        Err(error) => Err(error).context("look a pod up"),
    }
}

/// A peer's traffic, by its slot.
pub fn peer_traffic(pins: &Path, slot: u32) -> Result<Traffic> {
    let map: PerCpuArray<_, Traffic> =
        Map::PerCpuArray(open(pins, name::PEER_TRAFFIC)?).try_into().context("the `peer_traffic` map")?;
    Ok(sum(map.get(&slot, 0).context("look the peer's slot up")?.iter()))
}

fn sum<'a>(values: impl Iterator<Item = &'a Traffic>) -> Traffic {
    values.fold(Traffic::default(), |sum, value| Traffic {
        rx_packets: sum.rx_packets + value.rx_packets,
        rx_bytes: sum.rx_bytes + value.rx_bytes,
        tx_packets: sum.tx_packets + value.tx_packets,
        tx_bytes: sum.tx_bytes + value.tx_bytes,
    })
}

pub(crate) fn open(pins: &Path, map: &str) -> Result<MapData> {
    let path = map_path(pins, map)?;
    MapData::from_pin(&path).with_context(|| format!("open the pinned map {}", path.display()))
}

/// Where a map is pinned. A loader that had to change a map's shape pins a new generation beside the old one.
pub fn map_path(pins: &Path, map: &str) -> Result<PathBuf> {
    let plain = pins.join("maps").join(map);
    if plain.exists() {
        return Ok(plain);
    }
    let generations = fs::read_dir(pins).with_context(|| format!("read {}", pins.display()))?;
    let mut found: Vec<PathBuf> = generations.flatten().map(|entry| entry.path().join(map)).collect();
    found.retain(|path| path.exists());
    found.sort();
    ensure!(!found.is_empty(), "no map {map} is pinned under {}", pins.display());
    Ok(found.remove(found.len() - 1))
}
