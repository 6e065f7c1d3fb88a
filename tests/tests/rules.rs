//! Packets that a rule is for: TTL that runs out, headers that are wrong or rare, what is not IP.

use std::{net::IpAddr, time::Instant};

use anyhow::{Context as _, Result, ensure};
use common::{
    counters::{Hook, Reason},
    icmp,
};
use testbed::{
    bpf_map::cpus,
    capture::Capture,
    cluster, counters,
    frame::{self, Ip, ethernet, ethernet_of_type},
    require, setup,
    traffic::{Ping, probe::Probe, who},
};

/// PF-2: a packet whose TTL runs out in the node is dropped and counted, and the sender's socket hears of it from the
/// gateway: on the same node, on the way to another, and at the other.
#[test]
fn the_sender_hears_of_an_expired_ttl() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().start()?;
    let (node, far) = (&cluster.podlane[0], &cluster.podlane[1]);
    let from = &node.pods[0];
    for (to, ttl, hop, hook) in [
        (&node.pods[1], 1, node, Hook::FromPod),
        (&far.pods[0], 1, node, Hook::FromPod),
        (&far.pods[0], 2, far, Hook::FromUplink),
    ] {
        for ip in to.ips() {
            let before = hop.counters()?;
            let probe = Probe::new(&from.netns, ip)?;
            probe.set_ttl(ttl)?;
            probe.send(30)?;
            let notice = probe.notice().with_context(|| format!("to {ip} with TTL {ttl}"))?;
            let expected = if ip.is_ipv4() { (11, 0) } else { (3, 0) };
            ensure!((notice.kind, notice.code) == expected, "to {ip} with TTL {ttl}: {notice:?}");
            ensure!(Some(notice.sender) == hop.spec.gateway(ip), "to {ip} with TTL {ttl}: {notice:?}");
            let now = counters::wait_for(&before, hook, Reason::TtlExceeded, 1)?;
            ensure!(now.packets(hook, Reason::IcmpError) > before.packets(hook, Reason::IcmpError));
        }
    }
    Ok(())
}

/// PF-2, IC-1: the error is a right packet: checksums, the quoted header as it was sent, and none for errors and fragments.
#[test]
fn time_exceeded_quotes_the_packet_and_spares_errors_and_fragments() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::one_node().start()?;
    let node = &cluster.podlane[0];
    let (from, to) = (&node.pods[0], &node.pods[1]);
    let mac = from.netns.mac("eth0")?;
    let mut device = Capture::open(&from.netns, "eth0")?;
    for (source, destination) in from.ips().into_iter().zip(to.ips()) {
        let expired = Ip { ttl: 1, ..Ip::new(source, destination) };
        let before = node.counters()?;
        // An ICMP error about something, and a later fragment: no error is due.
        let unreachable = if source.is_ipv4() { (3, 1) } else { (1, 3) };
        let quoted = Ip::new(destination, source).udp((1, 2), b"quoted");
        let error = expired.icmp(unreachable.0, unreachable.1, &[vec![0; 4], quoted].concat());
        device.inject(&ethernet(mac, node.mac(), &error))?;
        device.inject(&ethernet(mac, node.mac(), &later_fragment(&expired)))?;
        counters::wait_for(&before, Hook::FromPod, Reason::IcmpWithheld, 2)?;
        for payload in [&b"short"[..], &[0x33; 900]] {
            let packet = expired.udp((7, 9), payload);
            device.inject(&ethernet(mac, node.mac(), &packet))?;
            let (reply, headers) = device.find("time exceeded", |packet| {
                let headers =
                    packet.headers().filter(|headers| headers.icmp.is_some() && !packet.outgoing)?;
                Some((packet.clone(), headers))
            })?;
            let expected = if source.is_ipv4() { (11, 0) } else { (3, 0) };
            ensure!(headers.icmp == Some(expected), "{headers:?}");
            ensure!(reply.checksums_hold(), "checksums of {headers:?}");
            ensure!(
                Some(headers.source) == node.spec.gateway(source) && headers.destination == source,
                "{headers:?}"
            );
            ensure!(headers.source_mac == node.mac() && headers.destination_mac == mac, "{headers:?}");
            let quoted = &headers.payload[4..];
            let enough = packet.len().min(if source.is_ipv4() { 28 } else { 48 });
            ensure!(
                quoted.len() >= enough && packet.starts_with(quoted),
                "quoted {quoted:x?} of {packet:x?}"
            );
        }
        counters::wait_for(&before, Hook::FromPod, Reason::TtlExceeded, 4)?;
        counters::wait_for(&before, Hook::FromPod, Reason::IcmpError, 2)?;
    }
    Ok(())
}

