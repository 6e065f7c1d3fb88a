//! Services resolved once per socket: what applications are told, what is left to the packets, and what becomes of sockets.

use std::{
    collections::BTreeSet,
    io::ErrorKind,
    net::{IpAddr, SocketAddr, UdpSocket},
};

use anyhow::{Context as _, Result, bail, ensure};
use common::counters::{Hook, Reason};
use testbed::{
    address,
    bed::{Bed, FAMILIES, Facts, NODE_SERVING, PROTOCOLS, SERVING, cluster_ip},
    config::{Affinity, Backend, Config, Protocol, Service, ServicePort, Sockets},
    connections,
    netns::Netns,
    podlane_node::PodlaneNode,
    require, setup,
    traffic::who,
    wait,
};

use self::application::{Tcp, ask, hear, mapped, udp};

#[path = "sockets/application.rs"]
mod application;
#[path = "sockets/attachment.rs"]
mod attachment;

const NODE_PORT: u16 = 30_080;

fn sockets(mode: &'static str) -> Result<Option<Sockets>> {
    Ok(Some(Sockets { mode, cgroup: setup::cgroup()? }))
}

/// Two nodes in that mode.
fn bed(mode: &'static str, mut configure: impl FnMut(&Facts, &mut Config)) -> Result<Bed> {
    let sockets = sockets(mode)?;
    Bed::two_nodes(|facts, config| {
        config.sockets.clone_from(&sockets);
        configure(facts, config);
    })
}

/// Gives a service these backends and no others.
fn give(service: &mut Service, addresses: &[IpAddr]) {
    for port in &mut service.ports {
        port.backends = addresses.iter().map(|ip| Backend::new(*ip, SERVING)).collect();
    }
}

/// Counted at the cgroup.
fn counted(node: &PodlaneNode, reason: Reason) -> Result<u64> {
    Ok(node.counters()?.packets(Hook::Sock, reason))
}

/// No packet of a service was translated.
fn nothing_translated(bed: &Bed) -> Result<()> {
    for node in &bed.cluster.podlane {
        let entries = connections::list(&node.pins())?;
        ensure!(entries.is_empty(), "{} has translated: {entries:?}", node.spec.name);
    }
    Ok(())
}

/// SV-1, SV-12: TCP and UDP, of pods and of the node, to local and remote pods and nodes: an application is told the service's
/// address everywhere, the backend sees who calls, and no packet is translated.
#[test]
fn applications_are_told_whom_they_called() -> Result<()> {
    require!(setup::ready_with_cgroup());
    let bed = bed("on", |facts, config| {
        config.services.push(facts.service("local", 1, &[(0, 1)]));
        config.services.push(facts.service("remote", 2, &[(1, 0)]));
        let port = |protocol| ServicePort::new(protocol, 80).backends(facts.nodes[1].clone(), NODE_SERVING);
        let node = Service::new("default/node", &address::cluster_ips(3));
        config.services.push(node.with(port(Protocol::Tcp)).with(port(Protocol::Udp)));
    })?;
    for ipv4 in FAMILIES {
        let pod = who::at(&bed.pod(0, 0).ips(), ipv4, 0)?.ip();
        let gateway = bed.node(0).spec.gateway(pod).context("a gateway")?;
        for ((caller, netns), own) in bed.callers_inside().into_iter().zip([pod, gateway]) {
            for (number, server) in [(1, "pod-0-1"), (2, "pod-1-0"), (3, "worker-1")] {
                let service = cluster_ip(number, ipv4);
                let case = || format!("{caller} to {service}");
                let mut tcp = Tcp::connect(netns, service).with_context(case)?;
                ensure!(tcp.0.peer_addr()? == service, "{}: TCP peer {}", case(), tcp.0.peer_addr()?);
                let (name, client) = tcp.ask().with_context(case)?;
                ensure!(name == server, "{}: {name} answered", case());
                // The node has an address of its own for each way.
                ensure!(number == 3 || client.ip() == own, "{}: seen as {client}", case());

                let connected = udp(netns, service)?;
                connected.connect(service).with_context(case)?;
                ensure!(connected.peer_addr()? == service, "{}: UDP peer {}", case(), connected.peer_addr()?);
                connected.send(b"question").with_context(case)?;
                ensure!(hear(&connected).with_context(case)? == (server.to_owned(), service), "{}", case());

                let unconnected = udp(netns, service)?;
                let heard = ask(&unconnected, service).with_context(case)?;
                ensure!(heard == (server.to_owned(), service), "{}: {heard:?}", case());
            }
        }
    }
    nothing_translated(&bed)?;
    // Two callers, three services, two families, three ways.
    let resolved = counted(bed.node(0), Reason::Resolved)?;
    ensure!(resolved == 36, "{resolved} resolved");
    ensure!(counted(bed.node(0), Reason::ToPackets)? == 0, "some were left to the packets");
    ensure!(counted(bed.node(1), Reason::Resolved)? == 0, "another node has counted them");
    bed.kernel_tracks_nothing()
}

