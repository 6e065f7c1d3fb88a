//! Packets larger than the path takes: the sender hears of it with the right number, or they are fragmented.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use common::counters::{Hook, Reason};
use testbed::{
    capture::Capture,
    cluster,
    frame::{Ip, ethernet},
    podlane_node::PodlaneNode,
    require, setup,
    spec::Family,
    traffic::{Ping, probe::Probe, tcp, udp},
};

/// ICMP type of a redirect.
const REDIRECT: u8 = 5;

/// Makes the pods of a node believe that 1500 bytes go through.
fn widen(node: &mut PodlaneNode) -> Result<()> {
    // It would put the MTU right again; forwarding goes on without it.
    node.stop()?;
    for pod in &node.pods {
        node.netns.ip(&format!("link set {} mtu 1500", node.host_device(&pod.name)?))?;
        pod.netns.ip("link set eth0 mtu 1500")?;
    }
    Ok(())
}

/// What a sender learns of the path to an address: the notice, then `EMSGSIZE`, then the number by `getsockopt`.
fn learns(probe: &Probe, ip: IpAddr, mtu: u32, sender: Option<IpAddr>) -> Result<()> {
    let headers = if ip.is_ipv4() { 28 } else { 48 };
    probe.discover_mtu()?;
    probe.send(1500 - headers).context("the first large datagram")?;
    let notice = probe.notice()?;
    let expected = if ip.is_ipv4() { (3, 4) } else { (2, 0) };
    ensure!((notice.kind, notice.code, notice.info) == (expected.0, expected.1, mtu), "{notice:?}");
    ensure!(Some(notice.sender) == sender, "{notice:?} instead of from {sender:?}");
    let known = probe.mtu()?;
    ensure!(u32::try_from(known)? == mtu, "the kernel now knows {known} for {ip}");
    let refused = probe.send(1500 - headers).err().and_then(|error| error.raw_os_error());
    ensure!(refused == Some(libc::EMSGSIZE), "the second large datagram gave {refused:?}");
    let fits = usize::try_from(mtu)? - headers;
    probe.send(fits).context("what fits")?;
    ensure!(probe.send(fits + 1).is_err(), "one byte more was sent");
    Ok(())
}

/// OV-8, IC-1: a pod that sends too much with "don't fragment" is told the overlay's MTU by its gateway, in an error that
/// its kernel matches to the socket; over both underlays.
#[test]
fn a_pod_learns_the_overlays_mtu() -> Result<()> {
    require!(setup::ready_with_loader());
    for (family, mtu) in [(Family::V4, 1450), (Family::V6, 1430)] {
        let mut cluster = cluster::two_nodes().family(family).start()?;
        widen(&mut cluster.podlane[0])?;
        let (node, far) = (&cluster.podlane[0], &cluster.podlane[1]);
        for ip in far.pods[0].ips() {
            let before = node.counters()?;
            let probe = Probe::new(&node.pods[0].netns, ip)?;
            learns(&probe, ip, mtu, node.spec.gateway(ip))
                .with_context(|| format!("{family:?} underlay, to {ip}"))?;
            let after = node.counters()?;
            for reason in [Reason::TooBig, Reason::IcmpError] {
                let counted = after.packets(Hook::FromPod, reason) - before.packets(Hook::FromPod, reason);
                ensure!(counted == 1, "{counted} as {}", reason.name());
            }
        }
    }
    Ok(())
}

/// OV-8: TCP that learns the MTU on its way arrives whole; large packets of many segments are not too big by themselves.
#[test]
fn tcp_adapts_to_the_overlays_mtu() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::two_nodes().start()?;
    // The far pods too, or the MSS that they announce would do the adapting.
    cluster.podlane.iter_mut().try_for_each(widen)?;
    let far = &cluster.podlane[1];
    for ip in far.pods[0].ips() {
        tcp::transfer(&cluster.podlane[0].pods[0].netns, (&far.pods[0].netns, ip), 8 << 20)?;
    }
    Ok(())
}

