//! Pods of different Podlane nodes: every kind of traffic over every kind of underlay, and what it looks like on the wire.

use std::{collections::HashSet, net::IpAddr};

use anyhow::{Context as _, Result, ensure};
use common::counters::{Hook, Reason};
use testbed::{
    address::Mac,
    capture::Capture,
    cluster::{self, Cluster, Underlay},
    counters,
    frame::{Ip, ethernet, vxlan},
    packet::Vxlan,
    podlane_node::PodlaneNode,
    require, setup,
    spec::{Family, Route},
    traffic::{self, ping},
    wire,
};

const PORT: u16 = 8472;
/// "Congestion experienced", of the two bits of ECN.
const CE: u8 = 3;

/// Both ways between pods of two nodes, and nothing dropped on the way.
fn everything(cluster: &Cluster) -> Result<()> {
    let (one, two) = (&cluster.podlane[0], &cluster.podlane[1]);
    for (from, to) in [(one, two), (two, one)] {
        for ip in to.pods[0].ips() {
            traffic::every_kind(&from.pods[0].netns, (&to.pods[0].netns, ip))
                .with_context(|| format!("{} to {ip}", from.spec.name))?;
        }
    }
    for node in &cluster.podlane {
        let counters = node.counters()?;
        for reason in [
            Reason::HelperFailed,
            Reason::TooBig,
            Reason::Malformed,
            Reason::NoUnderlayRoute,
            Reason::NoRoute,
        ] {
            for hook in Hook::ALL {
                ensure!(
                    counters.packets(hook, reason) == 0,
                    "{}: {:?}",
                    node.spec.name,
                    counters.iter().collect::<Vec<_>>()
                );
            }
        }
    }
    Ok(())
}

/// OV-1, OV-5: on one link, IPv4 underlay.
#[test]
fn pods_talk_over_ipv4() -> Result<()> {
    require!(setup::ready_with_loader());
    everything(&cluster::two_nodes().start()?)
}

/// OV-1, OV-5: through a router, IPv4 underlay.
#[test]
fn pods_talk_over_routed_ipv4() -> Result<()> {
    require!(setup::ready_with_loader());
    everything(&cluster::two_nodes().underlay(Underlay::Routed).start()?)
}

/// OV-1, OV-3, OV-5: on one link, IPv6 underlay, where the outer UDP checksum is zero (RFC 6935).
#[test]
fn pods_talk_over_ipv6() -> Result<()> {
    require!(setup::ready_with_loader());
    everything(&cluster::two_nodes().family(Family::V6).start()?)
}

/// OV-1, OV-3, OV-5: through a router, IPv6 underlay.
#[test]
fn pods_talk_over_routed_ipv6() -> Result<()> {
    require!(setup::ready_with_loader());
    everything(&cluster::two_nodes().underlay(Underlay::Routed).family(Family::V6).start()?)
}

/// OV-1: another VNI and port, both ends alike.
#[test]
fn any_vni_and_port_work() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::two_nodes().build()?;
    for node in &mut cluster.podlane {
        node.config.overlay.vni = 0x00ab_cdef;
        node.config.overlay.port = 4789;
        node.start()?;
    }
    let mut wire = Capture::open(cluster.underlay()?, "port0")?;
    everything(&cluster)?;
    let seen = wire.find("VXLAN on port 4789", |packet| packet.vxlan(4789))?;
    ensure!(seen.vni() == 0x00ab_cdef && seen.header == [8, 0, 0, 0, 0xab, 0xcd, 0xef, 0], "{seen:?}");
    Ok(())
}

