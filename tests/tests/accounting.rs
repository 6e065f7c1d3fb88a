//! Every packet is counted: once at each hook under one reason, once for its pod, once for its peer.

use anyhow::{Context as _, Result, ensure};
use common::counters::{Hook, Outcome, Reason};
use testbed::{
    capture::Capture,
    cluster,
    counters::{self, pod_traffic},
    frame::{Ip, ethernet},
    netns::Netns,
    podlane_node::PodlaneNode,
    require, setup, traffic, wait,
};

/// Length of a ping in Ethernet, with 56 bytes of payload.
const PING: u64 = 98;

/// Packets that the kernel says the devices of a hook have received.
fn received_by_devices(node: &PodlaneNode, hook: Hook) -> Result<u64> {
    let devices = match hook {
        Hook::FromPod => {
            node.pods.iter().map(|pod| node.host_device(&pod.name)).collect::<Result<Vec<String>>>()?
        }
        _ => vec!["eth0".to_owned()],
    };
    let mut packets = 0;
    for device in devices {
        packets += node.netns.link(&device)?["stats64"]["rx"]["packets"].as_u64().context("rx packets")?;
    }
    Ok(packets)
}

/// PF-11, OP-2: exactly what was sent is counted, in packets and in bytes, under the reason that it should have.
#[test]
fn injected_frames_are_counted_exactly() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().quiet().start()?;
    let (node, far) = (&cluster.podlane[0], &cluster.podlane[1]);
    let pod = &node.pods[0];
    // The nodes know each other before anything is counted.
    traffic::ping(&pod.netns, far.pods[0].v4()?)?;
    // Somebody takes the packets, or the pods' kernels would answer with ICMP errors.
    let discard = |netns: &Netns| netns.enter(|| Ok(std::net::UdpSocket::bind(("0.0.0.0", 9))?));
    let _sinks = [discard(&node.pods[1].netns)?, discard(&far.pods[0].netns)?, discard(&node.netns)?];
    let device = Capture::open(&pod.netns, "eth0")?;
    let mac = pod.netns.mac("eth0")?;
    let frame = |to: std::net::IpAddr, ttl: u8, size: usize| -> Result<Vec<u8>> {
        let ip = Ip { ttl, ..Ip::new(pod.v4()?.into(), to) };
        Ok(ethernet(mac, node.mac(), &ip.udp((7, 9), &vec![0x11; size])))
    };
    let spoofed = {
        let ip = Ip::new("203.0.113.1".parse()?, node.pods[1].v4()?.into());
        ethernet(mac, node.mac(), &ip.udp((7, 9), b"spoofed"))
    };
    let cases = [
        (frame(node.pods[1].v4()?.into(), 64, 100)?, 40, Reason::ToPod),
        (frame(far.pods[0].v4()?.into(), 64, 200)?, 30, Reason::ToOverlay),
        (frame("10.200.0.1".parse()?, 64, 50)?, 20, Reason::ToHost),
        (frame("198.51.100.1".parse()?, 64, 60)?, 10, Reason::ToOutside),
        (frame("10.200.0.99".parse()?, 64, 70)?, 7, Reason::NoSuchPod),
        (frame(node.pods[1].v4()?.into(), 1, 80)?, 6, Reason::TtlExceeded),
        (spoofed, 5, Reason::Spoofed),
    ];
    let (before, far_before) = (node.counters()?, far.counters()?);
    let devices_before = received_by_devices(node, Hook::FromPod)?;
    let mut total = 0;
    for (frame, times, _) in &cases {
        for _ in 0..*times {
            device.inject(frame)?;
        }
        total += times;
    }
    for (frame, times, reason) in &cases {
        let now = counters::wait_for(&before, Hook::FromPod, *reason, *times)?;
        let bytes = now.bytes(Hook::FromPod, *reason) - before.bytes(Hook::FromPod, *reason);
        ensure!(bytes == times * u64::try_from(frame.len())?, "{bytes} bytes as {}", reason.name());
    }
    counters::wait_for(&far_before, Hook::FromUplink, Reason::ToPod, 30)?;
    // The pod's own kernel may answer ICMP errors that it gets with nothing: all that the device received is ours.
    let now = node.counters()?;
    let received = now.received(Hook::FromPod) - before.received(Hook::FromPod);
    let by_device = received_by_devices(node, Hook::FromPod)? - devices_before;
    ensure!(received == by_device, "{received} counted of {by_device}: {:?}", now.since(&before));
    ensure!(received >= total, "{received} counted of {total}");
    Ok(())
}

/// OP-2: whatever goes through, each hook has counted what its devices received: as forwarded, passed or dropped.
#[test]
fn all_that_devices_receive_is_counted() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().start()?;
    let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
    let start: Vec<_> = snapshot(&cluster.podlane)?;
    for ip in there.pods[0].ips() {
        traffic::every_kind(&here.pods[0].netns, (&there.pods[0].netns, ip))?;
        traffic::every_kind(&here.netns, (&there.pods[0].netns, ip))?;
    }
    for ip in here.pods[1].ips() {
        traffic::every_kind(&here.pods[0].netns, (&here.pods[1].netns, ip))?;
        traffic::every_kind(&here.netns, (&here.pods[1].netns, ip))?;
    }
    wait::until("counters and devices to agree", || {
        for ((node, hook, counted, received), (_, _, counted_now, received_now)) in
            start.iter().zip(snapshot(&cluster.podlane)?)
        {
            let (counted, received) = (counted_now - counted, received_now - received);
            ensure!(counted == received, "{} of {node}: {counted} counted, {received} received", hook.name());
        }
        Ok(Some(()))
    })
}

