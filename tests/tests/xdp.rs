//! XDP on uplinks: what is asked for is what runs and what `loader status` says, through restarts, reloads, devices that go
//! and other people's programs; and packets get through.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use testbed::{
    bed::Bed,
    capture::Capture,
    cluster::{self, Cluster},
    config::{Protocol, Xdp},
    foreign::Foreign,
    netns::Netns,
    podlane_node::PodlaneNode,
    require, setup,
    spec::Route,
    traffic::{self, Ping, conversation::Conversation, ping, tcp, who},
    wait, wire,
};

const NODE_PORT: u16 = 30_080;

/// What runs on an uplink: how, and which program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Running {
    Native(u64),
    Generic(u64),
    Nothing,
}

impl Running {
    fn mode(self) -> &'static str {
        match self {
            Self::Native(_) => "native",
            Self::Generic(_) => "generic",
            Self::Nothing => "off",
        }
    }

    fn program(self) -> Option<u64> {
        match self {
            Self::Native(program) | Self::Generic(program) => Some(program),
            Self::Nothing => None,
        }
    }
}

/// As the kernel tells.
fn running(netns: &Netns) -> Result<Running> {
    let xdp = netns.link("eth0")?["xdp"].clone();
    let Some(program) = xdp["prog"]["id"].as_u64() else { return Ok(Running::Nothing) };
    match xdp["mode"].as_u64() {
        Some(1) => Ok(Running::Native(program)),
        Some(2) => Ok(Running::Generic(program)),
        mode => anyhow::bail!("eth0 has XDP in mode {mode:?}: {xdp}"),
    }
}

/// As `loader status` tells: mode and reason.
fn said(node: &PodlaneNode) -> Result<(String, String)> {
    let status = node.verb_json("status")?;
    let xdp = &status["facts"]["xdp"][0];
    ensure!(xdp["device"] == "eth0", "status: {status}");
    let text = |key: &str| xdp[key].as_str().unwrap_or_default().to_owned();
    Ok((text("mode"), text("why")))
}

/// The link of the program, as `loader status` tells: number of the link and of the program.
fn link(node: &PodlaneNode) -> Result<Option<(u64, u64)>> {
    let status = node.verb_json("status")?;
    let links = status["attached"].as_array().context("no `attached`")?;
    let mut ours = links.iter().filter(|link| link["program"] == "uplink_xdp");
    let ids = |link: &Value| Some((link["link_id"].as_u64()?, link["program_id"].as_u64()?));
    let found = ours.next().and_then(ids);
    ensure!(ours.next().is_none(), "several links: {status}");
    Ok(found)
}

/// Asserts that the node has this mode by everybody's word, for this reason.
fn has(node: &PodlaneNode, mode: &str, reason: &str) -> Result<()> {
    let running = running(&node.netns)?;
    ensure!(running.mode() == mode, "{running:?}, not {mode}");
    let (said, why) = said(node)?;
    ensure!(said == mode && why.contains(reason), "status says {said}: {why}");
    let linked = link(node)?.map(|(_, program)| program);
    ensure!(linked == running.program(), "link of {linked:?}, and {running:?} runs");
    let pinned = node.pins().join("progs/uplink_xdp").exists();
    ensure!(pinned == running.program().is_some(), "the program's pin: {pinned}");
    let table = node.verb(&["status", "--node", &node.spec.name])?.stdout;
    ensure!(table.contains(&format!("eth0 {mode}: {why}")), "{table}");
    Ok(())
}

/// Two nodes, the first with this mode.
fn with_mode(mode: &'static str) -> Result<Cluster> {
    let mut cluster = cluster::two_nodes().build()?;
    cluster.podlane[0].config.xdp = Some(Xdp { mode: mode.into() });
    cluster.podlane.iter_mut().try_for_each(PodlaneNode::start)?;
    Ok(cluster)
}