/// Direct routes instead of VXLAN: nothing is encapsulated, all arrives.
#[test]
fn pods_talk_over_direct_routes() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().family(Family::Dual).route(Route::Direct).start()?;
    let mut wire = Capture::open(cluster.underlay()?, "port0")?;
    everything(&cluster)?;
    let packets = wire.drain()?;
    let pods = cluster.podlane[0].pods[0].ips();
    let plain = packets
        .iter()
        .filter_map(testbed::packet::Packet::headers)
        .filter(|seen| pods.contains(&seen.source));
    ensure!(plain.count() > 10, "few plain packets seen");
    let encapsulated = packets.iter().filter(|packet| packet.vxlan(PORT).is_some()).count();
    ensure!(encapsulated == 0, "{encapsulated} packets in VXLAN");
    Ok(())
}

/// What the sending node puts on the wire for a frame that a pod sends.
fn on_the_wire(wire: &mut Capture, pod: &Capture, frame: &[u8], ports: (u16, u16)) -> Result<Vxlan> {
    pod.inject(frame)?;
    wire.find("the packet in VXLAN", |packet| {
        let vxlan = packet.vxlan(PORT)?;
        (vxlan.inner.headers()?.ports == Some(ports)).then_some(vxlan)
    })
}

/// OV-1, OV-3, OV-9: every byte of the encapsulation, for both families inside and outside.
#[test]
fn the_encapsulation_is_exact() -> Result<()> {
    require!(setup::ready_with_loader());
    for family in [Family::V4, Family::V6] {
        let cluster = cluster::two_nodes().family(family).start()?;
        let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
        let (from, to) = (&here.pods[0], &there.pods[0]);
        let mut wire = Capture::open(cluster.underlay()?, "port0")?;
        let pod = Capture::open(&from.netns, "eth0")?;
        let uplink_macs = (here.netns.mac("eth0")?, there.netns.mac("eth0")?);
        for (source, destination) in from.ips().into_iter().zip(to.ips()) {
            for tos in [0, 0xb8, 0x02, 0xba] {
                let ip = Ip { ttl: 33, tos, ..Ip::new(source, destination) };
                let frame =
                    ethernet(from.netns.mac("eth0")?, here.mac(), &ip.udp((1111, 2222), b"as it was"));
                let seen = on_the_wire(&mut wire, &pod, &frame, (1111, 2222))?;
                let inner =
                    ethernet(here.mac(), there.mac(), &Ip { ttl: 32, ..ip }.udp((1111, 2222), b"as it was"));
                ensure!(seen.inner.bytes == inner, "inner {:x?} instead of {inner:x?}", seen.inner.bytes);
                ensure!(seen.header == [8, 0, 0, 0, 0, 0, 1, 0], "VXLAN header {:x?}", seen.header);
                let outer = &seen.outer;
                ensure!(outer.goes(here.spec.address(), there.spec.address()), "{outer:?}");
                ensure!((outer.source_mac, outer.destination_mac) == uplink_macs, "{outer:?}");
                ensure!(outer.ttl == 64 && !outer.dont_fragment && !outer.fragment, "{outer:?}");
                ensure!(outer.id.is_none_or(|id| id == 0) && outer.udp_checksum == Some(0), "{outer:?}");
                ensure!(outer.tos == tos, "outer TOS {:x} for inner {tos:x}", outer.tos);
                let headers = if family == Family::V4 { 28 } else { 48 };
                ensure!(outer.ip_length == headers + 8 + inner.len(), "outer length {}", outer.ip_length);
                ensure!(outer.ports.is_some_and(|(port, _)| (32768..=60999).contains(&port)), "{outer:?}");
            }
        }
    }
    Ok(())
}

