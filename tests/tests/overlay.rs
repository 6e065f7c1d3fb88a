//! Pods of different Podlane nodes: every kind of traffic over every kind of underlay, and what it looks like on the wire.

use std::{collections::HashSet, net::IpAddr};

use anyhow::{Context as _, Result, ensure};
use common::counters::{Hook, Reason};
use testbed::{
    capture::Capture,
    cluster::{self, Cluster, Underlay},
    frame::{Ip, ethernet},
    packet::Vxlan,
    require, setup,
    spec::{Family, Route},
    traffic::{self, ping},
};

const PORT: u16 = 8472;

/// Both ways between pods of two nodes, and nothing dropped on the way.
fn everything(cluster: &Cluster) -> Result<()> {
    let (one, two) = (&cluster.podlane[0], &cluster.podlane[1]);
    for (from, to) in [(one, two), (two, one)] {
        for ip in to.pods[0].ips() {
            traffic::every_kind(&from.pods[0].netns, (&to.pods[0].netns, ip))
                .with_context(|| format!("{} to {ip}", from.spec.name))?;
        }
    }
    for node in &cluster.podlane {
        let counters = node.counters()?;
        for reason in [
            Reason::HelperFailed,
            Reason::TooBig,
            Reason::Malformed,
            Reason::NoUnderlayRoute,
            Reason::NoRoute,
        ] {
            for hook in Hook::ALL {
                ensure!(
                    counters.packets(hook, reason) == 0,
                    "{}: {:?}",
                    node.spec.name,
                    counters.iter().collect::<Vec<_>>()
                );
            }
        }
    }
    Ok(())
}

/// OV-1, OV-5: on one link, IPv4 underlay.
#[test]
fn pods_talk_over_ipv4() -> Result<()> {
    require!(setup::ready_with_loader());
    everything(&cluster::two_nodes().start()?)
}

/// OV-1, OV-5: through a router, IPv4 underlay.
#[test]
fn pods_talk_over_routed_ipv4() -> Result<()> {
    require!(setup::ready_with_loader());
    everything(&cluster::two_nodes().underlay(Underlay::Routed).start()?)
}

/// OV-1, OV-3, OV-5: on one link, IPv6 underlay, where the outer UDP checksum is zero (RFC 6935).
#[test]
fn pods_talk_over_ipv6() -> Result<()> {
    require!(setup::ready_with_loader());
    everything(&cluster::two_nodes().family(Family::V6).start()?)
}

/// OV-1, OV-3, OV-5: through a router, IPv6 underlay.
#[test]
fn pods_talk_over_routed_ipv6() -> Result<()> {
    require!(setup::ready_with_loader());
    everything(&cluster::two_nodes().underlay(Underlay::Routed).family(Family::V6).start()?)
}

/// OV-1: another VNI and port, both ends alike.
#[test]
fn any_vni_and_port_work() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::two_nodes().build()?;
    for node in &mut cluster.podlane {
        node.config.overlay.vni = 0x00ab_cdef;
        node.config.overlay.port = 4789;
        node.start()?;
    }
    let mut wire = Capture::open(cluster.underlay()?, "port0")?;
    everything(&cluster)?;
    let seen = wire.find("VXLAN on port 4789", |packet| packet.vxlan(4789))?;
    ensure!(seen.vni() == 0x00ab_cdef && seen.header == [8, 0, 0, 0, 0xab, 0xcd, 0xef, 0], "{seen:?}");
    Ok(())
}

/// Direct routes instead of VXLAN: nothing is encapsulated, all arrives.
#[test]
fn pods_talk_over_direct_routes() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().family(Family::Dual).route(Route::Direct).start()?;
    let mut wire = Capture::open(cluster.underlay()?, "port0")?;
    everything(&cluster)?;
    let packets = wire.drain()?;
    let pods = cluster.podlane[0].pods[0].ips();
    let plain = packets
        .iter()
        .filter_map(testbed::packet::Packet::headers)
        .filter(|seen| pods.contains(&seen.source));
    ensure!(plain.count() > 10, "few plain packets seen");
    let encapsulated = packets.iter().filter(|packet| packet.vxlan(PORT).is_some()).count();
    ensure!(encapsulated == 0, "{encapsulated} packets in VXLAN");
    Ok(())
}

