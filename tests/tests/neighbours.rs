//! What a pod asks its neighbours: the gateway is answered for, nobody else is.

use std::net::{Ipv4Addr, Ipv6Addr};

use anyhow::{Result, ensure};
use common::counters::{Hook, Reason};
use testbed::{
    capture::Capture,
    cluster, counters,
    frame::{self, BROADCAST, SolicitTo, arp, neighbour_solicitation},
    packet::Packet,
    require, setup,
};

const GATEWAY4: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x200, 0, 0, 0, 0, 1);

fn arp_reply(packet: &Packet) -> Option<Vec<u8>> {
    let is_reply = packet.ether_type() == Some(frame::ARP) && packet.bytes.get(20..22) == Some(&[0, 2]);
    (is_reply && !packet.outgoing).then(|| packet.bytes.clone())
}

/// PF-9: requests for the gateway, broadcast or unicast, are answered; for any other address they are not, and
/// gratuitous ones and replies are ignored.
#[test]
fn arp_is_answered_for_the_gateway_only() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::one_node().quiet().start()?;
    let node = &cluster.podlane[0];
    let pod = &node.pods[0];
    let (mac, own) = (pod.netns.mac("eth0")?, pod.v4()?);
    let mut device = Capture::open(&pod.netns, "eth0")?;
    let before = node.counters()?;
    let (nobody, me) = ([0; 6], (mac, own));
    let ignored = [
        arp(1, me, (nobody, node.pods[1].v4()?), BROADCAST),
        arp(1, me, (nobody, Ipv4Addr::new(10, 200, 0, 99)), BROADCAST),
        arp(1, me, (nobody, Ipv4Addr::new(10, 240, 0, 20)), BROADCAST),
        // Duplicate address detection and announcements of the pod's own address.
        arp(1, (mac, Ipv4Addr::UNSPECIFIED), (nobody, own), BROADCAST),
        arp(1, me, (nobody, own), BROADCAST),
        arp(2, me, (mac, own), BROADCAST),
        // A pod that claims to be the gateway.
        arp(1, (mac, GATEWAY4), (nobody, GATEWAY4), BROADCAST),
        arp(2, (mac, GATEWAY4), (nobody, GATEWAY4), BROADCAST),
        // A reply that nobody has asked for.
        arp(2, me, (node.mac(), GATEWAY4), node.mac()),
    ];
    for frame in &ignored {
        device.inject(frame)?;
    }
    // Frames of one device stay in order, so an answer to one of those would come before the answers to these.
    for destination in [BROADCAST, node.mac()] {
        device.inject(&arp(1, me, (nobody, GATEWAY4), destination))?;
        let reply = device.find("an ARP reply", arp_reply)?;
        let expected = arp(2, (node.mac(), GATEWAY4), (mac, own), mac);
        ensure!(reply[..42] == expected, "{reply:x?} instead of {expected:x?}");
    }
    counters::wait_for(&before, Hook::FromPod, Reason::ArpReply, 2)?;
    let ignored = u64::try_from(ignored.len())?;
    counters::wait_for(&before, Hook::FromPod, Reason::NeighbourIgnored, ignored)?;
    let late: Vec<_> = device.drain()?.iter().filter_map(arp_reply).collect();
    ensure!(late.is_empty(), "more replies: {late:x?}");
    Ok(())
}