/// OV-2: one flow has one source port, its fragments share another, flows are spread.
#[test]
fn source_ports_follow_flows() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().start()?;
    let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
    let (from, to) = (&here.pods[0], &there.pods[0]);
    let mut wire = Capture::open(cluster.underlay()?, "port0")?;
    let pod = Capture::open(&from.netns, "eth0")?;
    let mac = from.netns.mac("eth0")?;
    for (source, destination) in from.ips().into_iter().zip(to.ips()) {
        let ip = Ip::new(source, destination);
        let mut ports = HashSet::new();
        for flow in 0..64 {
            let mut of_flow = HashSet::new();
            for payload in [&b"a"[..], b"another"] {
                let frame = ethernet(mac, here.mac(), &ip.udp((10_000 + flow, 53), payload));
                let seen = on_the_wire(&mut wire, &pod, &frame, (10_000 + flow, 53))?;
                of_flow.insert(seen.outer.ports.context("ports")?.0);
            }
            ensure!(of_flow.len() == 1, "a flow with source ports {of_flow:?}");
            ports.extend(of_flow);
        }
        ensure!(ports.len() >= 56, "64 flows share {} source ports", ports.len());
        ensure!(ports.iter().all(|port| (32768..=60999).contains(port)), "{ports:?}");
    }

    // A datagram of 8 KB leaves the pod in fragments.
    wire.drain()?;
    for ip in to.ips() {
        traffic::udp::echo(&from.netns, (&to.netns, ip), &[8000])?;
        let outgoing = wire.drain()?.into_iter().filter_map(|packet| packet.vxlan(PORT));
        let fragments = outgoing.filter(|seen| {
            seen.inner.headers().is_some_and(|inner| inner.fragment && inner.destination == ip)
        });
        let ports: Vec<_> = fragments.filter_map(|seen| Some(seen.outer.ports?.0)).collect();
        ensure!(ports.len() >= 6, "{} fragments seen", ports.len());
        ensure!(ports.iter().all(|port| *port == ports[0]), "fragments with source ports {ports:?}");
    }
    Ok(())
}

/// Sends a UDP packet from the second node's underlay to the first node's pod by hand.
struct Forger<'a> {
    underlay: Capture,
    node: &'a PodlaneNode,
    uplink: Mac,
    own: Mac,
    peer: &'a PodlaneNode,
}

impl<'a> Forger<'a> {
    fn new(node: &'a PodlaneNode, peer: &'a PodlaneNode) -> Result<Self> {
        Ok(Self {
            underlay: Capture::open(&peer.netns, "eth0")?,
            node,
            uplink: node.netns.mac("eth0")?,
            own: peer.netns.mac("eth0")?,
            peer,
        })
    }

    fn inner(&self, tos: u8, marker: u16) -> Result<Vec<u8>> {
        let ip = Ip { tos, ..Ip::new(self.peer.pods[0].v4()?.into(), self.node.pods[0].v4()?.into()) };
        Ok(ethernet(self.peer.mac(), self.node.mac(), &ip.udp((marker, 9), b"forged")))
    }

    fn outer(&self) -> Ip {
        Ip { dont_fragment: false, ..Ip::new(self.peer.spec.address(), self.node.spec.address()) }
    }

    fn send(&self, packet: &[u8]) -> Result<()> {
        self.underlay.inject(&ethernet(self.own, self.uplink, packet))
    }
}

/// Waits for the packet with this source port, and returns its headers.
fn arrives(sink: &mut Capture, marker: u16) -> Result<testbed::packet::Headers> {
    sink.find(&format!("packet {marker}"), |packet| {
        packet.headers().filter(|headers| headers.ports.is_some_and(|ports| ports.0 == marker))
    })
}

/// OV-3: the outer checksum may be zero or right, over IPv4 and over IPv6.
#[test]
fn outer_checksums_may_be_zero_or_right() -> Result<()> {
    require!(setup::ready_with_loader());
    for family in [Family::V4, Family::V6] {
        let cluster = cluster::two_nodes().family(family).start()?;
        let forger = Forger::new(&cluster.podlane[0], &cluster.podlane[1])?;
        let mut sink = Capture::open(&cluster.podlane[0].pods[0].netns, "eth0")?;
        forger.send(&forger.outer().udp_without_checksum((40_000, PORT), &vxlan(1, &forger.inner(0, 1)?)))?;
        arrives(&mut sink, 1)?;
        forger.send(&forger.outer().udp((40_000, PORT), &vxlan(1, &forger.inner(0, 2)?)))?;
        let headers = arrives(&mut sink, 2)?;
        // The pod's own MAC inside, whatever the tunnel carried; one hop less.
        ensure!(headers.destination_mac == cluster.podlane[0].pods[0].netns.mac("eth0")?, "{headers:?}");
        ensure!(headers.ttl == 63, "{headers:?}");
    }
    Ok(())
}