/// Between nodes of both families, each asks after the other by the family of what it sends, whoever sends first.
#[test]
fn ipv6_may_go_first_over_direct_routes() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().family(Family::Dual).route(Route::Direct).start()?;
    let [here, there] = [0, 1].map(|node| &cluster.podlane[node].pods[0]);
    let to = there.ips().into_iter().find(IpAddr::is_ipv6).context("no IPv6 address")?;
    ping(&here.netns, to)?;
    Ok(())
}

/// What the sending node puts on the wire for a frame that a pod sends.
fn on_the_wire(wire: &mut Capture, pod: &Capture, frame: &[u8], ports: (u16, u16)) -> Result<Vxlan> {
    pod.inject(frame)?;
    wire.find("the packet in VXLAN", |packet| {
        let vxlan = packet.vxlan(PORT)?;
        (vxlan.inner.headers()?.ports == Some(ports)).then_some(vxlan)
    })
}

/// OV-1, OV-3, OV-9: every byte of the encapsulation, for both families inside and outside.
#[test]
fn the_encapsulation_is_exact() -> Result<()> {
    require!(setup::ready_with_loader());
    for family in [Family::V4, Family::V6] {
        let cluster = cluster::two_nodes().family(family).start()?;
        let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
        let (from, to) = (&here.pods[0], &there.pods[0]);
        let mut wire = Capture::open(cluster.underlay()?, "port0")?;
        let pod = Capture::open(&from.netns, "eth0")?;
        let uplink_macs = (here.netns.mac("eth0")?, there.netns.mac("eth0")?);
        for (source, destination) in from.ips().into_iter().zip(to.ips()) {
            for tos in [0, 0xb8, 0x02, 0xba] {
                let ip = Ip { ttl: 33, tos, ..Ip::new(source, destination) };
                let frame =
                    ethernet(from.netns.mac("eth0")?, here.mac(), &ip.udp((1111, 2222), b"as it was"));
                let seen = on_the_wire(&mut wire, &pod, &frame, (1111, 2222))?;
                let inner =
                    ethernet(here.mac(), there.mac(), &Ip { ttl: 32, ..ip }.udp((1111, 2222), b"as it was"));
                ensure!(seen.inner.bytes == inner, "inner {:x?} instead of {inner:x?}", seen.inner.bytes);
                ensure!(seen.header == [8, 0, 0, 0, 0, 0, 1, 0], "VXLAN header {:x?}", seen.header);
                let outer = &seen.outer;
                ensure!(outer.goes(here.spec.address(), there.spec.address()), "{outer:?}");
                ensure!((outer.source_mac, outer.destination_mac) == uplink_macs, "{outer:?}");
                ensure!(outer.ttl == 64 && !outer.dont_fragment && !outer.fragment, "{outer:?}");
                ensure!(outer.id.is_none_or(|id| id == 0) && outer.udp_checksum == Some(0), "{outer:?}");
                ensure!(outer.tos == tos, "outer TOS {:x} for inner {tos:x}", outer.tos);
                let headers = if family == Family::V4 { 28 } else { 48 };
                ensure!(outer.ip_length == headers + 8 + inner.len(), "outer length {}", outer.ip_length);
                ensure!(outer.ports.is_some_and(|(port, _)| (32768..=60999).contains(&port)), "{outer:?}");
            }
        }
    }
    Ok(())
}