/// OV-8: the node's own processes too, from the address that they talk to.
#[test]
fn the_node_learns_the_overlays_mtu() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::two_nodes().start()?;
    // It would put the MTU right again; forwarding goes on without it.
    cluster.podlane[0].stop()?;
    let (node, far) = (&cluster.podlane[0], &cluster.podlane[1]);
    node.netns.ip("link set podlane0 mtu 1500")?;
    for ip in far.pods[0].ips() {
        let before = node.counters()?;
        let probe = Probe::new(&node.netns, ip)?;
        learns(&probe, ip, 1450, Some(ip)).with_context(|| format!("to {ip}"))?;
        let after = node.counters()?;
        ensure!(
            after.packets(Hook::FromHost, Reason::TooBig) > before.packets(Hook::FromHost, Reason::TooBig)
        );
    }
    Ok(())
}

/// OV-8: the error quotes enough of the packet, has right checksums, and spares packets that are errors themselves.
#[test]
fn too_big_quotes_the_packet() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::two_nodes().start()?;
    widen(&mut cluster.podlane[0])?;
    let (node, far) = (&cluster.podlane[0], &cluster.podlane[1]);
    let pod = &node.pods[0];
    let mac = pod.netns.mac("eth0")?;
    let mut device = Capture::open(&pod.netns, "eth0")?;
    for (source, destination) in pod.ips().into_iter().zip(far.pods[0].ips()) {
        let ip = Ip { tos: 0x28, ..Ip::new(source, destination) };
        let (headers, too_big) = if source.is_ipv4() { (28, (3, 4)) } else { (48, (2, 0)) };
        // One byte more than fits, then exactly what fits.
        let packet = ip.udp((7, 9), &vec![0x77; 1451 - headers]);
        device.inject(&ethernet(mac, node.mac(), &packet))?;
        let (reply, seen) = device.find("too big", |packet| {
            let seen = packet.headers().filter(|seen| seen.icmp == Some(too_big))?;
            Some((packet.clone(), seen))
        })?;
        ensure!(reply.checksums_hold(), "checksums of {seen:?}");
        ensure!(seen.payload[..4] == 1450_u32.to_be_bytes(), "{seen:?}");
        ensure!(seen.payload.len() >= 4 + headers && packet.starts_with(&seen.payload[4..]), "{seen:?}");
        let mut sink = Capture::open(&far.pods[0].netns, "eth0")?;
        device.inject(&ethernet(mac, node.mac(), &ip.udp((8, 9), &vec![0x77; 1450 - headers])))?;
        sink.find("what fits", |packet| packet.headers().filter(|seen| seen.ports == Some((8, 9))))?;
    }
    Ok(())
}

/// OV-8: IPv4 without "don't fragment" is fragmented by the node and arrives whole, without a word to the sender.
#[test]
fn without_dont_fragment_the_node_fragments() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = cluster::two_nodes().start()?;
    widen(&mut cluster.podlane[0])?;
    let (node, far) = (&cluster.podlane[0], &cluster.podlane[1]);
    let pod = &node.pods[0];
    let mut device = Capture::open(&pod.netns, "eth0")?;
    let before = node.counters()?;
    udp::echo(&pod.netns, (&far.pods[0].netns, far.pods[0].v4()?.into()), &[1423, 1472, 3000, 8000])?;
    let after = node.counters()?;
    ensure!(
        after.packets(Hook::FromPod, Reason::ToFragment) > before.packets(Hook::FromPod, Reason::ToFragment)
    );
    let errors =
        device.drain()?.into_iter().filter(|packet| !packet.outgoing).filter_map(|packet| packet.headers());
    // The stack that forwards the fragments may send a redirect, which says nothing of what arrives.
    let errors: Vec<_> = errors.filter(|seen| seen.icmp.is_some_and(|(kind, _)| kind != REDIRECT)).collect();
    ensure!(errors.is_empty(), "the pod was told {errors:?}");
    Ok(())
}

/// OV-5, OV-8: what just fits passes both ways with "don't fragment", what does not is refused by the pod's own device.
#[test]
fn near_mtu_packets_pass() -> Result<()> {
    require!(setup::ready_with_loader());
    for (family, mtu) in [(Family::V4, 1450), (Family::V6, 1430)] {
        let cluster = cluster::two_nodes().family(family).start()?;
        let (here, there) = (&cluster.podlane[0].pods[0], &cluster.podlane[1].pods[0]);
        for ip in there.ips() {
            let most = mtu - if ip.is_ipv4() { 28 } else { 48 };
            for size in [most - 1, most] {
                Ping { count: 2, size, dont_fragment: true, ..Ping::default() }
                    .must_reach(&here.netns, ip)
                    .with_context(|| format!("{family:?} underlay, {size} bytes"))?;
            }
        }
    }
    Ok(())
}