/// SV-1: IPv6 sockets that talk IPv4 are told mapped addresses.
#[test]
fn ipv6_sockets_call_ipv4_services() -> Result<()> {
    require!(setup::ready_with_cgroup());
    let bed = bed("on", |facts, config| {
        config.services.push(facts.service("web", 1, &[(0, 1), (1, 0)]));
    })?;
    let service = mapped(cluster_ip(1, true));
    for (caller, netns) in bed.callers_inside() {
        let mut tcp = Tcp::connect(netns, service).context(caller)?;
        ensure!(tcp.0.peer_addr()? == service, "{caller}: TCP peer {}", tcp.0.peer_addr()?);
        tcp.ask().context(caller)?;
        let connected = udp(netns, service)?;
        connected.connect(service).context(caller)?;
        ensure!(connected.peer_addr()? == service, "{caller}: UDP peer {}", connected.peer_addr()?);
        connected.send(b"question").context(caller)?;
        ensure!(hear(&connected)?.1 == service, "{caller}: connected");
        let unconnected = udp(netns, service)?;
        let heard = ask(&unconnected, service).context(caller)?;
        ensure!(heard.1 == service, "{caller}: {heard:?}");
        // The same socket may talk to both families.
        let v6 = cluster_ip(1, false);
        ensure!(ask(&unconnected, v6).context(caller)?.1 == v6, "{caller}: IPv6");
    }
    nothing_translated(&bed)
}

/// SV-3, SV-5: new sockets reach every backend; one that keeps sending keeps its own, moves at once when that goes, and stays there.
#[test]
fn a_socket_keeps_its_backend_while_it_is_there() -> Result<()> {
    require!(setup::ready_with_cgroup());
    let mut bed = bed("on", |facts, config| {
        config.services.push(facts.service("web", 1, &[(0, 1), (0, 2), (1, 0)]));
    })?;
    let all = ["pod-0-1", "pod-0-2", "pod-1-0"];
    let service = cluster_ip(1, true);
    for (_, netns) in bed.callers_inside() {
        for protocol in PROTOCOLS {
            who::everyone(netns, protocol, service, &all)?;
        }
    }
    let socket = udp(&bed.pod(0, 0).netns, service)?;
    let (mut had, _) = ask(&socket, service)?;
    for _ in 0..2 {
        for _ in 0..30 {
            let (now, from) = ask(&socket, service)?;
            ensure!(now == had && from == service, "{now} instead of {had}, from {from}");
        }
        let gone = had.clone();
        let facts = bed.facts();
        let address = |name: &str| -> Result<Vec<IpAddr>> {
            let mut numbers = name.split('-').skip(1).map(str::parse::<usize>);
            let mut number = || numbers.next().context("a number")?.context("a number");
            Ok(facts.addresses(&[(number()?, number()?)]))
        };
        let lost = address(&gone)?;
        bed.change_service("default/web", |service| {
            for port in &mut service.ports {
                port.backends.retain(|backend| !lost.contains(&backend.ip));
            }
        })?;
        (had, _) = ask(&socket, service).context("the very next datagram")?;
        ensure!(had != gone, "{gone} still answers");
    }
    nothing_translated(&bed)
}

