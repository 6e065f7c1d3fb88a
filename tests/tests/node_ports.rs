//! Services called from outside the cluster, and at the nodes' own addresses.

#[path = "node_ports/answers.rs"]
mod answers;

use std::{
    collections::BTreeSet,
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use testbed::{
    address,
    bed::{Bed, FAMILIES, Facts, NODE_SERVING, PROTOCOLS, SERVING, cluster_ip, external_ip},
    config::{Affinity, Algorithm, HostPort, Policy, Protocol, Service, ServicePort},
    netns::Netns,
    outside::Outside,
    require, setup,
    spec::Route,
    traffic::who::{self, Session},
    wire,
};

const NAME: &str = "default/web";
const NODE_PORT: u16 = 30_080;
/// Longer than a way to a peer is taken as it is (`common::hops`, at the slowest clock that a kernel has).
const A_WAY_IS_OLD: Duration = Duration::from_millis(700);

/// A service with everything: its own address, a node port, an address in the world outside, one of a load balancer.
fn everything(facts: &Facts, pods: &[(usize, usize)]) -> Service {
    let mut service = facts.node_port_service("web", 1, NODE_PORT, pods);
    service.external_ip = address::external_ips(1).to_vec();
    service.load_balancer_ip = address::external_ips(2).to_vec();
    service
}

fn node_port(bed: &Bed, node: usize, ipv4: bool) -> Result<SocketAddr> {
    who::at(&bed.node(node).spec.addresses(), ipv4, NODE_PORT)
}

/// Asks until every one of these servers has answered: each has to see its client as `expected` says.
fn seen_by_each(
    netns: &Netns,
    (protocol, to): (Protocol, SocketAddr),
    servers: &[&str],
    expected: impl Fn(&str) -> Result<IpAddr>,
) -> Result<()> {
    let mut seen_by = BTreeSet::new();
    // Of two backends, one that is not met in so many tries is not there.
    for _ in 0..200 {
        let mut session = Session::open(netns, protocol, to)?;
        let size = if protocol == Protocol::Tcp { 1 << 20 } else { 1300 };
        let seen = session.exchange(size, size)?;
        let client = expected(&seen.server)?;
        ensure!(seen.client.ip() == client, "seen by {} as {} instead of {client}", seen.server, seen.client);
        seen_by.insert(seen.server);
        if seen_by.len() == servers.len() {
            break;
        }
    }
    ensure!(seen_by.iter().eq(servers), "only {seen_by:?} answered");
    Ok(())
}

/// NP-1, NP-2, NP-5, NP-6: an outside client reaches local and remote backends through any node, by every kind of frontend. A local
/// backend sees the client itself, a remote one the node that the client called, and nobody on the way translates again.
fn outside_clients(route: Route) -> Result<()> {
    let bed = Bed::start(&[2, 2], route, |facts, config| {
        config.services.push(everything(facts, &[(0, 1), (1, 0)]));
    })?;
    let outside = &bed.outside;
    for node in [0, 1] {
        bed.lead(&address::external_ips(1), node)?;
        bed.lead(&address::external_ips(2), node)?;
        for (ipv4, cidr) in FAMILIES.into_iter().zip(&bed.node(node).spec.pod_cidrs) {
            let local = ["pod-0-1", "pod-1-0"][node];
            for to in [node_port(&bed, node, ipv4)?, external_ip(1, ipv4), external_ip(2, ipv4)] {
                for protocol in PROTOCOLS {
                    let case = || format!("{protocol:?} to {to} at worker-{node}, {route:?}");
                    let client = outside.address_like(to.ip())?;
                    seen_by_each(&outside.netns, (protocol, to), &["pod-0-1", "pod-1-0"], |server| {
                        Ok(if server == local { client } else { cidr.network() })
                    })
                    .with_context(case)?;
                }
            }
        }
    }
    bed.kernel_tracks_nothing()
}

#[test]
fn outside_clients_call_through_any_node() -> Result<()> {
    require!(setup::ready_with_loader());
    outside_clients(Route::Overlay)
}

#[test]
fn outside_clients_call_over_direct_routes() -> Result<()> {
    require!(setup::ready_with_loader());
    outside_clients(Route::Direct)
}

/// NP-2, SV-12: outside clients and backends in the nodes' own network, this node's and another's.
#[test]
fn outside_clients_reach_host_network_backends() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = Bed::two_nodes(|facts, config| {
        let port = |protocol| {
            ServicePort::new(protocol, 80).node_port(NODE_PORT).backends(facts.nodes.concat(), NODE_SERVING)
        };
        let service = Service::new(NAME, &address::cluster_ips(1));
        config.services.push(service.with(port(Protocol::Tcp)).with(port(Protocol::Udp)));
    })?;
    for node in [0, 1] {
        for ipv4 in FAMILIES {
            for protocol in PROTOCOLS {
                let to = node_port(&bed, node, ipv4)?;
                who::everyone(&bed.outside.netns, protocol, to, &["worker-0", "worker-1"])
                    .with_context(|| format!("{protocol:?} to {to}"))?;
            }
        }
    }
    Ok(())
}

