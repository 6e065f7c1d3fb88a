//! ICMP and fragments on translated paths.

use std::{io, net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use testbed::{
    address,
    bed::{Bed, FAMILIES, PROTOCOLS, cluster_ip, external_ip},
    capture::Capture,
    config::{AllServices, Protocol, Service, ServicePort},
    frame::{Ip, ethernet},
    require, setup,
    traffic::{
        self, Ping,
        probe::Probe,
        who::{self, Session},
    },
    wait,
};

const NODE_PORT: u16 = 30_080;
/// Port at which no pod serves.
const CLOSED: u16 = 9;

/// One service at a local pod, one at a remote pod, at a port.
fn two(port: u16) -> Result<Bed> {
    Bed::two_nodes(|facts, config| {
        for (number, pod) in [(1, (0, 1)), (2, (1, 0))] {
            let mut service = facts.node_port_service(
                &format!("at-{}", pod.0),
                number,
                NODE_PORT + u16::from(number),
                &[pod],
            );
            service.external_ip = address::external_ips(number).to_vec();
            for served in &mut service.ports {
                served.backends.iter_mut().for_each(|backend| backend.port = port);
            }
            config.services.push(service);
        }
    })
}

fn node_port(bed: &Bed, number: u8, ipv4: bool) -> Result<SocketAddr> {
    who::at(&bed.node(0).spec.addresses(), ipv4, NODE_PORT + u16::from(number))
}

/// IC-1, IC-2: a backend that does not serve its port: the caller's own socket is told, about the address that it called.
#[test]
fn a_closed_backend_port_is_told_to_the_caller() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = two(CLOSED)?;
    for ipv4 in FAMILIES {
        for number in [1, 2] {
            for protocol in PROTOCOLS {
                for (caller, netns) in bed.callers_inside() {
                    for to in [cluster_ip(number, ipv4), node_port(&bed, number, ipv4)?] {
                        who::refused(netns, protocol, to)
                            .with_context(|| format!("{caller}, IPv4 {ipv4}"))?;
                    }
                }
                who::refused(&bed.outside.netns, protocol, node_port(&bed, number, ipv4)?)
                    .context("from outside")?;
            }
            // By the socket's own account: the right type, about the right socket.
            for (netns, to) in [
                (&bed.pod(0, 0).netns, cluster_ip(number, ipv4)),
                (&bed.outside.netns, node_port(&bed, number, ipv4)?),
            ] {
                let probe = Probe::to(netns, to)?;
                probe.send(30)?;
                let notice = probe.notice().with_context(|| format!("{} to {to}", netns.name()))?;
                let expected = if ipv4 { (3, 3) } else { (1, 4) };
                ensure!((notice.kind, notice.code) == expected, "{notice:?}");
            }
        }
    }
    Ok(())
}

/// IC-2: a backend that is listed and has no pod: host unreachable, local or remote.
#[test]
fn a_dead_backend_is_told_to_the_caller() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = Bed::two_nodes(|_, config| {
        for (number, dead) in
            [(1, ["10.200.0.99", "fd00:10:200::63"]), (2, ["10.200.1.99", "fd00:10:200:1::63"])]
        {
            let backends = dead.iter().filter_map(|ip| ip.parse().ok());
            let port = ServicePort::new(Protocol::Udp, 80)
                .node_port(NODE_PORT + u16::from(number))
                .backends(backends, 80);
            config.services.push(
                Service::new(&format!("default/dead-{number}"), &address::cluster_ips(number)).with(port),
            );
        }
    })?;
    for ipv4 in FAMILIES {
        for number in [1, 2] {
            for (netns, to) in [
                (&bed.pod(0, 0).netns, cluster_ip(number, ipv4)),
                (&bed.node(0).netns, cluster_ip(number, ipv4)),
                (&bed.outside.netns, node_port(&bed, number, ipv4)?),
            ] {
                let probe = Probe::to(netns, to)?;
                probe.send(30)?;
                let notice = probe.notice().with_context(|| format!("{} to {to}", netns.name()))?;
                let expected = if ipv4 { (3, 1) } else { (1, 3) };
                ensure!((notice.kind, notice.code) == expected, "{} to {to}: {notice:?}", netns.name());
            }
        }
    }
    Ok(())
}

