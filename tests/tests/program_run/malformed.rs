//! Headers that end too early, contradict themselves, or are rare and right.

use anyhow::{Result, ensure};
use common::{
    counters::{Hook, Reason},
    verdict::Action,
};
use testbed::{
    frame::{self, Ip},
    progrun::{self, Family, Input, NODE_MAC, Pod, Rig, peer},
    require, setup,
};

use crate::craft::{ETH, Tunnel, fix_header_checksum, flows, hops_taken, on_wire};

/// Asserts that a malformed packet for the first pod is dropped wherever it may come from, and passes where it is the
/// outer packet of nobody.
fn is_refused_everywhere(node: &mut Rig, packet: &[u8]) -> Result<()> {
    let [here, there] = node.pods();
    let family = if packet[0] >> 4 == 6 { Family::V6 } else { Family::V4 };
    let ether_type = if family == Family::V6 { frame::IPV6 } else { frame::IPV4 };
    let framed = |from, to| frame::ethernet_of_type(from, to, ether_type, packet);
    node.from_pod(there, &framed(there.mac, NODE_MAC))?.is_dropped(Reason::Malformed)?;
    node.to_pod(here, &framed(NODE_MAC, here.mac))?.is_dropped(Reason::Malformed)?;
    node.from_host(&framed(NODE_MAC, [0; 6]))?.is_dropped(Reason::Malformed)?;
    for name in ["near", "near6"] {
        let peer = peer(name)?;
        let inner = framed(peer.vtep_mac(), NODE_MAC);
        node.from_uplink(&Tunnel::from(&peer).around_frame(&inner))?.is_dropped(Reason::Malformed)?;
    }
    let outer = framed([2; 6], [4; 6]);
    let outcome = node.from_uplink(&outer)?;
    outcome.went(Reason::Foreign, Action::Continue)?;
    ensure!(outcome.seen.bytes == outer);
    Ok(())
}

/// Asserts that a packet from the second pod to the first is delivered, one hop less.
fn is_delivered(node: &mut Rig, packet: &[u8]) -> Result<()> {
    let [here, there] = node.pods();
    let outcome = node.from_pod(there, &there.sends(packet))?;
    outcome.went(Reason::ToPod, Action::Pod { ifindex: here.ifindex })?;
    ensure!(outcome.seen.bytes == here.receives(&hops_taken(packet, 1)));
    Ok(())
}

fn ip(node: &Rig, family: Family) -> Ip {
    let [here, there] = node.pods();
    Ip::new(there.address(family), here.address(family))
}

/// PF-4: cut anywhere before the end of the upper protocol's header, with the lengths of the whole packet or of what is left.
#[test]
fn truncated_packets_are_dropped() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        for family in Family::BOTH {
            let ip = ip(node, family);
            for (packet, upper) in [
                (ip.tcp((1, 2), 2), 20),
                (ip.udp((1, 2), b"data"), 8),
                (ip.echo(1, 2, b"data"), 8),
                (ip.packet(132, &[0; 12]), 12),
            ] {
                // As it came, the rest missing.
                for length in family.header_len()..packet.len() {
                    is_refused_everywhere(node, &packet[..length])?;
                }
                // As it was meant: the lengths agree, the upper header does not fit.
                for length in 0..upper {
                    let protocol = packet[if family == Family::V4 { 9 } else { 6 }];
                    let at = family.header_len();
                    is_refused_everywhere(node, &ip.packet(protocol, &packet[at..at + length]))?;
                }
            }
        }
        Ok(())
    })
}

/// PF-4: a header length below 5 or beyond the packet, a version that is not the EtherType's, total lengths that do not fit.
#[test]
fn ipv4_headers_that_contradict_themselves_are_dropped() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let right = ip(node, Family::V4).udp((1, 2), b"some data");
        let mut wrong = Vec::new();
        for first in [0x40, 0x41, 0x44, 0x4f, 0x05, 0x55, 0xf5] {
            let mut packet = right.clone();
            packet[0] = first;
            wrong.push(packet);
        }
        let length = u16::try_from(right.len())?;
        for total in [0, 1, 19, 20, 27, length + 1, u16::MAX] {
            let mut packet = right.clone();
            packet[2..4].copy_from_slice(&total.to_be_bytes());
            fix_header_checksum(&mut packet);
            wrong.push(packet);
        }
        // Six words, and no room for options before the end.
        let mut packet = ip(node, Family::V4).packet(59, b"");
        packet[0] = 0x46;
        wrong.push(packet);
        for packet in &wrong {
            is_refused_everywhere(node, packet)?;
        }
        Ok(())
    })
}

