//! Large packets and checksums that the devices would fill in: kept where they can be, right where they can't.

use std::io;

use anyhow::{Context as _, Result, ensure};
use testbed::{
    capture::Capture,
    cluster::{self, Cluster, Underlay},
    kernel_node,
    netns::Netns,
    require, setup,
    spec::Family,
    traffic::{ping, tcp, udp},
    wire,
};

const PORT: u16 = 8472;

/// OV-5: a TCP stream between nodes stays in packets of many segments, in VXLAN too, and arrives whole.
#[test]
fn tcp_stays_in_large_packets_between_nodes() -> Result<()> {
    require!(setup::ready_with_loader());
    require!(setup::wires_as_they_are());
    for family in [Family::V4, Family::V6] {
        let cluster = cluster::two_nodes().family(family).start()?;
        let (from, to) = (&cluster.podlane[0].pods[0], &cluster.podlane[1].pods[0]);
        for ip in to.ips() {
            let mut uplink = Capture::open(&cluster.podlane[0].netns, "eth0")?;
            let mut sink = Capture::open(&to.netns, "eth0")?;
            tcp::transfer(&from.netns, (&to.netns, ip), 64 << 20)?;
            let sent = uplink.drain()?.into_iter().filter_map(|packet| packet.vxlan(PORT));
            let largest = sent.map(|vxlan| vxlan.inner.bytes.len()).max().unwrap_or(0);
            ensure!(largest > 20_000, "the largest packet in VXLAN has {largest} bytes, to {ip}");
            let largest = sink.drain()?.iter().map(|packet| packet.bytes.len()).max().unwrap_or(0);
            ensure!(largest > 20_000, "the largest packet that the pod sees has {largest} bytes, to {ip}");
        }
    }
    Ok(())
}

/// OV-5: UDP bursts that the sender's kernel would segment: each datagram arrives by itself, whole, on the same node and
/// on another, in sizes up to the MTU, for a receiver that knows nothing of it.
#[test]
fn udp_segments_arrive_one_by_one() -> Result<()> {
    require!(setup::ready_with_loader());
    for family in [Family::V4, Family::V6] {
        let cluster = cluster::two_nodes().family(family).start()?;
        cluster.as_on_a_wire()?;
        let overhead = if family == Family::V4 { 50 } else { 70 };
        let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
        for to in [&here.pods[1], &there.pods[0]] {
            for ip in to.ips() {
                let most = 1500 - overhead - if ip.is_ipv4() { 28 } else { 48 };
                for segment in [500, 1200, most] {
                    udp::segmented(&here.pods[0].netns, (&to.netns, ip), segment, 20)
                        .with_context(|| format!("{family:?} underlay"))?;
                }
            }
        }
    }
    Ok(())
}

/// OV-5: node to pod and pod to node too.
#[test]
fn udp_segments_pass_between_node_and_pod() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().start()?;
    cluster.as_on_a_wire()?;
    let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
    for pod in [&here.pods[0], &there.pods[0]] {
        for ip in pod.ips() {
            // What waits for a neighbour to be found may be more than its queue takes.
            ping(&here.netns, ip)?;
            udp::segmented(&here.netns, (&pod.netns, ip), 1200, 10).context("node to pod")?;
            let node = if ip.is_ipv4() {
                here.spec.address()
            } else {
                here.spec.gateway(ip).context("a gateway")?
            };
            if pod.ips() == here.pods[0].ips() || ip.is_ipv4() {
                udp::segmented(&pod.netns, (&here.netns, node), 1200, 10).context("pod to node")?;
            }
        }
    }
    Ok(())
}

/// OV-5, OV-11: to a kernel node's pods and from them.
#[test]
fn udp_segments_pass_between_podlane_and_the_kernel() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::interop(kernel_node::Options::default()).start()?;
    cluster.as_on_a_wire()?;
    let (ours, theirs) = (&cluster.podlane[0].pods[0], &cluster.kernel[0].pods[0]);
    for (from, to) in [(ours, theirs), (theirs, ours)] {
        for ip in to.ips() {
            ping(&from.netns, ip)?;
            udp::segmented(&from.netns, (&to.netns, ip), 1200, 10)?;
        }
    }
    Ok(())
}

/// Puts a namespace behind a pod: it takes over the pod's addresses, and the pod routes for it.
fn behind(cluster: &Cluster) -> Result<Netns> {
    let pod = &cluster.podlane[1].pods[0];
    let inner = Netns::new("behind")?;
    wire::wire((&pod.netns, "inner"), (&inner, "eth0"), 1450)?;
    pod.netns.sysctl("net.ipv4.ip_forward", "1")?;
    pod.netns.sysctl("net.ipv6.conf.all.forwarding", "1")?;
    for (address, router) in pod.ips().into_iter().zip(["192.0.2.1", "2001:db8::1"]) {
        let (length, family) = if address.is_ipv4() { (32, "") } else { (128, "-6 ") };
        let router: std::net::IpAddr = router.parse()?;
        // First the one, then the other: a device that loses its last IPv4 address loses its routes. The kernel answers
        // ARP for its addresses on any device, neighbour solicitations on the one that has it.
        let device = if address.is_ipv4() { "eth0" } else { "inner" };
        wire::add_address(&pod.netns, device, ipnet::IpNet::new(router, length)?)?;
        pod.netns.ip(&format!("addr del {address}/{length} dev eth0"))?;
        wire::add_address(&inner, "eth0", ipnet::IpNet::new(address, length)?)?;
        pod.netns.ip(&format!("{family}route add {address} dev inner"))?;
        inner.ip(&format!("{family}route add {router} dev eth0"))?;
        inner.ip(&format!("{family}route add default via {router} src {address}"))?;
    }
    Ok(inner)
}

