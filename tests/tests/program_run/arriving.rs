//! What the uplink receives: tunnels taken off and delivered, tunnels refused, and what is nobody's business here.

use anyhow::{Result, ensure};
use common::{counters::Reason, maps::route_kind, verdict::Action};
use testbed::{
    frame::{self, Ip},
    progrun::{self, Family, NODE_MAC, PEERS, PORT, Peer, UPLINK_MAC, mac_of, outside, peer, underlay},
    require, setup,
};

use crate::craft::{ETH, Icmp, Tunnel, flows, fragment, hops_taken, icmp_error, marked, on_wire};

/// The peers that send tunnels, one of each underlay.
const SENDERS: [&str; 3] = ["near", "near6", "routed"];

/// A packet from a peer's pod to the first pod of this node.
fn from_peer(peer: &Peer, family: Family) -> Ip {
    Ip::new(peer.pod(family), family.pod(0, 10))
}

/// OV-3, OV-1, PF-11, NP-11: the inner packet reaches the pod with one hop less and the last hop's MACs, whether the outer UDP checksum
/// is zero or there, over both underlays; the accounts say its own length.
#[test]
fn a_tunnel_is_taken_off_and_its_packet_delivered() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for peer in PEERS.iter().filter(|peer| peer.kind == route_kind::OVERLAY) {
            for family in Family::BOTH {
                for checksum in [false, true] {
                    for packet in flows(&from_peer(peer, family)) {
                        let frame = Tunnel { checksum, ..Tunnel::from(peer) }.around(peer, &packet);
                        let outcome = node.from_uplink(&frame)?;
                        outcome.went(Reason::ToPod, Action::Pod { ifindex: here.ifindex })?;
                        ensure!(outcome.seen.bytes == here.receives(&hops_taken(&packet, 1)));
                        let (inner, outer) = (ETH + packet.len(), frame.len());
                        ensure!(outcome.seen.counts["to_pod"] == (1, u64::try_from(outer)?));
                        let inner = (1, u64::try_from(inner)?);
                        let accounts: Vec<_> = outcome.seen.accounts.into_iter().collect();
                        let expected =
                            [(format!("PeerRx({})", peer.slot()), inner), ("PodRx(3)".into(), inner)];
                        ensure!(accounts == expected, "{accounts:?}");
                    }
                }
            }
        }
        Ok(())
    })
}

/// OV-4: from any source port, and with the reserved bits of the header set, which a receiver ignores (RFC 7348, section 5).
#[test]
fn reserved_bits_and_source_ports_do_not_matter() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for name in SENDERS {
            let peer = peer(name)?;
            let packet = from_peer(&peer, Family::V4).udp((1, 2), b"x");
            let inner = frame::ethernet(peer.vtep_mac(), NODE_MAC, &packet);
            let mut payload = frame::vxlan(1, &inner);
            payload[0] = 0xff;
            payload[1..4].fill(0xff);
            payload[7] = 0xff;
            for port in [1, 8472, 65535] {
                let frame = Tunnel { ports: (port, PORT), ..Tunnel::from(&peer) }.with_payload(&payload);
                let outcome = node.from_uplink(&frame)?;
                outcome.went(Reason::ToPod, Action::Pod { ifindex: here.ifindex })?;
                ensure!(outcome.seen.bytes == here.receives(&hops_taken(&packet, 1)));
            }
        }
        Ok(())
    })
}