/// PF-4: what follows the packet's own length, such as Ethernet's padding, is no part of it and no reason to refuse it.
#[test]
fn trailing_bytes_are_tolerated() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        for family in Family::BOTH {
            for packet in flows(&ip(node, family)) {
                is_delivered(node, &[&packet[..], &[0; 26]].concat())?;
            }
        }
        Ok(())
    })
}

/// PF-4: IPv6 with a version that is not 6, and payload lengths that do not fit.
#[test]
fn ipv6_headers_that_contradict_themselves_are_dropped() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let right = ip(node, Family::V6).udp((1, 2), b"some data");
        for version in [0x40, 0x50, 0x70, 0xf0, 0x00] {
            let [here, _] = node.pods();
            let mut packet = right.clone();
            packet[0] = version;
            let frame = frame::ethernet_of_type(here.mac, NODE_MAC, frame::IPV6, &packet);
            node.from_pod(here, &frame)?.is_dropped(Reason::Malformed)?;
        }
        let payload = u16::try_from(right.len() - 40)?;
        for length in [0, 7, payload + 1, u16::MAX] {
            let mut packet = right.clone();
            packet[4..6].copy_from_slice(&length.to_be_bytes());
            is_refused_everywhere(node, &packet)?;
        }
        Ok(())
    })
}

/// An extension header of that number of units of 8 bytes beyond the first.
fn extension(next: u8, units: u8) -> Vec<u8> {
    let mut header = vec![next, units];
    // One option that pads: PadN.
    let left = 8 * (usize::from(units) + 1) - 4;
    header.extend([1, u8::try_from(left).unwrap_or(0)]);
    header.resize(header.len() + left, 0);
    header
}

/// PF-4: the upper header is found behind up to six extension headers of any kind; more are refused.
#[test]
fn ipv6_extension_headers_are_walked() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let ip = ip(node, Family::V6);
        let udp = ip.udp((1, 2), b"data")[40..].to_vec();
        let fragment = |next: u8, word: u16| {
            let [high, low] = word.to_be_bytes();
            vec![next, 0, high, low, 0, 0, 0, 1]
        };
        for (first, chain) in [
            (0, vec![extension(17, 0)]),
            (43, vec![extension(17, 2)]),
            (60, vec![extension(17, 31)]),
            (0, vec![extension(43, 0), extension(60, 1), extension(17, 0)]),
            // An atomic fragment (RFC 6946) is whole.
            (44, vec![fragment(17, 0)]),
            (0, vec![extension(44, 0), fragment(60, 1), extension(17, 0)]),
            (
                60,
                vec![
                    extension(60, 0),
                    extension(60, 0),
                    extension(60, 0),
                    extension(60, 0),
                    extension(60, 0),
                    extension(17, 0),
                ],
            ),
        ] {
            let payload = [chain.concat(), udp.clone()].concat();
            is_delivered(node, &ip.packet(first, &payload))?;
        }
        // What is behind a later fragment's header is a slice of the payload, whatever it looks like.
        is_delivered(node, &ip.packet(44, &fragment(17, 8)))?;
        is_delivered(node, &ip.packet(44, &[fragment(60, 9 << 3), vec![0xff; 3]].concat()))?;

        let seven = extension(60, 0).repeat(6).into_iter().chain(extension(17, 0)).collect::<Vec<_>>();
        is_refused_everywhere(node, &ip.packet(60, &[seven, udp.clone()].concat()))?;
        // One that claims more than there is, one of which nothing is there, one that hides a truncated UDP header.
        is_refused_everywhere(
            node,
            &ip.packet(0, &[extension(17, 0), udp.clone()].concat()).replaced(41, 200),
        )?;
        is_refused_everywhere(node, &ip.packet(60, &[]))?;
        is_refused_everywhere(node, &ip.packet(60, &[17, 0, 1]))?;
        is_refused_everywhere(node, &ip.packet(60, &[extension(17, 0), vec![0; 7]].concat()))?;
        is_refused_everywhere(node, &ip.packet(44, &fragment(17, 1)))
    })
}

trait Replaced {
    fn replaced(self, at: usize, byte: u8) -> Self;
}

