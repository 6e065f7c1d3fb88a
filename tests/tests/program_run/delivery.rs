//! What a pod sends to pods of its own node, to the node and to the outside.

use anyhow::{Result, ensure};
use common::{counters::Reason, verdict::Action};
use testbed::{
    frame::{self, Ip},
    progrun::{self, Family, NODE_MAC, outside, underlay},
    require, setup,
};

use crate::craft::{flows, fragment, hops_taken};

/// PF-1, PF-11: MACs of the last hop, one hop taken with the right header checksum, everything else as it was, and counted
/// once for each of the pods.
#[test]
fn a_packet_for_a_pod_of_the_same_node_gets_the_last_hops_addresses() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, there] = node.pods();
        for family in Family::BOTH {
            for (ttl, tos) in [(64, 0), (255, 0xb9), (2, 1)] {
                let ip = Ip { ttl, tos, ..Ip::new(here.address(family), there.address(family)) };
                for packet in flows(&ip) {
                    let frame = here.sends(&packet);
                    let outcome = node.from_pod(here, &frame)?;
                    outcome.went(Reason::ToPod, Action::Pod { ifindex: there.ifindex })?;
                    ensure!(outcome.seen.bytes == there.receives(&hops_taken(&packet, 1)));
                    let bytes = u64::try_from(frame.len())?;
                    let accounts: Vec<_> = outcome.seen.accounts.into_iter().collect();
                    ensure!(
                        accounts == [("PodRx(5)".into(), (1, bytes)), ("PodTx(3)".into(), (1, bytes))],
                        "{accounts:?}"
                    );
                    ensure!(outcome.seen.counts[Reason::ToPod.name()] == (1, bytes));
                }
            }
        }
        Ok(())
    })
}

/// PF-1: a pod that sends to itself by way of its gateway gets its packet back.
#[test]
fn a_pod_may_send_to_itself() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for family in Family::BOTH {
            let packet = Ip::new(here.address(family), here.address(family)).udp((1, 2), b"me");
            let outcome = node.from_pod(here, &here.sends(&packet))?;
            outcome.went(Reason::ToPod, Action::Pod { ifindex: here.ifindex })?;
            ensure!(outcome.seen.bytes == here.receives(&hops_taken(&packet, 1)));
        }
        Ok(())
    })
}

/// PF-1: fragments, first and later ones, are delivered like whole packets.
#[test]
fn fragments_are_delivered() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, there] = node.pods();
        for family in Family::BOTH {
            let ip = Ip::new(here.address(family), there.address(family));
            for packet in [
                fragment(&ip, 17, 0, true, &[0x0f, 0xa0, 0, 53, 0, 64, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]),
                fragment(&ip, 17, 2, true, b"a middle"),
                fragment(&ip, 17, 3, false, b"end"),
                fragment(&ip, 6, 3, false, b""),
            ] {
                let outcome = node.from_pod(here, &here.sends(&packet))?;
                outcome.went(Reason::ToPod, Action::Pod { ifindex: there.ifindex })?;
                ensure!(outcome.seen.bytes == there.receives(&hops_taken(&packet, 1)));
            }
        }
        Ok(())
    })
}

/// PF-3: whatever the pod claims to be, and is not, is dropped and accounted to nobody.
#[test]
fn a_spoofed_source_is_dropped() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, there] = node.pods();
        for family in Family::BOTH {
            let unspecified = match family {
                Family::V4 => "0.0.0.0".parse()?,
                Family::V6 => "::".parse()?,
            };
            let link_local = match family {
                Family::V4 => "169.254.1.2".parse()?,
                Family::V6 => "fe80::2".parse()?,
            };
            for source in [
                there.address(family),
                family.gateway(),
                family.pod(0, 77),
                family.pod(1, 10),
                underlay(family, 20),
                underlay(family, 21),
                outside(family),
                unspecified,
                link_local,
            ] {
                for destination in
                    [there.address(family), family.pod(1, 10), outside(family), family.gateway()]
                {
                    for packet in flows(&Ip::new(source, destination)) {
                        let outcome = node.from_pod(here, &here.sends(&packet))?;
                        outcome.is_dropped(Reason::Spoofed)?;
                        ensure!(outcome.seen.accounts.is_empty(), "{:?}", outcome.seen.accounts);
                    }
                }
            }
        }
        Ok(())
    })
}

