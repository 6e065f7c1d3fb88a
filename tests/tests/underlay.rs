//! What the underlay sends: who may, what is taken off and delivered, what is left alone; and peers that leave or move.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use common::counters::{Hook, Reason};
use testbed::{
    address::Mac,
    capture::Capture,
    cluster, counters,
    frame::{Ip, ethernet, vxlan},
    podlane_node::PodlaneNode,
    require, setup,
    spec::Family,
    traffic::{self, ping},
    wire,
};

const PORT: u16 = 8472;

/// "Congestion experienced", of the two bits of ECN.
const CE: u8 = 3;

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
    socket.set_read_timeout(Some(testbed::wait::patience()))?;
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