/// OV-8, IC-1: an outside client's packet that the tunnel to the backend does not take: it learns the MTU, about the address
/// that it called; TCP adapts.
#[test]
fn an_outside_client_learns_the_mtu() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = two(testbed::bed::SERVING)?;
    for ipv4 in FAMILIES {
        let to = node_port(&bed, 2, ipv4)?;
        let probe = Probe::to(&bed.outside.netns, to)?;
        probe.discover_mtu()?;
        probe.send(1440)?;
        let notice = probe.notice()?;
        let kind = if ipv4 { (3, 4) } else { (2, 0) };
        ensure!((notice.kind, notice.code) == kind && notice.info == 1450, "{notice:?}");
        Session::open(&bed.outside.netns, Protocol::Tcp, to)?.exchange(2 << 20, 2 << 20)?;
    }
    Ok(())
}

/// PF-2, IC-1: a TTL that runs out on the way to a service is told to who called it.
#[test]
fn an_expired_ttl_is_told_to_the_caller() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = two(testbed::bed::SERVING)?;
    for ipv4 in FAMILIES {
        for number in [1, 2] {
            let probe = Probe::to(&bed.pod(0, 0).netns, cluster_ip(number, ipv4))?;
            probe.set_ttl(1)?;
            probe.send(30)?;
            let notice = probe.notice()?;
            let kind = if ipv4 { (11, 0) } else { (3, 0) };
            ensure!((notice.kind, notice.code) == kind, "{notice:?}");
        }
    }
    Ok(())
}

/// IC-1: ICMP echo to a service address: answered for pods, for the node and for outside clients; and not where it is turned off.
#[test]
fn service_addresses_answer_pings() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = two(testbed::bed::SERVING)?;
    bed.lead(&address::external_ips(1), 0)?;
    for ipv4 in FAMILIES {
        for (_, netns) in bed.callers_inside() {
            traffic::ping(netns, cluster_ip(1, ipv4).ip())?;
            traffic::ping(netns, external_ip(1, ipv4).ip())?;
        }
        traffic::ping(&bed.outside.netns, external_ip(1, ipv4).ip())?;
        traffic::ping(&bed.outside.netns, node_port(&bed, 1, ipv4)?.ip()).context("the node itself")?;
        let big = Ping { count: 2, size: 1400, ..Ping::default() };
        big.must_reach(&bed.pod(0, 0).netns, cluster_ip(2, ipv4).ip())?;
    }
    bed.change(|config| config.all_services = Some(AllServices { echo: false }))?;
    let few = Ping { count: 2, ..Ping::default() };
    for ipv4 in FAMILIES {
        few.must_not_reach(&bed.pod(0, 0).netns, cluster_ip(1, ipv4).ip())?;
        few.must_not_reach(&bed.node(0).netns, cluster_ip(1, ipv4).ip())?;
    }
    Ok(())
}

/// FR-1: datagrams of 8 KB, in fragments both ways, by the service's own address and by a node port, to local and remote
/// backends. Over IPv6 the first one tells an outside client that the tunnel takes less than its own link.
#[test]
fn fragments_reach_the_backend_of_their_datagram() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = two(testbed::bed::SERVING)?;
    for ipv4 in FAMILIES {
        for number in [1, 2] {
            let at_node = node_port(&bed, number, ipv4)?;
            let inside = bed.callers_inside().map(|(_, netns)| (netns, cluster_ip(number, ipv4), false));
            let pod = (&bed.pod(0, 0).netns, at_node, false);
            let outside = (&bed.outside.netns, at_node, !ipv4);
            for (netns, to, learns) in inside.into_iter().chain([pod, outside]) {
                let mut session = Session::open(netns, Protocol::Udp, to)?;
                for size in [1, 8000, 3000, 8192, 1, 20_000] {
                    // Only what may tell the client the MTU may be lost, and is not worth a long wait.
                    session.patience(if learns { Duration::from_secs(3) } else { wait::patience() })?;
                    let mut answer = session.exchange(size, size);
                    if learns && answer.is_err() {
                        session.patience(wait::patience())?;
                        answer = session.exchange(size, size);
                    }
                    answer.with_context(|| format!("{size} bytes from {} to {to}", netns.name()))?;
                }
            }
        }
    }
    Ok(())
}

