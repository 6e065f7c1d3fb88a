//! The programs on the cgroup: which are there, and what outlives them.

use std::{collections::BTreeSet, path::PathBuf};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use testbed::{
    bed::{Bed, PROTOCOLS, cluster_ip},
    cluster, command,
    config::{Protocol, Sockets},
    connections,
    podlane_node::PodlaneNode,
    require, setup,
    traffic::who,
    wait,
};

use super::{
    application::{Tcp, ask, udp},
    bed, nothing_translated, sockets,
};

/// Every program, as it is pinned.
const PROGRAMS: [&str; 8] = [
    "sock_connect4",
    "sock_connect6",
    "sock_getpeername4",
    "sock_getpeername6",
    "sock_recvmsg4",
    "sock_recvmsg6",
    "sock_sendmsg4",
    "sock_sendmsg6",
];

/// The socket programs that the node has links for, as the kernel and as `loader status` tell.
fn attached(node: &PodlaneNode) -> Result<Vec<(String, u64, u64)>> {
    let status = node.verb_json("status")?;
    let links = status["attached"].as_array().context("no `attached`")?;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut found = Vec::new();
    for link in links.iter().filter(|link| text(&link["program"]).starts_with("sock_")) {
        ensure!(text(&link["device"]) == setup::cgroup()?.to_string_lossy(), "status: {link}");
        let ids = (link["link_id"].as_u64(), link["program_id"].as_u64());
        let (Some(id), Some(program)) = ids else { bail!("status: {link}") };
        found.push((text(&link["program"]), id, program));
    }
    found.sort();
    let by_link = testbed_links()?;
    for (name, link, program) in &found {
        ensure!(by_link.contains(&(*link, *program)), "{name}: link {link} is not the kernel's");
    }
    Ok(found)
}

/// Links to cgroups that the kernel has: link and program.
fn testbed_links() -> Result<BTreeSet<(u64, u64)>> {
    let links: Value = serde_json::from_str(&command::run(&["bpftool", "-j", "link"])?)?;
    let links = links.as_array().into_iter().flatten().filter(|link| link["type"] == "cgroup");
    Ok(links.filter_map(|link| Some((link["id"].as_u64()?, link["prog_id"].as_u64()?))).collect())
}

fn names(attached: &[(String, u64, u64)]) -> Vec<&str> {
    attached.iter().map(|(name, ..)| name.as_str()).collect()
}

/// Modes change while sockets are connected: `tcp` leaves datagrams to the packets, `off` leaves nothing attached.
#[test]
fn modes_are_what_they_say() -> Result<()> {
    require!(setup::ready_with_cgroup());
    let mut bed = bed("tcp", |facts, config| {
        config.services.push(facts.service("web", 1, &[(0, 1), (1, 0)]));
    })?;
    let service = cluster_ip(1, true);
    let mut kept = Tcp::connect(&bed.pod(0, 0).netns, service)?;
    kept.ask()?;
    ensure!(names(&attached(bed.node(0))?) == PROGRAMS[..6], "{:?}", attached(bed.node(0))?);
    nothing_translated(&bed)?;
    let datagrams = udp(&bed.pod(0, 0).netns, service)?;
    ensure!(ask(&datagrams, service)?.1 == service, "another address");
    ensure!(connections::list(&bed.node(0).pins())?.len() == 2, "the datagrams are not the packets'");

    for (mode, programs) in [("on", &PROGRAMS[..]), ("off", &[]), ("tcp", &PROGRAMS[..6]), ("off", &[])] {
        let sockets = sockets(mode)?;
        bed.change(|config| config.sockets.clone_from(&sockets))?;
        let found = attached(bed.node(0))?;
        ensure!(names(&found) == programs, "{mode}: {found:?}");
        for program in PROGRAMS {
            let pinned = bed.node(0).pins().join("progs").join(program).exists();
            ensure!(pinned == (mode != "off"), "{mode}: {program} is pinned: {pinned}");
        }
        let table = bed.node(0).verb(&["status", "--node", &bed.node(0).spec.name])?.stdout;
        let line = if mode == "off" { "off: services".to_owned() } else { format!("{mode}: attached to ") };
        ensure!(table.contains(&line), "{mode}: {table}");
        kept.ask().with_context(|| format!("mode {mode}"))?;
        for protocol in PROTOCOLS {
            who::everyone(&bed.pod(0, 0).netns, protocol, service, &["pod-0-1", "pod-1-0"])?;
        }
        if mode != "off" {
            ensure!(kept.0.peer_addr()? == service, "mode {mode}: peer {}", kept.0.peer_addr()?);
        }
    }
    Ok(())
}

