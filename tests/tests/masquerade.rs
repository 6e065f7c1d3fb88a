//! Pods and the outside world: under whose address, and how the answers come back.

use std::{
    net::{SocketAddr, UdpSocket},
    ops::RangeInclusive,
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use common::counters::Hook;
use testbed::{
    address,
    bed::{Bed, FAMILIES, NODE_SERVING, PROTOCOLS},
    capture::Capture,
    config::{Masquerade, Protocol},
    connections,
    frame::{Ip, ethernet},
    netns::Netns,
    outside::{self, Outside},
    require, setup,
    traffic::{
        self,
        probe::Probe,
        who::{self, Server, Session},
    },
    wait, wire,
};

/// Nodes that masquerade, and a server outside.
fn bed(masquerade: &Masquerade) -> Result<(Bed, [Server; 2])> {
    let bed = Bed::two_nodes(|_, config| config.masquerade = Some(masquerade.clone()))?;
    let servers = Server::both(&bed.outside.netns, "outside", &bed.outside.addresses, 7000)?;
    Ok((bed, servers))
}

fn at_outside(bed: &Bed, ipv4: bool) -> Result<SocketAddr> {
    who::at(&bed.outside.addresses, ipv4, 7000)
}

/// SN-1, SN-3: what a pod sends outside comes from its node's address, from its own port if that is in the range, always from
/// the same; between pods and to nodes nothing is translated.
#[test]
fn pods_leave_under_their_nodes_address() -> Result<()> {
    require!(setup::ready_with_loader());
    let (bed, _servers) = bed(&Masquerade::on())?;
    for ipv4 in FAMILIES {
        let to = at_outside(&bed, ipv4)?;
        let node = bed.node(0).spec.address_like(to.ip()).context("a node address")?;
        let pod = &bed.pod(0, 0).netns;
        for protocol in PROTOCOLS {
            let mut session = Session::open(pod, protocol, to)?;
            let size = if protocol == Protocol::Tcp { 3 << 20 } else { 1400 };
            let first = session.exchange(size, size)?;
            ensure!(first.client.ip() == node && first.client.port() >= 61_000, "seen as {}", first.client);
            for _ in 0..20 {
                let seen = session.ask()?;
                ensure!(seen == first, "seen as {} and then as {}", first.client, seen.client);
            }
            let mut session = Session::open_port(pod, 62_345, protocol, to)?;
            let seen = session.ask()?;
            ensure!(seen.client == SocketAddr::new(node, 62_345), "{protocol:?}: seen as {}", seen.client);
            // Inside.
            let own = who::at(&bed.pod(0, 0).ips(), ipv4, 0)?.ip();
            for to in [
                who::at(&bed.pod(1, 0).ips(), ipv4, testbed::bed::SERVING)?,
                who::at(&bed.pod(0, 1).ips(), ipv4, testbed::bed::SERVING)?,
                who::at(&bed.node(1).spec.addresses(), ipv4, NODE_SERVING)?,
                who::at(&bed.node(0).spec.addresses(), ipv4, NODE_SERVING)?,
            ] {
                let seen = who::ask(pod, protocol, to)?;
                ensure!(seen.client.ip() == own, "{protocol:?} to {to}: seen as {}", seen.client);
            }
        }
        traffic::ping(pod, to.ip())?;
    }
    bed.kernel_tracks_nothing()
}

/// FR-1, SN-1: datagrams in fragments leave under the node's address, every one of them, and their answers come back, in fragments too.
#[test]
fn fragments_leave_under_their_nodes_address() -> Result<()> {
    require!(setup::ready_with_loader());
    let (bed, _servers) = bed(&Masquerade::on())?;
    for ipv4 in FAMILIES {
        let to = at_outside(&bed, ipv4)?;
        let node = bed.node(0).spec.address_like(to.ip()).context("a node address")?;
        let mut session = Session::open(&bed.pod(0, 0).netns, Protocol::Udp, to)?;
        let first = session.ask()?;
        ensure!(first.client.ip() == node, "seen as {}", first.client);
        for size in [8000, 3000, 8192, 1, 20_000] {
            let seen = session.exchange(size, size).with_context(|| format!("{size} bytes to {to}"))?;
            ensure!(seen == first, "{size} bytes: {} first, then {}", first.client, seen.client);
        }
    }
    Ok(())
}

/// SN-2: two pods that call the same server from the same port get different ones, and each its own answers. A port that a
/// socket of the node has is left to it.
#[test]
fn ports_never_collide() -> Result<()> {
    require!(setup::ready_with_loader());
    let (bed, _servers) = bed(&Masquerade::on())?;
    for ipv4 in FAMILIES {
        let to = at_outside(&bed, ipv4)?;
        for (port, protocol) in [(61_500, Protocol::Tcp), (61_501, Protocol::Udp)] {
            let mut node = Session::open_port(&bed.node(0).netns, port, protocol, to)?;
            let own = node.ask()?;
            ensure!(own.client.port() == port, "the node itself is seen as {}", own.client);
            let mut clients = vec![own.client];
            let mut sessions = Vec::new();
            for pod in 0..3 {
                let mut session = Session::open_port(&bed.pod(0, pod).netns, port, protocol, to)?;
                let seen = session.ask()?.client;
                ensure!(seen.ip() == own.client.ip(), "seen as {seen}");
                ensure!(!clients.contains(&seen), "{seen} twice: {clients:?}");
                clients.push(seen);
                sessions.push((session, seen));
            }
            for (session, seen) in &mut sessions {
                let again = session.ask()?.client;
                ensure!(again == *seen, "{seen} first, then {again}");
            }
            let again = node.ask()?.client;
            ensure!(again == own.client, "the node itself: {} first, then {again}", own.client);
        }
    }
    Ok(())
}

/// SN-3: another range of ports is for what begins under it; what is there keeps its ports and its answers, also under a new loader.
#[test]
fn another_range_of_ports_breaks_nothing() -> Result<()> {
    require!(setup::ready_with_loader());
    let (mut bed, _servers) = bed(&Masquerade::on())?;
    let begin = |bed: &Bed, range: RangeInclusive<u16>| -> Result<Vec<(Session, SocketAddr)>> {
        let mut sessions = Vec::new();
        for ipv4 in FAMILIES {
            for protocol in PROTOCOLS {
                let mut session = Session::open(&bed.pod(0, 0).netns, protocol, at_outside(bed, ipv4)?)?;
                let seen = session.ask()?.client;
                ensure!(range.contains(&seen.port()), "{seen} is not in {range:?}");
                sessions.push((session, seen));
            }
        }
        Ok(sessions)
    };
    let mut sessions = begin(&bed, 61_000..=65_535)?;
    for (first, last) in [(21_000, 21_999), (22_000, 22_999)] {
        bed.change(|config| {
            let ports = Some(format!("{first}-{last}"));
            config.masquerade = Some(Masquerade { ports, ..Masquerade::on() });
        })?;
        sessions.append(&mut begin(&bed, first..=last)?);
        for _ in 0..2 {
            for (session, seen) in &mut sessions {
                let again = session.ask().with_context(|| format!("seen as {seen} before"))?.client;
                ensure!(again == *seen, "{seen} first, then {again}");
            }
            bed.cluster.podlane[0].kill()?;
            bed.cluster.podlane[0].start_loader()?;
        }
    }
    Ok(())
}

/// SN-2: when every port is taken, what is new is dropped and counted, what is there goes on, and a port that is free again is
/// used again.
#[test]
fn exhausted_ports_are_counted() -> Result<()> {
    require!(setup::ready_with_loader());
    let (bed, _servers) = bed(&Masquerade { ports: Some("61000-61007".to_owned()), ..Masquerade::on() })?;
    let to = at_outside(&bed, true)?;
    let pod = &bed.pod(0, 0).netns;
    let mut sessions = Vec::new();
    let mut ports = std::collections::BTreeSet::new();
    for number in 0..8 {
        let mut session = Session::open(pod, Protocol::Udp, to)?;
        let seen = session.ask().with_context(|| format!("connection {number} of 8"))?;
        ensure!(
            (61_000..=61_007).contains(&seen.client.port()) && ports.insert(seen.client.port()),
            "{seen:?}"
        );
        sessions.push(session);
    }
    let before = bed.node(0).counters()?;
    who::silent(pod, Protocol::Udp, to)?;
    let counted = bed.node(0).counters()?.since(&before);
    ensure!(counted.get("from_pod/ports_exhausted") == Some(&1), "{counted:?}");
    for session in &mut sessions {
        session.ask()?;
    }
    // Another destination has ports of its own.
    traffic::ping(pod, to.ip())?;
    let gone = connections::remove(&bed.node(0).pins(), |entry| {
        entry.protocol == 17 && (entry.becomes_from.port() == 61_003 || entry.to.port() == 61_003)
    })?;
    ensure!(gone == 2, "{gone} entries of one connection");
    let seen = who::ask(pod, Protocol::Udp, to)?;
    ensure!(seen.client.port() == 61_003, "seen as {}", seen.client);
    Ok(())
}

/// SN-3, CT-4: whichever half of a connection is lost, the other makes it anew: the server sees the same client.
#[test]
fn a_lost_half_is_made_anew() -> Result<()> {
    require!(setup::ready_with_loader());
    let (bed, _servers) = bed(&Masquerade::on())?;
    let pins = bed.node(0).pins();
    for ipv4 in FAMILIES {
        let to = at_outside(&bed, ipv4)?;
        for protocol in PROTOCOLS {
            let mut session = Session::open_port(&bed.pod(0, 0).netns, 62_001, protocol, to)?;
            let seen = session.ask()?;
            for reply in [false, true] {
                // An entry looks after the other one at its first packet of a second.
                thread::sleep(Duration::from_millis(2200));
                let gone = connections::remove(&pins, |entry| {
                    entry.is_reply() == reply && entry.protocol == number(protocol)
                })?;
                ensure!(gone >= 1, "no entry to remove");
                for _ in 0..3 {
                    let again = session.ask();
                    let again = again.with_context(|| format!("{protocol:?}, IPv4 {ipv4}, reply {reply}"))?;
                    ensure!(again.client == seen.client, "{} first, then {}", seen.client, again.client);
                }
                let half = connections::list(&pins)?;
                let halves = half.iter().filter(|entry| entry.from == to || entry.to == to);
                ensure!(halves.filter(|entry| entry.protocol == number(protocol)).count() == 2, "{half:?}");
            }
            session.reset()?;
            connections::remove(&pins, |_| true)?;
        }
    }
    Ok(())
}

const fn number(protocol: Protocol) -> u8 {
    match protocol {
        Protocol::Tcp => 6,
        Protocol::Udp => 17,
        Protocol::Sctp => 132,
    }
}

/// SN-4: when the node has another address, nothing leaves under the old one: datagrams go on under the new one at once, a TCP
/// connection that began under the old one is reset, and another one begins under the new.
#[test]
fn a_changed_node_address_is_used_at_once() -> Result<()> {
    require!(setup::ready_with_loader());
    let (mut bed, _servers) = bed(&Masquerade::on())?;
    for (number, ipv4) in FAMILIES.into_iter().enumerate() {
        let to = at_outside(&bed, ipv4)?;
        let open = |bed: &Bed, protocol| Session::open(&bed.pod(0, 0).netns, protocol, to);
        let (mut udp, mut tcp) = (open(&bed, Protocol::Udp)?, open(&bed, Protocol::Tcp)?);
        let old = bed.node(0).spec.address_like(to.ip()).context("a node address")?;
        for session in [&mut udp, &mut tcp] {
            let seen = session.ask()?.client.ip();
            ensure!(seen == old, "seen as {seen}, not {old}");
        }
        let node = &mut bed.cluster.podlane[0];
        let subnet = node.spec.underlay[number].trunc();
        let new = address::host(subnet, 99);
        wire::add_address(&node.netns, "eth0", address::with_prefix(new, subnet))?;
        node.config.node.address[number] = new;
        node.reload()?;
        let mut arriving = Capture::open(&bed.outside.netns, "eth0")?;
        let seen = udp.ask()?.client.ip();
        ensure!(seen == new, "seen as {seen}, {old} before");
        tcp.must_be_reset().with_context(|| format!("TCP under {old}"))?;
        for protocol in PROTOCOLS {
            let seen = open(&bed, protocol)?.ask()?.client.ip();
            ensure!(seen == new, "{protocol:?}: seen as {seen}, {old} before");
        }
        let arrived = arriving.drain()?.into_iter().filter_map(|packet| packet.headers());
        let stale: Vec<_> = arrived.filter(|headers| headers.source == old).collect();
        ensure!(stale.is_empty(), "still under {old}: {stale:?}");
    }
    Ok(())
}

/// SN-5: the node's own traffic keeps its address and its port, in the range or not.
#[test]
fn the_nodes_own_traffic_is_left_alone() -> Result<()> {
    require!(setup::ready_with_loader());
    let (bed, _servers) = bed(&Masquerade::on())?;
    for ipv4 in FAMILIES {
        let to = at_outside(&bed, ipv4)?;
        let node = bed.node(0).spec.address_like(to.ip()).context("a node address")?;
        for protocol in PROTOCOLS {
            for port in [40_000, 63_000] {
                let mut session = Session::open_port(&bed.node(0).netns, port, protocol, to)?;
                let seen = session.exchange(1400, 1400)?;
                ensure!(seen.client == SocketAddr::new(node, port), "{protocol:?}: seen as {}", seen.client);
            }
        }
        traffic::ping(&bed.node(0).netns, to.ip())?;
        traffic::ping(&bed.outside.netns, node)?;
    }
    Ok(())
}

/// SN-6: echo identifiers are told apart as ports are; each pod gets its own answers with its own identifier.
#[test]
fn echo_identifiers_never_collide() -> Result<()> {
    require!(setup::ready_with_loader());
    let (bed, _servers) = bed(&Masquerade::on())?;
    let mut server = Capture::open(&bed.outside.netns, "eth0")?;
    for ipv4 in FAMILIES {
        let to = at_outside(&bed, ipv4)?.ip();
        let mut sinks = Vec::new();
        for pod in 0..3 {
            let pod = bed.pod(0, pod);
            let own = who::at(&pod.ips(), ipv4, 0)?.ip();
            let capture = Capture::open(&pod.netns, "eth0")?;
            let payload = pod.name.as_bytes();
            let request = Ip::new(own, to).echo(61_777, 5, payload);
            capture.inject(&ethernet(pod.netns.mac("eth0")?, bed.node(0).mac(), &request))?;
            sinks.push((capture, own, payload.to_vec()));
        }
        let mut ids = std::collections::BTreeSet::new();
        while ids.len() < 3 {
            let id = server.find("three echo requests with identifiers of their own", |packet| {
                let headers = packet.headers().filter(|headers| headers.destination == to)?;
                let echo = headers.icmp.is_some_and(|(kind, _)| [8, 128].contains(&kind));
                (echo && packet.checksums_hold()).then(|| [headers.payload[0], headers.payload[1]])
            })?;
            ids.insert(id);
        }
        for (sink, own, payload) in &mut sinks {
            let answer = sink.find("the answer", |packet| {
                packet.headers().filter(|headers| headers.goes(to, *own) && headers.icmp.is_some())
            })?;
            let mut expected = vec![0xf1, 0x51, 0, 5];
            expected.extend(&*payload);
            ensure!(answer.payload == expected, "{own} got {answer:?}");
        }
    }
    Ok(())
}

/// SN-6, IC-1: ICMP errors from outside reach the pod's own socket: a closed port, an expired TTL, a path MTU.
#[test]
fn errors_come_back_to_the_pod() -> Result<()> {
    require!(setup::ready_with_loader());
    let (bed, _servers) = bed(&Masquerade::on())?;
    let router = bed.cluster.router.as_ref().context("a router")?.netns();
    for ipv4 in FAMILIES {
        let to = at_outside(&bed, ipv4)?.ip();
        let pod = &bed.pod(0, 0).netns;
        who::refused(pod, Protocol::Udp, SocketAddr::new(to, 7001))?;
        who::refused(pod, Protocol::Tcp, SocketAddr::new(to, 7001))?;
        let probe = Probe::new(pod, to)?;
        probe.set_ttl(2)?;
        probe.send(10)?;
        let notice = probe.notice()?;
        let kind = if ipv4 { (11, 0) } else { (3, 0) };
        ensure!((notice.kind, notice.code) == kind, "{notice:?}");
    }
    // The narrow place is between the router and the host, for what goes there: a device's MTU would also have it lose what the
    // host sends in frames of its own.
    let narrow = router.ip("-o route get 198.51.100.10")?;
    let port =
        narrow.split_whitespace().skip_while(|word| *word != "dev").nth(1).context("the router's port")?;
    for ip in &bed.outside.addresses {
        router.ip(&format!("route add {ip} dev {port} mtu lock 1300"))?;
    }
    for ipv4 in FAMILIES {
        let to = at_outside(&bed, ipv4)?;
        let probe = Probe::new(&bed.pod(0, 0).netns, to.ip())?;
        probe.discover_mtu()?;
        probe.send(1380)?;
        let notice = probe.notice()?;
        ensure!(notice.info == 1300, "{notice:?}");
        // TCP adapts.
        Session::open(&bed.pod(0, 1).netns, Protocol::Tcp, to)?.exchange(1 << 20, 1 << 20)?;
    }
    Ok(())
}

/// SN-7: destinations that are excluded see the pod's own address, by the node's own routing.
#[test]
fn excluded_destinations_see_the_pod() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut masquerade = Masquerade::on();
    masquerade.exclude = vec![address::outside4(1), address::outside6(1)];
    let (mut bed, _servers) = bed(&masquerade)?;
    let router = bed.cluster.router.as_mut().context("a router")?;
    let excluded = Outside::new(Netns::new("excluded")?, router, 1)?;
    for node in &bed.cluster.podlane {
        // What is excluded is for the node's stack to route.
        node.netns.sysctl("net.ipv4.ip_forward", "1")?;
        node.netns.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        node.spec.pod_cidrs.iter().try_for_each(|cidr| outside::lead(router, *cidr, &node.spec))?;
    }
    let _servers = Server::both(&excluded.netns, "excluded", &excluded.addresses, 7000)?;
    for ipv4 in FAMILIES {
        for protocol in PROTOCOLS {
            let own = who::at(&bed.pod(0, 0).ips(), ipv4, 0)?.ip();
            let to = who::at(&excluded.addresses, ipv4, 7000)?;
            let seen = who::ask(&bed.pod(0, 0).netns, protocol, to)?;
            ensure!(seen.client.ip() == own, "{protocol:?}: seen as {}", seen.client);
            let seen = who::ask(&bed.pod(0, 0).netns, protocol, at_outside(&bed, ipv4)?)?;
            ensure!(seen.client.ip() != own, "{protocol:?}: seen as {}", seen.client);
            // And who comes from there to a pod gets answers from the pod.
            let to = who::at(&bed.pod(0, 0).ips(), ipv4, testbed::bed::SERVING)?;
            ensure!(who::ask(&excluded.netns, protocol, to)?.server == "pod-0-0", "another pod");
        }
    }
    Ok(())
}