/// OV-2: one flow has one source port, its fragments share another, flows are spread.
#[test]
fn source_ports_follow_flows() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().start()?;
    let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
    let (from, to) = (&here.pods[0], &there.pods[0]);
    let mut wire = Capture::open(cluster.underlay()?, "port0")?;
    let pod = Capture::open(&from.netns, "eth0")?;
    let mac = from.netns.mac("eth0")?;
    for (source, destination) in from.ips().into_iter().zip(to.ips()) {
        let ip = Ip::new(source, destination);
        let mut ports = HashSet::new();
        for flow in 0..64 {
            let mut of_flow = HashSet::new();
            for payload in [&b"a"[..], b"another"] {
                let frame = ethernet(mac, here.mac(), &ip.udp((10_000 + flow, 53), payload));
                let seen = on_the_wire(&mut wire, &pod, &frame, (10_000 + flow, 53))?;
                of_flow.insert(seen.outer.ports.context("ports")?.0);
            }
            ensure!(of_flow.len() == 1, "a flow with source ports {of_flow:?}");
            ports.extend(of_flow);
        }
        ensure!(ports.len() >= 56, "64 flows share {} source ports", ports.len());
        ensure!(ports.iter().all(|port| (32768..=60999).contains(port)), "{ports:?}");
    }

    // A datagram of 8 KB leaves the pod in fragments.
    wire.drain()?;
    for ip in to.ips() {
        traffic::udp::echo(&from.netns, (&to.netns, ip), &[8000])?;
        let outgoing = wire.drain()?.into_iter().filter_map(|packet| packet.vxlan(PORT));
        let fragments = outgoing.filter(|seen| {
            seen.inner.headers().is_some_and(|inner| inner.fragment && inner.destination == ip)
        });
        let ports: Vec<_> = fragments.filter_map(|seen| Some(seen.outer.ports?.0)).collect();
        ensure!(ports.len() >= 6, "{} fragments seen", ports.len());
        ensure!(ports.iter().all(|port| *port == ports[0]), "fragments with source ports {ports:?}");
    }
    Ok(())
}

/// OV-9: both families keep their DSCP and ECN end to end.
#[test]
fn dscp_is_kept_end_to_end() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().start()?;
    let (from, to) = (&cluster.podlane[0].pods[0], &cluster.podlane[1].pods[0]);
    let mut sink = Capture::open(&to.netns, "eth0")?;
    for ip in to.ips() {
        traffic::Ping { count: 1, tos: 0xb8, ..traffic::Ping::default() }.must_reach(&from.netns, ip)?;
        let headers = sink.find("the request", |packet| {
            packet
                .headers()
                .filter(|headers| headers.destination == ip && matches!(headers.icmp, Some((8 | 128, 0))))
        })?;
        ensure!(headers.tos == 0xb8, "{headers:?}");
    }
    Ok(())
}

/// OV-10: what Podlane sends does not pass the node's own IP output, so no conntrack or NAT rule there can touch it.
#[test]
fn encapsulated_packets_do_not_pass_the_nodes_output() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().quiet().start()?;
    let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
    let out_requests = || -> Result<u64> {
        let text = here.netns.run("cat /proc/thread-self/net/snmp")?;
        let mut lines = text.lines().filter(|line| line.starts_with("Ip:"));
        let place = lines
            .next()
            .context("Ip:")?
            .split(' ')
            .position(|word| word == "OutRequests")
            .context("OutRequests")?;
        Ok(lines.next().context("Ip:")?.split(' ').nth(place).context("OutRequests")?.parse()?)
    };
    ping(&here.pods[0].netns, there.pods[0].v4()?)?;
    let before = out_requests()?;
    traffic::Ping { count: 50, interval: 2, ..traffic::Ping::default() }
        .must_reach(&here.pods[0].netns, there.pods[0].v4()?.into())?;
    let after = out_requests()?;
    ensure!(after - before < 10, "{} packets passed the node's output for 50 of a pod", after - before);
    Ok(())
}