impl Replaced for Vec<u8> {
    fn replaced(mut self, at: usize, byte: u8) -> Self {
        self[at] = byte;
        self
    }
}

/// PF-5: the upper header is found behind IPv4 options of every length, locally, into a tunnel and out of one.
#[test]
fn ipv4_options_are_skipped_and_kept() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        let near = peer("near")?;
        for words in 1..=10 {
            // No operation, to the end of the header.
            let options = vec![1; 4 * words];
            let ip = Ip { options, ..ip(node, Family::V4) };
            for packet in flows(&ip) {
                is_delivered(node, &packet)?;
            }
            let away =
                Ip { source: here.address(Family::V4), destination: near.pod(Family::V4), ..ip.clone() };
            let packet = away.tcp((1, 2), 2);
            let outcome = node.from_pod(here, &here.sends(&packet))?;
            ensure!(outcome.reason == Reason::ToOverlay, "{}", outcome.reason.name());
            ensure!(outcome.seen.bytes.ends_with(&hops_taken(&packet, 1)));
            let back = Ip { source: near.pod(Family::V4), ..ip.clone() };
            let packet = back.tcp((1, 2), 2);
            let outcome = node.from_uplink(&Tunnel::from(&near).around(&near, &packet))?;
            ensure!(outcome.seen.bytes == here.receives(&hops_taken(&packet, 1)));
            // Truncated behind the options.
            let cut = ip.packet(6, &[0; 19]);
            is_refused_everywhere(node, &cut)?;
            // On the outside they are nobody's: no VTEP sends them.
            let mut tunnel = Tunnel::from(&near);
            tunnel.outer.options.clone_from(&ip.options);
            let outcome = node.from_uplink(&tunnel.around(&near, &packet))?;
            outcome.went(Reason::Foreign, Action::Continue)?;
        }
        Ok(())
    })
}

/// PF-4: neither IP nor ARP, and a tag in the bytes: pods have none of it.
#[test]
fn what_is_not_ip_is_dropped() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for ether_type in [frame::VLAN, 0x88a8, 0x88cc, 0x8863, 0x0000, 0x05dc, 0xffff] {
            let frame = frame::ethernet_of_type(here.mac, NODE_MAC, ether_type, &[0x45; 60]);
            node.from_pod(here, &frame)?.is_dropped(Reason::NotIp)?;
        }
        Ok(())
    })
}

/// PF-4: the whole frame at every length, on every hook: each is counted once and the program and the model agree.
#[test]
fn every_prefix_of_every_packet_is_accounted_for() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        for frame in valid(node)? {
            for length in (ETH..frame.bytes.len()).step_by(3) {
                let bytes = &frame.bytes[..length];
                if progrun::runs(bytes) {
                    node.run(&Input::new(frame.hook, frame.ifindex, bytes))?;
                }
            }
        }
        Ok(())
    })
}

/// A valid frame on a hook.
pub struct Valid {
    /// The hook.
    pub hook: Hook,
    /// The device.
    pub ifindex: u32,
    /// The frame.
    pub bytes: Vec<u8>,
}

/// Valid frames of every kind on every hook.
pub fn valid(node: &Rig) -> Result<Vec<Valid>> {
    let [here, there]: [Pod; 2] = node.pods();
    let mut all = Vec::new();
    let mut add = |hook, ifindex, bytes| all.push(Valid { hook, ifindex, bytes });
    for family in Family::BOTH {
        let near = peer("near")?;
        let peers = ["near", "near6", "direct"].map(peer).into_iter().collect::<Result<Vec<_>>>()?;
        for destination in [there.address(family), near.pod(family), family.gateway(), family.pod(0, 99)] {
            let packet = Ip { ttl: 3, ..Ip::new(here.address(family), destination) }.tcp((1, 2), 2);
            add(Hook::FromPod, here.ifindex, here.sends(&packet));
            add(Hook::FromHost, node.gateway(), frame::ethernet(NODE_MAC, [0; 6], &packet));
        }
        for peer in peers {
            let packet = Ip::new(peer.pod(family), here.address(family)).udp((1, 2), b"data");
            add(Hook::ToPod, here.ifindex, here.receives(&packet));
            add(Hook::FromUplink, node.uplink(), Tunnel::from(&peer).around(&peer, &packet));
            add(Hook::FromUplink, node.uplink(), on_wire(&packet));
        }
    }
    Ok(all)
}
