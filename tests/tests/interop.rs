//! A Podlane node beside a kernel node as flannel makes it: everything, both ways.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};

use anyhow::{Context as _, Result, ensure};
use common::counters::{Hook, Reason};
use testbed::{
    address,
    capture::Capture,
    cluster::{self, Cluster, Plan, Underlay},
    counters,
    frame::{self, Ip},
    kernel_node::Options,
    netns::Netns,
    require, setup,
    spec::{Family, Route},
    traffic::{self, Ping, tcp, udp},
};

/// Every path of OV-11 between the one Podlane and the one kernel node of a cluster.
fn matrix(cluster: &Cluster, mtu: u32) -> Result<()> {
    let (podlane, kernel) = (&cluster.podlane[0], &cluster.kernel[0]);
    let (ours, theirs) = (&podlane.pods[0], &kernel.pods[0]);
    let mut pairs: Vec<(&Netns, &Netns, IpAddr, &str)> = Vec::new();
    for ip in theirs.ips() {
        pairs.push((&ours.netns, &theirs.netns, ip, "Podlane's pod to the kernel's pod"));
        pairs.push((&podlane.netns, &theirs.netns, ip, "Podlane's node to the kernel's pod"));
    }
    for ip in ours.ips() {
        pairs.push((&theirs.netns, &ours.netns, ip, "the kernel's pod to Podlane's pod"));
        pairs.push((&kernel.netns, &ours.netns, ip, "the kernel's node to Podlane's pod"));
    }
    pairs.push((&ours.netns, &kernel.netns, kernel.spec.address(), "Podlane's pod to the kernel's node"));
    // A pod of the other family than the underlay has no way to a node's address.
    pairs.retain(|(_, _, ip, _)| ours.ips().iter().any(|own| own.is_ipv4() == ip.is_ipv4()));
    for (from, to, ip, case) in pairs {
        path(from, (to, ip), mtu).with_context(|| format!("{case} at {ip}"))?;
    }
    let node = podlane.spec.address();
    if theirs.ips().iter().any(|own| own.is_ipv4() == node.is_ipv4()) {
        // Without a rule that masquerades, that goes by the underlay from the pod's own address, and the answer by the tunnel, to which the
        // pod's address leads. A strict `rp_filter` takes neither, between nodes of the kernel's as well.
        for netns in [&podlane.netns, &kernel.netns] {
            netns.sysctl("net.ipv4.conf.all.rp_filter", "2")?;
        }
        let case = || format!("the kernel's pod to Podlane's node at {node}");
        path(&theirs.netns, (&podlane.netns, node), mtu).with_context(case)?;
    }
    Ok(())
}

fn path(from: &Netns, to: (&Netns, IpAddr), mtu: u32) -> Result<()> {
    traffic::every_kind(from, to)?;
    let most = mtu - if to.1.is_ipv4() { 28 } else { 48 };
    Ping { count: 2, size: most, dont_fragment: true, ..Ping::default() }
        .must_reach(from, to.1)
        .context("near the MTU")?;
    udp::echo(from, to, &[usize::try_from(most)? - 1, usize::try_from(most)?, 8192])?;
    tcp::transfer(from, to, 32 << 20)?;
    Ok(())
}

fn plan(options: Options) -> Plan {
    cluster::interop(options)
}

/// OV-3, OV-11: the kernel sends with an outer checksum, as it does by default.
#[test]
fn with_an_outer_checksum() -> Result<()> {
    require!(setup::ready_with_loader());
    matrix(&plan(Options::default()).start()?, 1450)
}

/// OV-3, OV-11: the kernel sends without an outer checksum.
#[test]
fn without_an_outer_checksum() -> Result<()> {
    require!(setup::ready_with_loader());
    matrix(&plan(Options { outer_checksum: false, ..Options::default() }).start()?, 1450)
}

/// OV-11: through a router.
#[test]
fn through_a_router() -> Result<()> {
    require!(setup::ready_with_loader());
    matrix(&plan(Options::default()).underlay(Underlay::Routed).start()?, 1450)
}

/// OV-3, OV-11: over IPv6, where Podlane sends no outer checksum and the kernel has been told to accept that.
#[test]
fn over_ipv6() -> Result<()> {
    require!(setup::ready_with_loader());
    for outer_checksum in [true, false] {
        let plan = plan(Options { outer_checksum, ..Options::default() }).family(Family::V6);
        matrix(&plan.start()?, 1430).with_context(|| format!("outer checksum {outer_checksum}"))?;
    }
    Ok(())
}