/// SV-5: a UDP socket that is connected to a backend which goes is ended, whatever its family and whoever has it; the next one
/// reaches a live backend. One that is connected to another backend is left alone, and so is TCP.
#[test]
fn udp_sockets_of_a_lost_backend_are_ended() -> Result<()> {
    require!(setup::ready_with_cgroup());
    let mut bed = bed("on", |facts, config| {
        config.services.push(facts.service("going", 1, &[(1, 0)]));
        config.services.push(facts.service("staying", 2, &[(1, 0)]));
    })?;
    let connect = |number: u8, to: fn(SocketAddr) -> SocketAddr, ipv4| -> Result<Vec<_>> {
        let service = to(cluster_ip(number, ipv4));
        let mut sockets = Vec::new();
        for (_, netns) in bed.callers_inside() {
            let socket = udp(netns, service)?;
            socket.connect(service)?;
            socket.send(b"question")?;
            ensure!(hear(&socket)? == ("pod-1-0".to_owned(), service), "{service}");
            sockets.push((socket, service));
        }
        Ok(sockets)
    };
    let mut going = connect(1, |service| service, true)?;
    going.extend(connect(1, |service| service, false)?);
    going.extend(connect(1, mapped, true)?);
    let staying = connect(2, |service| service, true)?;
    let unconnected = udp(&bed.pod(0, 0).netns, cluster_ip(1, true))?;
    ask(&unconnected, cluster_ip(1, true))?;
    let addresses = bed.facts().addresses(&[(0, 1)]);
    bed.change_service("default/going", |service| {
        give(service, &addresses);
    })?;
    for (socket, service) in &going {
        // A waiting receiver is woken.
        let error = match hear(socket) {
            Ok(heard) => bail!("{service}: {heard:?}"),
            Err(error) => error,
        };
        let kind = error.downcast_ref::<std::io::Error>().map(std::io::Error::kind);
        ensure!(kind == Some(ErrorKind::ConnectionAborted), "{service}: {error:#}");
        ensure!(socket.peer_addr().is_err(), "{service}: still connected");
        socket.connect(*service)?;
        socket.send(b"question")?;
        ensure!(hear(socket)? == ("pod-0-1".to_owned(), *service), "{service}");
    }
    for (socket, service) in &staying {
        socket.send(b"question")?;
        ensure!(hear(socket)? == ("pod-1-0".to_owned(), *service), "{service} was disturbed");
    }
    let moved = ask(&unconnected, cluster_ip(1, true))?;
    ensure!(moved == ("pod-0-1".to_owned(), cluster_ip(1, true)), "{moved:?}");
    nothing_translated(&bed)
}

/// SV-5, OP-1: a backend that went while no loader ran has lost its sockets when the next one is there.
#[test]
fn what_was_lost_without_a_loader_is_ended_by_the_next() -> Result<()> {
    require!(setup::ready_with_cgroup());
    let mut bed = bed("on", |facts, config| config.services.push(facts.service("web", 1, &[(1, 0)])))?;
    let service = cluster_ip(1, true);
    let socket = udp(&bed.pod(0, 0).netns, service)?;
    socket.connect(service)?;
    let addresses = bed.facts().addresses(&[(0, 1)]);
    let node = &mut bed.cluster.podlane[0];
    node.kill()?;
    give(node.config.service("default/web")?, &addresses);
    node.start()?;
    let error = socket.recv(&mut [0; 16]).err().context("no error")?;
    ensure!(error.kind() == ErrorKind::ConnectionAborted, "{error}");
    Ok(())
}

/// SV-7, SV-8, SV-14: what hangs on who the client is stays right, packet by packet.
#[test]
fn what_depends_on_the_client_is_left_to_the_packets() -> Result<()> {
    require!(setup::ready_with_cgroup());
    let bed = bed("on", |facts, config| {
        let mut affine = facts.service("affine", 1, &[(0, 1), (0, 2), (1, 0), (1, 1)]);
        affine.affinity = Some(Affinity { client_ip_seconds: 600 });
        config.services.push(affine);
        let mut ranged = facts.service("ranged", 2, &[(0, 1)]);
        ranged.load_balancer_ip = address::external_ips(2).to_vec();
        ranged.source_ranges =
            vec!["192.0.2.0/24".parse().expect("a prefix"), "2001:db8::/64".parse().expect("a prefix")];
        config.services.push(ranged);
        config.services.push(facts.service("nobody", 3, &[]));
    })?;
    for (caller, netns) in bed.callers_inside() {
        let mut servers = BTreeSet::new();
        for _ in 0..10 {
            servers.insert(who::ask(netns, Protocol::Tcp, cluster_ip(1, true))?.server);
        }
        ensure!(servers.len() == 1, "{caller}: {servers:?} have one client");
        for protocol in PROTOCOLS {
            who::refused(netns, protocol, cluster_ip(3, true)).context(caller)?;
        }
        let closed = SocketAddr::new(address::external_ips(2)[0], 80);
        who::silent(netns, Protocol::Tcp, closed).context(caller)?;
        // The cluster's own address has no ranges.
        who::ask(netns, Protocol::Tcp, cluster_ip(2, true)).context(caller)?;
    }
    ensure!(counted(bed.node(0), Reason::Resolved)? == 2, "{}", counted(bed.node(0), Reason::Resolved)?);
    ensure!(counted(bed.node(0), Reason::ToPackets)? >= 26, "{}", counted(bed.node(0), Reason::ToPackets)?);
    Ok(())
}

