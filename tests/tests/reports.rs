//! What a person sees of a node: the verbs, as tables and as JSON, and the pinned maps as `bpftool` shows them.

use anyhow::{Context as _, Result, anyhow, ensure};
use testbed::{cluster, command, counters, require, setup, traffic::ping};

/// A table for a person and JSON for a program: each names the pods, the peers and what they have sent.
#[test]
fn every_verb_prints_a_table_and_json() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().start()?;
    let (node, far) = (&cluster.podlane[0], &cluster.podlane[1]);
    ping(&node.pods[0].netns, far.pods[0].v4()?)?;
    for (verb, words) in [
        ("status", vec![node.spec.name.as_str(), "eth0", "podlane0", "8472"]),
        ("pods", vec!["default/pod-0-0", "default/pod-0-1", "10.200.0.10", "fd00:10:200::b"]),
        ("peers", vec![far.spec.name.as_str(), "10.240.0.21", "10.200.1.0/24", "fd00:10:200:1::/64"]),
        ("counters", vec!["from_pod", "to_overlay"]),
    ] {
        let json = node.verb_json(verb)?.to_string();
        let table = node.verb(&[verb, "--node", &node.spec.name])?;
        ensure!(table.code == 0, "{verb} ended with {}: {}", table.code, table.stderr);
        for word in words {
            ensure!(json.contains(word), "`{verb} -o json` does not say {word}: {json}");
            ensure!(table.stdout.contains(word), "`{verb}` does not say {word}:\n{}", table.stdout);
        }
        ensure!(!table.stdout.contains('\u{1b}'), "`{verb}` colours what is not a terminal");
    }
    Ok(())
}

/// `bpftool map dump pinned` shows fields by name, for every map that has structs in it.
#[test]
fn bpftool_shows_fields_by_name() -> Result<()> {
    require!(setup::ready_with_loader());
    if !command::exists("bpftool") {
        setup::skipped("bpftool_shows_fields_by_name", &anyhow!("no bpftool on this machine"));
        return Ok(());
    }
    let mut cluster = cluster::two_nodes().build()?;
    cluster.podlane[0].config.pods[0].allowed_sources = vec!["192.0.2.0/24".parse()?];
    for node in &mut cluster.podlane {
        node.start()?;
    }
    let node = &cluster.podlane[0];
    ping(&node.pods[0].netns, cluster.podlane[1].pods[0].v4()?)?;
    for (map, fields) in [
        ("pods4", vec!["ifindex", "slot", "mac"]),
        ("pods6", vec!["ifindex", "slot", "mac"]),
        ("routes4", vec!["kind", "underlay", "vtep_mac", "mtu", "peer"]),
        ("routes6", vec!["kind", "underlay", "vtep_mac", "mtu", "peer"]),
        ("vteps4", vec!["peer"]),
        ("pod_traffic", vec!["rx_packets", "rx_bytes", "tx_packets", "tx_bytes"]),
        ("peer_traffic", vec!["rx_packets", "rx_bytes", "tx_packets", "tx_bytes"]),
        ("counters", vec!["to_overlay", "spoofed", "packets", "bytes"]),
        ("sources4", vec!["ifindex", "address"]),
    ] {
        let path = counters::map_path(&node.pins(), map)?;
        let dump = command::run(&["bpftool", "map", "dump", "pinned", &path.to_string_lossy()])?;
        for field in fields {
            let shown = [format!("\"{field}\""), format!(".{field} ")].iter().any(|name| dump.contains(name));
            let start: String = dump.chars().take(600).collect();
            ensure!(shown, "no field {field} in the dump of {map}: {start}");
        }
    }
    Ok(())
}

/// The programs and links are pinned under their names, and so are the maps.
#[test]
fn pins_have_names() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::one_node().start()?;
    let node = &cluster.podlane[0];
    let pins = walk(&node.pins())?;
    for program in ["from_pod", "to_pod", "from_uplink", "from_host"] {
        let name = format!("/progs/{program}");
        ensure!(pins.iter().any(|pin| pin.ends_with(&name)), "no pin ends with {name}: {pins:?}");
    }
    let status = node.verb_json("status")?;
    let attached = status["attached"].as_array().context("no `attached`")?;
    ensure!(attached.len() >= 4, "{attached:?}");
    // A filter of `clsact` has no link, and none is pinned.
    for link in attached.iter().filter(|attached| !attached["link_id"].is_null()) {
        let name = format!("/links/{}_{}", link["program"].as_str().unwrap_or_default(), link["ifindex"]);
        ensure!(pins.iter().any(|pin| pin.ends_with(&name)), "no pin ends with {name}: {pins:?}");
    }
    for map in common::maps::name::ALL {
        counters::map_path(&node.pins(), map)?;
    }
    Ok(())
}

fn walk(directory: &std::path::Path) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(walk(&path)?);
        } else {
            found.push(path.to_string_lossy().into_owned());
        }
    }
    Ok(found)
}
