//! Services inside the cluster: who can call, whom he gets, what the backend sees.

use std::{collections::BTreeMap, net::SocketAddr};

use anyhow::{Context as _, Result, ensure};
use testbed::{
    bed::{Bed, FAMILIES, NODE_SERVING, PROTOCOLS, SERVING, cluster_ip, external_ip},
    capture::Capture,
    config::{Algorithm, Protocol, Service, ServicePort},
    frame::{Ip, ethernet},
    require, setup,
    spec::Route,
    traffic::who::{self, Seen, Session},
};

/// SV-1, SV-3: pods and the node's own processes reach local and remote backends by the service's address, with bodies of
/// megabytes and datagrams up to the MTU, and a backend sees who really called.
fn everybody_calls(route: Route) -> Result<()> {
    let bed = Bed::start(&[3, 2], route, |facts, config| {
        config.services.push(facts.service("both", 1, &[(0, 1), (1, 0)]));
        config.services.push(facts.service("local", 2, &[(0, 1)]));
        config.services.push(facts.service("remote", 3, &[(1, 0)]));
    })?;
    for ipv4 in FAMILIES {
        let pod = who::at(&bed.pod(0, 0).ips(), ipv4, 0)?;
        let node = bed.node(0).spec.gateway(pod.ip()).context("a gateway")?;
        for ((caller, netns), own) in bed.callers_inside().into_iter().zip([pod.ip(), node]) {
            for protocol in PROTOCOLS {
                let case = || format!("{caller}, {protocol:?}, IPv4 {ipv4}, {route:?}");
                who::everyone(netns, protocol, cluster_ip(1, ipv4), &["pod-0-1", "pod-1-0"])
                    .with_context(case)?;
                for number in [2, 3] {
                    let mut session = Session::open(netns, protocol, cluster_ip(number, ipv4))?;
                    let sizes = match protocol {
                        Protocol::Tcp => [(0, 3 << 20), (3 << 20, 0), (1, 1)],
                        _ => [(1, 1), (1372, 1372), (999, 999)],
                    };
                    for (sent, wanted) in sizes {
                        let seen = session.exchange(sent, wanted).with_context(case)?;
                        let expected = SocketAddr::new(own, session.own_address()?.port());
                        ensure!(
                            seen.client == expected,
                            "{}: seen as {} instead of {expected}",
                            case(),
                            seen.client
                        );
                    }
                }
            }
        }
    }
    bed.kernel_tracks_nothing()
}

#[test]
fn everybody_inside_calls_local_and_remote_backends() -> Result<()> {
    require!(setup::ready_with_loader());
    everybody_calls(Route::Overlay)
}

#[test]
fn everybody_inside_calls_over_direct_routes() -> Result<()> {
    require!(setup::ready_with_loader());
    everybody_calls(Route::Direct)
}

/// SV-9: a pod reaches itself by its own service; it sees the node's loopback address, which is in the pod CIDR.
#[test]
fn a_pod_reaches_itself_by_its_service() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = Bed::two_nodes(|facts, config| config.services.push(facts.service("own", 1, &[(0, 0)])))?;
    let pod = &bed.pod(0, 0).netns;
    for (ipv4, cidr) in FAMILIES.into_iter().zip(&bed.node(0).spec.pod_cidrs) {
        for protocol in PROTOCOLS {
            let mut session = Session::open(pod, protocol, cluster_ip(1, ipv4))?;
            for size in [1, 1000, 1300] {
                let seen = session.exchange(size, 1 << 20)?;
                ensure!(seen.server == "pod-0-0", "{seen:?} answered");
                ensure!(seen.client.ip() == cidr.network(), "seen as {}", seen.client);
            }
        }
    }
    // The one beside it still is seen as itself.
    let seen = who::ask(&bed.pod(0, 1).netns, Protocol::Tcp, cluster_ip(1, true))?;
    ensure!(seen.client.ip() == bed.pod(0, 1).v4()?, "seen as {}", seen.client);
    Ok(())
}