/// OV-4: what is not a tunnel packet for this node's VNI passes on untouched, counted as foreign.
#[test]
fn foreign_packets_pass_untouched() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let mut foreign = vec![
            frame::arp(
                1,
                (mac_of(1), "10.240.0.1".parse()?),
                ([0; 6], "10.240.0.20".parse()?),
                frame::BROADCAST,
            ),
            frame::ethernet_of_type(mac_of(1), UPLINK_MAC, 0x88cc, b"lldp"),
            frame::ethernet_of_type(mac_of(1), UPLINK_MAC, frame::IPV4, &[0; 20]),
            frame::ethernet_of_type(mac_of(1), UPLINK_MAC, frame::IPV6, &[0; 40]),
            // A tag in the bytes: the inner one of two.
            frame::ethernet_of_type(mac_of(1), UPLINK_MAC, frame::VLAN, &[0, 7, 8, 0, 0x45, 0]),
        ];
        for name in SENDERS {
            let peer = peer(name)?;
            let right = || Tunnel::from(&peer);
            let packet = from_peer(&peer, Family::V4).udp((1, 2), b"x");
            let inner = frame::ethernet(peer.vtep_mac(), NODE_MAC, &packet);
            let mut without_flag = frame::vxlan(1, &inner);
            without_flag[0] = 0xf7;
            foreign.extend([
                Tunnel { vni: 2, ..right() }.around(&peer, &packet),
                Tunnel { vni: 0x0001_0000, ..right() }.around(&peer, &packet),
                Tunnel { ports: (50000, 4789), ..right() }.around(&peer, &packet),
                right().with_payload(&without_flag),
                right().with_payload(b""),
                right().with_payload(&[8, 0, 0, 0]),
                right().with_payload(b"anything else on this port"),
            ]);
            let mut elsewhere = right();
            elsewhere.outer.destination = underlay(peer.underlay, 99);
            foreign.push(elsewhere.around(&peer, &packet));
            let outer = Ip::new(peer.address(), underlay(peer.underlay, 20));
            foreign.extend(flows(&outer).iter().map(|packet| on_wire(packet)));
            // No VTEP fragments its packets.
            let payload = frame::vxlan(1, &inner);
            foreign.push(on_wire(&fragment(&outer, 17, 0, true, &payload)));
            foreign.push(on_wire(&fragment(&outer, 17, 9, false, &payload)));
        }
        for frame in &foreign {
            let outcome = node.from_uplink(frame)?;
            outcome.went(Reason::Foreign, Action::Continue)?;
            ensure!(outcome.seen.bytes == *frame);
            ensure!(outcome.seen.accounts.is_empty(), "{:?}", outcome.seen.accounts);
        }
        Ok(())
    })
}

/// OV-4: with the right VNI from an address that is no peer's, or from a peer that is not to send tunnels: dropped, counted.
#[test]
fn a_tunnel_from_no_peer_is_dropped() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        for (name, family) in [("near", Family::V4), ("near6", Family::V6)] {
            let peer = peer(name)?;
            let packet = from_peer(&peer, family).tcp((1, 2), 2);
            for source in [underlay(peer.underlay, 77), outside(peer.underlay), underlay(peer.underlay, 20)] {
                let mut tunnel = Tunnel::from(&peer);
                tunnel.outer.source = source;
                let outcome = node.from_uplink(&tunnel.around(&peer, &packet))?;
                outcome.is_dropped(Reason::UnknownVtep)?;
                ensure!(outcome.seen.accounts.is_empty(), "{:?}", outcome.seen.accounts);
            }
        }
        let direct = peer("direct")?;
        let packet = from_peer(&direct, Family::V4).tcp((1, 2), 2);
        node.from_uplink(&Tunnel::from(&direct).around(&direct, &packet))?.is_dropped(Reason::UnknownVtep)
    })
}

/// OV-4: an inner frame for another VTEP's MAC is not this node's, as for a kernel VTEP.
#[test]
fn an_inner_frame_for_another_mac_is_dropped() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        for name in SENDERS {
            let peer = peer(name)?;
            let packet = from_peer(&peer, Family::V4).udp((1, 2), b"");
            let mut off_by_one = NODE_MAC;
            off_by_one[5] ^= 1;
            for inner_mac in [peer.vtep_mac(), frame::BROADCAST, [0; 6], off_by_one] {
                let frame = Tunnel { inner_mac, ..Tunnel::from(&peer) }.around(&peer, &packet);
                node.from_uplink(&frame)?.is_dropped(Reason::NotOurMac)?;
            }
        }
        Ok(())
    })
}

/// OV-4: what claims to be ours and ends too early or says a wrong length is dropped as malformed.
#[test]
fn a_tunnel_that_contradicts_itself_is_dropped() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        for name in SENDERS {
            let peer = peer(name)?;
            for family in Family::BOTH {
                let packet = from_peer(&peer, family).udp((1, 2), b"payload");
                let inner = frame::ethernet(peer.vtep_mac(), NODE_MAC, &packet);
                // Cut anywhere in the inner Ethernet, IP and UDP headers.
                for length in 0..ETH + family.header_len() + 8 {
                    let frame = Tunnel::from(&peer).around_frame(&inner[..length]);
                    node.from_uplink(&frame)?.is_dropped(Reason::Malformed)?;
                }
                let length_at = ETH + peer.underlay.header_len() + 4;
                let right = Tunnel::from(&peer).around(&peer, &packet);
                let udp = u16::try_from(right.len() - length_at + 4)?;
                for wrong in [0, 8, 16, 29, udp + 1, u16::MAX] {
                    let mut frame = right.clone();
                    frame[length_at..length_at + 2].copy_from_slice(&wrong.to_be_bytes());
                    node.from_uplink(&frame)?.is_dropped(Reason::Malformed)?;
                }
            }
            for ether_type in [frame::ARP, frame::VLAN, 0x88cc] {
                let inner = frame::ethernet_of_type(peer.vtep_mac(), NODE_MAC, ether_type, &[1; 64]);
                let outcome = node.from_uplink(&Tunnel::from(&peer).around_frame(&inner))?;
                outcome.is_dropped(Reason::NotIp)?;
            }
        }
        Ok(())
    })
}

