//! What leaves for peers: the tunnel's bytes, its ports and its marks, and packets that go as they are.

use std::collections::HashSet;

use anyhow::{Context as _, Result, ensure};
use common::{
    counters::{Hook, Reason},
    flow,
    maps::{Hop, route_kind},
    verdict::Action,
};
use testbed::{
    frame::{self, Ip},
    progrun::{self, Family, Input, NODE_MAC, PORT, Peer, Pod, Rig, UPLINK_MAC, peer, underlay, way_to},
    require, setup,
};

use crate::craft::{ETH, fix_header_checksum, flows, fragment, hops_taken};

/// Length of what a tunnel adds behind the Ethernet header.
const fn room(peer: &Peer) -> usize {
    match peer.underlay {
        Family::V4 => 50,
        Family::V6 => 70,
    }
}

/// The outer source port of a tunnel packet.
fn port(peer: &Peer, frame: &[u8]) -> u16 {
    let at = ETH + peer.underlay.header_len();
    u16::from_be_bytes([frame[at], frame[at + 1]])
}

/// Every byte of the tunnel to a peer around a frame, written down.
fn tunnel(peer: &Peer, tos: u8, port: u16, inner: &[u8]) -> Result<Vec<u8>> {
    let mut frame = Vec::new();
    frame.extend(peer.next_mac());
    frame.extend(UPLINK_MAC);
    let udp = u16::try_from(8 + 8 + inner.len())?;
    match peer.underlay {
        Family::V4 => {
            frame.extend([0x08, 0x00]);
            let mut ip = vec![0x45, tos];
            ip.extend((20 + udp).to_be_bytes());
            // No identification, no flags; 64 hops; UDP.
            ip.extend([0, 0, 0, 0, 64, 17, 0, 0, 10, 240, 0, 20]);
            ip.extend(address_octets(peer));
            fix_header_checksum(&mut ip);
            frame.extend(ip);
        }
        Family::V6 => {
            frame.extend([0x86, 0xdd, 0x60 | tos >> 4, tos << 4, 0, 0]);
            frame.extend(udp.to_be_bytes());
            frame.extend([17, 64, 0xfd, 0, 0, 0x10, 0x02, 0x40, 0, 0, 0, 0, 0, 0, 0, 0, 0, 20]);
            frame.extend(address_octets(peer));
        }
    }
    frame.extend(port.to_be_bytes());
    // Port 8472; length; no checksum.
    frame.extend([0x21, 0x18]);
    frame.extend(udp.to_be_bytes());
    frame.extend([0, 0]);
    // I flag, VNI 1, everything else zero.
    frame.extend([0x08, 0, 0, 0, 0, 0, 1, 0]);
    frame.extend(inner);
    Ok(frame)
}

fn address_octets(peer: &Peer) -> Vec<u8> {
    match peer.address() {
        std::net::IpAddr::V4(address) => address.octets().to_vec(),
        std::net::IpAddr::V6(address) => address.octets().to_vec(),
    }
}

/// Sends from a pod through a tunnel; the frame that leaves.
fn tunnelled(node: &mut Rig, pod: Pod, packet: &[u8]) -> Result<Vec<u8>> {
    let outcome = node.from_pod(pod, &pod.sends(packet))?;
    outcome.went(Reason::ToOverlay, Action::Device { ifindex: node.uplink() })?;
    Ok(outcome.seen.bytes)
}

/// OV-1, OV-9, PF-11: every byte of the tunnel over both underlays, on-link and through a router; the inner packet has one hop
/// less and the VTEPs' MACs, and is otherwise as it was; the peer's account says the inner length.
#[test]
fn a_tunnel_packet_has_exactly_these_bytes() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for name in ["near", "routed", "near6", "routed6"] {
            let peer = peer(name)?;
            for family in Family::BOTH {
                for tos in [0, 0xb8, 1, 0x2f] {
                    let ip = Ip { tos, ..Ip::new(here.address(family), peer.pod(family)) };
                    for packet in flows(&ip) {
                        let frame = here.sends(&packet);
                        let outcome = node.from_pod(here, &frame)?;
                        outcome.went(Reason::ToOverlay, Action::Device { ifindex: node.uplink() })?;
                        let inner = frame::ethernet(NODE_MAC, peer.vtep_mac(), &hops_taken(&packet, 1));
                        let expected = tunnel(&peer, tos, port(&peer, &outcome.seen.bytes), &inner)?;
                        ensure!(
                            outcome.seen.bytes == expected,
                            "{name}: {:02x?}\ninstead of\n{expected:02x?}",
                            outcome.seen.bytes
                        );
                        ensure!(outcome.seen.bytes.len() == frame.len() + room(&peer));
                        let bytes = u64::try_from(frame.len())?;
                        let accounts: Vec<_> = outcome.seen.accounts.into_iter().collect();
                        let expected = [
                            (format!("PeerTx({})", peer.slot()), (1, bytes)),
                            ("PodTx(3)".into(), (1, bytes)),
                        ];
                        ensure!(accounts == expected, "{accounts:?}");
                    }
                }
            }
        }
        Ok(())
    })
}