/// PF-9: neighbour solicitations for the gateway, to its group or to itself, with or without the option that has the
/// sender's MAC address, from the pod's own address or its link-local one as in a reachability probe.
#[test]
fn neighbour_solicitations_are_answered_for_the_gateway_only() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::one_node().start()?;
    let node = &cluster.podlane[0];
    let pod = &node.pods[0];
    let (mac, own) = (pod.netns.mac("eth0")?, pod.v6()?);
    let link_local = link_local(mac);
    let mut device = Capture::open(&pod.netns, "eth0")?;
    let before = node.counters()?;
    let ignored = [
        neighbour_solicitation((mac, own), node.pods[1].v6()?, SolicitTo::Group, true),
        neighbour_solicitation((mac, own), own, SolicitTo::Group, true),
        // Duplicate address detection of its own address.
        neighbour_solicitation((mac, Ipv6Addr::UNSPECIFIED), own, SolicitTo::Group, false),
    ];
    for frame in &ignored {
        device.inject(frame)?;
    }
    for source in [own, link_local] {
        for to in [SolicitTo::Group, SolicitTo::Target(node.mac())] {
            for with_option in [true, false] {
                device.inject(&neighbour_solicitation((mac, source), GATEWAY6, to, with_option))?;
                let case = format!("from {source} {to:?} option {with_option}");
                let (packet, headers) = device.find(&format!("an advertisement, {case}"), |packet| {
                    let headers = packet.headers()?;
                    let advertised = headers.icmp == Some((136, 0)) && !packet.outgoing;
                    advertised.then(|| (packet.clone(), headers))
                })?;
                ensure!(packet.checksums_hold(), "{case}: checksum of {headers:?}");
                ensure!(headers.goes(GATEWAY6.into(), source.into()), "{case}: {headers:?}");
                ensure!(
                    headers.destination_mac == mac && headers.source_mac == node.mac(),
                    "{case}: {headers:?}"
                );
                ensure!(headers.ttl == 255, "{case}: hop limit {}", headers.ttl);
                let (flags, body) = headers.payload.split_at(4);
                ensure!(flags[0] & 0x60 == 0x60, "{case}: flags {flags:x?} are not solicited and override");
                ensure!(body[..16] == GATEWAY6.octets(), "{case}: target {body:x?}");
                ensure!(body[16..18] == [2, 1] && body[18..24] == node.mac(), "{case}: option {body:x?}");
            }
        }
    }
    let replies = node.counters()?.packets(Hook::FromPod, Reason::NdpReply)
        - before.packets(Hook::FromPod, Reason::NdpReply);
    ensure!(replies >= 8, "{replies} replies counted");
    let ignored = node.counters()?.packets(Hook::FromPod, Reason::NeighbourIgnored)
        - before.packets(Hook::FromPod, Reason::NeighbourIgnored);
    ensure!(ignored >= 3, "{ignored} counted as ignored");
    Ok(())
}

/// PF-9: solicitations that are not valid (RFC 4861, section 7.1.1) are not answered.
#[test]
fn invalid_solicitations_are_not_answered() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::one_node().start()?;
    let node = &cluster.podlane[0];
    let pod = &node.pods[0];
    let (mac, own) = (pod.netns.mac("eth0")?, pod.v6()?);
    let mut device = Capture::open(&pod.netns, "eth0")?;
    let valid = neighbour_solicitation((mac, own), GATEWAY6, SolicitTo::Group, true);
    // Hop limit 64: it may have been routed here.
    let mut routed = valid.clone();
    routed[14 + 7] = 64;
    let mut bad_code = valid.clone();
    bad_code[14 + 40 + 1] = 1;
    for frame in [&routed, &bad_code, &valid[..14 + 40 + 12].to_vec()] {
        device.inject(frame)?;
    }
    let before = node.counters()?;
    device.inject(&valid)?;
    counters::wait_for(&before, Hook::FromPod, Reason::NdpReply, 1)?;
    let advertisement = |packet: &Packet| {
        packet.headers().filter(|headers| headers.icmp == Some((136, 0)) && !packet.outgoing)
    };
    // It is counted before it is here.
    device.find("an advertisement", advertisement)?;
    let more = device.drain()?.iter().filter_map(advertisement).count();
    ensure!(more == 0, "{more} advertisements more than for the valid solicitation");
    Ok(())
}

fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let mut octets = [0; 16];
    octets[..2].copy_from_slice(&[0xfe, 0x80]);
    octets[8..11].copy_from_slice(&mac[..3]);
    octets[8] ^= 2;
    octets[11..13].copy_from_slice(&[0xff, 0xfe]);
    octets[13..].copy_from_slice(&mac[3..]);
    octets.into()
}
