//! ARP and neighbour discovery: the gateway is answered for, nobody else.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use common::{counters::Reason, verdict::Action};
use testbed::{
    frame::{self, BROADCAST, Ip, SolicitTo, arp, neighbour_solicitation},
    progrun::{self, Family, NODE_MAC, Pod},
    require, setup,
};

use crate::craft::ETH;

const GATEWAY4: Ipv4Addr = Ipv4Addr::new(10, 200, 0, 1);
const GATEWAY6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0x10, 0x200, 0, 0, 0, 0, 1);

fn v4(pod: Pod) -> Result<Ipv4Addr> {
    match pod.address(Family::V4) {
        IpAddr::V4(address) => Ok(address),
        IpAddr::V6(_) => None.context("an IPv4 address"),
    }
}

fn v6(pod: Pod) -> Result<Ipv6Addr> {
    match pod.address(Family::V6) {
        IpAddr::V6(address) => Ok(address),
        IpAddr::V4(_) => None.context("an IPv6 address"),
    }
}

/// PF-9: who has the gateway, asked of all or of it alone: a unicast reply with its MAC. Padding stays.
#[test]
fn arp_for_the_gateway_is_answered() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        let me = (here.mac, v4(here)?);
        for (to, padding) in [(BROADCAST, 0), (NODE_MAC, 0), (BROADCAST, 18)] {
            let mut request = arp(1, me, ([0; 6], GATEWAY4), to);
            request.extend(vec![0; padding]);
            let outcome = node.from_pod(here, &request)?;
            outcome.went(Reason::ArpReply, Action::Pod { ifindex: here.ifindex })?;
            let mut reply = arp(2, (NODE_MAC, GATEWAY4), me, here.mac);
            reply.extend(vec![0; padding]);
            ensure!(outcome.seen.bytes == reply, "{:02x?}", outcome.seen.bytes);
        }
        Ok(())
    })
}

/// PF-9: for anybody else, announcements, probes and replies: nothing.
#[test]
fn other_arp_is_ignored() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, there] = node.pods();
        let (me, nobody) = ((here.mac, v4(here)?), [0; 6]);
        for frame in [
            arp(1, me, (nobody, v4(there)?), BROADCAST),
            arp(1, me, (nobody, Ipv4Addr::new(10, 240, 0, 20)), BROADCAST),
            arp(1, me, (nobody, v4(here)?), BROADCAST),
            arp(2, me, (here.mac, v4(here)?), BROADCAST),
            arp(1, (here.mac, Ipv4Addr::UNSPECIFIED), (nobody, GATEWAY4), BROADCAST),
            arp(1, (here.mac, GATEWAY4), (nobody, GATEWAY4), BROADCAST),
            arp(2, (here.mac, GATEWAY4), (nobody, GATEWAY4), BROADCAST),
            arp(2, me, (NODE_MAC, GATEWAY4), NODE_MAC),
            // Reverse ARP's request.
            arp(3, me, (nobody, GATEWAY4), BROADCAST),
        ] {
            node.from_pod(here, &frame)?.is_dropped(Reason::NeighbourIgnored)?;
        }
        Ok(())
    })
}

/// PF-9, PF-4: ARP that is cut short or not about Ethernet and IPv4.
#[test]
fn malformed_arp_is_dropped() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        let right = arp(1, (here.mac, v4(here)?), ([0; 6], GATEWAY4), BROADCAST);
        for length in ETH..right.len() {
            node.from_pod(here, &right[..length])?.is_dropped(Reason::Malformed)?;
        }
        for at in 0..6 {
            let mut frame = right.clone();
            frame[ETH + at] ^= 0x40;
            node.from_pod(here, &frame)?.is_dropped(Reason::Malformed)?;
        }
        Ok(())
    })
}

/// PF-9: a solicitation for the gateway, to its group or to itself, with or without the asker's MAC, even with more options:
/// one advertisement.
#[test]
fn a_solicitation_for_the_gateway_is_answered() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        let mut body = vec![0x60, 0, 0, 0];
        body.extend(GATEWAY6.octets());
        body.extend([2, 1]);
        body.extend(NODE_MAC);
        let ip = Ip { ttl: 255, ..Ip::new(GATEWAY6.into(), here.address(Family::V6)) };
        let expected = here.receives(&ip.icmp(136, 0, &body));
        for to in [SolicitTo::Group, SolicitTo::Target(NODE_MAC)] {
            for with_option in [true, false] {
                let question = neighbour_solicitation((here.mac, v6(here)?), GATEWAY6, to, with_option);
                let outcome = node.from_pod(here, &question)?;
                outcome.went(Reason::NdpReply, Action::Pod { ifindex: here.ifindex })?;
                ensure!(outcome.seen.bytes == expected, "{:02x?}", outcome.seen.bytes);
            }
        }
        let mut body = vec![0; 4];
        body.extend(GATEWAY6.octets());
        body.extend([1, 1]);
        body.extend(here.mac);
        // A nonce (RFC 3971), as a careful stack sends.
        body.extend([14, 1, 1, 2, 3, 4, 5, 6]);
        let ip = Ip { ttl: 255, ..Ip::new(here.address(Family::V6), GATEWAY6.into()) };
        let outcome = node.from_pod(here, &here.sends(&ip.icmp(135, 0, &body)))?;
        outcome.went(Reason::NdpReply, Action::Pod { ifindex: here.ifindex })?;
        ensure!(outcome.seen.bytes == expected, "{:02x?}", outcome.seen.bytes);
        Ok(())
    })
}

/// PF-9: solicitations for others, from nobody, from afar, with a code; all other neighbour discovery.
#[test]
fn other_neighbour_discovery_is_ignored() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, there] = node.pods();
        let (own, group) = (v6(here)?, SolicitTo::Group);
        let mut ignored = vec![
            neighbour_solicitation((here.mac, own), v6(there)?, group, true),
            neighbour_solicitation((here.mac, own), own, group, true),
            neighbour_solicitation((here.mac, Ipv6Addr::UNSPECIFIED), GATEWAY6, group, false),
            neighbour_solicitation((here.mac, Ipv6Addr::UNSPECIFIED), own, group, false),
            neighbour_solicitation((here.mac, GATEWAY6), GATEWAY6, group, true),
        ];
        let body = [&[0; 4][..], &GATEWAY6.octets()].concat();
        let ip = |ttl| Ip { ttl, ..Ip::new(own.into(), GATEWAY6.into()) };
        ignored.push(here.sends(&ip(254).icmp(135, 0, &body)));
        ignored.push(here.sends(&ip(255).icmp(135, 1, &body)));
        ignored.push(here.sends(&ip(255).icmp(135, 0, &body[..16])));
        ignored.push(here.sends(&ip(255).icmp(135, 0, &body[..4])));
        for kind in [133, 134, 136, 137] {
            ignored.push(here.sends(&ip(255).icmp(kind, 0, &[&body[..], &body].concat())));
        }
        // Behind an extension header it is no question of a neighbour's.
        let question = ip(255).icmp(135, 0, &body);
        let behind = [&[58, 0, 1, 4, 0, 0, 0, 0], &question[40..]].concat();
        ignored.push(here.sends(&ip(255).packet(60, &behind)));
        for frame in &ignored {
            node.from_pod(here, frame)?.is_dropped(Reason::NeighbourIgnored)?;
        }
        let truncated = frame::ethernet(here.mac, NODE_MAC, &ip(255).packet(58, &[135, 0, 0]));
        node.from_pod(here, &truncated)?.is_dropped(Reason::Malformed)
    })
}