/// PF-3: a prefix that a pod may send from is that pod's only, and is accounted to it.
#[test]
fn an_allowed_source_passes_for_its_pod_only() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, there] = node.pods();
        for (family, inside, beside) in
            [(Family::V4, "192.0.2.9", "192.0.3.9"), (Family::V6, "2001:db8:5::9", "2001:db8:6::9")]
        {
            let packet = Ip::new(inside.parse()?, there.address(family)).udp((1, 2), b"");
            let outcome = node.from_pod(here, &here.sends(&packet))?;
            outcome.went(Reason::ToPod, Action::Pod { ifindex: there.ifindex })?;
            ensure!(outcome.seen.accounts.contains_key("PodTx(3)"), "{:?}", outcome.seen.accounts);

            let packet = Ip::new(inside.parse()?, here.address(family)).udp((1, 2), b"");
            node.from_pod(there, &there.sends(&packet))?.is_dropped(Reason::Spoofed)?;
            let packet = Ip::new(beside.parse()?, there.address(family)).udp((1, 2), b"");
            node.from_pod(here, &here.sends(&packet))?.is_dropped(Reason::Spoofed)?;
        }
        Ok(())
    })
}

/// PF-3: the answer to who is who does not depend on MACs: a pod may write any into its frames.
#[test]
fn the_macs_that_a_pod_writes_do_not_matter() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, there] = node.pods();
        for family in Family::BOTH {
            let packet = Ip::new(here.address(family), there.address(family)).tcp((1, 2), 2);
            for (source, destination) in
                [([2; 6], NODE_MAC), (here.mac, there.mac), (here.mac, frame::BROADCAST), ([0; 6], [0; 6])]
            {
                let outcome = node.from_pod(here, &frame::ethernet(source, destination, &packet))?;
                outcome.went(Reason::ToPod, Action::Pod { ifindex: there.ifindex })?;
                ensure!(outcome.seen.bytes == there.receives(&hops_taken(&packet, 1)));
            }
        }
        Ok(())
    })
}

/// PF-10, PF-7: the node itself and the outside are the stack's, and the packet is as it was, addressed to the gateway
/// device.
#[test]
fn what_is_for_the_node_or_the_outside_goes_up_the_stack() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for family in Family::BOTH {
            for (destination, reason) in [
                (family.gateway(), Reason::ToHost),
                (underlay(family, 20), Reason::ToHost),
                (outside(family), Reason::ToOutside),
                (family.pod(99, 10), Reason::ToOutside),
            ] {
                for ttl in [64, 1] {
                    let ip = Ip { ttl, ..Ip::new(here.address(family), destination) };
                    for packet in flows(&ip) {
                        let outcome = node.from_pod(here, &here.sends(&packet))?;
                        outcome.went(reason, Action::Host)?;
                        ensure!(outcome.seen.bytes == frame::ethernet(NODE_MAC, NODE_MAC, &packet));
                    }
                }
            }
        }
        Ok(())
    })
}

/// PF-9: pods have no multicast and no broadcast.
#[test]
fn multicast_and_broadcast_of_a_pod_are_dropped() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for (family, groups) in [
            (Family::V4, ["224.0.0.251", "239.255.255.255", "255.255.255.255"]),
            (Family::V6, ["ff02::1", "ff05::2", "ff0e::101"]),
        ] {
            for group in groups {
                let packet = Ip::new(here.address(family), group.parse()?).udp((5353, 5353), b"who");
                node.from_pod(here, &here.sends(&packet))?.is_dropped(Reason::Multicast)?;
            }
        }
        Ok(())
    })
}