/// IC-1: a flood of packets that deserve errors gets some, not one each.
#[test]
fn icmp_errors_are_limited() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::one_node().quiet().start()?;
    let node = &cluster.podlane[0];
    let from = &node.pods[0];
    let device = Capture::open(&from.netns, "eth0")?;
    let expired = Ip { ttl: 1, ..Ip::new(from.v4()?.into(), node.pods[1].v4()?.into()) };
    let frame = ethernet(from.netns.mac("eth0")?, node.mac(), &expired.udp((7, 9), b"flood"));
    let before = node.counters()?;
    let flood = 5000;
    let started = Instant::now();
    for _ in 0..flood {
        device.inject(&frame)?;
    }
    let now = counters::wait_for(&before, Hook::FromPod, Reason::TtlExceeded, flood)?;
    let elapsed = u64::try_from(started.elapsed().as_millis())?;
    let (sent, withheld) =
        (now.packets(Hook::FromPod, Reason::IcmpError), now.packets(Hook::FromPod, Reason::IcmpWithheld));
    ensure!(sent + withheld == flood, "{sent} sent and {withheld} withheld of {flood}");
    // A slow machine's flood is not faster than what CPUs may send: then nothing has to be withheld.
    let allowed = u64::try_from(cpus()?)? * (icmp::BURST + (elapsed + 1) * icmp::PER_SECOND / 1000);
    ensure!((50..=allowed).contains(&sent), "{sent} sent of {flood} in {elapsed} ms, {allowed} allowed");
    Ok(())
}