/// SV-12: backends in the nodes' own network: this node's and another's, for pods and for the node itself.
#[test]
fn backends_may_be_in_the_nodes_network() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = Bed::two_nodes(|facts, config| {
        for (number, nodes) in [(1, &facts.nodes[..1]), (2, &facts.nodes[1..]), (3, &facts.nodes[..])] {
            let port = |protocol| ServicePort::new(protocol, 80).backends(nodes.concat(), NODE_SERVING);
            let own = testbed::address::cluster_ips(number);
            let service = Service::new(&format!("default/host-{number}"), &own);
            config.services.push(service.with(port(Protocol::Tcp)).with(port(Protocol::Udp)));
        }
    })?;
    for ipv4 in FAMILIES {
        for (caller, netns) in bed.callers_inside() {
            for protocol in PROTOCOLS {
                let case = || format!("{caller}, {protocol:?}, IPv4 {ipv4}");
                who::everyone(netns, protocol, cluster_ip(1, ipv4), &["worker-0"]).with_context(case)?;
                who::everyone(netns, protocol, cluster_ip(2, ipv4), &["worker-1"]).with_context(case)?;
                who::everyone(netns, protocol, cluster_ip(3, ipv4), &["worker-0", "worker-1"])
                    .with_context(case)?;
                let mut session = Session::open(netns, protocol, cluster_ip(2, ipv4))?;
                session.exchange(1000, 1 << 20).with_context(case)?;
            }
        }
    }
    Ok(())
}

/// SV-2: one address and port number by TCP and by UDP are two things; a protocol that is taken out is refused, the other
/// goes on.
#[test]
fn protocols_of_one_port_are_kept_apart() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = Bed::two_nodes(|facts, config| {
        let mut service = facts.service("apart", 1, &[]);
        for (port, pod) in service.ports.iter_mut().zip([(0, 1), (1, 0)]) {
            *port = port.clone().backends(facts.addresses(&[pod]), SERVING);
        }
        config.services.push(service);
    })?;
    for ipv4 in FAMILIES {
        who::everyone(&bed.pod(0, 0).netns, Protocol::Tcp, cluster_ip(1, ipv4), &["pod-0-1"])?;
        who::everyone(&bed.pod(0, 0).netns, Protocol::Udp, cluster_ip(1, ipv4), &["pod-1-0"])?;
    }
    let mut session = Session::open(&bed.pod(0, 0).netns, Protocol::Tcp, cluster_ip(1, true))?;
    session.ask()?;
    bed.change_service("default/apart", |service| service.ports.truncate(1))?;
    session.ask().context("the protocol that stays")?;
    for ipv4 in FAMILIES {
        who::refused(&bed.pod(0, 0).netns, Protocol::Udp, cluster_ip(1, ipv4))?;
        who::everyone(&bed.pod(0, 0).netns, Protocol::Tcp, cluster_ip(1, ipv4), &["pod-0-1"])?;
    }
    Ok(())
}

/// SV-3: a SYN that is sent again goes to the backend that the first one went to; other ports get to every backend.
#[test]
fn a_repeated_syn_goes_to_the_same_backend() -> Result<()> {
    require!(setup::ready_with_loader());
    for algorithm in [Algorithm::Maglev, Algorithm::Random] {
        let bed = Bed::start(&[4], Route::Overlay, |facts, config| {
            // A port that nobody answers at with anything but a reset.
            let port =
                ServicePort::new(Protocol::Tcp, 80).backends(facts.addresses(&[(0, 1), (0, 2), (0, 3)]), 1);
            let mut service = Service::new("default/silent", &testbed::address::cluster_ips(1)).with(port);
            service.algorithm = Some(algorithm);
            config.services.push(service);
        })?;
        for backend in 1..4 {
            // Nobody answers, not even by a reset: that would end the connection.
            for ip in bed.pod(0, 0).ips() {
                bed.pod(0, backend).netns.ip(&format!("route add blackhole {ip}"))?;
            }
        }
        let from = bed.pod(0, 0);
        let (mac, node) = (from.netns.mac("eth0")?, bed.node(0).mac());
        let source = Capture::open(&from.netns, "eth0")?;
        let mut sinks = [1, 2, 3].map(|pod| Capture::open(&bed.pod(0, pod).netns, "eth0"));
        for ip in from.ips() {
            let to = cluster_ip(1, ip.is_ipv4()).ip();
            let mut got: BTreeMap<u16, BTreeMap<usize, u32>> = BTreeMap::new();
            for _ in 0..3 {
                for port in 0..24 {
                    source.inject(&ethernet(mac, node, &Ip::new(ip, to).tcp((20_000 + port, 80), 0x02)))?;
                }
            }
            testbed::wait::until("every SYN to arrive", || {
                for (pod, sink) in sinks.iter_mut().enumerate() {
                    for packet in sink.as_mut().map_err(|error| anyhow::anyhow!("{error:#}"))?.drain()? {
                        let Some(headers) = packet.headers().filter(|headers| headers.source == ip) else {
                            continue;
                        };
                        ensure!(packet.checksums_hold(), "{headers:?}");
                        let ports = headers.ports.context("ports")?;
                        if ports.1 == 1 && !packet.outgoing {
                            *got.entry(ports.0).or_default().entry(pod).or_default() += 1;
                        }
                    }
                }
                let arrived: u32 = got.values().flat_map(BTreeMap::values).sum();
                Ok((arrived == 72).then_some(()))
            })
            .with_context(|| format!("{got:?}"))?;
            let reached: std::collections::BTreeSet<_> = got.values().flat_map(BTreeMap::keys).collect();
            ensure!(reached.len() == 3, "{algorithm:?}: only pods {reached:?} were reached");
            for (port, pods) in &got {
                ensure!(pods.len() == 1, "{algorithm:?}: port {port} got to {pods:?}");
            }
        }
    }
    Ok(())
}

