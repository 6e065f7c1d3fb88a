//! Programs attached as filters of the `clsact` qdisc, as on kernels that have no TCX: packets go the same ways, through
//! restarts and changes of mode, beside other people's filters, and a cleanup leaves nothing.

use std::borrow::Cow;

use anyhow::{Context as _, Result, ensure};
use common::counters::{Hook, Reason};
use serde_json::Value;
use testbed::{
    bed::{Bed, FAMILIES, PROTOCOLS, SERVING, cluster_ip},
    cluster, command,
    config::Tc,
    foreign::{self, Direction},
    podlane_node::PodlaneNode,
    require, setup,
    spec::Route,
    traffic::{
        self,
        load::{Connections, Load},
        ping, who,
    },
};

const CLSACT: Option<Tc> = Some(Tc { mode: Cow::Borrowed("clsact") });
const NODE_PORT: u16 = 30_080;

/// The devices of a node's programs, with the program that is there.
fn hooks(node: &PodlaneNode) -> Result<Vec<(String, Direction, &'static str)>> {
    let mut hooks = vec![
        ("eth0".to_owned(), Direction::Ingress, "from_uplink"),
        ("podlane0".to_owned(), Direction::Egress, "from_host"),
    ];
    for pod in &node.pods {
        let device = node.host_device(&pod.name)?;
        hooks.push((device.clone(), Direction::Ingress, "from_pod"));
        hooks.push((device, Direction::Egress, "to_pod"));
    }
    Ok(hooks)
}

/// Number of the program that is the filter of a hook; none if there is no filter. TCX has nothing there.
fn filter(
    node: &PodlaneNode,
    (device, direction, program): &(String, Direction, &str),
) -> Result<Option<u32>> {
    let filters = foreign::filters(&node.netns, device, *direction)?;
    let name = format!("podlane/{}/{program}", node.spec.name);
    Ok(filters.into_iter().find(|(found, _)| *found == name).map(|(_, id)| id))
}

/// Asserts that the node's programs are filters, and nothing else, by the kernel's and the loader's word.
fn has_filters(node: &PodlaneNode) -> Result<()> {
    let status = node.verb_json("status")?;
    ensure!(status["facts"]["tc"]["way"] == "clsact", "{status}");
    let attached = status["attached"].as_array().context("no `attached`")?;
    for hook in hooks(node)? {
        let (device, direction, program) = &hook;
        let id = filter(node, &hook)?.with_context(|| format!("no filter {program} on {device}"))?;
        let told = attached.iter().find(|at| at["device"] == **device && at["program"] == *program);
        let told =
            told.with_context(|| format!("status does not tell of {program} on {device}: {status}"))?;
        ensure!(told["link_id"] == Value::Null && told["program_id"] == id, "{told}, and {id} runs");
        if foreign::has_tcx().is_ok() {
            let links = foreign::links(&node.netns, device, *direction)?;
            ensure!(links.is_empty(), "{device} has links of {links:?}, too");
        }
    }
    Ok(())
}

/// Adds a filter of classic BPF that says itself what becomes of a packet.
fn add_filter(node: &PodlaneNode, place: &str, program: &str) -> Result<()> {
    let mut tc = node.netns.command("tc");
    tc.args(["filter", "add"]).args(place.split(' ')).args(["bpf", "da", "bytecode", program]);
    command::output(&mut tc).map(drop)
}

/// Loads of every kind: between pods of a node and of two, to a service, and from outside to a node port.
struct Loads(Vec<Load>);

