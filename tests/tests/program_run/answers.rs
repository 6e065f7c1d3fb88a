//! ICMP errors: to whom, from whom, about what, and when not.

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

use crate::craft::{ETH, Icmp, flows, fragment, icmp_error};

/// Asserts that a pod gets exactly this error about its packet, from its gateway.
fn tells(
    node: &mut Rig,
    pod: Pod,
    packet: &[u8],
    reason: Reason,
    (kind, code): (u8, u8),
    info: u32,
) -> Result<()> {
    let family = if packet[0] >> 4 == 4 { Family::V4 } else { Family::V6 };
    let outcome = node.from_pod(pod, &pod.sends(packet))?;
    outcome.went(reason, Action::Pod { ifindex: pod.ifindex })?;
    let error = icmp_error(family.gateway(), pod.address(family), (kind, code), info, packet);
    let expected = pod.receives(&error);
    ensure!(outcome.seen.bytes == expected, "{:02x?}\ninstead of\n{expected:02x?}", outcome.seen.bytes);
    let counted = outcome.seen.counts[Reason::IcmpError.name()];
    ensure!(counted == (1, u64::try_from(ETH + error.len())?), "counted {counted:?}");
    Ok(())
}

/// Asserts that a packet is dropped for that reason and nobody told.
fn stays_silent(node: &mut Rig, pod: Pod, packet: &[u8], reason: Reason) -> Result<()> {
    let outcome = node.from_pod(pod, &pod.sends(packet))?;
    outcome.is_dropped(reason)?;
    ensure!(outcome.seen.packets(Reason::IcmpWithheld) == 1, "{:?}", outcome.seen.counts);
    ensure!(outcome.seen.packets(Reason::IcmpError) == 0, "{:?}", outcome.seen.counts);
    Ok(())
}

/// PF-2: a packet whose last hop is used up is dropped, counted, and its sender told, with right checksums and a quote of the
/// packet as it was sent.
#[test]
fn an_expired_ttl_is_told() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, there] = node.pods();
        for family in Family::BOTH {
            for destination in [there.address(family), peer("near")?.pod(family), peer("direct")?.pod(family)]
            {
                for ttl in [1, 0] {
                    let ip = Ip { ttl, tos: 0xb8, ..Ip::new(here.address(family), destination) };
                    for packet in flows(&ip).iter().chain([&ip.udp((1, 2), &[0x5a; 999])]) {
                        tells(node, here, packet, Reason::TtlExceeded, Icmp::time_exceeded(family), 0)?;
                    }
                }
            }
        }
        Ok(())
    })
}

/// PF-2: never an error about an error, nor about a later fragment; about a first fragment there is one.
#[test]
fn errors_and_later_fragments_are_not_answered() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, there] = node.pods();
        for family in Family::BOTH {
            let ip = Ip { ttl: 1, ..Ip::new(here.address(family), there.address(family)) };
            let errors: &[u8] = match family {
                Family::V4 => &[3, 4, 5, 11, 12],
                Family::V6 => &[1, 2, 3, 4, 100, 127],
            };
            for kind in errors {
                let packet = ip.icmp(*kind, 0, &[0; 40]);
                stays_silent(node, here, &packet, Reason::TtlExceeded)?;
            }
            for protocol in [6, 17, family.icmp()] {
                let later = fragment(&ip, protocol, 4, false, &[3; 32]);
                stays_silent(node, here, &later, Reason::TtlExceeded)?;
                let first = fragment(&ip, protocol, 0, true, &[8; 32]);
                if protocol == family.icmp() && family == Family::V6 {
                    // Type 8 of ICMPv6 is an error.
                    stays_silent(node, here, &first, Reason::TtlExceeded)?;
                } else {
                    tells(node, here, &first, Reason::TtlExceeded, Icmp::time_exceeded(family), 0)?;
                }
            }
        }
        Ok(())
    })
}

/// PF-2: the allowance of ICMP errors bounds what a pod can make the node do; what is withheld is counted.
#[test]
fn an_error_beyond_the_allowance_is_withheld() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, there] = node.pods();
        for family in Family::BOTH {
            let ip = Ip { ttl: 1, ..Ip::new(here.address(family), there.address(family)) };
            let frame = here.sends(&ip.tcp((1, 2), 2));
            let input = Input { tokens: 0, ..Input::new(Hook::FromPod, here.ifindex, &frame) };
            let outcome = node.run(&input)?;
            outcome.is_dropped(Reason::TtlExceeded)?;
            ensure!(outcome.seen.packets(Reason::IcmpWithheld) == 1, "{:?}", outcome.seen.counts);
            let outcome = node.run(&Input { tokens: 1, ..input })?;
            ensure!(outcome.seen.packets(Reason::IcmpError) == 1, "{:?}", outcome.seen.counts);
        }
        Ok(())
    })
}