/// OV-11: another VNI, and the port that IANA has for VXLAN.
#[test]
fn with_another_vni_and_port() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut cluster = plan(Options { vni: 5000, port: 4789, ..Options::default() }).build()?;
    let node = &mut cluster.podlane[0];
    node.config.overlay.vni = 5000;
    node.config.overlay.port = 4789;
    node.start()?;
    matrix(&cluster, 1450)
}

/// OV-11: flannel's `directRouting`, both nodes on one link, without VXLAN.
#[test]
fn with_direct_routes() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = plan(Options::default()).family(Family::Dual).route(Route::Direct).start()?;
    let mut wire = Capture::open(cluster.underlay()?, "port0")?;
    matrix(&cluster, 1450)?;
    let encapsulated = wire.drain()?.iter().filter(|packet| packet.vxlan(8472).is_some()).count();
    ensure!(encapsulated == 0, "{encapsulated} packets in VXLAN");
    Ok(())
}

/// OV-6, OV-11: with checksum offload off on both sides' pods and uplinks.
#[test]
fn without_checksum_offload() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = plan(Options::default()).start()?;
    let (podlane, kernel) = (&cluster.podlane[0], &cluster.kernel[0]);
    let pods = podlane.pods.iter().chain(&kernel.pods).map(|pod| &pod.netns);
    for netns in pods.chain([&podlane.netns, &kernel.netns]) {
        testbed::wire::set_offload(netns, "eth0", "tx", false)?;
    }
    matrix(&cluster, 1450)
}

/// PF-3: a kernel's VTEP takes tunnels from anybody, at any address that its node has, as the node's own packet shows. A pod's doesn't
/// come so far.
#[test]
fn a_pod_does_not_write_into_the_kernels_tunnel() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = plan(Options::default()).start()?;
    let (podlane, kernel) = (&cluster.podlane[0], &cluster.kernel[0]);
    let (ours, theirs) = (&podlane.pods[0], &kernel.pods[0]);
    let cidr = *kernel.spec.pod_cidrs.first().context("no pod CIDR")?;
    let mut sink = Capture::open(&theirs.netns, "eth0")?;
    for to in [cidr.network(), address::gateway(cidr), kernel.spec.address()] {
        let send = |from: &Netns, what: &[u8]| {
            let inner = Ip::new(ours.v4()?.into(), theirs.v4()?.into()).udp((7, 9), what);
            let tunnel = frame::vxlan(1, &frame::ethernet(podlane.mac(), kernel.spec.vtep_mac, &inner));
            from.enter(|| Ok(UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?.send_to(&tunnel, (to, 8472))?))
        };
        let before = podlane.counters()?;
        send(&ours.netns, b"a pod's")?;
        counters::wait_for(&before, Hook::FromPod, Reason::Spoofed, 1).with_context(|| to.to_string())?;
        send(&podlane.netns, b"the node's")?;
        let mut from_pod = 0;
        sink.find("what the node has sent in a tunnel", |packet| {
            from_pod += usize::from(packet.bytes.ends_with(b"a pod's"));
            packet.bytes.ends_with(b"the node's").then_some(())
        })?;
        ensure!(from_pod == 0, "{to}: what the pod has sent arrived");
    }
    Ok(())
}

/// OV-9, OV-11: a packet's DSCP survives the kernel's tunnel and ours.
#[test]
fn dscp_survives() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = plan(Options::default()).start()?;
    let (ours, theirs) = (&cluster.podlane[0].pods[0], &cluster.kernel[0].pods[0]);
    for (from, to) in [(ours, theirs), (theirs, ours)] {
        for ip in to.ips() {
            let mut sink = Capture::open(&to.netns, "eth0")?;
            Ping { count: 1, tos: 0xb8, ..Ping::default() }.must_reach(&from.netns, ip)?;
            let tos = sink.find("the request", |packet| {
                let headers = packet.headers().filter(|headers| headers.destination == ip)?;
                matches!(headers.icmp, Some((8 | 128, 0))).then_some(headers.tos)
            })?;
            ensure!(tos == 0xb8, "the pod at {ip} sees {tos:x}");
        }
    }
    Ok(())
}