/// SN-1: a pod that is called from outside under its own address answers under it.
#[test]
fn answers_to_the_outside_are_not_masqueraded() -> Result<()> {
    require!(setup::ready_with_loader());
    let (bed, _servers) = bed(&Masquerade::on())?;
    let router = bed.cluster.router.as_ref().context("a router")?;
    for node in &bed.cluster.podlane {
        node.netns.sysctl("net.ipv4.ip_forward", "1")?;
        node.netns.sysctl("net.ipv6.conf.all.forwarding", "1")?;
        node.spec.pod_cidrs.iter().try_for_each(|cidr| outside::lead(router, *cidr, &node.spec))?;
    }
    for ipv4 in FAMILIES {
        for protocol in PROTOCOLS {
            let to = who::at(&bed.pod(0, 0).ips(), ipv4, testbed::bed::SERVING)?;
            let mut session = Session::open(&bed.outside.netns, protocol, to)?;
            for _ in 0..3 {
                let seen = session.ask().with_context(|| format!("{protocol:?} to {to}"))?;
                ensure!(
                    seen.client
                        == SocketAddr::new(bed.outside.address_like(to.ip())?, session.own_address()?.port()),
                    "{seen:?}"
                );
            }
        }
    }
    Ok(())
}

/// SN-1: without masquerading everything keeps its address, and nothing is remembered.
#[test]
fn without_masquerading_nothing_is_translated() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = Bed::two_nodes(|_, _| {})?;
    let router = bed.cluster.router.as_ref().context("a router")?;
    for node in &bed.cluster.podlane {
        node.netns.sysctl("net.ipv4.ip_forward", "1")?;
        node.spec.pod_cidrs.iter().try_for_each(|cidr| outside::lead(router, *cidr, &node.spec))?;
    }
    let server = bed.outside.netns.enter(|| Ok(UdpSocket::bind("198.51.100.10:7000")?))?;
    server.set_read_timeout(Some(wait::patience()))?;
    let client = traffic::udp::connect(&bed.pod(0, 0).netns, server.local_addr()?)?;
    client.send(b"who am I")?;
    let (_, from) = server.recv_from(&mut [0; 16])?;
    ensure!(from.ip() == bed.pod(0, 0).v4()?, "seen as {from}");
    ensure!(connections::list(&bed.node(0).pins())?.is_empty(), "there are connections");
    ensure!(
        bed.node(0).counters()?.packets(Hook::FromPod, common::counters::Reason::Masqueraded) == 0,
        "masqueraded"
    );
    Ok(())
}