/// NP-6, NP-7: pods and nodes call node ports, of their own node and of another. A backend sees a pod itself and the node under one of
/// its own addresses, unless another node was called, whose answers have to come back by it: then that one's, but for its own backends.
#[test]
fn pods_and_nodes_call_node_ports() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = Bed::two_nodes(|facts, config| config.services.push(everything(facts, &[(0, 1), (1, 0)])))?;
    bed.cluster.as_on_a_wire()?;
    let servers = ["pod-0-1", "pod-1-0"];
    for ipv4 in FAMILIES {
        let loopback = |node: usize| -> Result<IpAddr> {
            let cidrs = &bed.node(node).spec.pod_cidrs;
            Ok(cidrs.iter().find(|cidr| cidr.addr().is_ipv4() == ipv4).context("a pod CIDR")?.network())
        };
        let pod = who::at(&bed.pod(0, 0).ips(), ipv4, 0)?.ip();
        let node = who::at(&bed.node(0).spec.addresses(), ipv4, 0)?.ip();
        let gateway = bed.node(0).spec.gateway(pod).context("a gateway")?;
        // By node port the node comes from its own address, to everything else from the gateway's.
        let sources = [(pod, pod), (node, gateway)];
        for (caller, (at_node_port, elsewhere)) in sources.into_iter().enumerate() {
            let (name, netns) = bed.callers_inside()[caller];
            for protocol in PROTOCOLS {
                for (called, local) in servers.into_iter().enumerate() {
                    let to = node_port(&bed, called, ipv4)?;
                    seen_by_each(netns, (protocol, to), &servers, |server| {
                        let itself = server == local || (caller, called) == (0, 0);
                        if itself { Ok(at_node_port) } else { loopback(called) }
                    })
                    .with_context(|| format!("{name}, {protocol:?} to {to}"))?;
                }
                for to in [external_ip(1, ipv4), external_ip(2, ipv4)] {
                    seen_by_each(netns, (protocol, to), &servers, |_| Ok(elsewhere))
                        .with_context(|| format!("{name}, {protocol:?} to {to}"))?;
                }
            }
        }
    }
    // A pod's own service at its own node's port.
    for ipv4 in FAMILIES {
        who::everyone(
            &bed.pod(0, 1).netns,
            Protocol::Tcp,
            node_port(&bed, 0, ipv4)?,
            &["pod-0-1", "pod-1-0"],
        )?;
    }
    Ok(())
}

/// NP-7, OV-1: out of one tunnel and into the next goes what is of either family, also when the way is not known for the moment and the
/// kernel has to route the new tunnel's packet.
#[test]
fn packets_of_both_families_go_from_tunnel_to_tunnel() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = Bed::two_nodes(|facts, config| config.services.push(everything(facts, &[(0, 1)])))?;
    bed.cluster.as_on_a_wire()?;
    // By the other node and back to a pod of this one.
    let caller = &bed.pod(0, 0).netns;
    for ipv4 in FAMILIES {
        let to = node_port(&bed, 1, ipv4)?;
        for protocol in PROTOCOLS {
            let mut session = Session::open(caller, protocol, to)?;
            session.ask()?;
            std::thread::sleep(A_WAY_IS_OLD);
            let size = if protocol == Protocol::Tcp { 1 << 20 } else { 1300 };
            session.exchange(size, size).with_context(|| format!("{protocol:?} to {to}"))?;
        }
    }
    Ok(())
}