/// OV-4: inside is a packet for neither pod nor node: dropped and counted, never sent on to a third node.
#[test]
fn a_tunnelled_packet_for_elsewhere_is_dropped() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        for name in SENDERS {
            let peer = peer(name)?;
            for family in Family::BOTH {
                for destination in [outside(family), family.pod(2, 10), family.pod(5, 10), family.pod(99, 1)]
                {
                    let packet = Ip::new(peer.pod(family), destination).udp((1, 2), b"");
                    let outcome = node.from_uplink(&Tunnel::from(&peer).around(&peer, &packet))?;
                    outcome.is_dropped(Reason::NoRoute)?;
                }
            }
        }
        Ok(())
    })
}

/// PF-10: a peer's pod reaches this node itself: the packet goes up the stack as it is, its hop the stack's to take.
#[test]
fn a_tunnelled_packet_for_the_node_goes_up_the_stack() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        for name in SENDERS {
            let peer = peer(name)?;
            for family in Family::BOTH {
                for destination in [family.gateway(), underlay(family, 20)] {
                    let packet = Ip { ttl: 1, ..Ip::new(peer.pod(family), destination) }.tcp((1, 2), 2);
                    let outcome = node.from_uplink(&Tunnel::from(&peer).around(&peer, &packet))?;
                    outcome.went(Reason::ToHost, Action::Host)?;
                    ensure!(outcome.seen.bytes == frame::ethernet(NODE_MAC, NODE_MAC, &packet));
                }
            }
        }
        Ok(())
    })
}

/// PF-2, PF-7: the sender behind a peer is told of an expired TTL and of an address that is no pod's, through the tunnel.
#[test]
fn a_sender_behind_a_peer_is_told() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        for name in ["near", "near6"] {
            let peer = peer(name)?;
            for family in Family::BOTH {
                let expired = Ip { ttl: 1, ..from_peer(&peer, family) };
                let nobody = Ip { destination: family.pod(0, 99), ..from_peer(&peer, family) };
                for (ip, reason, icmp) in [
                    (expired, Reason::TtlExceeded, Icmp::time_exceeded(family)),
                    (nobody, Reason::NoSuchPod, Icmp::unreachable(family)),
                ] {
                    for packet in flows(&ip).iter().chain([&ip.udp((1, 2), &[3; 700])]) {
                        let outcome = node.from_uplink(&Tunnel::from(&peer).around(&peer, packet))?;
                        outcome.went(reason, Action::Device { ifindex: node.uplink() })?;
                        let error = icmp_error(family.gateway(), peer.pod(family), icmp, 0, packet);
                        let inner = frame::ethernet(NODE_MAC, peer.vtep_mac(), &error);
                        ensure!(outcome.seen.bytes.ends_with(&inner), "{:02x?}", outcome.seen.bytes);
                        ensure!(outcome.seen.packets(Reason::IcmpError) == 1);
                        // Received and sent: once each.
                        let accounts: Vec<_> = outcome.seen.accounts.keys().cloned().collect();
                        let slot = peer.slot();
                        ensure!(
                            accounts == [format!("PeerRx({slot})"), format!("PeerTx({slot})")],
                            "{accounts:?}"
                        );
                    }
                }
            }
        }
        Ok(())
    })
}

/// The mark that a packet ends with (RFC 6040, figure 4). Rows: inner Not-ECT, ECT(1), ECT(0), CE; columns: outer likewise;
/// 0xff: dropped.
const MERGED: [[u8; 4]; 4] = [[0, 0, 0, 0xff], [1, 1, 1, 3], [2, 1, 2, 3], [3, 3, 3, 3]];