/// What each mode comes to on a veth.
const MODES: [(&str, &str, &str); 4] = [
    ("auto", "off", "veth: XDP would make its peer segment in software"),
    ("native", "native", "as configured"),
    ("generic", "generic", "as configured"),
    ("off", "off", "as configured"),
];

/// What runs is what was asked for and what status says.
#[test]
fn each_mode_is_what_status_says() -> Result<()> {
    require!(setup::ready_with_loader());
    for (mode, in_force, reason) in MODES {
        let mut cluster = cluster::one_node().build()?;
        let node = &mut cluster.podlane[0];
        node.config.xdp = Some(Xdp { mode: mode.into() });
        node.start()?;
        has(node, in_force, reason).with_context(|| format!("mode {mode}"))?;
    }
    Ok(())
}

/// OP-1: a loader that is stopped or killed leaves XDP running, and the next one puts its program into the same link.
fn restart(cluster: &mut Cluster, mode: &str) -> Result<()> {
    let node = &mut cluster.podlane[0];
    let mut before = link(node)?.context("no link")?;
    for kill in [true, false] {
        if kill {
            node.kill()?
        } else {
            node.stop()?
        };
        ensure!(link(node)? == Some(before), "without a loader, {:?}", link(node)?);
        node.start_loader()?;
        let after = link(node)?.context("no link")?;
        ensure!(after.0 == before.0 && after.1 != before.1, "{before:?} became {after:?}");
        has(node, mode, "as configured")?;
        before = after;
    }
    Ok(())
}

/// OP-1: the same, and every packet gets through.
#[test]
fn a_restart_keeps_the_link_and_loses_nothing() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = with_mode("native")?;
    let (from, to) = (&cluster.podlane[1].pods[0].netns, cluster.podlane[0].pods[0].v4()?);
    let pinging = Ping { count: 250, interval: 12, ..Ping::default() }.start(from, to.into())?;
    restart(&mut cluster, "native")?;
    pinging.must_have_reached()?;
    Ok(())
}

#[test]
fn a_restart_keeps_the_generic_link() -> Result<()> {
    require!(setup::ready_with_loader());
    restart(&mut with_mode("generic")?, "generic")
}

/// A reload goes from any mode to any other.
#[test]
fn modes_change_on_reload() -> Result<()> {
    require!(setup::ready_with_loader());
    reload(&["native", "generic", "off", "generic", "native", "auto", "generic", "auto"], |_| Ok(()))
}

/// OP-1: and connections go on.
#[test]
fn connections_go_on_when_xdp_comes_and_goes() -> Result<()> {
    require!(setup::ready_with_loader());
    reload(&["native", "off", "native", "auto", "native"], |conversation| conversation.wait_for(20))
}

fn reload(modes: &[&'static str], check: impl Fn(&Conversation) -> Result<()>) -> Result<()> {
    let mut cluster = with_mode("auto")?;
    let conversation = {
        let (near, far) = (&cluster.podlane[0].pods[0], &cluster.podlane[1].pods[0]);
        Conversation::start(&near.netns, (&far.netns, far.v4()?.into()))?
    };
    for mode in modes {
        let node = &mut cluster.podlane[0];
        node.config.xdp = Some(Xdp { mode: (*mode).into() });
        node.reload()?;
        let (_, in_force, reason) = MODES.into_iter().find(|known| known.0 == *mode).context("a mode")?;
        has(node, in_force, reason).with_context(|| format!("mode {mode}"))?;
        check(&conversation).with_context(|| format!("mode {mode}"))?;
    }
    Ok(())
}

/// What nothing was changed about stays as it is.
#[test]
fn a_reload_of_other_things_keeps_the_link() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = with_mode("generic")?;
    let node = &mut cluster.podlane[0];
    let before = link(node)?;
    node.reload()?;
    ensure!(link(node)? == before, "{:?} became {:?}", before, link(node)?);
    // Other facts are another program.
    node.config.overlay.vni = 7;
    node.reload()?;
    let (before, after) = (before.context("no link")?, link(node)?.context("no link")?);
    ensure!(after.0 == before.0 && after.1 != before.1, "{before:?} became {after:?}");
    has(node, "generic", "as configured")
}