/// NP-6, SV-7: with the external policy Local a node gives outside clients its own backends only, as the clients they are, and
/// without any it is silent; whoever is inside still gets everybody.
#[test]
fn the_external_policy_local_keeps_to_the_node() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = Bed::two_nodes(|facts, config| {
        let mut service = everything(facts, &[(1, 0), (1, 1)]);
        service.external_traffic_policy = Some(Policy::Local);
        config.services.push(service);
    })?;
    let addresses = [address::external_ips(1), address::external_ips(2)].concat();
    let callers = |bed: &Bed, node, ipv4| -> Result<Vec<SocketAddr>> {
        bed.lead(&addresses, node)?;
        Ok(vec![node_port(bed, node, ipv4)?, external_ip(1, ipv4), external_ip(2, ipv4)])
    };
    let before = bed.node(0).counters()?;
    for ipv4 in FAMILIES {
        for to in callers(&bed, 1, ipv4)? {
            for protocol in PROTOCOLS {
                who::everyone(&bed.outside.netns, protocol, to, &["pod-1-0", "pod-1-1"])?;
                let seen = who::ask(&bed.outside.netns, protocol, to)?;
                ensure!(seen.client.ip() == bed.outside.address_like(to.ip())?, "seen as {}", seen.client);
            }
        }
        for to in callers(&bed, 0, ipv4)? {
            for protocol in PROTOCOLS {
                who::silent(&bed.outside.netns, protocol, to)?;
            }
        }
        let pod = who::at(&bed.pod(0, 0).ips(), ipv4, 0)?.ip();
        let gateway = bed.node(0).spec.gateway(pod).context("a gateway")?;
        let cidr =
            bed.node(0).spec.pod_cidrs.iter().find(|cidr| cidr.contains(&pod)).context("a pod CIDR")?;
        for (caller, netns) in bed.callers_inside() {
            let at_node = node_port(&bed, 0, ipv4)?;
            for to in [at_node, external_ip(1, ipv4), external_ip(2, ipv4), cluster_ip(1, ipv4)] {
                // As whoever it is; the node's own address has answers come past its programs, and is not for other nodes' pods.
                let client = match caller {
                    "a pod" => pod,
                    _ if to == at_node => cidr.network(),
                    _ => gateway,
                };
                seen_by_each(netns, (Protocol::Tcp, to), &["pod-1-0", "pod-1-1"], |_| Ok(client))
                    .with_context(|| format!("{caller} to {to}"))?;
            }
        }
        // Another node's pod comes in the tunnel, and is inside, too.
        for protocol in PROTOCOLS {
            let to = node_port(&bed, 0, ipv4)?;
            who::everyone(&bed.pod(1, 0).netns, protocol, to, &["pod-1-0", "pod-1-1"])
                .with_context(|| format!("another node's pod to {to}"))?;
        }
    }
    let counted = bed.node(0).counters()?.since(&before);
    ensure!(counted.get("from_uplink/no_local_backend") >= Some(&12), "{counted:?}");
    // None anywhere: told, not silent.
    bed.change_service(NAME, |service| service.ports.iter_mut().for_each(|port| port.backends.clear()))?;
    for ipv4 in FAMILIES {
        for to in callers(&bed, 0, ipv4)? {
            for protocol in PROTOCOLS {
                who::refused(&bed.outside.netns, protocol, to)?;
            }
        }
    }
    Ok(())
}