/// OV-9: the congestion mark of the tunnel reaches the inner packet as RFC 6040 (figure 4) says, in every combination; DSCP is
/// the inner packet's own.
#[test]
fn congestion_marks_are_merged_as_rfc_6040_says() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for name in ["near", "near6"] {
            let peer = peer(name)?;
            for family in Family::BOTH {
                for (inner, row) in MERGED.iter().enumerate() {
                    for (outer, merged) in row.iter().enumerate() {
                        let (inner, outer) = (u8::try_from(inner)?, u8::try_from(outer)?);
                        let dscp = 0xb8;
                        let packet = Ip { tos: dscp | inner, ..from_peer(&peer, family) }.tcp((1, 2), 2);
                        let mut tunnel = Tunnel::from(&peer);
                        tunnel.outer.tos = 0x28 | outer;
                        let outcome = node.from_uplink(&tunnel.around(&peer, &packet))?;
                        if *merged == 0xff {
                            outcome.is_dropped(Reason::Ecn)?;
                            continue;
                        }
                        outcome.went(Reason::ToPod, Action::Pod { ifindex: here.ifindex })?;
                        let expected = marked(&hops_taken(&packet, 1), dscp | merged);
                        ensure!(
                            outcome.seen.bytes == here.receives(&expected),
                            "inner {inner:02b} outer {outer:02b}"
                        );
                    }
                }
            }
        }
        Ok(())
    })
}

/// OV-11: plain packets from a direct peer's pods and from its node to pods are delivered; from its node to this one, or for
/// elsewhere, they are the stack's.
#[test]
fn a_direct_peers_plain_packets_are_delivered() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for name in ["direct", "direct6"] {
            let peer = peer(name)?;
            for family in Family::BOTH {
                for packet in flows(&from_peer(&peer, family)) {
                    let outcome = node.from_uplink(&on_wire(&packet))?;
                    outcome.went(Reason::ToPod, Action::Pod { ifindex: here.ifindex })?;
                    ensure!(outcome.seen.bytes == here.receives(&hops_taken(&packet, 1)));
                    let account = format!("PeerRx({})", peer.slot());
                    ensure!(outcome.seen.accounts.contains_key(&account), "{:?}", outcome.seen.accounts);
                }
                let packet = Ip::new(peer.pod(family), family.gateway()).udp((1, 2), b"");
                node.from_uplink(&on_wire(&packet))?.went(Reason::ToHost, Action::Host)?;

                let expired = Ip { ttl: 1, ..from_peer(&peer, family) }.udp((1, 2), b"late");
                let outcome = node.from_uplink(&on_wire(&expired))?;
                outcome.went(Reason::TtlExceeded, Action::Device { ifindex: node.uplink() })?;
                let icmp = Icmp::time_exceeded(family);
                let error = icmp_error(family.gateway(), peer.pod(family), icmp, 0, &expired);
                ensure!(outcome.seen.bytes == frame::ethernet(UPLINK_MAC, peer.next_mac(), &error));

                for (source, destination) in [
                    (peer.pod(family), outside(family)),
                    (outside(family), family.pod(0, 10)),
                    (family.pod(1, 10), family.pod(0, 10)),
                ] {
                    let packet = on_wire(&Ip::new(source, destination).udp((1, 2), b""));
                    let outcome = node.from_uplink(&packet)?;
                    outcome.went(Reason::Foreign, Action::Continue)?;
                    ensure!(outcome.seen.bytes == packet);
                }
            }
            let packet = Ip::new(peer.address(), here.address(peer.underlay)).tcp((1, 8080), 2);
            let outcome = node.from_uplink(&on_wire(&packet))?;
            outcome.went(Reason::ToPod, Action::Pod { ifindex: here.ifindex })?;
            let packet = Ip::new(peer.address(), underlay(peer.underlay, 20)).tcp((1, 22), 2);
            node.from_uplink(&on_wire(&packet))?.went(Reason::Foreign, Action::Continue)?;
        }
        Ok(())
    })
}

/// OV-11: without any direct peer the feature is off, and plain packets for pods are the stack's.
#[test]
fn without_direct_peers_plain_packets_are_foreign() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_with("podlane.o", 0, |node| {
        for family in Family::BOTH {
            let packet = on_wire(&from_peer(&peer("direct")?, family).udp((1, 2), b""));
            let outcome = node.from_uplink(&packet)?;
            outcome.went(Reason::Foreign, Action::Continue)?;
            ensure!(outcome.seen.bytes == packet);
        }
        Ok(())
    })
}
