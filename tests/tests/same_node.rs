//! Pods of one node: who reaches whom, what arrives, what the gateway answers, and what a pod may not send.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use common::counters::{Hook, Reason};
use testbed::{
    capture::Capture,
    cluster, counters,
    frame::{Ip, ethernet},
    require, setup,
    spec::Family,
    traffic::{self, Ping, ping},
};

/// PF-1, OV-5: every kind of traffic between two pods of a node, both families.
#[test]
fn pods_of_a_node_talk() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::one_node().start()?;
    let pods = &cluster.podlane[0].pods;
    for ip in pods[1].ips() {
        traffic::every_kind(&pods[0].netns, (&pods[1].netns, ip))?;
    }
    Ok(())
}

/// PF-1: the node needs nothing of IPv4 for pods that have IPv6 only underlay between them.
#[test]
fn pods_of_a_node_with_an_ipv6_underlay_talk() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::one_node().family(Family::V6).start()?;
    let pods = &cluster.podlane[0].pods;
    for ip in pods[1].ips() {
        traffic::every_kind(&pods[0].netns, (&pods[1].netns, ip))?;
    }
    Ok(())
}

/// PF-1, PF-6: between pods only the MAC addresses and the TTL change, and the checksum still holds. `bpf_redirect_peer`
/// takes the packet past the host-side device, so the MAC addresses have to be right already.
#[test]
fn a_packet_changes_only_its_macs_and_ttl() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::one_node().start()?;
    let node = &cluster.podlane[0];
    let (from, to) = (&node.pods[0], &node.pods[1]);
    let (from_mac, to_mac) = (from.netns.mac("eth0")?, to.netns.mac("eth0")?);
    let source = Capture::open(&from.netns, "eth0")?;
    let mut sink = Capture::open(&to.netns, "eth0")?;
    for (source_ip, destination_ip) in from.ips().into_iter().zip(to.ips()) {
        let ip = Ip { ttl: 17, tos: 0xb8, ..Ip::new(source_ip, destination_ip) };
        let sent = ethernet(from_mac, node.mac(), &ip.udp((4242, 5353), b"payload of an odd length."));
        source.inject(&sent)?;
        let arrived = sink.find("the packet", |packet| {
            packet
                .headers()
                .filter(|headers| headers.ports == Some((4242, 5353)))
                .map(|headers| (packet.clone(), headers))
        })?;
        let (packet, headers) = arrived;
        ensure!(headers.source_mac == node.mac(), "source MAC {:x?}", headers.source_mac);
        ensure!(headers.destination_mac == to_mac, "destination MAC {:x?}", headers.destination_mac);
        ensure!(headers.ttl == 16, "TTL {}", headers.ttl);
        ensure!(packet.checksums_hold(), "checksums of {headers:?}");
        let expected = Ip { ttl: 16, ..ip }.udp((4242, 5353), b"payload of an odd length.");
        ensure!(packet.bytes[14..] == expected, "{:x?} instead of {expected:x?}", &packet.bytes[14..]);
    }
    Ok(())
}

/// PF-3: a pod sends from its own addresses only, and from the prefixes that are allowed to it.
#[test]
fn spoofed_sources_are_dropped_and_allowed_ones_pass() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::one_node().build()?;
    let node = &mut cluster.podlane[0];
    node.config.pods[0].allowed_sources = vec!["192.0.2.0/24".parse()?, "2001:db8:5::/48".parse()?];
    node.start()?;
    let (from, to) = (&node.pods[0], &node.pods[1]);
    let from_mac = from.netns.mac("eth0")?;
    let source = Capture::open(&from.netns, "eth0")?;
    let mut sink = Capture::open(&to.netns, "eth0")?;
    let beside = node.pods[2].ips();
    let cases = [
        // Another pod's, the gateway's, the node's, one from nowhere; then one just outside the allowed prefix.
        (beside[0], false),
        (node.spec.gateway(beside[0]).context("a gateway")?, false),
        (node.spec.address(), false),
        ("198.51.100.7".parse()?, false),
        ("192.0.3.1".parse()?, false),
        (beside[1], false),
        ("2001:db8:6::1".parse()?, false),
        ("192.0.2.77".parse()?, true),
        ("2001:db8:5:1::7".parse()?, true),
        (from.v4()?.into(), true),
        (from.v6()?.into(), true),
    ];
    let before = node.counters()?;
    for (number, (spoofed, _)) in (1..).zip(&cases) {
        let destination: IpAddr = if spoofed.is_ipv4() { to.v4()?.into() } else { to.v6()?.into() };
        source.inject(&ethernet(
            from_mac,
            node.mac(),
            &Ip::new(*spoofed, destination).udp((7000, number), b"x"),
        ))?;
    }
    let allowed = cases.iter().filter(|(_, passes)| *passes);
    for (expected, _) in allowed {
        let arrived = sink.find("an allowed packet", |packet| {
            packet.headers().filter(|headers| headers.ports.is_some_and(|ports| ports.0 == 7000))
        })?;
        ensure!(arrived.source == *expected, "{} arrived, {expected} is next", arrived.source);
    }
    let dropped = cases.iter().filter(|(_, passes)| !*passes).count();
    counters::wait_for(&before, Hook::FromPod, Reason::Spoofed, u64::try_from(dropped)?)?;
    Ok(())
}