/// OV-4: VXLAN of our VNI from a stranger, for a MAC that is not ours, for nobody here or cut short is dropped under its
/// reason; another VNI, another UDP port and plain traffic are left to the node.
#[test]
fn only_peers_may_send_and_only_to_us() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().quiet().start()?;
    let (node, peer) = (&cluster.podlane[0], &cluster.podlane[1]);
    let forger = Forger::new(node, peer)?;
    let mut sink = Capture::open(&node.pods[0].netns, "eth0")?;
    let good = forger.inner(0, 1)?;
    let stranger = Ip { source: "10.240.0.99".parse()?, ..forger.outer() };
    let other_mac = ethernet(peer.mac(), [2, 0, 0, 0, 0, 9], &good[14..]);
    let elsewhere = |to: IpAddr| -> Result<Vec<u8>> {
        let ip = Ip::new(peer.pods[0].v4()?.into(), to);
        Ok(ethernet(peer.mac(), node.mac(), &ip.udp((1, 9), b"forged")))
    };
    let mut without_flag = vxlan(1, &good);
    without_flag[0] = 0;
    let mut to_nobody_in_vxlan = forger.outer();
    to_nobody_in_vxlan.destination = "10.240.0.98".parse()?;
    let outer = forger.outer();
    let own = |payload: &[u8]| outer.udp_without_checksum((40_000, PORT), payload);
    let cases = [
        (stranger.udp((40_000, PORT), &vxlan(1, &good)), Reason::UnknownVtep, "a stranger"),
        (own(&vxlan(1, &other_mac)), Reason::NotOurMac, "another MAC"),
        (own(&vxlan(1, &elsewhere("10.200.7.7".parse()?)?)), Reason::NoRoute, "an address of no node"),
        (
            own(&vxlan(1, &elsewhere("10.200.1.10".parse()?)?)),
            Reason::NoRoute,
            "the peer's own pod, sent back",
        ),
        (own(&vxlan(1, &elsewhere("10.200.0.99".parse()?)?)), Reason::NoSuchPod, "an address of no pod"),
        (own(&vxlan(1, &good[..20])), Reason::Malformed, "an inner frame cut short"),
        (own(&vxlan(1, &good[..10])), Reason::Malformed, "half an inner Ethernet header"),
        (own(&vxlan(2, &good)), Reason::Foreign, "another VNI"),
        (own(&without_flag), Reason::Foreign, "no I flag"),
        (own(&vxlan(1, &good)[..6]), Reason::Foreign, "half a VXLAN header"),
        (outer.udp((40_000, 4789), &vxlan(1, &good)), Reason::Foreign, "another port"),
        (outer.udp((40_000, 53), b"a question"), Reason::Foreign, "plain UDP"),
        (outer.tcp((40_000, 22), 2), Reason::Foreign, "plain TCP"),
        (to_nobody_in_vxlan.udp((40_000, PORT), &vxlan(1, &good)), Reason::Foreign, "VXLAN for another node"),
    ];
    for (packet, reason, case) in &cases {
        let before = node.counters()?;
        forger.send(packet)?;
        counters::wait_for(&before, Hook::FromUplink, *reason, 1).with_context(|| (*case).to_owned())?;
    }
    let leaked: Vec<_> = sink.drain()?.iter().filter_map(testbed::packet::Packet::headers).collect();
    ensure!(leaked.is_empty(), "the pod received {leaked:?}");
    forger.send(&own(&vxlan(1, &forger.inner(0, 77)?)))?;
    arrives(&mut sink, 77)?;
    Ok(())
}