impl Loads {
    fn start(bed: &Bed) -> Result<Self> {
        let mut loads = Vec::new();
        for (ipv4, protocol) in FAMILIES.into_iter().zip(PROTOCOLS) {
            let pod = &bed.pod(0, 0).netns;
            loads.push(Load::start(pod, protocol, cluster_ip(1, ipv4), Connections::New)?);
            let node_port = who::at(&bed.node(0).spec.addresses(), ipv4, NODE_PORT)?;
            loads.push(Load::start(&bed.outside.netns, protocol, node_port, Connections::New)?);
            // No backend: of two connections, one to a service and one to its backend, a pod may choose the same port for both.
            let remote = who::at(&bed.pod(1, 1).ips(), ipv4, SERVING)?;
            loads.push(Load::start(pod, protocol, remote, Connections::One)?);
        }
        let loads = Self(loads);
        loads.go_on()?;
        Ok(loads)
    }

    fn go_on(&self) -> Result<()> {
        self.0.iter().try_for_each(|load| load.wait_for(20))
    }

    fn finish(self) -> Result<()> {
        for load in self.0 {
            let name = load.name().to_owned();
            let lost = load.finish()?.lost;
            ensure!(lost.is_empty(), "{name}: {} lost: {lost:#?}", lost.len());
        }
        Ok(())
    }
}

fn bed() -> Result<Bed> {
    Bed::start(&[2, 2], Route::Overlay, |facts, config| {
        config.tc = CLSACT;
        config.services.push(facts.node_port_service("web", 1, NODE_PORT, &[(0, 1), (1, 0)]));
    })
}

/// OP-3: every kind of packet takes the way that it takes by TCX.
#[test]
fn filters_carry_every_kind_of_traffic() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = bed()?;
    for number in [0, 1] {
        has_filters(bed.node(number)).with_context(|| format!("node {number}"))?;
    }
    let (from, here, there) = (bed.pod(0, 0), bed.pod(0, 1), bed.pod(1, 0));
    for to in [here, there] {
        for ip in to.ips() {
            traffic::every_kind(&from.netns, (&to.netns, ip))?;
        }
    }
    let servers = ["pod-0-1", "pod-1-0"];
    for ipv4 in FAMILIES {
        for protocol in PROTOCOLS {
            who::everyone(&from.netns, protocol, cluster_ip(1, ipv4), &servers)?;
            who::everyone(&bed.node(0).netns, protocol, cluster_ip(1, ipv4), &servers)?;
            let node_port = who::at(&bed.node(0).spec.addresses(), ipv4, NODE_PORT)?;
            who::everyone(&bed.outside.netns, protocol, node_port, &servers)?;
        }
    }
    bed.kernel_tracks_nothing()
}

/// OP-1: a loader that is killed leaves its filters at work, the next one puts its programs into them between two packets.
#[test]
fn restarts_lose_nothing() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = bed()?;
    let loads = Loads::start(&bed)?;
    for kill in [true, false] {
        let node = &mut bed.cluster.podlane[0];
        let running = |node: &PodlaneNode| -> Result<Vec<Option<u32>>> {
            hooks(node)?.iter().map(|hook| filter(node, hook)).collect()
        };
        let before = running(node)?;
        if kill {
            node.kill()?
        } else {
            node.stop()?
        };
        ensure!(running(node)? == before, "without a loader: {:?}, not {before:?}", running(node)?);
        loads.go_on()?;
        node.start_loader()?;
        let after = running(node)?;
        ensure!(
            after.iter().zip(&before).all(|(after, before)| after > before),
            "{before:?} became {after:?}"
        );
        has_filters(node)?;
        loads.go_on()?;
    }
    loads.finish()
}

/// OP-1: from filters to links and back, under load; the loader says what is in force.
#[test]
fn a_change_of_mode_loses_nothing() -> Result<()> {
    require!(setup::ready_with_loader());
    require!(foreign::has_tcx());
    let mut bed = bed()?;
    let loads = Loads::start(&bed)?;
    for mode in ["tcx", "clsact", "auto", "clsact"] {
        for node in &mut bed.cluster.podlane {
            node.config.tc = Some(Tc { mode: mode.into() });
            node.reload()?;
        }
        loads.go_on().with_context(|| format!("by {mode}"))?;
        let node = bed.node(0);
        if mode == "clsact" {
            has_filters(node)?;
            continue;
        }
        ensure!(node.verb_json("status")?["facts"]["tc"]["way"] == "tcx", "by {mode}");
        for hook in hooks(node)? {
            ensure!(filter(node, &hook)?.is_none(), "filter {hook:?} is left");
            ensure!(foreign::links(&node.netns, &hook.0, hook.1)?.len() == 1, "links of {hook:?}");
        }
    }
    loads.finish()
}