/// PF-7: an address in the node's own pod CIDR that is no pod's is told unreachable, packet after packet, and goes nowhere
/// else.
#[test]
fn an_address_that_is_no_pods_is_unreachable() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for family in Family::BOTH {
            let ip = Ip::new(here.address(family), family.pod(0, 99));
            for packet in flows(&ip) {
                for _ in 0..3 {
                    tells(node, here, &packet, Reason::NoSuchPod, Icmp::unreachable(family), 0)?;
                }
            }
            stays_silent(node, here, &fragment(&ip, 17, 8, false, b"tail"), Reason::NoSuchPod)?;
        }
        Ok(())
    })
}

/// OV-8: a packet that the tunnel does not take is told the path's MTU, by which its sender finds its socket; one that just
/// fits is sent.
#[test]
fn a_packet_too_big_for_the_path_is_told_its_mtu() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for family in Family::BOTH {
            for (name, sent) in
                [("near", Reason::ToOverlay), ("near6", Reason::ToOverlay), ("direct", Reason::ToDirect)]
            {
                let peer = peer(name)?;
                let ip = Ip::new(here.address(family), peer.pod(family));
                let room = usize::try_from(peer.mtu())? - family.header_len() - 8;
                let fits = ip.udp((1000, 2000), &vec![1; room]);
                let outcome = node.from_pod(here, &here.sends(&fits))?;
                ensure!(outcome.reason == sent, "{name}: {}", outcome.reason.name());
                let exceeds = ip.udp((1000, 2000), &vec![1; room + 1]);
                tells(node, here, &exceeds, Reason::TooBig, Icmp::too_big(family), peer.mtu())?;
                let long = ip.udp((1000, 2000), &vec![1; 2000]);
                tells(node, here, &long, Reason::TooBig, Icmp::too_big(family), peer.mtu())?;
            }
        }
        Ok(())
    })
}

/// OV-8: what may be fragmented is the stack's to fragment, unchanged.
#[test]
fn a_packet_too_big_that_may_be_fragmented_goes_up_the_stack() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        let ip =
            Ip { dont_fragment: false, ..Ip::new(here.address(Family::V4), peer("near")?.pod(Family::V4)) };
        let packet = ip.udp((1000, 2000), &[7; 1600]);
        let outcome = node.from_pod(here, &here.sends(&packet))?;
        outcome.went(Reason::ToFragment, Action::Host)?;
        ensure!(outcome.seen.bytes == frame::ethernet(NODE_MAC, NODE_MAC, &packet));
        Ok(())
    })
}

/// OV-8: an ICMP error is not answered even when it is too big.
#[test]
fn a_too_big_error_is_not_answered() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for family in Family::BOTH {
            let ip = Ip::new(here.address(family), peer("near")?.pod(family));
            let kind = if family == Family::V4 { 3 } else { 1 };
            stays_silent(node, here, &ip.icmp(kind, 0, &[0; 1500]), Reason::TooBig)?;
        }
        Ok(())
    })
}

/// OV-8, OV-5: of a GSO packet the segments have to fit, not the whole. The kernel takes none for encapsulation in a program
/// run, which is what a helper's refusal looks like: dropped, counted, and the errno kept.
#[test]
fn a_gso_packet_is_measured_by_its_segments_and_a_refusal_is_counted() -> Result<()> {
    /// `ENOTSUPP` of linux/errno.h.
    const REFUSED: i32 = -524;
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, _] = node.pods();
        for family in Family::BOTH {
            let peer = peer("near")?;
            let ip = Ip::new(here.address(family), peer.pod(family));
            let frame = here.sends(&ip.udp((1000, 2000), &[7; 3000]));
            let size = peer.mtu() - u32::try_from(family.header_len())? - 8;
            let input = Input {
                gso_size: size,
                refused: Some(REFUSED),
                ..Input::new(Hook::FromPod, here.ifindex, &frame)
            };
            let outcome = node.run(&input)?;
            outcome.is_dropped(Reason::HelperFailed)?;
            let failures: Vec<_> = outcome.seen.failures.into_iter().collect();
            ensure!(failures == [(format!("bpf_skb_adjust_room answered {REFUSED}"), 1)], "{failures:?}");

            let input = Input { gso_size: size + 1, refused: None, ..input };
            node.run(&input)?.went(Reason::TooBig, Action::Pod { ifindex: here.ifindex })?;
        }
        Ok(())
    })
}

/// PF-2, PF-5: the quote begins with the IP header, options and all.
#[test]
fn an_error_quotes_ip_options() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let [here, there] = node.pods();
        let mut options = vec![7, 39, 4];
        options.resize(40, 0);
        let ip = Ip { ttl: 1, options, ..Ip::new(here.address(Family::V4), there.address(Family::V4)) };
        for packet in flows(&ip).iter().chain([&ip.udp((1, 2), &[0x5a; 300])]) {
            tells(node, here, packet, Reason::TtlExceeded, Icmp::time_exceeded(Family::V4), 0)?;
        }
        Ok(())
    })
}
