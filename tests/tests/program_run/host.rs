//! What the node's own stack sends to pods, here and elsewhere, and the last hop of it.

use anyhow::{Result, ensure};
use common::{counters::Reason, verdict::Action};
use testbed::{
    frame::{self, Ip},
    progrun::{self, Family, GATEWAY_MTU, NODE_MAC, UPLINK_MAC, outside, peer, underlay},
    require, setup,
};

use crate::craft::{Icmp, flows, hops_taken, icmp_error};

/// The frame in which the stack hands a packet to the gateway device, which has no neighbours.
fn handed_over(packet: &[u8]) -> Vec<u8> {
    frame::ethernet(NODE_MAC, [0; 6], packet)
}

/// PF-10, PF-11: for a pod of the node: out of its device as it is, and there it gets its MAC and is accounted, once.
#[test]
fn the_node_reaches_its_own_pods() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for family in Family::BOTH {
            for packet in flows(&Ip { ttl: 1, ..Ip::new(family.gateway(), here.address(family)) }) {
                let frame = handed_over(&packet);
                let outcome = node.from_host(&frame)?;
                outcome.went(Reason::ToPod, Action::Device { ifindex: here.ifindex })?;
                ensure!(outcome.seen.bytes == frame && outcome.seen.accounts.is_empty());

                let outcome = node.to_pod(here, &frame)?;
                outcome.went(Reason::ToPod, Action::Continue)?;
                ensure!(outcome.seen.bytes == here.receives(&packet));
                let bytes = u64::try_from(frame.len())?;
                let accounts: Vec<_> = outcome.seen.accounts.into_iter().collect();
                ensure!(accounts == [("PodRx(3)".into(), (1, bytes))], "{accounts:?}");
            }
        }
        Ok(())
    })
}

/// PF-10, OV-1: for a peer's pod: through the tunnel or plain, with the hop that the stack has paid for.
#[test]
fn the_node_reaches_the_pods_of_its_peers() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        for name in ["near", "routed6", "direct", "direct6"] {
            let peer = peer(name)?;
            for family in Family::BOTH {
                for packet in flows(&Ip { ttl: 1, ..Ip::new(family.gateway(), peer.pod(family)) }) {
                    let outcome = node.from_host(&handed_over(&packet))?;
                    let direct = name.starts_with("direct");
                    let reason = if direct { Reason::ToDirect } else { Reason::ToOverlay };
                    outcome.went(reason, Action::Device { ifindex: node.uplink() })?;
                    let inner = if direct {
                        frame::ethernet(UPLINK_MAC, peer.next_mac(), &packet)
                    } else {
                        frame::ethernet(NODE_MAC, peer.vtep_mac(), &packet)
                    };
                    ensure!(outcome.seen.bytes.ends_with(&inner));
                    ensure!(direct == (outcome.seen.bytes.len() == inner.len()));
                    ensure!(outcome.seen.accounts.len() == 1, "{:?}", outcome.seen.accounts);
                }
            }
        }
        Ok(())
    })
}

/// PF-7, OV-8: what the stack hears of a pod that is not there, and of a path that is too narrow: from the address that it
/// asked for, since it takes nothing from itself off a device.
#[test]
fn the_nodes_own_stack_is_told_too() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        for family in Family::BOTH {
            let narrow = peer("near6")?;
            let nobody = Ip::new(family.gateway(), family.pod(0, 99)).udp((1, 2), b"x");
            let long = Ip::new(family.gateway(), narrow.pod(family))
                .udp((1, 2), &vec![1; usize::try_from(GATEWAY_MTU)? - family.header_len() - 8]);
            for (packet, reason, icmp, info) in [
                (nobody, Reason::NoSuchPod, Icmp::unreachable(family), 0),
                (long, Reason::TooBig, Icmp::too_big(family), narrow.mtu()),
            ] {
                let outcome = node.from_host(&handed_over(&packet))?;
                outcome.went(reason, Action::Host)?;
                let asked = if reason == Reason::NoSuchPod { family.pod(0, 99) } else { narrow.pod(family) };
                let error = icmp_error(asked, family.gateway(), icmp, info, &packet);
                ensure!(outcome.seen.bytes == frame::ethernet([0; 6], NODE_MAC, &error));
            }
        }
        Ok(())
    })
}

/// OV-12: what no pod, peer or prefix claims is dropped and counted, as is what is no IP packet.
#[test]
fn what_leads_nowhere_is_counted() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        for family in Family::BOTH {
            for destination in [outside(family), family.pod(99, 1), family.gateway(), underlay(family, 20)] {
                let packet = Ip::new(family.gateway(), destination).udp((1, 2), b"");
                node.from_host(&handed_over(&packet))?.is_dropped(Reason::NoRoute)?;
            }
            let group = if family == Family::V4 { "224.0.0.251" } else { "ff02::fb" };
            let packet = Ip::new(family.gateway(), group.parse()?).udp((5353, 5353), b"");
            node.from_host(&handed_over(&packet))?.is_dropped(Reason::Multicast)?;
        }
        let other = frame::ethernet_of_type(NODE_MAC, frame::BROADCAST, 0x88cc, b"lldp");
        node.from_host(&other)?.is_dropped(Reason::NotIp)
    })
}

/// PF-8, PF-10: only what is addressed to the pod behind the device gets its MAC; the rest passes to it as it is.
#[test]
fn the_last_hop_touches_only_the_pods_own_packets() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, there] = node.pods();
        for family in Family::BOTH {
            for destination in [there.address(family), outside(family)] {
                let packet = Ip::new(family.gateway(), destination).udp((1, 2), b"");
                let frame = frame::ethernet(NODE_MAC, frame::BROADCAST, &hops_taken(&packet, 1));
                let outcome = node.to_pod(here, &frame)?;
                outcome.went(Reason::Foreign, Action::Continue)?;
                ensure!(outcome.seen.bytes == frame && outcome.seen.accounts.is_empty());
            }
        }
        let arp = frame::arp(
            1,
            (NODE_MAC, "10.200.0.1".parse()?),
            ([0; 6], "10.200.0.10".parse()?),
            frame::BROADCAST,
        );
        let outcome = node.to_pod(here, &arp)?;
        outcome.went(Reason::Foreign, Action::Continue)?;
        ensure!(outcome.seen.bytes == arp);
        Ok(())
    })
}