/// OP-4: filters of others run first, and stay.
#[test]
fn filters_of_others_run_first_and_stay() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::one_node().build()?;
    let node = &mut cluster.podlane[0];
    node.config.tc = CLSACT;
    node.start()?;
    let device = node.host_device(&node.pods[0].name)?;
    // Drops UDP to port 9 (the half-word at 36 of a frame), and has no opinion of the rest.
    add_filter(node, &format!("dev {device} ingress"), "4,40 0 0 36,21 0 1 9,6 0 0 2,6 0 0 4294967295")?;
    let (from, to) = (&node.pods[0], &node.pods[1]);
    ping(&from.netns, to.v4()?)?;
    let passed = || Ok::<_, anyhow::Error>(node.counters()?.packets(Hook::FromPod, Reason::ToPod));
    let before = passed()?;
    let sink = traffic::udp::bind(&to.netns, to.v4()?.into())?;
    let port = sink.local_addr()?.port();
    for (port, arrives) in [(9, false), (port, true)] {
        let socket = traffic::udp::connect(&from.netns, (to.v4()?, port).into())?;
        socket.send(b"to whom it may concern")?;
        if arrives {
            sink.recv(&mut [0; 64]).context("the datagram that nobody drops")?;
        }
    }
    let seen = passed()? - before;
    ensure!(seen == 1, "ours saw {seen} of two datagrams");
    node.kill()?;
    node.start_loader()?;
    let filters = node.netns.run(&format!("tc filter show dev {device} ingress"))?;
    ensure!(filters.contains("bytecode"), "after a restart: {filters}");
    let netns = &node.netns;
    ensure!(foreign::filters(netns, &device, Direction::Ingress)?.len() == 1);
    Ok(())
}

/// Bad input: somebody's filter where ours goes stays what it is, and the loader says whose place it is.
#[test]
fn a_taken_place_is_refused() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::one_node().build()?;
    let node = &mut cluster.podlane[0];
    node.config.tc = CLSACT;
    node.netns.run("tc qdisc add dev eth0 clsact")?;
    add_filter(node, "dev eth0 ingress prio 50000 handle 1", "1,6 0 0 4294967295")?;
    let there = node.netns.run("tc filter show dev eth0 ingress")?;
    node.write_config()?;
    let config = node.config_path();
    let answer = node.verb(&["run", "--config", &config.to_string_lossy()])?;
    ensure!(answer.code == 1, "ended with {}", answer.code);
    ensure!(answer.stderr.contains("of device eth0 is where Podlane's goes"), "{}", answer.stderr);
    ensure!(node.netns.run("tc filter show dev eth0 ingress")? == there, "the filter has changed");
    Ok(())
}

/// Principle 6: the cleanup takes the filters away, also those of a loader that was killed.
#[test]
fn cleanup_removes_the_filters() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::one_node().build()?;
    let node = &mut cluster.podlane[0];
    node.config.tc = CLSACT;
    node.start()?;
    has_filters(node)?;
    node.kill()?;
    let answer = node.cleanup()?;
    ensure!(answer.code == 0, "ended with {}: {}", answer.code, answer.stderr);
    let left = foreign::programs(&node.netns, "eth0", Direction::Ingress)?;
    ensure!(left.is_empty(), "{left:?} is left");
    node.start()?;
    ping(&node.pods[0].netns, node.pods[1].v4()?)?;
    Ok(())
}
