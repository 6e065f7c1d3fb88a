//! Tables of what depends on a number: bytes of a packet, connections.

use std::fmt;

use super::{
    Report,
    table::{Look, numbers, section, show},
};
use crate::bench::{
    connections::{self, Flood},
    services::Dataplane,
    sizes::{self, CORES, SIDES, Size, Unit},
    spread::Spread,
    topology::Side,
};

/// Packet sizes, on one core and on two.
pub fn sizes(report: &Report, look: Look) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let sizes = &report.sizes;
    let mut units: Vec<Unit> = Vec::new();
    for Size { unit, .. } in sizes {
        if !units.contains(unit) {
            units.push(*unit);
        }
    }
    for cores in CORES.into_iter().filter(|_| !units.is_empty()) {
        let pairs =
            [(Side::PodlaneSameNode, Side::KernelSameNode), (Side::PodlaneOtherNode, Side::KernelOtherNode)];
        let names = SIDES.map(Side::name);
        let heads: Vec<&str> = ["Podlane to kernel, same node", "Podlane to kernel, other node"]
            .into_iter()
            .chain(names)
            .collect();
        let mut table = numbers(&["sent at once"], &heads);
        for unit in &units {
            let ratio = |pair| {
                let ratio = sizes::ratio(sizes, (*unit, cores), pair);
                ratio.map_or_else(String::new, |ratio| show(ratio, |times| format!("{times:.2}")))
            };
            let median = |side| {
                let mut of_unit = sizes.iter().filter(|size| (size.unit, size.cores) == (*unit, cores));
                let found = of_unit.find(|size| size.side == side);
                found.map_or_else(String::new, |size| sizes::gigabits(Spread::of(&size.values).median))
            };
            let cells = pairs.map(ratio).into_iter().chain(SIDES.map(median));
            table.add_row([unit.name()].into_iter().chain(cells));
        }
        let title = format!("Packet sizes, {cores} of the cores: ratios, and medians of what got through");
        section(&mut text, &title, &table, look)?;
    }
    Ok(text)
}

/// Numbers of connections.
pub fn connections(figures: &[Flood], look: Look) -> Result<String, fmt::Error> {
    let mut text = String::new();
    let mut counts: Vec<u32> = figures.iter().map(|figure| figure.connections).collect();
    counts.dedup();
    if counts.is_empty() {
        return Ok(text);
    }
    let to = [Dataplane::Iptables, Dataplane::Nftables];
    let heads = ["Podlane to iptables", "Podlane to nftables"].into_iter();
    let heads: Vec<&str> = heads.chain(Dataplane::USUAL.map(Dataplane::name)).collect();
    let mut table = numbers(&["connections"], &heads);
    for count in counts {
        let ratio = |to| {
            let ratio = connections::ratio(figures, count, Dataplane::Podlane, to);
            ratio.map_or_else(String::new, |ratio| show(ratio, |times| format!("{times:.2}")))
        };
        let median = |dataplane| {
            let mut of_count = figures.iter().filter(|figure| figure.connections == count);
            let found = of_count.find(|figure| figure.dataplane == dataplane);
            found.map_or_else(String::new, |figure| {
                format!("{:.1} k/s", Spread::of(&figure.values).median / 1e3)
            })
        };
        let cells = to.map(ratio).into_iter().chain(Dataplane::USUAL.map(median));
        table.add_row([count.to_string()].into_iter().chain(cells));
    }
    section(&mut text, "Packets of many connections: ratios, and medians of what got through", &table, look)?;
    Ok(text)
}
