//! Devices that go and come, namespaces that are late, and programs of others on the same hooks.

use anyhow::{Context as _, Result, ensure};
use testbed::{
    cluster,
    config::Tc,
    foreign::{self, Direction, Foreign},
    netns::Netns,
    podlane_node::PodlaneNode,
    require, setup,
    traffic::{self, Ping, ping},
    wait, wire,
};

/// OP-4: a pod's device that somebody deletes is made again and the pod is reached.
#[test]
fn a_deleted_pod_device_comes_back() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().start()?;
    let (node, far) = (&cluster.podlane[0], &cluster.podlane[1]);
    let device = node.host_device(&node.pods[0].name)?;
    node.netns.ip(&format!("link del {device}"))?;
    for ip in node.pods[0].ips() {
        comes_back(&far.pods[0].netns, ip)?;
        comes_back(&node.pods[1].netns, ip)?;
    }
    Ok(())
}

/// OP-4: the gateway device comes back with its addresses and routes.
#[test]
fn a_deleted_gateway_device_comes_back() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().start()?;
    let (node, far) = (&cluster.podlane[0], &cluster.podlane[1]);
    node.netns.ip("link del podlane0")?;
    for ip in far.pods[0].ips() {
        comes_back(&node.netns, ip)?;
    }
    for ip in node.pods[0].ips() {
        comes_back(&node.netns, ip)?;
        comes_back(&node.pods[1].netns, ip)?;
    }
    Ok(())
}

/// OP-4: an uplink that goes while the loader runs is said to be gone; pods of the node go on; it is used again when it
/// is back.
#[test]
fn a_vanished_uplink_is_used_again() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::two_nodes().start()?;
    let node = &mut cluster.podlane[0];
    node.netns.ip("link del eth0")?;
    wait::until("the loader to report the uplink as gone", || {
        let problems = node.state()?["problems"].to_string();
        Ok(problems.contains("eth0").then_some(()))
    })?;
    ping(&node.pods[0].netns, node.pods[1].v4()?)?;
    ensure!(node.loader()?.is_alive(), "the loader ended");
    let switch = cluster.switch.as_mut().context("a switch")?;
    switch.plug(&node.netns, "eth0")?;
    for address in &node.spec.underlay {
        wire::add_address(&node.netns, "eth0", *address)?;
    }
    let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
    for ip in there.pods[0].ips() {
        comes_back(&here.pods[0].netns, ip)?;
    }
    wait::until("the loader to have no problems", || {
        Ok(here.state()?["problems"].as_array().is_none_or(Vec::is_empty).then_some(()))
    })
}

fn comes_back(from: &Netns, to: std::net::IpAddr) -> Result<()> {
    wait::until(&format!("{to} to be reached from {}", from.name()), || {
        let report = Ping { count: 1, ..Ping::default() }.run(from, to)?;
        Ok((report.received == 1).then_some(()))
    })
}

/// Bad input: a pod whose namespace is not there yet waits for it, and nobody else waits for the pod.
#[test]
fn a_missing_namespace_is_waited_for() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::one_node().build()?;
    let node = &mut cluster.podlane[0];
    let late = node.config.pods[2].clone();
    node.config.pods[2].netns = format!("/run/netns/pl{}-late", std::process::id()).into();
    node.write_config()?;
    let connected = node.config.pods.split_off(2);
    node.start_loader()?;
    ping(&node.pods[0].netns, node.pods[1].v4()?)?;
    let waiting = node.state()?["waiting"].to_string();
    ensure!(waiting.contains(&late.name), "{waiting} does not name {}", late.name);
    let netns = Netns::with_name(&format!("pl{}-late", std::process::id()))?;
    node.config.pods.extend(connected);
    node.wait_for_pods()?;
    for ip in node.pods[2].ips() {
        ping(&node.pods[0].netns, ip)?;
    }
    drop(netns);
    Ok(())
}

/// Bad input: pins that a crash has left, of devices that are gone, don't keep a new loader from serving the node.
#[test]
fn stale_pins_are_no_obstacle() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::one_node().start()?;
    let node = &mut cluster.podlane[0];
    node.kill()?;
    for pod in &node.pods {
        node.netns.ip(&format!("link del {}", node.host_device(&pod.name)?))?;
    }
    node.netns.ip("link del podlane0")?;
    ensure!(node.pins().join("maps").exists() || node.pins().exists(), "no pins were left");
    node.start_loader()?;
    for ip in node.pods[1].ips() {
        traffic::every_kind(&node.pods[0].netns, (&node.pods[1].netns, ip))?;
    }
    Ok(())
}

/// OP-4: other people's programs on the hooks keep running, before and after ours, through restarts, reloads and the
/// cleanup, in their order.
#[test]
fn other_programs_stay_on_their_hooks() -> Result<()> {
    require!(setup::ready_with_loader());
    require!(foreign::has_tcx());
    let stats = foreign::count_runs()?;
    let mut cluster = cluster::two_nodes().quiet().build()?;
    let node = &mut cluster.podlane[0];
    // By filters: `clsact::filters_of_others_run_first_and_stay`.
    node.config.tc = Some(Tc { mode: "tcx".into() });
    let early = Foreign::attach(&node.netns, "eth0", Direction::Ingress)?;
    node.netns.run("tc qdisc add dev eth0 clsact")?;
    for node in &mut cluster.podlane {
        node.start()?;
    }
    let (first, second) = cluster.podlane.split_at_mut(1);
    let (node, far) = (&mut first[0], &second[0]);
    let device = node.host_device(&node.pods[0].name)?;
    let late = Foreign::attach(&node.netns, &device, Direction::Egress)?;
    let order = |node: &PodlaneNode| -> Result<Vec<usize>> {
        let on_uplink = foreign::programs(&node.netns, "eth0", Direction::Ingress)?;
        let on_pod = foreign::programs(&node.netns, &device, Direction::Egress)?;
        let place =
            |programs: &[u32], id: u32| programs.iter().position(|at| *at == id).context("a program is gone");
        Ok(vec![on_uplink.len(), place(&on_uplink, early.id()?)?, on_pod.len(), place(&on_pod, late.id()?)?])
    };
    let before = order(node)?;
    ensure!(before == [2, 0, 2, 1], "{before:?}");
    for step in ["as attached", "restarted", "reloaded"] {
        match step {
            "restarted" => {
                node.kill()?;
                node.start_loader()?;
            }
            "reloaded" => node.reload()?,
            _ => {}
        }
        let runs = early.runs()?;
        Ping { count: 10, interval: 2, ..Ping::default() }
            .must_reach(&far.pods[0].netns, node.pods[0].v4()?.into())?;
        ensure!(
            early.runs()? >= runs + 10,
            "{step}: the program before ours ran {} times",
            early.runs()? - runs
        );
        let runs = late.runs()?;
        Ping { count: 10, interval: 2, ..Ping::default() }
            .must_reach(&node.netns, node.pods[0].v4()?.into())?;
        ensure!(
            late.runs()? >= runs + 10,
            "{step}: the program behind ours ran {} times",
            late.runs()? - runs
        );
        ensure!(order(node)? == before, "{step}: {:?} instead of {before:?}", order(node)?);
    }
    node.cleanup()?;
    let left = foreign::programs(&node.netns, "eth0", Direction::Ingress)?;
    ensure!(left == [early.id()?], "{left:?} after the cleanup");
    ensure!(node.netns.run("tc qdisc show dev eth0")?.contains("clsact"), "the clsact qdisc is gone");
    drop(stats);
    Ok(())
}
