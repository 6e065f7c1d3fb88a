//! Services resolved once per socket: what applications are told, what is left to the packets, and what becomes of sockets.

use std::{
    collections::BTreeSet,
    io::{ErrorKind, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    path::PathBuf,
};

use anyhow::{Context as _, Result, bail, ensure};
use common::counters::{Hook, Reason};
use serde_json::Value;
use testbed::{
    address,
    bed::{Bed, FAMILIES, Facts, NODE_SERVING, PROTOCOLS, SERVING, cluster_ip},
    cluster, command,
    config::{Affinity, Backend, Config, Protocol, Service, ServicePort, Sockets},
    connections,
    netns::Netns,
    podlane_node::PodlaneNode,
    require, setup,
    traffic::who,
    wait,
};

const NODE_PORT: u16 = 30_080;
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

/// A TCP connection of an application.
struct Tcp(TcpStream);

impl Tcp {
    fn connect(from: &Netns, to: SocketAddr) -> Result<Self> {
        let stream = from.enter(|| Ok(TcpStream::connect_timeout(&to, wait::patience())?))?;
        stream.set_read_timeout(Some(wait::patience()))?;
        Ok(Self(stream))
    }

    /// Who answers, and whom it saw.
    fn ask(&mut self) -> Result<(String, SocketAddr)> {
        self.0.write_all(b"POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").context("send")?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).context("read the answer")?;
            head.push(char::from(byte[0]));
        }
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).context("a header");
        Ok((header("Server: ")?.to_owned(), header("X-Client: ")?.parse()?))
    }
}

/// A UDP socket of an application, of the family of whom it is to talk to.
fn udp(from: &Netns, to: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let socket = from.enter(|| Ok(UdpSocket::bind((any, 0))?))?;
    socket.set_read_timeout(Some(wait::patience()))?;
    Ok(socket)
}

/// What is answered to a datagram of it: the server's name, and whom the socket is told that it comes from.
fn hear(socket: &UdpSocket) -> Result<(String, SocketAddr)> {
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer).context("no answer")?;
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    Ok((text.split(' ').next().unwrap_or_default().to_owned(), from))
}

fn ask(socket: &UdpSocket, to: SocketAddr) -> Result<(String, SocketAddr)> {
    socket.send_to(b"question", to).context("send")?;
    hear(socket)
}

fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
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

/// IPv6 sockets that talk IPv4 are told mapped addresses.
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

/// New sockets reach every backend; one that keeps sending keeps its own, moves at once when that goes, and stays there.
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
