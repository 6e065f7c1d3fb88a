//! What a node's programs remember of flows.

use std::path::Path;

use anyhow::{Context as _, Result};
use aya::maps::{Map, MapInfo};
use common::maps::{FlowSet, WAYS, name};

use crate::{bpf_map::Bytes, counters};

/// How many flows are remembered, on all CPUs and of both families.
pub fn remembered(pins: &Path) -> Result<usize> {
    let map = Map::PerCpuArray(counters::open(pins, name::FLOWS4)?);
    let flows4: Vec<Vec<FlowSet<[u8; 4]>>> = Bytes::of(&map)?.values().context("flows4")?;
    let map = Map::PerCpuArray(counters::open(pins, name::FLOWS6)?);
    let flows6: Vec<Vec<FlowSet<[u8; 16]>>> = Bytes::of(&map)?.values().context("flows6")?;
    let four = flows4.iter().flatten().flat_map(|set| set.ways).filter(|flow| flow.until != 0).count();
    let six = flows6.iter().flatten().flat_map(|set| set.ways).filter(|flow| flow.until != 0).count();
    Ok(four + six)
}

/// How many flows of a family a CPU may remember.
pub fn places(pins: &Path) -> Result<u32> {
    Ok(WAYS * MapInfo::from_pin(counters::map_path(pins, name::FLOWS4)?).context("flows4")?.max_entries())
}

/// What flows are remembered for.
pub fn epochs(pins: &Path) -> Result<Vec<u64>> {
    let map = Map::Array(counters::open(pins, name::EPOCHS)?);
    let epochs: Vec<Vec<u64>> = Bytes::of(&map)?.values().context("epochs")?;
    Ok(epochs.concat())
}

/// Whether all that was remembered when these were `before` holds no longer.
pub fn have_ended(before: &[u64], pins: &Path) -> Result<bool> {
    Ok(epochs(pins)?.iter().zip(before).all(|(after, before)| after > before))
}