/// Node, hook, packets counted and packets received, for the hooks whose devices count what they receive.
fn snapshot(nodes: &[PodlaneNode]) -> Result<Vec<(String, Hook, u64, u64)>> {
    let mut all = Vec::new();
    for node in nodes {
        for hook in [Hook::FromPod, Hook::FromUplink] {
            // Both at one time: nothing may come in between.
            let (counted, received) = wait::until("a quiet moment", || {
                let before = node.counters()?.received(hook);
                let received = received_by_devices(node, hook)?;
                Ok((node.counters()?.received(hook) == before).then_some((before, received)))
            })?;
            all.push((node.spec.name.clone(), hook, counted, received));
        }
    }
    Ok(all)
}

/// PF-11: a packet between pods counts once as the sender's and once as the receiver's, with its own length, though two
/// hooks see some of them; the same with node to pod, pod to node and from the other node.
#[test]
fn pods_and_peers_count_each_packet_once() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().quiet().start()?;
    let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
    let (own, beside, remote) = (here.pods[0].v4()?, here.pods[1].v4()?, there.pods[0].v4()?);
    let gateway = "10.200.0.1".parse()?;
    let pings = traffic::Ping { count: 20, interval: 2, ..traffic::Ping::default() };
    for (case, from, to, sender, receiver) in [
        ("same node", &here.pods[0].netns, beside.into(), Some((here, own)), Some((here, beside))),
        ("other node", &here.pods[0].netns, remote.into(), Some((here, own)), Some((there, remote))),
        ("node to pod", &here.netns, own.into(), None, Some((here, own))),
        ("pod to node", &here.pods[0].netns, gateway, Some((here, own)), None),
        ("node to remote pod", &here.netns, remote.into(), None, Some((there, remote))),
    ] {
        let ends: Vec<_> = [sender, receiver].into_iter().flatten().collect();
        let read = || {
            ends.iter().map(|(node, ip)| pod_traffic(&node.pins(), (*ip).into())).collect::<Result<Vec<_>>>()
        };
        let before = read()?;
        pings.must_reach(from, to).context(case)?;
        for ((before, after), (_, ip)) in before.iter().zip(read()?).zip(&ends) {
            let counted = [
                after.rx_packets - before.rx_packets,
                after.tx_packets - before.tx_packets,
                after.rx_bytes - before.rx_bytes,
                after.tx_bytes - before.tx_bytes,
            ];
            ensure!(counted == [20, 20, 20 * PING, 20 * PING], "{case}: pod {ip} counted {counted:?}");
        }
    }
    Ok(())
}

/// PF-11: a peer counts what was sent to it and what came from it, without the tunnel's headers.
#[test]
fn peers_count_both_ways() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().quiet().start()?;
    let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
    let slot = here.state()?["peers"][0]["slot"].as_u64().context("the peer's slot")?;
    let read = || counters::peer_traffic(&here.pins(), u32::try_from(slot)?);
    let before = read()?;
    traffic::Ping { count: 20, interval: 2, ..traffic::Ping::default() }
        .must_reach(&here.pods[0].netns, there.pods[0].v4()?.into())?;
    let after = read()?;
    let counted = [after.tx_packets - before.tx_packets, after.rx_packets - before.rx_packets];
    ensure!(counted == [20, 20], "{counted:?}");
    let bytes = [after.tx_bytes - before.tx_bytes, after.rx_bytes - before.rx_bytes];
    ensure!(bytes == [20 * PING; 2], "{bytes:?} bytes");
    Ok(())
}

/// OP-2: `loader counters` prints what the maps hold, nothing left out.
#[test]
fn the_counters_verb_prints_what_the_maps_hold() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().quiet().start()?;
    let node = &cluster.podlane[0];
    traffic::ping(&node.pods[0].netns, cluster.podlane[1].pods[0].v4()?)?;
    traffic::Ping::default().must_not_reach(&node.pods[0].netns, "10.200.0.99".parse()?)?;
    // A packet may come between the two.
    wait::until("the verb and the maps to agree", || {
        let printed = counters::printed(&node.verb_json("counters")?)?;
        let counters = node.counters()?;
        ensure!(printed == *counters.counts(), "{printed:?} instead of {:?}", counters.counts());
        Ok(Some(()))
    })?;
    let table = node.verb(&["counters", "--node", &node.spec.name])?.stdout;
    for reason in [Reason::ToOverlay, Reason::NoSuchPod] {
        ensure!(table.contains(reason.name()), "{} is not in\n{table}", reason.name());
    }
    Ok(())
}

/// OP-2: a node in good order has nothing to report as dropped.
#[test]
fn nothing_is_dropped_in_a_healthy_cluster() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().quiet().start()?;
    let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
    traffic::every_kind(&here.pods[0].netns, (&there.pods[0].netns, there.pods[0].v4()?.into()))?;
    traffic::every_kind(&here.netns, (&here.pods[0].netns, here.pods[0].v4()?.into()))?;
    for node in &cluster.podlane {
        let counters = node.counters()?;
        let dropped: Vec<_> = counters.iter().filter(|(hook, reason, ..)| is_drop(hook, reason)).collect();
        // A pod's kernel announces itself when its device comes up.
        let unexpected: Vec<_> =
            dropped.iter().filter(|(_, reason, ..)| *reason != Reason::NeighbourIgnored.name()).collect();
        ensure!(unexpected.is_empty(), "{unexpected:?}");
    }
    Ok(())
}

fn is_drop(hook: &str, reason: &str) -> bool {
    Hook::ALL.iter().any(|known| known.name() == hook)
        && Reason::ALL.iter().any(|known| known.name() == reason && known.outcome() == Outcome::Dropped)
}
