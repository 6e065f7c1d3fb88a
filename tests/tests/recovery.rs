//! Forwarding outlives the loader, and the loader finds its way back: killed, stopped, started twice, reloaded, and what a
//! cleanup leaves.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use testbed::{
    cluster::{self, Cluster},
    flows,
    foreign::{self, Direction},
    podlane_node::PodlaneNode,
    require, setup,
    traffic::{self, Ping, conversation::Conversation, ping},
};

/// Conversations over every path of a node: same node, other node, node to pod.
struct Conversations(Vec<(&'static str, Conversation)>);

impl Conversations {
    fn start(cluster: &Cluster) -> Result<Self> {
        let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
        let (own, beside, remote) = (&here.pods[0], &here.pods[1], &there.pods[0]);
        Ok(Self(vec![
            ("same node", Conversation::start(&own.netns, (&beside.netns, beside.v4()?.into()))?),
            ("other node", Conversation::start(&own.netns, (&remote.netns, remote.v4()?.into()))?),
            ("other node, IPv6", Conversation::start(&own.netns, (&remote.netns, remote.v6()?.into()))?),
            ("node to pod", Conversation::start(&here.netns, (&own.netns, own.v4()?.into()))?),
        ]))
    }

    fn go_on(&self) -> Result<()> {
        self.0.iter().try_for_each(|(case, conversation)| conversation.wait_for(20).context(*case))
    }

    /// Ends them; nothing may have been lost.
    fn finish(self) -> Result<()> {
        for (case, conversation) in self.0 {
            let seen = conversation.finish().context(case)?;
            ensure!(seen.lost == 0, "{case}: {seen:?}");
        }
        Ok(())
    }
}

/// Principle 6, OP-1 in part: killed and started again under load, the loader loses no packet.
#[test]
fn a_killed_loader_loses_nothing() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::two_nodes().start()?;
    let conversations = Conversations::start(&cluster)?;
    let (from, to) = (&cluster.podlane[0].pods[1].netns, cluster.podlane[1].pods[1].v4()?);
    let pinging = Ping { count: 250, interval: 12, ..Ping::default() }.start(from, to.into())?;
    for _ in 0..3 {
        conversations.go_on()?;
        cluster.podlane[0].kill()?;
        conversations.go_on().context("without a loader")?;
        cluster.podlane[0].start_loader()?;
        conversations.go_on().context("with a new loader")?;
    }
    conversations.finish()?;
    pinging.must_have_reached()?;
    Ok(())
}

/// Principle 6: stopped in order, the loader leaves the node forwarding, also for connections that begin later.
#[test]
fn a_stopped_loader_leaves_the_node_forwarding() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::two_nodes().start()?;
    let conversations = Conversations::start(&cluster)?;
    for node in &mut cluster.podlane {
        let code = node.stop()?;
        ensure!(code == Some(0), "the loader ended with {code:?}");
    }
    conversations.go_on()?;
    let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
    for ip in there.pods[0].ips() {
        traffic::every_kind(&here.pods[0].netns, (&there.pods[0].netns, ip))?;
    }
    conversations.finish()
}

/// Principle 6: each restart updates the links in place: one program on each hook, the same device, the same slot.
#[test]
fn restarts_leave_one_program_on_each_hook() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::one_node().start()?;
    let node = &mut cluster.podlane[0];
    let devices = |node: &PodlaneNode| -> Result<Vec<(String, Direction)>> {
        let mut devices =
            vec![("eth0".to_owned(), Direction::Ingress), ("podlane0".to_owned(), Direction::Egress)];
        for pod in &node.pods {
            let device = node.host_device(&pod.name)?;
            devices.extend([(device.clone(), Direction::Ingress), (device, Direction::Egress)]);
        }
        Ok(devices)
    };
    let before = (devices(node)?, node.state()?["pods"].clone());
    for _ in 0..3 {
        node.kill()?;
        node.start_loader()?;
    }
    ensure!(
        before == (devices(node)?, node.state()?["pods"].clone()),
        "pods have moved: {:?}",
        node.state()?
    );
    for (device, direction) in before.0 {
        let programs = foreign::programs(&node.netns, &device, direction)?;
        ensure!(programs.len() == 1, "{device} {direction:?} has programs {programs:?}");
    }
    Ok(())
}

/// Bad input: a second loader for the same node is refused with the pid of the first, which goes on.
#[test]
fn a_second_loader_is_refused() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::one_node().start()?;
    let node = &mut cluster.podlane[0];
    let pid = node.loader()?.pid();
    let config = node.config_path();
    let answer = node.verb(&["run", "--config", &config.to_string_lossy()])?;
    ensure!(answer.code == 1, "the second loader ended with {}: {}", answer.code, answer.stderr);
    ensure!(answer.stderr.contains(&pid.to_string()), "{} does not name pid {pid}", answer.stderr);
    ensure!(node.loader()?.is_alive(), "the first loader ended");
    ping(&node.pods[0].netns, node.pods[1].v4()?)?;
    Ok(())
}

