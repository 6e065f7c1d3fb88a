//! The way back to clients outside.

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use testbed::{
    address,
    bed::{Bed, FAMILIES, PROTOCOLS, external_ip},
    capture::Capture,
    config::Protocol,
    require, setup,
    traffic::who::{self, Session},
    wire,
};

use crate::{NODE_PORT, everything, node_port};

/// NP-4: answers leave by the way that routing knows to the client, whichever way the call came in.
#[test]
fn answers_leave_by_routing() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = Bed::two_nodes(|facts, config| config.services.push(everything(facts, &[(0, 1), (1, 0)])))?;
    let (node, outside) = (&bed.node(0).netns, &bed.outside);
    wire::wire((node, "eth1"), (&outside.netns, "eth1"), 1500)?;
    let client = outside.addresses[0];
    wire::add_address(node, "eth1", "192.0.2.1/24".parse()?)?;
    wire::add_address(&outside.netns, "eth1", "192.0.2.2/24".parse()?)?;
    node.ip(&format!("route add {client} via 192.0.2.2"))?;
    let mut back = Capture::open(node, "eth1")?;
    for protocol in PROTOCOLS {
        who::everyone(&outside.netns, protocol, node_port(&bed, 0, true)?, &["pod-0-1", "pod-1-0"])?;
    }
    let answers = back.drain()?.into_iter().filter_map(|packet| packet.headers());
    let count = answers.filter(|headers| headers.ports.is_some_and(|ports| ports.0 == NODE_PORT)).count();
    ensure!(count > 8, "{count} packets came back that way");
    Ok(())
}

/// NP-4: with a rule for the address that was called (`ip rule from`), as nodes with several uplinks have them, answers leave by that way,
/// and those from other addresses by theirs.
#[test]
fn answers_leave_by_the_rules_of_their_address() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = Bed::two_nodes(|facts, config| config.services.push(everything(facts, &[(0, 1), (1, 0)])))?;
    let (node, outside) = (&bed.node(0).netns, &bed.outside);
    bed.lead(&address::external_ips(1), 0)?;
    wire::wire((node, "eth1"), (&outside.netns, "eth1"), 1500)?;
    for ((ipv4, family), [ours, theirs]) in FAMILIES
        .into_iter()
        .zip(["-4", "-6"])
        .zip([["192.0.2.1/24", "192.0.2.2/24"], ["2001:db8:99::1/64", "2001:db8:99::2/64"]])
    {
        let theirs: IpNet = theirs.parse()?;
        wire::add_address(node, "eth1", ours.parse()?)?;
        wire::add_address(&outside.netns, "eth1", theirs)?;
        let called = external_ip(1, ipv4);
        node.ip(&format!("{family} route add default via {} table 100", theirs.addr()))?;
        node.ip(&format!("{family} rule add from {} lookup 100", called.ip()))?;
        for (to, by_rule) in [(called, true), (node_port(&bed, 0, ipv4)?, false)] {
            for protocol in PROTOCOLS {
                let mut back = Capture::open(node, "eth1")?;
                who::everyone(&outside.netns, protocol, to, &["pod-0-1", "pod-1-0"])?;
                let packets: Vec<_> =
                    back.drain()?.into_iter().filter_map(|packet| packet.headers()).collect();
                let answers = packets.iter().filter(|headers| headers.source == to.ip()).count();
                ensure!((answers > 1) == by_rule, "{protocol:?}: {answers} packets from {to} left by eth1");
            }
        }
    }
    Ok(())
}

/// NP-3: an answer whose next hop is not resolved yet is not lost.
#[test]
fn answers_wait_for_their_next_hop() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = Bed::two_nodes(|facts, config| config.services.push(everything(facts, &[(0, 1)])))?;
    for ipv4 in FAMILIES {
        let mut session = Session::open(&bed.outside.netns, Protocol::Udp, node_port(&bed, 0, ipv4)?)?;
        for round in 0..5 {
            bed.node(0).netns.ip("neigh flush dev eth0")?;
            session.ask().with_context(|| format!("round {round}"))?;
        }
    }
    Ok(())
}