/// OP-4: an uplink that goes takes its program along and gets another when it is back.
#[test]
fn a_vanished_uplink_has_xdp_again() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = with_mode("native")?;
    let node = &cluster.podlane[0];
    node.netns.ip("link del eth0")?;
    wait::until("the loader to have noticed", || {
        let status = node.verb_json("status")?;
        Ok((status["facts"]["xdp"] == Value::Array(Vec::new()) && link(node)?.is_none()).then_some(()))
    })?;
    let switch = cluster.switch.as_mut().context("a switch")?;
    switch.plug(&node.netns, "eth0")?;
    for address in &node.spec.underlay {
        wire::add_address(&node.netns, "eth0", *address)?;
    }
    wait::until("XDP to be back", || {
        has(node, "native", "as configured")?;
        Ok(Some(()))
    })?;
    let far = &cluster.podlane[1].pods[0];
    wait::until("the other node to be reached", || {
        let report = Ping { count: 1, ..Ping::default() }.run(&node.pods[0].netns, far.v4()?.into())?;
        Ok((report.received == 1).then_some(()))
    })
}

/// The cleanup leaves no program on the uplink.
#[test]
fn the_cleanup_takes_xdp_away() -> Result<()> {
    require!(setup::ready_with_loader());
    for mode in ["native", "generic"] {
        let mut cluster = cluster::one_node().build()?;
        let node = &mut cluster.podlane[0];
        node.config.xdp = Some(Xdp { mode: mode.into() });
        node.start()?;
        has(node, mode, "as configured")?;
        let answer = node.cleanup()?;
        ensure!(answer.code == 0, "cleanup: {}", answer.stderr);
        ensure!(!node.pins().exists(), "{} is left", node.pins().display());
        wait::until("the program to be gone", || {
            Ok((running(&node.netns)? == Running::Nothing).then_some(()))
        })?;
    }
    Ok(())
}

/// OP-4: somebody else's XDP program stays, the node works on by TC and says so, and takes its turn when the other is gone.
#[test]
fn a_program_of_others_stays_and_tc_works_on() -> Result<()> {
    require!(setup::ready_with_loader());
    for mode in ["native", "generic"] {
        let mut cluster = cluster::two_nodes().build()?;
        let theirs = Foreign::attach_xdp(&cluster.podlane[0].netns, "eth0")?;
        let id = theirs.id()?;
        cluster.podlane[0].config.xdp = Some(Xdp { mode: mode.into() });
        cluster.podlane.iter_mut().try_for_each(PodlaneNode::start)?;
        let far = cluster.podlane[1].pods[0].v4()?;
        let node = &mut cluster.podlane[0];
        let (said, why) = said(node)?;
        ensure!(
            said == "off" && why.contains(&format!("somebody else's XDP program #{id}")),
            "{said}: {why}"
        );
        let log = node.loader()?.log();
        let line = log.lines().find(|line| line.contains(&format!("XDP program #{id}"))).unwrap_or_default();
        ensure!(line.contains("WARN") && line.contains("eth0") && line.contains("goes on at TC"), "{log}");
        ensure!(running(&node.netns)?.program() == Some(id.into()), "{:?}", running(&node.netns)?);
        ensure!(link(node)?.is_none(), "a link is left");
        ping(&node.pods[0].netns, far)?;
        drop(theirs);
        wait::until("ours to take its place", || {
            has(node, mode, "as configured")?;
            Ok(Some(()))
        })?;
        ensure!(node.verb_json("status")?["problems"] == Value::Array(Vec::new()), "problems are left");
    }
    Ok(())
}

/// Two nodes, both with this mode, which they can have.
fn both_with(mode: &'static str) -> Result<Cluster> {
    let mut cluster = cluster::two_nodes().build()?;
    for node in &mut cluster.podlane {
        node.config.xdp = Some(Xdp { mode: mode.into() });
        node.start()?;
        has(node, mode, "as configured")?;
    }
    cluster.as_on_a_wire()?;
    Ok(cluster)
}