/// OV-4: a UDP service of the node itself on some other port still gets its packets, and one on VXLAN's port gets what
/// is of another VNI, untouched.
#[test]
fn foreign_udp_reaches_the_node_untouched() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().quiet().start()?;
    let (node, peer) = (&cluster.podlane[0], &cluster.podlane[1]);
    traffic::udp::echo(&peer.netns, (&node.netns, node.spec.address()), &[1, 1000, 8000])?;
    let socket = node.netns.enter(|| Ok(std::net::UdpSocket::bind(("0.0.0.0", PORT))?))?;
    socket.set_read_timeout(Some(testbed::wait::PATIENCE))?;
    let forger = Forger::new(node, peer)?;
    let payload = vxlan(9, &forger.inner(0, 1)?);
    forger.send(&forger.outer().udp((40_000, PORT), &payload))?;
    let mut buffer = [0; 2048];
    let length = socket.recv(&mut buffer)?;
    ensure!(buffer[..length] == payload, "{:x?} instead of {payload:x?}", &buffer[..length]);
    Ok(())
}

/// OV-9: DSCP is copied outward and the inner one stays; a CE mark from the underlay reaches a pod that can take it, and
/// a packet that can't is dropped (RFC 6040, section 4.2).
#[test]
fn ecn_marks_of_the_underlay_reach_the_pod() -> Result<()> {
    require!(setup::ready_with_loader());
    for family in [Family::V4, Family::V6] {
        let cluster = cluster::two_nodes().family(family).start()?;
        let (node, peer) = (&cluster.podlane[0], &cluster.podlane[1]);
        let forger = Forger::new(node, peer)?;
        let mut sink = Capture::open(&node.pods[0].netns, "eth0")?;
        // Inner ECN, outer ECN, what the pod sees.
        for (marker, (inner, outer, expected)) in (100..).zip([
            (0xb8, 0xb8, 0xb8),
            (0x02, 0x02, 0x02),
            (0x02, CE, CE),
            (0x01, CE, CE),
            (0xba, 0xbb, 0xbb),
            (CE, 0x02, CE),
            (0x00, 0x02, 0x00),
        ]) {
            let packet = Ip { tos: outer, ..forger.outer() };
            forger.send(
                &packet.udp_without_checksum((40_000, PORT), &vxlan(1, &forger.inner(inner, marker)?)),
            )?;
            let headers = arrives(&mut sink, marker)?;
            ensure!(
                headers.tos == expected,
                "inner {inner:x}, outer {outer:x}: the pod sees {:x}",
                headers.tos
            );
        }
        let before = node.counters()?;
        let packet = Ip { tos: CE, ..forger.outer() };
        forger.send(&packet.udp_without_checksum((40_000, PORT), &vxlan(1, &forger.inner(0, 200)?)))?;
        counters::wait_for(&before, Hook::FromUplink, Reason::Ecn, 1)?;
    }
    Ok(())
}

/// OV-9: both families keep their DSCP and ECN end to end.
#[test]
fn dscp_is_kept_end_to_end() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().start()?;
    let (from, to) = (&cluster.podlane[0].pods[0], &cluster.podlane[1].pods[0]);
    let mut sink = Capture::open(&to.netns, "eth0")?;
    for ip in to.ips() {
        traffic::Ping { count: 1, tos: 0xb8, ..traffic::Ping::default() }.must_reach(&from.netns, ip)?;
        let headers = sink.find("the request", |packet| {
            packet
                .headers()
                .filter(|headers| headers.destination == ip && matches!(headers.icmp, Some((8 | 128, 0))))
        })?;
        ensure!(headers.tos == 0xb8, "{headers:?}");
    }
    Ok(())
}