/// OP-1 in part: maps of another size are made anew under load, and nothing is lost.
#[test]
fn maps_of_another_size_lose_nothing() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::two_nodes().start()?;
    let conversations = Conversations::start(&cluster)?;
    for size in [512, 2048] {
        let node = &mut cluster.podlane[0];
        node.stop()?;
        for map in ["pods", "flows"] {
            node.config.maps.insert(map.to_owned(), size);
        }
        node.start()?;
        ensure!(flows::places(&node.pins())? == size, "room for another number of flows");
        conversations.go_on().with_context(|| format!("with room for {size} pods"))?;
    }
    conversations.finish()
}

/// OP-1: a build whose entries mean something else than those of the build before gets maps of its own for them, under load, and
/// nothing is lost. The build before is this one without what says whose the pinned maps are.
#[test]
fn maps_of_the_build_before_lose_nothing() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::two_nodes().start()?;
    let conversations = Conversations::start(&cluster)?;
    for turn in 0..2 {
        let node = &mut cluster.podlane[0];
        node.stop()?;
        fs::remove_file(node.pins().join("revisions")).context("the revisions of the pinned maps")?;
        node.start()?;
        let log = node.loader()?.log();
        ensure!(log.contains("map routes4 is made anew"), "turn {turn}: {log}");
        conversations.go_on().with_context(|| format!("turn {turn}"))?;
    }
    conversations.finish()
}

/// Principle 6: the cleanup takes everything away that is Podlane's, and nothing else; twice does no harm.
#[test]
fn cleanup_leaves_nothing() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::two_nodes().build()?;
    let node = &mut cluster.podlane[0];
    let facts = |node: &PodlaneNode| -> Result<Vec<String>> {
        let mut facts = Vec::new();
        for command in [
            "ip -br link",
            "ip -br addr",
            "ip route",
            "ip -6 route",
            "ip rule",
            "ip neigh show nud permanent",
        ] {
            let mut lines: Vec<String> =
                node.netns.run(command)?.lines().map(|line| line.trim_end().to_owned()).collect();
            lines.sort();
            facts.extend(lines);
        }
        for pod in &node.pods {
            facts.push(pod.netns.run("ip -br link")?);
        }
        Ok(facts)
    };
    let before = facts(node)?;
    node.start()?;
    ensure!(
        node.pins().exists() && node.run_directory().exists(),
        "nothing is pinned while the node is served"
    );
    for round in 1..=2 {
        let answer = node.cleanup()?;
        ensure!(answer.code == 0, "cleanup {round} ended with {}: {}", answer.code, answer.stderr);
        ensure!(!node.pins().exists(), "{} is left", node.pins().display());
        ensure!(!node.run_directory().exists(), "{} is left", node.run_directory().display());
        let after = facts(node)?;
        ensure!(before == after, "before {before:#?}, after {after:#?}");
    }
    node.start()?;
    ping(&node.pods[0].netns, node.pods[1].v4()?)?;
    Ok(())
}

/// Bad input: the cleanup of a node whose loader still runs does not pull the dataplane from under it unasked.
#[test]
fn cleanup_under_a_running_loader_is_refused() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::one_node().start()?;
    let node = &mut cluster.podlane[0];
    let answer = node.verb(&["cleanup", "--node", &node.spec.name])?;
    ensure!(answer.code == 1, "cleanup ended with {}: {}{}", answer.code, answer.stdout, answer.stderr);
    let pid = node.loader()?.pid();
    ensure!(answer.stderr.contains(&pid.to_string()), "{} does not name pid {pid}", answer.stderr);
    ping(&node.pods[0].netns, node.pods[1].v4()?)?;
    Ok(())
}

/// Reloads under load: pods and peers that stay lose nothing while others come and go.
#[test]
fn reloads_disturb_nobody_else() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::two_nodes().start()?;
    let conversations = Conversations::start(&cluster)?;
    let node = &mut cluster.podlane[0];
    for number in 0..5 {
        let cidr = format!("10.201.{number}.0/24").parse()?;
        let mut peer = node.config.peers[0].clone();
        peer.name = format!("extra-{number}");
        peer.address = vec![format!("10.240.0.{}", 100 + number).parse()?];
        peer.pod_cidr = vec![cidr];
        peer.vtep_mac = format!("02:00:00:00:00:{number:02x}");
        node.config.peers.push(peer);
        node.reload()?;
        conversations.go_on()?;
    }
    node.config.peers.truncate(1);
    node.reload()?;
    conversations.go_on()?;
    node.loader()?.signal(Signal::SIGHUP)?;
    conversations.finish()
}