/// OV-1: a neighbour that nobody has asked for yet is the kernel's to resolve; the tunnel is complete all the same.
#[test]
fn an_unresolved_neighbour_is_left_to_the_kernel() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for name in ["silent", "silent6"] {
            let peer = peer(name)?;
            for family in Family::BOTH {
                let packet = Ip::new(here.address(family), peer.pod(family)).udp((1, 2), b"first");
                let outcome = node.from_pod(here, &here.sends(&packet))?;
                outcome.went(Reason::ToOverlay, Action::Route { ifindex: node.uplink() })?;
                let inner = frame::ethernet(NODE_MAC, peer.vtep_mac(), &hops_taken(&packet, 1));
                let expected = tunnel(&peer, 0, port(&peer, &outcome.seen.bytes), &inner)?;
                // The kernel writes the MACs once it knows them.
                ensure!(outcome.seen.bytes[12..] == expected[12..], "{:02x?}", outcome.seen.bytes);
            }
        }
        let peer = peer("silent-direct")?;
        for family in Family::BOTH {
            let packet = Ip::new(here.address(family), peer.pod(family)).udp((1, 2), b"first");
            let outcome = node.from_pod(here, &here.sends(&packet))?;
            ensure!(
                matches!(outcome.action, Action::Neighbour { ifindex, v6: false, .. } if ifindex == node.uplink())
            );
            ensure!(outcome.reason == Reason::ToDirect, "{}", outcome.reason.name());
            ensure!(outcome.seen.bytes[12..] == here.sends(&hops_taken(&packet, 1))[12..]);
        }
        Ok(())
    })
}

/// OV-1, OV-12: a way that is remembered is taken without asking; once it is old, the kernel is asked, and has a look at the
/// neighbour itself; one that was another peer's is not taken.
#[test]
fn a_remembered_way_is_taken_until_it_is_old() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        let peer = peer("near")?;
        let fresh = way_to(peer.address(), node.gateway());
        let elsewhere = way_to([192, 0, 2, 7].into(), node.gateway());
        for family in Family::BOTH {
            for packet in flows(&Ip::new(here.address(family), peer.pod(family))) {
                let frame = here.sends(&packet);
                let mut run = |remembered| {
                    node.run(&Input { remembered, ..Input::new(Hook::FromPod, here.ifindex, &frame) })
                };
                let outcome = run(fresh)?;
                outcome.went(Reason::ToOverlay, Action::Device { ifindex: fresh.ifindex })?;
                ensure!(outcome.seen.bytes.starts_with(&[6, 6, 6, 6, 6, 6, 8, 8, 8, 8, 8, 8, 8, 0]));

                let outcome = run(Hop { until: 0, ..fresh })?;
                ensure!(outcome.reason == Reason::ToOverlay, "{}", outcome.reason.name());
                ensure!(matches!(outcome.action, Action::Route { ifindex } if ifindex != fresh.ifindex));

                let outcome = run(elsewhere)?;
                ensure!(outcome.seen.bytes.starts_with(&peer.next_mac()));
            }
        }
        Ok(())
    })
}

/// OV-12: a peer that the node's routing does not reach: dropped, counted, the kernel's answer kept.
#[test]
fn a_peer_without_an_underlay_route_is_counted() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for family in Family::BOTH {
            let packet = Ip::new(here.address(family), peer("lost")?.pod(family)).udp((1, 2), b"");
            let outcome = node.from_pod(here, &here.sends(&packet))?;
            outcome.is_dropped(Reason::NoUnderlayRoute)?;
            // BPF_FIB_LKUP_RET_PROHIBIT of linux/bpf.h.
            let failures: Vec<_> = outcome.seen.failures.into_iter().collect();
            ensure!(failures == [("bpf_fib_lookup answered 3".to_owned(), 1)], "{failures:?}");
        }
        Ok(())
    })
}

/// OV-2: all packets of a flow leave by one port, whatever their size, flags and TTL; flows spread over the range.
#[test]
fn a_flow_keeps_its_outer_port_and_flows_spread() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for (name, family) in [("near", Family::V4), ("near", Family::V6), ("near6", Family::V4)] {
            let peer = peer(name)?;
            let ip = Ip::new(here.address(family), peer.pod(family));
            let later = Ip { ttl: 9, tos: 4, id: 0x4321, ..ip.clone() };
            let mut of_tcp = HashSet::new();
            for packet in [ip.tcp((40000, 80), 2), ip.tcp((40000, 80), 0x10), later.tcp((40000, 80), 1)] {
                of_tcp.insert(port(&peer, &tunnelled(node, here, &packet)?));
            }
            ensure!(of_tcp.len() == 1, "one TCP flow left by {of_tcp:?}");
            let mut of_udp = HashSet::new();
            for length in [0, 1, 1200] {
                let packet = ip.udp((40000, 80), &vec![9; length]);
                of_udp.insert(port(&peer, &tunnelled(node, here, &packet)?));
            }
            ensure!(of_udp.len() == 1, "one UDP flow left by {of_udp:?}");
            let mut spread = HashSet::new();
            for source in 30000..30064 {
                let port = port(&peer, &tunnelled(node, here, &ip.udp((source, 80), b""))?);
                ensure!((flow::PORT_FIRST..=flow::PORT_LAST).contains(&port), "port {port}");
                spread.insert(port);
            }
            ensure!(spread.len() > 60, "64 flows left by {} ports", spread.len());
        }
        Ok(())
    })
}