/// PF-4: what contradicts itself or ends too early is dropped as malformed; VLAN tags, multicast and what is neither IP
/// nor ARP each under their own reason. None of it reaches anybody.
#[test]
fn malformed_and_foreign_frames_are_dropped_by_rule() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::one_node().quiet().start()?;
    let node = &cluster.podlane[0];
    let (from, to) = (&node.pods[0], &node.pods[1]);
    let (mac, node_mac) = (from.netns.mac("eth0")?, node.mac());
    let ip = Ip::new(from.v4()?.into(), to.v4()?.into());
    let good = ip.udp((7, 9), b"good");
    let change = |at: usize, value: u8| {
        let mut packet = good.clone();
        packet[at] = value;
        packet
    };
    let v4 = |packet: &[u8]| ethernet_of_type(mac, node_mac, frame::IPV4, packet);
    let tagged = [&[0, 42], &frame::IPV4.to_be_bytes(), good.as_slice()].concat();
    let multicast: IpAddr = "224.0.0.251".parse()?;
    let broadcast: IpAddr = "255.255.255.255".parse()?;
    let cases = [
        (v4(&change(0, 0x44)), Reason::Malformed, "IHL 4"),
        (v4(&change(0, 0x4f)), Reason::Malformed, "IHL 15 in a packet without that much"),
        (v4(&change(0, 0x65)), Reason::Malformed, "version 6 under IPv4's type"),
        (v4(&change(3, 19)), Reason::Malformed, "a total length below the header's"),
        (v4(&change(2, 0x40)), Reason::Malformed, "a total length beyond the frame"),
        (v4(&good[..12]), Reason::Malformed, "half a header"),
        (v4(&ip.packet(17, &[0, 7, 0])), Reason::Malformed, "UDP without a whole header"),
        (v4(&ip.packet(6, &[0; 12])), Reason::Malformed, "TCP without a whole header"),
        (ethernet_of_type(mac, node_mac, frame::VLAN, &tagged), Reason::Vlan, "a VLAN tag"),
        (ethernet_of_type(mac, node_mac, 0x88cc, &[0; 46]), Reason::NotIp, "LLDP"),
        (ethernet_of_type(mac, node_mac, 0x8863, &[0; 46]), Reason::NotIp, "PPPoE"),
        (
            ethernet(mac, [1, 0, 0x5e, 0, 0, 251], &Ip::new(ip.source, multicast).udp((7, 9), b"m")),
            Reason::Multicast,
            "multicast",
        ),
        (
            ethernet(mac, [0xff; 6], &Ip::new(ip.source, broadcast).udp((68, 67), b"m")),
            Reason::Multicast,
            "broadcast",
        ),
    ];
    let device = Capture::open(&from.netns, "eth0")?;
    let mut sink = Capture::open(&to.netns, "eth0")?;
    let mut uplink = Capture::open(&node.netns, "eth0")?;
    for (frame, reason, case) in &cases {
        let before = node.counters()?;
        device.inject(frame)?;
        let now =
            counters::wait_for(&before, Hook::FromPod, *reason, 1).with_context(|| (*case).to_owned())?;
        ensure!(
            now.received(Hook::FromPod) == before.received(Hook::FromPod) + 1,
            "{case}: {:?}",
            now.since(&before)
        );
    }
    ensure!(sink.drain()?.is_empty() && uplink.drain()?.is_empty(), "something came through");
    Ping::default().must_reach(&from.netns, to.v4()?.into())?;
    Ok(())
}

/// PF-4: a tag that says a priority and no VLAN (IEEE 802.1Q) is none, from a pod and from the underlay.
#[test]
fn a_tag_of_no_vlan_is_none() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().quiet().start()?;
    let (node, peer) = (&cluster.podlane[0], &cluster.podlane[1]);
    let (from, to, there) = (&node.pods[0], &node.pods[1], &peer.pods[0]);
    let tagged = |source, destination, packet: &[u8]| {
        let priority = [0b1010_0000, 0];
        let rest = [&priority, &frame::IPV4.to_be_bytes()[..], packet].concat();
        ethernet_of_type(source, destination, frame::VLAN, &rest)
    };
    let arrives = |sink: &mut Capture, payload: &[u8]| {
        sink.find("the packet", |packet| packet.bytes.ends_with(payload).then_some(())).map(drop)
    };

    let packet = Ip::new(from.v4()?.into(), to.v4()?.into()).udp((7, 9), b"in the node");
    let mut sink = Capture::open(&to.netns, "eth0")?;
    Capture::open(&from.netns, "eth0")?.inject(&tagged(from.netns.mac("eth0")?, node.mac(), &packet))?;
    arrives(&mut sink, b"in the node")?;

    let inner = Ip::new(there.v4()?.into(), from.v4()?.into()).udp((7, 9), b"in a tunnel");
    let inner = frame::vxlan(node.config.overlay.vni, &ethernet(peer.mac(), node.mac(), &inner));
    let [source, destination] = [peer, node].map(|node| who::at(&node.spec.addresses(), true, 0));
    let outer = Ip::new(source?.ip(), destination?.ip()).udp((50_000, node.config.overlay.port), &inner);
    let mut sink = Capture::open(&from.netns, "eth0")?;
    let (mac, next) = (peer.netns.mac("eth0")?, node.netns.mac("eth0")?);
    Capture::open(&peer.netns, "eth0")?.inject(&tagged(mac, next, &outer))?;
    arrives(&mut sink, b"in a tunnel")
}