/// SV-5: a client outside whose connection this node translates is reset when its backend goes, wherever that was; its datagrams go to
/// another one at once.
#[test]
fn an_outside_client_is_told_when_its_backend_goes() -> Result<()> {
    require!(setup::ready_with_loader());
    for removed in [(0, 1), (1, 0)] {
        let mut bed = Bed::two_nodes(|facts, config| config.services.push(everything(facts, &[removed])))?;
        bed.lead(&[address::external_ips(1), address::external_ips(2)].concat(), 0)?;
        let mut sessions = Vec::new();
        for ipv4 in FAMILIES {
            for to in [node_port(&bed, 0, ipv4)?, external_ip(1, ipv4), external_ip(2, ipv4)] {
                for protocol in PROTOCOLS {
                    let mut session = Session::open(&bed.outside.netns, protocol, to)?;
                    session.ask()?;
                    sessions.push((protocol, to, session));
                }
            }
        }
        let before = bed.node(0).counters()?;
        let other = bed.facts().addresses(&[(1, 1)]);
        bed.change_service(NAME, |service| {
            for port in &mut service.ports {
                port.backends.clear();
                *port = port.clone().backends(other.clone(), SERVING);
            }
        })?;
        for (protocol, to, session) in &mut sessions {
            let case = || format!("{protocol:?} to {to}, {removed:?} gone");
            match protocol {
                Protocol::Tcp => session.must_be_reset().with_context(case)?,
                _ => ensure!(session.ask().with_context(case)?.server == "pod-1-1", "{}: it stayed", case()),
            }
            who::everyone(&bed.outside.netns, *protocol, *to, &["pod-1-1"]).with_context(case)?;
        }
        let counted = bed.node(0).counters()?.since(&before);
        for reason in ["backend_gone", "tcp_reset"] {
            ensure!(counted.get(&format!("from_uplink/{reason}")) >= Some(&6), "{counted:?}");
        }
    }
    Ok(())
}

/// SV-8: a client keeps its backend by whatever address of the service it comes, from outside and from a pod, and when there are more
/// backends to choose from.
#[test]
fn a_client_keeps_its_backend_at_every_address() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = Bed::two_nodes(|facts, config| {
        let mut service = facts.node_port_service("web", 1, NODE_PORT, &[(0, 1), (1, 0)]);
        service.affinity = Some(Affinity { client_ip_seconds: 600 });
        service.algorithm = Some(Algorithm::Random);
        config.services.push(service);
    })?;
    let ask = |bed: &Bed| -> Result<Vec<String>> {
        let mut kept = Vec::new();
        for ipv4 in FAMILIES {
            let at_node = node_port(bed, 0, ipv4)?;
            for (netns, addresses) in [
                (&bed.outside.netns, &[at_node][..]),
                (&bed.pod(0, 0).netns, &[at_node, cluster_ip(1, ipv4)]),
            ] {
                for protocol in PROTOCOLS {
                    let mut servers = BTreeSet::new();
                    for to in addresses.iter().cycle().take(20) {
                        servers.insert(who::ask(netns, protocol, *to)?.server);
                    }
                    ensure!(
                        servers.len() == 1,
                        "{protocol:?} from {} to {addresses:?}: {servers:?}",
                        netns.name()
                    );
                    kept.extend(servers);
                }
            }
        }
        Ok(kept)
    };
    let kept = ask(&bed)?;
    let more = bed.facts().addresses(&[(0, 2), (1, 1)]);
    bed.change_service(NAME, |service| {
        for port in &mut service.ports {
            *port = port.clone().backends(more.clone(), SERVING);
        }
    })?;
    let still = ask(&bed).context("with two backends more")?;
    ensure!(still == kept, "{kept:?} first, with two backends more {still:?}");
    Ok(())
}

/// SV-13: an outside client at a service address with a port that no service has is refused; other ports of the node are the
/// node's.
#[test]
fn undefined_ports_are_refused_outside_too() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = Bed::two_nodes(|facts, config| config.services.push(everything(facts, &[(0, 1)])))?;
    bed.lead(&address::external_ips(1), 0)?;
    for ipv4 in FAMILIES {
        for protocol in PROTOCOLS {
            let mut to = external_ip(1, ipv4);
            to.set_port(81);
            who::refused(&bed.outside.netns, protocol, to)?;
            let node = who::at(&bed.node(0).spec.addresses(), ipv4, NODE_SERVING)?;
            who::everyone(&bed.outside.netns, protocol, node, &["worker-0"])?;
            let closed = who::at(&bed.node(0).spec.addresses(), ipv4, NODE_PORT + 1)?;
            who::refused(&bed.outside.netns, protocol, closed)?;
        }
    }
    Ok(())
}