/// FR-1: a later fragment whose first one has not been seen goes nowhere, and is counted; the datagram that is sent again
/// arrives.
#[test]
fn fragments_without_their_first_are_counted() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = two(testbed::bed::SERVING)?;
    let from = bed.pod(0, 0);
    let source = Capture::open(&from.netns, "eth0")?;
    let before = bed.node(0).counters()?;
    let mut ip = Ip::new(from.v4()?.into(), cluster_ip(1, true).ip());
    ip.dont_fragment = false;
    let whole = ip.udp((46_000, 80), &[0x42; 64]);
    let second = fragment(&whole, 40, 32, false);
    source.inject(&ethernet(from.netns.mac("eth0")?, bed.node(0).mac(), &second))?;
    testbed::counters::wait_for(
        &before,
        common::counters::Hook::FromPod,
        common::counters::Reason::FragmentUnknown,
        1,
    )?;
    // In order, and both parts get to the backend.
    let mut sink = Capture::open(&bed.pod(0, 1).netns, "eth0")?;
    let first = fragment(&whole, 0, 40, true);
    for part in [&first, &second] {
        source.inject(&ethernet(from.netns.mac("eth0")?, bed.node(0).mac(), part))?;
    }
    for more in [true, false] {
        sink.find("a fragment", |packet| {
            let headers = packet.headers().filter(|headers| headers.fragment && !packet.outgoing)?;
            let here = headers.destination == std::net::IpAddr::from(bed.pod(0, 1).v4().ok()?);
            (here && (packet.bytes[20] & 0x20 != 0) == more).then_some(())
        })?;
    }
    Ok(())
}

/// A part of an IPv4 packet without options.
fn fragment(whole: &[u8], offset: usize, length: usize, more: bool) -> Vec<u8> {
    let (header, payload) = whole.split_at(20);
    let mut part = header.to_vec();
    part.extend(&payload[offset..payload.len().min(offset + length)]);
    let total = u16::try_from(part.len()).unwrap_or_default();
    part[2..4].copy_from_slice(&total.to_be_bytes());
    let place = u16::try_from(offset / 8).unwrap_or_default() | if more { 0x2000 } else { 0 };
    part[6..8].copy_from_slice(&place.to_be_bytes());
    part[10..12].fill(0);
    let checksum = !testbed::frame::sum(&part[..20], 0);
    part[10..12].copy_from_slice(&checksum.to_be_bytes());
    part
}

/// IC-1: an ICMP error that nobody asked for changes no connection: it must quote a packet of one.
#[test]
fn unrelated_errors_disturb_nobody() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = two(testbed::bed::SERVING)?;
    let pod = bed.pod(0, 1);
    let mut session = Session::open(&bed.pod(0, 0).netns, Protocol::Udp, cluster_ip(1, true))?;
    session.ask()?;
    // The backend complains of a packet that it never got.
    let quoted = Ip::new(bed.pod(0, 0).v4()?.into(), pod.v4()?.into()).udp((47_000, 8080), b"?");
    let error =
        Ip::new(pod.v4()?.into(), bed.pod(0, 0).v4()?.into()).icmp(3, 3, &[&[0; 4][..], &quoted].concat());
    let source = Capture::open(&pod.netns, "eth0")?;
    source.inject(&ethernet(pod.netns.mac("eth0")?, bed.node(0).mac(), &error))?;
    for _ in 0..5 {
        let asked = session.ask();
        let kind =
            asked.as_ref().err().and_then(|error| error.downcast_ref::<io::Error>()).map(io::Error::kind);
        ensure!(asked.is_ok(), "{kind:?}: {asked:?}");
    }
    Ok(())
}