/// OV-5: large packets that have been decapsulated and are then forwarded on by the pod, TCP and UDP.
#[test]
fn a_pod_may_forward_large_packets_on() -> Result<()> {
    require!(setup::ready_with_loader());
    require!(setup::wires_as_they_are());
    for family in [Family::V4, Family::V6] {
        let mut cluster = cluster::two_nodes().family(family).start()?;
        cluster.as_on_a_wire()?;
        // It would give the pod its addresses back.
        cluster.podlane[1].stop()?;
        let inner = behind(&cluster)?;
        let from = &cluster.podlane[0].pods[0];
        // Once with the veth taking large packets as they are, once with the pod having to segment them.
        for large in [true, false] {
            for offload in ["tso", "gso", "tx-udp-segmentation"] {
                wire::set_offload(&cluster.podlane[1].pods[0].netns, "inner", offload, large)?;
            }
            for ip in cluster.podlane[1].pods[0].ips() {
                let case = format!("{family:?} underlay, to {ip}, large packets kept: {large}");
                tcp::transfer(&from.netns, (&inner, ip), 16 << 20).with_context(|| case.clone())?;
                udp::segmented(&from.netns, (&inner, ip), 1200, 10).with_context(|| case.clone())?;
            }
        }
    }
    Ok(())
}

/// Whether the kernel has said `EIO`.
fn is_io_error(error: &anyhow::Error) -> bool {
    error.root_cause().downcast_ref::<io::Error>().and_then(io::Error::raw_os_error) == Some(libc::EIO)
}

/// OV-6: checksums left to the device, by the pods, by the uplinks, by both or by neither: the content is right, and so
/// are the checksums on a wire that takes no unfinished ones.
#[test]
fn checksums_are_right_whoever_fills_them_in() -> Result<()> {
    require!(setup::ready_with_loader());
    for (pods_offload, uplinks_offload) in [(true, true), (false, true), (true, false), (false, false)] {
        let case = format!("offload on pods {pods_offload}, on uplinks {uplinks_offload}");
        let cluster = cluster::two_nodes().start()?;
        cluster.as_on_a_wire()?;
        for node in &cluster.podlane {
            wire::set_offload(&node.netns, "eth0", "tx", uplinks_offload)?;
            for pod in &node.pods {
                wire::set_offload(&pod.netns, "eth0", "tx", pods_offload)?;
            }
        }
        let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
        let mut wire = Capture::open(cluster.underlay()?, "port0")?;
        for ip in there.pods[0].ips() {
            tcp::transfer(&here.pods[0].netns, (&there.pods[0].netns, ip), 8 << 20).context(case.clone())?;
            udp::echo(&here.pods[0].netns, (&there.pods[0].netns, ip), &[1, 999, 1400, 8000])
                .context(case.clone())?;
            match udp::segmented(&here.pods[0].netns, (&there.pods[0].netns, ip), 1000, 5) {
                // Before Linux 6.11 (10154dbded6d) a socket's segments need a device that fills in their checksums.
                Err(error) if !pods_offload && is_io_error(&error) => {}
                outcome => outcome.context(case.clone())?,
            }
        }
        for ip in here.pods[1].ips() {
            tcp::transfer(&here.pods[0].netns, (&here.pods[1].netns, ip), 8 << 20).context(case.clone())?;
        }
        let mut checked = 0;
        for packet in wire.drain()? {
            // A large packet still has the checksum of its pseudo header only; so has one that the device would finish.
            let Some(seen) = packet.vxlan(PORT).filter(|seen| seen.inner.bytes.len() <= 1464) else {
                continue;
            };
            if packet.checksum_pending {
                continue;
            }
            ensure!(seen.inner.checksums_hold(), "{case}: {:?}", seen.inner.headers());
            checked += 1;
        }
        ensure!(uplinks_offload || checked > 100, "{case}: {checked} packets checked");
    }
    Ok(())
}

/// OV-7: after all kinds of traffic, with checksums that a device has verified as a whole, the kernel's log has no
/// complaint about them.
#[test]
fn the_kernel_has_no_complaint_about_checksums() -> Result<()> {
    require!(setup::ready_with_loader());
    let before = setup::checksum_complaints()?.len();
    let cluster = cluster::two_nodes().underlay(Underlay::Routed).start()?;
    let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
    for node in [here, there] {
        for offload in ["rx", "gro"] {
            wire::set_offload(&node.netns, "eth0", offload, true)?;
        }
    }
    for ip in there.pods[0].ips() {
        testbed::traffic::every_kind(&here.pods[0].netns, (&there.pods[0].netns, ip))?;
        testbed::traffic::every_kind(&here.netns, (&there.pods[0].netns, ip))?;
    }
    let after = setup::checksum_complaints()?;
    ensure!(after.len() == before, "{after:#?}");
    Ok(())
}
