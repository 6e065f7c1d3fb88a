//! Clients outside call the node's ports, and get their answers.

use std::net::IpAddr;

use anyhow::{Result, ensure};
use common::{counters::Reason, verdict::Action};
use testbed::{
    frame::{self, Ip},
    progrun::{self, Family, Rig, UPLINK_MAC, excluded, outside, peer, underlay},
    require, setup,
};

use crate::{
    craft::{Icmp, from_peer, hops_taken, icmp_error, on_wire, to_router},
    services::{ACK, SYN, SYN_ACK, far, loopback, services},
};

/// The second pod's 8080 is called over TCP by a port of this node or of another, and answers: the packets that come in a frame each, as
/// `arrives` makes them, and those that leave by the uplink, as `leaves` has them.
fn is_called(
    node: &mut Rig,
    client: IpAddr,
    (called, port): (IpAddr, u16),
    arrives: impl Fn(&[u8]) -> Vec<u8>,
    leaves: impl Fn(&[u8]) -> Vec<u8>,
) -> Result<()> {
    let [_, there] = node.pods();
    let backend = there.address(if client.is_ipv4() { Family::V4 } else { Family::V6 });
    let outcome = node.from_uplink(&arrives(&Ip::new(client, called).tcp((4000, port), SYN)))?;
    outcome.went(Reason::ToPod, Action::Pod { ifindex: there.ifindex })?;
    let expected = hops_taken(&Ip::new(client, backend).tcp((4000, 8080), SYN), 1);
    ensure!(outcome.seen.bytes == there.receives(&expected));

    for flags in [SYN_ACK, ACK] {
        let answer = Ip::new(backend, client).tcp((8080, 4000), flags);
        let outcome = node.from_pod(there, &there.sends(&answer))?;
        outcome.went(Reason::ToClient, Action::Device { ifindex: node.uplink() })?;
        ensure!(
            outcome.seen.bytes == leaves(&hops_taken(&Ip::new(called, client).tcp((port, 4000), flags), 1))
        );
    }
    Ok(())
}

/// NP-1: from outside to a backend of this node: the client's address stays, and the answer goes out by the uplink.
#[test]
fn a_client_outside_calls_a_node_port_with_a_local_backend() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        for family in Family::BOTH {
            for client in [outside(family), excluded(family)] {
                is_called(node, client, (underlay(family, 20), 30080), on_wire, to_router)?;
            }
        }
        Ok(())
    })
}

/// NP-2: a peer's own process is answered as it has called, past the tunnel, though a pod's packet to the same address goes in it.
#[test]
fn a_peers_own_process_calls_a_node_port() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        let [_, there] = node.pods();
        for (family, peer) in [(Family::V4, peer("near")?), (Family::V6, peer("near6")?)] {
            let to_peer = |packet: &[u8]| frame::ethernet(UPLINK_MAC, peer.next_mac(), packet);
            is_called(node, peer.address(), (underlay(family, 20), 30080), on_wire, to_peer)?;

            let unasked = Ip::new(there.address(family), peer.address()).tcp((8080, 4001), SYN);
            let outcome = node.from_pod(there, &there.sends(&unasked))?;
            outcome.went(Reason::ToOverlay, Action::Device { ifindex: node.uplink() })?;
        }
        Ok(())
    })
}

/// NP-2: from outside to a backend of another node: its answers come back here, because the node stands for the client.
#[test]
fn a_client_outside_calls_a_node_port_with_a_remote_backend() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        for family in Family::BOTH {
            let (client, own) = (outside(family), underlay(family, 20));
            let frame = on_wire(&Ip::new(client, own).udp((4000, 30053), b"question"));
            let outcome = node.from_uplink(&frame)?;
            outcome.went(Reason::ToOverlay, Action::Device { ifindex: node.uplink() })?;
            let expected =
                hops_taken(&Ip::new(loopback(family), far(family)).udp((4000, 5353), b"question"), 1);
            ensure!(outcome.seen.bytes.ends_with(&expected));

            let answer = Ip::new(far(family), loopback(family)).udp((5353, 4000), b"answer");
            let outcome = node.from_uplink(&from_peer(&peer("near")?, &answer))?;
            outcome.went(Reason::ToClient, Action::Device { ifindex: node.uplink() })?;
            let expected = hops_taken(&Ip::new(own, client).udp((30053, 4000), b"answer"), 1);
            ensure!(outcome.seen.bytes == to_router(&expected));
        }
        Ok(())
    })
}

/// NP-5: with direct server return a client goes on as he is to the backend's node, and so does what he has to say about an answer
/// that has gone past this node; a datagram that the tunnel doesn't take whole is translated.
#[test]
fn a_client_outside_is_handed_on() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        for family in Family::BOTH {
            let (client, own) = (outside(family), underlay(family, 20));
            let question = Ip::new(client, own).udp((4000, 30054), b"question");
            let answer = Ip::new(own, client).udp((30054, 4000), &[0; 600]);
            let complaint = icmp_error(client, own, Icmp::unreachable(family), 0, &answer);
            for packet in [&question, &question, &complaint] {
                let outcome = node.from_uplink(&on_wire(packet))?;
                outcome.went(Reason::ToOverlay, Action::Device { ifindex: node.uplink() })?;
                ensure!(outcome.seen.bytes.ends_with(&hops_taken(packet, 1)));
            }
        }
        let (client, own) = (outside(Family::V4), underlay(Family::V4, 20));
        let large = Ip { dont_fragment: false, ..Ip::new(client, own) }.udp((4000, 30054), &[7; 1460]);
        let outcome = node.from_uplink(&on_wire(&large))?;
        outcome.went(Reason::ToFragment, Action::Host)?;
        let translated = Ip { dont_fragment: false, ..Ip::new(loopback(Family::V4), far(Family::V4)) };
        ensure!(outcome.seen.bytes.ends_with(&translated.udp((4000, 5353), &[7; 1460])));
        Ok(())
    })
}

/// NP-5: whom another node hands on is translated here, as if he had called here, and answered directly; a pod of that node that
/// calls the same port is nobody's.
#[test]
fn a_client_that_was_handed_on_is_answered() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        let near = peer("near")?;
        let handed_on = |packet: &[u8]| from_peer(&near, packet);
        for family in Family::BOTH {
            let called = underlay(family, 21);
            for client in [outside(family), excluded(family)] {
                is_called(node, client, (called, 30055), handed_on, to_router)?;

                // What there is to be told he is told the same way: nothing of him is known to the node that has handed him on.
                let last = Ip { ttl: 1, ..Ip::new(client, called) }.tcp((4001, 30055), SYN);
                let outcome = node.from_uplink(&handed_on(&last))?;
                outcome.went(Reason::TtlExceeded, Action::Device { ifindex: node.uplink() })?;
                ensure!(outcome.seen.bytes.starts_with(&to_router(&last)[..14]));
                let quoted = if family == Family::V4 { 14 + 20 + 8 } else { 14 + 40 + 8 };
                ensure!(outcome.seen.bytes[quoted..].starts_with(&last[..last.len() - 20]));
            }
            let stray = Ip::new(far(family), called).tcp((4000, 30055), SYN);
            node.from_uplink(&handed_on(&stray))?.is_dropped(Reason::NoRoute)?;
        }
        Ok(())
    })
}