/// OP-1: sockets go on while no loader runs, and new ones are resolved; the next loader puts its programs into the same links,
/// and whoever is connected is told the same as before.
#[test]
fn a_restart_keeps_sockets_and_links() -> Result<()> {
    require!(setup::ready_with_cgroup());
    let mut bed = bed("on", |facts, config| {
        config.services.push(facts.service("web", 1, &[(0, 1), (1, 0)]));
    })?;
    let service = cluster_ip(1, false);
    let mut tcp = Tcp::connect(&bed.pod(0, 0).netns, service)?;
    let datagrams = udp(&bed.pod(0, 0).netns, service)?;
    let (server, _) = ask(&datagrams, service)?;
    let check = |bed: &Bed, tcp: &mut Tcp| -> Result<()> {
        tcp.ask()?;
        ensure!(tcp.0.peer_addr()? == service, "peer {}", tcp.0.peer_addr()?);
        ensure!(ask(&datagrams, service)? == (server.clone(), service), "another backend or address");
        let mut new = Tcp::connect(&bed.node(0).netns, service)?;
        new.ask()?;
        ensure!(new.0.peer_addr()? == service, "peer {}", new.0.peer_addr()?);
        nothing_translated(bed)
    };
    let mut before = attached(bed.node(0))?;
    ensure!(names(&before) == PROGRAMS, "{before:?}");
    for kill in [true, false] {
        let node = &mut bed.cluster.podlane[0];
        if kill {
            node.kill()?
        } else {
            node.stop()?
        };
        ensure!(attached(bed.node(0))? == before, "without a loader");
        check(&bed, &mut tcp).context("without a loader")?;
        bed.cluster.podlane[0].start_loader()?;
        let after = attached(bed.node(0))?;
        for (old, new) in before.iter().zip(&after) {
            ensure!(old.0 == new.0 && old.1 == new.1 && old.2 != new.2, "{old:?} became {new:?}");
        }
        check(&bed, &mut tcp).context("with the next loader")?;
        before = after;
    }
    Ok(())
}

/// OP-1: maps of another size know every socket that the old ones knew: whoever is connected and whoever is not is told the same as
/// before.
#[test]
fn maps_of_another_size_know_every_socket() -> Result<()> {
    require!(setup::ready_with_cgroup());
    let mut bed = bed("on", |facts, config| {
        config.services.push(facts.service("web", 1, &[(0, 1), (1, 0)]));
    })?;
    let service = cluster_ip(1, true);
    let mut tcp = Tcp::connect(&bed.pod(0, 0).netns, service)?;
    let (server, _) = tcp.ask()?;
    let datagrams = udp(&bed.pod(0, 0).netns, service)?;
    let answer = ask(&datagrams, service)?;
    for size in [70_000, 1000] {
        bed.change(|config| config.maps.extend([("sockets".to_owned(), size)]))?;
        ensure!(tcp.0.peer_addr()? == service, "room for {size}: peer {}", tcp.0.peer_addr()?);
        ensure!(tcp.ask()?.0 == server, "room for {size}: another backend");
        let again = ask(&datagrams, service)?;
        ensure!(again == answer, "room for {size}: {answer:?}, and then {again:?}");
    }
    nothing_translated(&bed)
}

/// A cgroup below the one that there is; it goes with its value.
struct Below(PathBuf);

impl Below {
    fn new() -> Result<Self> {
        let path = setup::cgroup()?.join(format!("podlane-test-{}", std::process::id()));
        std::fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Below {
    fn drop(&mut self) {
        let _gone = std::fs::remove_dir(&self.0);
    }
}

/// A cgroup that is none: the status says what to do, and everything goes on packet by packet.
#[test]
fn a_wrong_cgroup_is_told_and_costs_nothing_else() -> Result<()> {
    require!(setup::ready_with_cgroup());
    // Outlives what is attached to it.
    let below = Below::new()?;
    let mut bed = bed("on", |facts, config| config.services.push(facts.service("web", 1, &[(0, 1)])))?;
    for (path, why) in [("/proc", "no cgroup of version 2"), ("/nowhere", "No such file")] {
        let wrong = Some(Sockets { mode: "on", cgroup: path.into() });
        bed.change(|config| config.sockets.clone_from(&wrong))?;
        let status = bed.node(0).verb_json("status")?;
        let problems = status["problems"].to_string();
        ensure!(problems.contains(path) && problems.contains(why), "{problems}");
        ensure!(status["facts"]["sockets"]["attached"] == false, "{status}");
        ensure!(attached(bed.node(0))?.is_empty(), "{:?}", attached(bed.node(0))?);
        who::everyone(&bed.pod(0, 0).netns, Protocol::Tcp, cluster_ip(1, true), &["pod-0-1"])?;
    }
    let right = sockets("on")?;
    bed.change(|config| config.sockets.clone_from(&right))?;
    let status = bed.node(0).verb_json("status")?;
    ensure!(status["facts"]["sockets"]["attached"] == true, "{status}");
    ensure!(status["problems"] == Value::Array(Vec::new()), "{status}");
    // Another cgroup, below.
    let before = attached(bed.node(0))?;
    let other = Some(Sockets { mode: "on", cgroup: below.0.clone() });
    bed.change(|config| config.sockets.clone_from(&other))?;
    let links = testbed_links()?;
    let moved = before.iter().all(|(_, link, program)| !links.contains(&(*link, *program)));
    ensure!(moved, "the old links are there still");
    Ok(())
}

/// The cleanup leaves no program on the cgroup.
#[test]
fn the_cleanup_takes_the_programs_away() -> Result<()> {
    require!(setup::ready_with_cgroup());
    let mut cluster = cluster::one_node().build()?;
    let node = &mut cluster.podlane[0];
    node.config.sockets = sockets("on")?;
    node.start()?;
    let before = attached(node)?;
    ensure!(names(&before) == PROGRAMS, "{before:?}");
    let answer = node.cleanup()?;
    ensure!(answer.code == 0, "cleanup: {}", answer.stderr);
    ensure!(!node.pins().exists(), "{} is left", node.pins().display());
    wait::until("the links to be gone", || {
        let links = testbed_links()?;
        let gone = before.iter().all(|(_, link, program)| !links.contains(&(*link, *program)));
        Ok(gone.then_some(()))
    })
}