/// Pods of two nodes reach each other in VXLAN that is taken off at XDP.
fn pods_reach_each_other(mode: &'static str) -> Result<()> {
    let cluster = both_with(mode)?;
    let (near, far) = (&cluster.podlane[0].pods[0], &cluster.podlane[1].pods[0]);
    for ip in far.ips() {
        traffic::every_kind(&near.netns, (&far.netns, ip)).with_context(|| ip.to_string())?;
        tcp::transfer(&near.netns, (&far.netns, ip), 16 << 20).with_context(|| ip.to_string())?;
    }
    Ok(())
}

#[test]
fn pods_of_two_nodes_reach_each_other() -> Result<()> {
    require!(setup::ready_with_loader());
    pods_reach_each_other("native")
}

#[test]
fn pods_of_two_nodes_reach_each_other_by_generic_xdp() -> Result<()> {
    require!(setup::ready_with_loader());
    pods_reach_each_other("generic")
}

/// Who looks at the packets of an uplink has the kernel share them, and what XDP has written before a packet is lost as soon as a
/// program that writes to packets gets a shared one.
#[test]
fn captures_on_uplinks_disturb_nothing() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = both_with("native")?;
    let capture = |node: &PodlaneNode| Capture::open(&node.netns, "eth0");
    let mut captures = cluster.podlane.iter().map(capture).collect::<Result<Vec<_>>>()?;
    let (near, far) = (&cluster.podlane[0].pods[0], &cluster.podlane[1].pods[0]);
    for ip in far.ips() {
        traffic::every_kind(&near.netns, (&far.netns, ip)).with_context(|| ip.to_string())?;
    }
    for capture in &mut captures {
        ensure!(!capture.drain()?.is_empty(), "a capture saw nothing");
    }
    Ok(())
}

/// NP-1, NP-2: an outside client calls node ports of nodes that take them at XDP, with backends on either node.
#[test]
fn an_outside_client_calls_node_ports() -> Result<()> {
    require!(setup::ready_with_loader());
    require!(setup::wires_as_they_are());
    let bed = Bed::start(&[2, 2], Route::Overlay, |facts, config| {
        config.xdp = Some(Xdp { mode: "native".into() });
        config.services.push(facts.node_port_service("web", 1, NODE_PORT, &[(0, 1), (1, 0)]));
    })?;
    // Nothing of a local stack comes by a wire, so checksums are complete; and a wire takes what XDP sends back, as the other end
    // of a veth does only if it runs XDP, too.
    let router = bed.cluster.router.as_ref().context("a router")?.netns();
    let takes_xdp = |device: &String| Foreign::attach_xdp(router, device);
    let _ports = devices(router)?.iter().map(takes_xdp).collect::<Result<Vec<_>>>()?;
    let nodes = bed.cluster.podlane.iter().map(|node| &node.netns);
    for netns in nodes.chain([router, &bed.outside.netns]) {
        for device in devices(netns)? {
            wire::set_offload(netns, &device, "tx", false)?;
        }
    }
    for node in &bed.cluster.podlane {
        has(node, "native", "as configured")?;
        for to in node.spec.addresses() {
            for protocol in [Protocol::Tcp, Protocol::Udp] {
                let to = (to, NODE_PORT).into();
                who::everyone(&bed.outside.netns, protocol, to, &["pod-0-1", "pod-1-0"])
                    .with_context(|| format!("{protocol:?} to {to}"))?;
            }
        }
    }
    Ok(())
}

/// Ends of wires in a namespace.
fn devices(netns: &Netns) -> Result<Vec<String>> {
    let devices: Value = serde_json::from_str(&netns.ip("-j link show type veth")?)?;
    let names = devices.as_array().into_iter().flatten().filter_map(|device| device["ifname"].as_str());
    Ok(names.map(str::to_owned).collect())
}