/// OV-10: what Podlane sends does not pass the node's own IP output, so no conntrack or NAT rule there can touch it.
#[test]
fn encapsulated_packets_do_not_pass_the_nodes_output() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().quiet().start()?;
    let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
    let out_requests = || -> Result<u64> {
        let text = here.netns.run("cat /proc/thread-self/net/snmp")?;
        let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
        let place = lines
            .next()
            .context("Ip:")?
            .split(' ')
            .position(|word| word == "OutRequests")
            .context("OutRequests")?;
        Ok(lines.next().context("Ip:")?.split(' ').nth(place).context("OutRequests")?.parse()?)
    };
    ping(&here.pods[0].netns, there.pods[0].v4()?)?;
    let before = out_requests()?;
    traffic::Ping { count: 50, interval: 2, ..traffic::Ping::default() }
        .must_reach(&here.pods[0].netns, there.pods[0].v4()?.into())?;
    let after = out_requests()?;
    ensure!(after - before < 10, "{} packets passed the node's output for 50 of a pod", after - before);
    Ok(())
}

/// OV-12: a peer that is gone is not sent to any more, and what it still sends is refused; its pods are unreachable with
/// a word to the sender or left to the node's routing, never silently lost.
#[test]
fn a_peer_that_leaves_is_forgotten() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::two_nodes().quiet().start()?;
    let (first, second) = cluster.podlane.split_at_mut(1);
    let (node, peer) = (&mut first[0], &second[0]);
    ping(&node.pods[0].netns, peer.pods[0].v4()?)?;
    node.config.peers.clear();
    node.reload()?;
    let before = node.counters()?;
    let mut uplink = Capture::open(&node.netns, "eth0")?;
    traffic::Ping::default().must_not_reach(&node.pods[0].netns, peer.pods[0].v4()?.into())?;
    let now = node.counters()?;
    ensure!(
        now.packets(Hook::FromPod, Reason::ToOutside) >= before.packets(Hook::FromPod, Reason::ToOutside) + 3,
        "{:?}",
        now.since(&before)
    );
    let leaked = uplink.drain()?.iter().filter(|packet| packet.vxlan(PORT).is_some()).count();
    ensure!(leaked == 0, "{leaked} packets in VXLAN after the peer had gone");
    let before = node.counters()?;
    traffic::Ping::default().must_not_reach(&peer.pods[0].netns, node.pods[0].v4()?.into())?;
    counters::wait_for(&before, Hook::FromUplink, Reason::UnknownVtep, 3)?;
    Ok(())
}

/// OV-12: a peer whose address changes is reached at the new one, and the old one may not send any more.
#[test]
fn a_peer_that_moves_is_followed() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::two_nodes().quiet().start()?;
    let (first, second) = cluster.podlane.split_at_mut(1);
    let (node, peer) = (&mut first[0], &mut second[0]);
    let moved: ipnet::IpNet = "10.240.0.77/24".parse()?;
    let old = peer.spec.address();
    ping(&node.pods[0].netns, peer.pods[0].v4()?)?;
    wire::add_address(&peer.netns, "eth0", moved)?;
    peer.config.node.address = vec![moved.addr()];
    peer.stop()?;
    peer.start()?;
    node.config.peers[0].address = vec![moved.addr()];
    node.reload()?;
    traffic::every_kind(&node.pods[0].netns, (&peer.pods[0].netns, peer.pods[0].v4()?.into()))?;
    traffic::every_kind(&peer.pods[0].netns, (&node.pods[0].netns, node.pods[0].v4()?.into()))?;
    let before = node.counters()?;
    let forger = Forger::new(node, peer)?;
    let stale = Ip { source: old, ..forger.outer() };
    forger.send(&stale.udp((40_000, PORT), &vxlan(1, &forger.inner(0, 1)?)))?;
    counters::wait_for(&before, Hook::FromUplink, Reason::UnknownVtep, 1)?;
    Ok(())
}