/// OV-2: the fragments of a datagram share their outer port, the first one with its ports too.
#[test]
fn fragments_of_a_datagram_share_their_outer_port() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        let peer = peer("near")?;
        for family in Family::BOTH {
            let ip = Ip::new(here.address(family), peer.pod(family));
            let mut ports = HashSet::new();
            for (offset, more, payload) in
                [(0, true, &[5; 64][..]), (8, true, &[6; 64]), (16, false, &[7; 3]), (8, false, &[])]
            {
                let packet = fragment(&ip, 17, offset, more, payload);
                ports.insert(port(&peer, &tunnelled(node, here, &packet)?));
            }
            ensure!(ports.len() == 1, "fragments left by {ports:?}");
        }
        Ok(())
    })
}

/// OV-1, PF-11: a direct peer gets the packet as it is, one hop less, addressed to the next hop.
#[test]
fn a_direct_peer_gets_plain_packets() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for name in ["direct", "direct6"] {
            let peer = peer(name)?;
            ensure!(peer.kind == route_kind::DIRECT);
            for family in Family::BOTH {
                for packet in flows(&Ip::new(here.address(family), peer.pod(family))) {
                    let outcome = node.from_pod(here, &here.sends(&packet))?;
                    outcome.went(Reason::ToDirect, Action::Device { ifindex: node.uplink() })?;
                    let expected = frame::ethernet(UPLINK_MAC, peer.next_mac(), &hops_taken(&packet, 1));
                    ensure!(outcome.seen.bytes == expected, "{:02x?}", outcome.seen.bytes);
                    let account = format!("PeerTx({})", peer.slot());
                    ensure!(outcome.seen.accounts.contains_key(&account), "{:?}", outcome.seen.accounts);
                }
            }
        }
        Ok(())
    })
}

/// OV-11: a pod reaches a peer's node itself through the tunnel, with its own address.
#[test]
fn a_peers_own_address_is_reached_through_the_tunnel() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for (name, family) in [("near", Family::V4), ("near6", Family::V6)] {
            let peer = peer(name)?;
            let packet = Ip::new(here.address(family), peer.address()).tcp((4000, 10250), 2);
            let frame = tunnelled(node, here, &packet)?;
            let inner = frame.get(room(&peer)..).context("a short frame")?;
            ensure!(inner == frame::ethernet(NODE_MAC, peer.vtep_mac(), &hops_taken(&packet, 1)));
            ensure!(underlay(family, 20) != here.address(family));
        }
        Ok(())
    })
}

/// PF-3: what looks like the nodes' tunnels and goes to anybody but a pod is dropped, masqueraded or not; to the next port it goes. The
/// first two addresses of another node's pod CIDR are that node's own, of this one's own pod CIDR only the gateway is.
#[test]
fn pods_send_no_tunnels() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, there] = node.pods();
        for family in Family::BOTH {
            let peers = ["near", "near6", "direct", "direct6"].map(peer);
            let peers = peers.into_iter().collect::<Result<Vec<_>>>()?;
            let own = underlay(family, 20);
            let inside = |peer: &Peer| [0, 1].map(|host| family.pod(peer.number, host));
            let others = peers.iter().flat_map(|peer| [peer.address()].into_iter().chain(inside(peer)));
            let others = others.filter(|address| address.is_ipv4() == own.is_ipv4());
            for to in others.chain([own, family.gateway(), progrun::outside(family)]) {
                let ip = Ip::new(here.address(family), to);
                let mut send = |packet: &[u8]| node.from_pod(here, &here.sends(packet));
                send(&ip.udp((PORT, PORT), b"tunnel"))?.is_dropped(Reason::Spoofed)?;
                for packet in [ip.udp((PORT, PORT + 1), b"other"), ip.tcp((PORT, PORT), 0x18)] {
                    let outcome = send(&packet)?;
                    ensure!(outcome.action != Action::Drop, "{to}: {:?}", outcome.reason);
                }
            }
            let next = family.pod(peer("near")?.number, 2);
            for to in [there.address(family), peer("near")?.pod(family), next] {
                let packet = Ip::new(here.address(family), to).udp((PORT, PORT), b"a pod's own");
                let outcome = node.from_pod(here, &here.sends(&packet))?;
                ensure!(outcome.action != Action::Drop, "{to}: {:?}", outcome.reason);
            }
        }
        Ok(())
    })
}