/// PF-3: what is allowed to one pod is not allowed to its neighbour.
#[test]
fn allowed_sources_belong_to_one_pod() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::one_node().quiet().build()?;
    let node = &mut cluster.podlane[0];
    node.config.pods[1].allowed_sources = vec!["192.0.2.0/24".parse()?];
    node.start()?;
    let (from, to) = (&node.pods[0], &node.pods[2]);
    let source = Capture::open(&from.netns, "eth0")?;
    let before = node.counters()?;
    let packet = Ip::new("192.0.2.77".parse()?, to.v4()?.into()).udp((7000, 1), b"x");
    source.inject(&ethernet(from.netns.mac("eth0")?, node.mac(), &packet))?;
    counters::wait_for(&before, Hook::FromPod, Reason::Spoofed, 1)?;
    Ok(())
}

/// PF-7: an address of the node's pod CIDR that no pod has: the sender is told at once, nothing leaves, all is counted,
/// and as soon as there is such a pod it is reached.
#[test]
fn an_unknown_pod_is_unreachable() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::one_node().start()?;
    let node = &cluster.podlane[0];
    let from = &node.pods[0];
    let mut uplink = Capture::open(&node.netns, "eth0")?;
    let nobody: [IpAddr; 2] = ["10.200.0.99".parse()?, "fd00:10:200::99".parse()?];
    for (unknown, expected) in nobody.into_iter().zip([(3, 1), (1, 3)]) {
        let before = node.counters()?;
        for round in 1..=3 {
            let probe = traffic::probe::Probe::new(&from.netns, unknown)?;
            probe.send(20)?;
            let notice = probe.notice()?;
            ensure!((notice.kind, notice.code) == expected, "{notice:?}");
            ensure!(Some(notice.sender) == node.spec.gateway(unknown), "{notice:?}");
            counters::wait_for(&before, Hook::FromPod, Reason::NoSuchPod, round)?;
        }
        Ping { count: 1, ..Ping::default() }.must_not_reach(&from.netns, unknown)?;
    }
    let leaked = uplink.drain()?.into_iter().filter_map(|packet| packet.headers());
    let leaked: Vec<_> = leaked.filter(|headers| nobody.contains(&headers.destination)).collect();
    ensure!(leaked.is_empty(), "{leaked:?} left the node");
    Ok(())
}

/// PF-8: a pod that goes and comes back with the same address in another namespace is reached by the next packet, from
/// its node, from a pod beside it and from the other node, whoever has talked to it before.
#[test]
fn a_pod_that_comes_back_is_reached_at_once() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::two_nodes().start()?;
    let (first, second) = cluster.podlane.split_at_mut(1);
    let (node, far) = (&mut first[0], &second[0].pods[0]);
    let reach = |node: &testbed::podlane_node::PodlaneNode| -> Result<()> {
        for ip in node.pods[0].ips() {
            let one = Ping { count: 1, ..Ping::default() };
            one.must_reach(&node.pods[1].netns, ip).context("from the pod beside it")?;
            one.must_reach(&far.netns, ip).context("from the other node's pod")?;
            one.must_reach(&node.netns, ip).context("from its node")?;
        }
        Ok(())
    };
    reach(node)?;
    for with_a_gap in [true, false] {
        let old_index = node.pod_state(&node.pods[0].name)?["ifindex"].clone();
        let again = testbed::pod::Pod::new(
            &node.pods[0].name,
            testbed::netns::Netns::new("again")?,
            node.pods[0].addresses.clone(),
        )?;
        let entry = testbed::config::PodEntry::new(&again);
        let old = std::mem::replace(&mut node.pods[0], again);
        if with_a_gap {
            node.config.pods.remove(0);
            node.reload()?;
            drop(old);
            node.config.pods.insert(0, entry);
            node.reload()?;
        } else {
            node.config.pods[0] = entry;
            node.write_config()?;
            node.loader()?.signal(nix::sys::signal::Signal::SIGHUP)?;
            testbed::wait::until("the pod to be on a new device", || {
                Ok((node.pod_state(&node.pods[0].name)?["ifindex"] != old_index).then_some(()))
            })?;
            drop(old);
        }
        reach(node).with_context(|| format!("with a gap: {with_a_gap}"))?;
    }
    ping(&node.pods[0].netns, node.pods[1].v4()?)?;
    Ok(())
}