/// PF-4, PF-5: options and extension headers are no reason to refuse a packet.
#[test]
fn options_and_extension_headers_pass() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().start()?;
    let node = &cluster.podlane[0];
    let from = &node.pods[0];
    let mac = from.netns.mac("eth0")?;
    let device = Capture::open(&from.netns, "eth0")?;
    for to in [&node.pods[1], &cluster.podlane[1].pods[0]] {
        let mut sink = Capture::open(&to.netns, "eth0")?;
        // Record Route, without room and with the most that a header takes; then padding alone.
        for options in [vec![7, 3, 4, 0], [vec![7, 39, 40], vec![0; 37]].concat(), vec![1, 1, 1, 0]] {
            let ip = Ip { options: options.clone(), ..Ip::new(from.v4()?.into(), to.v4()?.into()) };
            device.inject(&ethernet(mac, node.mac(), &ip.udp((7, 9), b"with options")))?;
            let (packet, headers) = sink.find("the packet with options", |packet| {
                packet
                    .headers()
                    .filter(|headers| headers.ports == Some((7, 9)))
                    .map(|headers| (packet.clone(), headers))
            })?;
            ensure!(packet.checksums_hold() && headers.payload == b"with options", "{headers:?}");
            ensure!(packet.bytes[34..34 + options.len()] == options, "options changed: {:x?}", packet.bytes);
        }
        // Hop-by-hop options and destination options, padding only, before UDP.
        let ip = Ip::new(from.v6()?.into(), to.v6()?.into());
        let udp = ip.udp((7, 9), b"behind headers")[40..].to_vec();
        let padding = |next: u8| vec![next, 0, 1, 4, 0, 0, 0, 0];
        for (first, headers) in [(60, padding(17)), (0, [padding(60), padding(17)].concat())] {
            device.inject(&ethernet(mac, node.mac(), &ip.packet(first, &[headers, udp.clone()].concat())))?;
            let (packet, headers) = sink.find("the packet with extension headers", |packet| {
                packet
                    .headers()
                    .filter(|headers| headers.ports == Some((7, 9)))
                    .map(|headers| (packet.clone(), headers))
            })?;
            ensure!(packet.checksums_hold() && headers.payload == b"behind headers", "{headers:?}");
        }
    }
    Ok(())
}

/// PF-2, PF-5: errors about packets with options quote them whole.
#[test]
fn errors_about_packets_with_options_are_right() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::one_node().quiet().start()?;
    let node = &cluster.podlane[0];
    let (from, to) = (&node.pods[0], &node.pods[1]);
    let mut device = Capture::open(&from.netns, "eth0")?;
    let options = [vec![7, 39, 4], vec![0; 37]].concat();
    let ip = Ip { ttl: 1, options, ..Ip::new(from.v4()?.into(), to.v4()?.into()) };
    let packet = ip.udp((7, 9), b"eight by");
    device.inject(&ethernet(from.netns.mac("eth0")?, node.mac(), &packet))?;
    let (reply, headers) = device.find("time exceeded", |packet| {
        let headers = packet.headers().filter(|headers| headers.icmp == Some((11, 0)))?;
        Some((packet.clone(), headers))
    })?;
    ensure!(reply.checksums_hold(), "checksums of {headers:?}");
    let quoted = &headers.payload[4..];
    ensure!(quoted.len() >= 68 && packet.starts_with(quoted), "quoted {quoted:x?} of {packet:x?}");
    Ok(())
}

fn later_fragment(ip: &Ip) -> Vec<u8> {
    if ip.source.is_ipv4() {
        let mut packet = Ip { dont_fragment: false, ..ip.clone() }.packet(17, &[0x55; 64]);
        packet[7] = 100;
        packet[10..12].fill(0);
        let checksum = !frame::sum(&packet[..20], 0);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
        return packet;
    }
    let fragment = [vec![17, 0, 3, 0x20, 0, 0, 0, 9], vec![0x55; 64]].concat();
    ip.packet(44, &fragment)
}