/// SV-9, NP-7: a pod that calls itself, and node ports at the node's own addresses.
#[test]
fn pods_call_themselves_and_node_ports() -> Result<()> {
    require!(setup::ready_with_cgroup());
    let bed = bed("on", |facts, config| {
        config.services.push(facts.service("own", 1, &[(0, 0)]));
        config.services.push(facts.node_port_service("web", 2, NODE_PORT, &[(0, 1), (1, 0)]));
    })?;
    for ipv4 in FAMILIES {
        for protocol in PROTOCOLS {
            let seen = who::ask(&bed.pod(0, 0).netns, protocol, cluster_ip(1, ipv4))?;
            let own = who::at(&bed.pod(0, 0).ips(), ipv4, 0)?.ip();
            ensure!(seen.server == "pod-0-0" && seen.client.ip() == own, "{seen:?}");
            let node_port = who::at(&bed.node(0).spec.addresses(), ipv4, NODE_PORT)?;
            for (caller, netns) in bed.callers_inside() {
                who::everyone(netns, protocol, node_port, &["pod-0-1", "pod-1-0"]).context(caller)?;
            }
        }
        let node_port = who::at(&bed.node(0).spec.addresses(), ipv4, NODE_PORT)?;
        let tcp = Tcp::connect(&bed.pod(0, 0).netns, node_port)?;
        ensure!(tcp.0.peer_addr()? == node_port, "peer {}", tcp.0.peer_addr()?);
    }
    nothing_translated(&bed)?;
    // Somebody outside has no socket here: as ever.
    let node_port = who::at(&bed.node(0).spec.addresses(), true, NODE_PORT)?;
    who::everyone(&bed.outside.netns, Protocol::Tcp, node_port, &["pod-0-1", "pod-1-0"])
}

/// A process of the node that has bound itself to an address keeps it, and is translated packet by packet.
#[test]
fn a_chosen_address_of_the_node_is_kept() -> Result<()> {
    require!(setup::ready_with_cgroup());
    let bed = bed("on", |facts, config| config.services.push(facts.service("web", 1, &[(1, 0)])))?;
    for ipv4 in FAMILIES {
        let own = who::at(&bed.node(0).spec.addresses(), ipv4, 0)?;
        let socket = bed.node(0).netns.enter(|| Ok(UdpSocket::bind(own)?))?;
        socket.set_read_timeout(Some(wait::patience()))?;
        let service = cluster_ip(1, ipv4);
        ensure!(ask(&socket, service)? == ("pod-1-0".to_owned(), service), "{service}");
    }
    ensure!(counted(bed.node(0), Reason::Resolved)? == 0, "resolved");
    ensure!(counted(bed.node(0), Reason::ToPackets)? == 2, "not left to the packets");
    Ok(())
}

/// Nobody but the node and its pods: another namespace, which has its own idea of the address, is left alone, and a pod's when the
/// pod goes.
#[test]
fn other_namespaces_are_left_alone() -> Result<()> {
    require!(setup::ready_with_cgroup());
    let mut bed = bed("on", |facts, config| config.services.push(facts.service("web", 1, &[(0, 1)])))?;
    let stranger = Netns::new("stranger")?;
    stranger.ip("link set lo up")?;
    let service = cluster_ip(1, true);
    stranger.ip(&format!("address add {}/32 dev lo", service.ip()))?;
    let server = stranger.enter(|| Ok(UdpSocket::bind(service)?))?;
    let client = udp(&stranger, service)?;
    client.connect(service)?;
    client.send(b"question")?;
    let (_, from) = hear(&server).context("it went elsewhere")?;
    ensure!(from.ip() == service.ip(), "from {from}");

    let pod = bed.cluster.podlane[0].config.pods.remove(2);
    bed.cluster.podlane[0].reload()?;
    let before = counted(bed.node(0), Reason::Resolved)?;
    let gone = udp(&bed.pod(0, 2).netns, service)?;
    ensure!(pod.name.ends_with("pod-0-2"), "{}", pod.name);
    // Without its device there is no route.
    ensure!(gone.connect(service).is_err(), "resolved all the same");
    ensure!(counted(bed.node(0), Reason::Resolved)? == before, "counted all the same");
    // And when it comes back, it is one of the node's again.
    bed.cluster.podlane[0].config.pods.push(pod);
    bed.cluster.podlane[0].reload()?;
    let tcp = Tcp::connect(&bed.pod(0, 2).netns, service)?;
    ensure!(tcp.0.peer_addr()? == service, "peer {}", tcp.0.peer_addr()?);
    nothing_translated(&bed)
}
