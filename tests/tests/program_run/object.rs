//! The object files themselves: the trace build speaks, and maps are described.

use std::{
    io::Write as _,
    sync::{Arc, Mutex},
};

use anyhow::{Context as _, Result, ensure};
use aya::maps::MapInfo;
use aya_log::EbpfLogger;
use common::{
    counters::{Hook, Reason},
    maps::name,
    node::feature,
};
use serde_json::Value;
use testbed::{
    command,
    frame::Ip,
    progrun::{self, Family},
    require, setup, wait,
};

/// Everything that the programs can do: what a build has to have room for on the stack.
const ALL: u32 = feature::DIRECT | feature::SERVICES | feature::MASQUERADE | feature::SERVICE_ECHO;

/// Keeps what is logged.
#[derive(Clone, Default)]
struct Kept(Arc<Mutex<Vec<String>>>);

impl log::Log for Kept {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        if let Ok(mut lines) = self.0.lock() {
            lines.push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

/// OP-2: the trace build decides the same, and logs each packet's verdict.
#[test]
fn the_trace_build_logs_each_verdict() -> Result<()> {
    require!(setup::ready());
    require!(progrun::object("podlane-trace.o"));
    progrun::on_node_with("podlane-trace.o", ALL, |node| {
        let kept = Kept::default();
        let mut logger =
            EbpfLogger::init_with_logger(node.ebpf_mut(), kept.clone()).context("attach to the log")?;
        let [here, there] = node.pods();
        for family in Family::BOTH {
            let frame = here.sends(&Ip::new(here.address(family), there.address(family)).udp((1, 2), b"x"));
            node.from_pod(here, &frame)?;
            let expected = format!(
                "hook {} ifindex {} reason {} bytes {}",
                Hook::FromPod as u8,
                here.ifindex,
                Reason::ToPod as u8,
                frame.len()
            );
            wait::until("the packet's log record", || {
                logger.flush();
                let lines = kept.0.lock().map_err(|_poisoned| anyhow::anyhow!("a logger panicked"))?;
                Ok(lines.contains(&expected).then_some(()))
            })?;
        }
        Ok(())
    })
}

/// OP-2: a dump of any map names the fields of its keys and values.
#[test]
fn a_dump_of_a_map_names_its_fields() -> Result<()> {
    require!(setup::ready());
    if !command::exists("bpftool") {
        let _unheard =
            writeln!(std::io::stderr(), "SKIPPED: a_dump_of_a_map_names_its_fields: no bpftool here");
        return Ok(());
    }
    progrun::on_node(|node| {
        for (map, fields) in [
            (name::COUNTERS, &["to_pod", "to_overlay", "malformed", "packets", "bytes"][..]),
            (name::POD_TRAFFIC, &["rx_packets", "tx_bytes"]),
            (name::PODS4, &["ifindex", "slot", "mac"]),
            (name::PODS6, &["ifindex", "slot", "mac"]),
            (name::ROUTES4, &["prefix_len", "underlay", "vtep_mac", "kind", "mtu"]),
            (name::ROUTES6, &["prefix_len", "underlay", "vtep_mac", "kind", "mtu"]),
            (name::SOURCES4, &["prefix_len", "ifindex", "address", "slot"]),
            (name::SOURCES6, &["prefix_len", "ifindex", "address", "slot"]),
            (name::VTEPS4, &["peer"]),
            (name::VTEPS6, &["peer"]),
            (name::ICMP_BUDGET, &["updated_ns", "tokens"]),
            (name::HOPS, &["underlay", "until", "ifindex", "dst", "src"]),
        ] {
            let id = map_id(node.ebpf(), map)?;
            let dump = command::run(&["bpftool", "-j", "map", "dump", "id", &id.to_string()])?;
            let dump: Value = serde_json::from_str(&dump).context("what bpftool printed")?;
            let entry = dump[0]["formatted"].to_string();
            for field in fields {
                ensure!(entry.contains(&format!("\"{field}\":")), "{map} has no {field}: {entry}");
            }
        }
        Ok(())
    })
}

fn map_id(ebpf: &aya::Ebpf, name: &str) -> Result<u32> {
    let data = match ebpf.map(name).with_context(|| format!("no map {name}"))? {
        aya::maps::Map::HashMap(data)
        | aya::maps::Map::LpmTrie(data)
        | aya::maps::Map::PerCpuArray(data)
        | aya::maps::Map::PerCpuHashMap(data) => data,
        other => anyhow::bail!("map {name} is {other:?}"),
    };
    Ok(MapInfo::from_id(data.info()?.id())?.id())
}