/// SV-11: every node picks the same backend for a connection, and when one of six goes, few others' connections move. A
/// connection over a second node goes on with its backend.
#[test]
fn nodes_agree_on_the_backend() -> Result<()> {
    require!(setup::ready_with_loader());
    let all: Vec<(usize, usize)> = (0..2).flat_map(|node| (0..3).map(move |pod| (node, pod))).collect();
    let mut bed = Bed::two_nodes(|facts, config| {
        let mut service = facts.service("agreed", 1, &all);
        service.external_ip = testbed::address::external_ips(1).to_vec();
        config.services.push(service);
    })?;
    let addresses = testbed::address::external_ips(1);
    for ipv4 in FAMILIES {
        let to = external_ip(1, ipv4);
        let mut got: Vec<BTreeMap<u16, String>> = Vec::new();
        for node in [0, 1] {
            bed.lead(&addresses, node)?;
            let servers = (30_000..30_040).map(|port| {
                let seen = Session::open_port(&bed.outside.netns, port, Protocol::Udp, to)?.ask()?;
                Ok((port, seen.server))
            });
            got.push(servers.collect::<Result<_>>()?);
        }
        ensure!(got[0] == got[1], "the nodes differ: {got:?}");
    }
    // Ports that no connection has yet, before and after one backend of six is gone.
    let (one, other) = (31_000..31_060, 31_000..31_060);
    let pick = |bed: &Bed, ports: std::ops::Range<u16>, node| -> Result<BTreeMap<u16, String>> {
        bed.lead(&addresses, node)?;
        ports
            .map(|port| {
                let to = external_ip(1, true);
                Ok((port, Session::open_port(&bed.outside.netns, port, Protocol::Udp, to)?.ask()?.server))
            })
            .collect()
    };
    let before = pick(&bed, one, 0)?;
    bed.change_service("default/agreed", |service| {
        for port in &mut service.ports {
            port.backends.truncate(10);
        }
    })?;
    // The second node has never seen these connections.
    let after = pick(&bed, other, 1)?;
    let moved = before
        .iter()
        .filter(|(port, server)| *server != "pod-1-2" && after.get(port) != Some(server))
        .count();
    ensure!(after.values().all(|server| server != "pod-1-2"), "the one that is gone answers: {after:?}");
    ensure!(moved <= 9, "{moved} of 60 moved: from {before:?} to {after:?}");
    Ok(())
}

/// SV-3: weights: in proportion, and none without.
#[test]
fn weights_are_kept() -> Result<()> {
    require!(setup::ready_with_loader());
    for algorithm in [Algorithm::Maglev, Algorithm::Random] {
        let bed = Bed::start(&[4], Route::Overlay, |facts, config| {
            let mut service = facts.service("weighted", 1, &[(0, 1), (0, 2), (0, 3)]);
            service.algorithm = Some(algorithm);
            for port in &mut service.ports {
                for (backend, weight) in port.backends.iter_mut().zip([3, 3, 1, 1, 0, 0]) {
                    backend.weight = Some(weight);
                }
            }
            config.services.push(service);
        })?;
        let mut got: BTreeMap<String, u32> = BTreeMap::new();
        for _ in 0..200 {
            let Seen { server, .. } = who::ask(&bed.pod(0, 0).netns, Protocol::Udp, cluster_ip(1, true))?;
            *got.entry(server).or_default() += 1;
        }
        let of = |pod: &str| got.get(pod).copied().unwrap_or_default();
        ensure!(of("pod-0-3") == 0 && (115..=180).contains(&of("pod-0-1")), "{algorithm:?}: {got:?}");
    }
    Ok(())
}