/// SV-14: source ranges hold at the load balancer's address, for outside clients, pods and nodes; not at the others.
#[test]
fn source_ranges_hold_at_the_load_balancers_address() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = Bed::two_nodes(|facts, config| {
        let mut service = everything(facts, &[(0, 1), (1, 0)]);
        // The first host outside, overlapping, and one pod.
        let ranges = [
            "198.51.100.0/24",
            "198.51.100.8/29",
            "2001:db8:51::/64",
            "10.200.0.10/32",
            "fd00:10:200::a/128",
        ];
        service.source_ranges = ranges.iter().filter_map(|range| range.parse().ok()).collect();
        config.services.push(service);
    })?;
    let router = bed.cluster.router.as_mut().context("a router")?;
    let stranger = Outside::new(Netns::new("stranger")?, router, 1)?;
    bed.lead(&[address::external_ips(1), address::external_ips(2)].concat(), 0)?;
    let before = bed.node(0).counters()?;
    for ipv4 in FAMILIES {
        for protocol in PROTOCOLS {
            let limited = external_ip(2, ipv4);
            let names = ["pod-0-1", "pod-1-0"];
            who::everyone(&bed.outside.netns, protocol, limited, &names)?;
            who::silent(&stranger.netns, protocol, limited)?;
            who::everyone(&bed.pod(0, 0).netns, protocol, limited, &names)?;
            who::silent(&bed.pod(0, 1).netns, protocol, limited)?;
            who::silent(&bed.node(0).netns, protocol, limited)?;
            for free in [external_ip(1, ipv4), node_port(&bed, 0, ipv4)?] {
                who::everyone(&stranger.netns, protocol, free, &names)?;
            }
        }
    }
    let counted = bed.node(0).counters()?.since(&before);
    for hook in ["from_pod", "from_uplink", "from_host"] {
        ensure!(counted.get(&format!("{hook}/source_range")) >= Some(&4), "{counted:?}");
    }
    bed.change_service(NAME, |service| service.source_ranges.clear())?;
    who::everyone(&stranger.netns, Protocol::Tcp, external_ip(2, true), &["pod-0-1", "pod-1-0"])
}

/// NP-9: whatever type a service had, nothing of it is left when it has another.
#[test]
fn a_changed_type_leaves_no_old_frontend() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = Bed::two_nodes(|facts, config| config.services.push(facts.service("web", 1, &[(0, 1)])))?;
    bed.lead(&[address::external_ips(1), address::external_ips(2)].concat(), 0)?;
    let types = [
        [true, true, false],
        [false, false, false],
        [true, false, true],
        [false, true, true],
        [true, false, false],
        [false, false, true],
        [false, true, false],
    ];
    for wanted @ [node_port_on, external, load_balancer] in types {
        bed.change_service(NAME, |service| {
            service.ports.iter_mut().for_each(|port| port.node_port = node_port_on.then_some(NODE_PORT));
            service.external_ip = if external { address::external_ips(1).to_vec() } else { Vec::new() };
            service.load_balancer_ip =
                if load_balancer { address::external_ips(2).to_vec() } else { Vec::new() };
        })?;
        for (ipv4, protocol) in FAMILIES.into_iter().zip(PROTOCOLS) {
            let frontends = [node_port(&bed, 0, ipv4)?, external_ip(1, ipv4), external_ip(2, ipv4)];
            for (on, to) in wanted.into_iter().zip(frontends) {
                if on {
                    who::everyone(&bed.outside.netns, protocol, to, &["pod-0-1"])
                } else {
                    who::unanswered(&bed.outside.netns, protocol, to).map(drop)
                }
                .with_context(|| format!("{wanted:?}, {protocol:?}"))?;
            }
            who::everyone(&bed.pod(0, 0).netns, protocol, cluster_ip(1, ipv4), &["pod-0-1"])?;
        }
    }
    Ok(())
}

/// NP-6: node ports at a chosen address of the node only, and not before it is chosen.
#[test]
fn node_ports_may_have_chosen_addresses() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = Bed::two_nodes(|facts, config| config.services.push(everything(facts, &[(0, 1), (1, 0)])))?;
    let chosen: IpAddr = "192.0.2.20".parse()?;
    wire::add_address(&bed.node(0).netns, "eth0", chosen.into())?;
    bed.lead(&[chosen], 0)?;
    let to = SocketAddr::new(chosen, NODE_PORT);
    for protocol in PROTOCOLS {
        // An address of the node's that was not chosen is the node's alone.
        who::refused(&bed.outside.netns, protocol, to)?;
        who::everyone(&bed.outside.netns, protocol, node_port(&bed, 0, true)?, &["pod-0-1", "pod-1-0"])?;
    }
    bed.cluster.podlane[0].config.node.node_port_address = vec![chosen];
    bed.cluster.podlane[0].reload_services()?;
    for protocol in PROTOCOLS {
        who::everyone(&bed.outside.netns, protocol, to, &["pod-0-1", "pod-1-0"])?;
        who::everyone(&bed.pod(0, 0).netns, protocol, to, &["pod-0-1", "pod-1-0"])?;
        who::refused(&bed.outside.netns, protocol, node_port(&bed, 0, true)?)?;
    }
    Ok(())
}

/// NP-7: a port of the node that is a pod's: from outside, from other pods and from the node; only while the pod is there.
#[test]
fn host_ports_lead_to_their_pod() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = Bed::two_nodes(|_, config| {
        if config.pods[0].name.ends_with("pod-0-0") {
            config.pods[1].host_port = [Protocol::Tcp, Protocol::Udp]
                .map(|protocol| HostPort { port: SERVING, host_port: 8088, protocol, host_ip: Vec::new() })
                .to_vec();
        }
    })?;
    for ipv4 in FAMILIES {
        let to = who::at(&bed.node(0).spec.addresses(), ipv4, 8088)?;
        for protocol in PROTOCOLS {
            for netns in [&bed.outside.netns, &bed.pod(0, 0).netns, &bed.pod(1, 0).netns, &bed.node(0).netns]
            {
                who::everyone(netns, protocol, to, &["pod-0-1"])
                    .with_context(|| format!("from {}", netns.name()))?;
            }
            let seen = who::ask(&bed.outside.netns, protocol, to)?;
            ensure!(seen.client.ip() == bed.outside.address_like(to.ip())?, "seen as {}", seen.client);
        }
    }
    bed.cluster.podlane[0].config.pods[1].host_port.clear();
    bed.cluster.podlane[0].reload_services()?;
    let to = who::at(&bed.node(0).spec.addresses(), true, 8088)?;
    who::refused(&bed.outside.netns, Protocol::Tcp, to)
}

/// NP-10: a load balancer learns by HTTP whether a node has backends of a service.
#[test]
fn health_checks_tell_of_local_backends() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = Bed::two_nodes(|facts, config| {
        let mut service = everything(facts, &[(0, 1), (0, 2)]);
        service.external_traffic_policy = Some(Policy::Local);
        service.health_check_node_port = Some(32_000);
        config.services.push(service);
    })?;
    health(&bed, 0, "200", 2)?;
    health(&bed, 1, "503", 0)?;
    let facts = bed.facts();
    bed.change_service(NAME, |service| {
        for port in &mut service.ports {
            *port = ServicePort { backends: Vec::new(), ..port.clone() }
                .backends(facts.addresses(&[(1, 1)]), SERVING);
        }
    })?;
    health(&bed, 0, "503", 0)?;
    health(&bed, 1, "200", 1)
}

fn health(bed: &Bed, node: usize, status: &str, endpoints: u64) -> Result<()> {
    let to = SocketAddr::new(bed.node(node).spec.address(), 32_000);
    testbed::wait::until(&format!("{status} from worker-{node}"), || {
        let mut stream: TcpStream = testbed::traffic::tcp::connect(&bed.outside.netns, to)?;
        stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let (head, body) = answer.split_once("\r\n\r\n").context("no end of the head")?;
        ensure!(head.split(' ').nth(1) == Some(status), "{answer}");
        let body: serde_json::Value = serde_json::from_str(body).context("the body")?;
        ensure!(body["localEndpoints"] == endpoints && body["service"].is_object(), "{body}");
        Ok(Some(()))
    })
}
