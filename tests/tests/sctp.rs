//! SCTP: addresses are translated, and not a byte of what is behind them. Packets are made by hand: it takes no kernel that
//! speaks it.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use common::counters::{Hook, Reason};
use testbed::{
    address,
    bed::Bed,
    capture::Capture,
    config::{Masquerade, Protocol, Service, ServicePort},
    counters,
    frame::{Ip, ethernet},
    packet::Headers,
    pod::Pod,
    require, setup,
};

const SCTP: u8 = 132;
const PORT: u16 = 3868;

/// Ports, and whatever follows: the programs don't know what it means.
fn segment(source: u16, destination: u16) -> Vec<u8> {
    let mut segment = [source.to_be_bytes(), destination.to_be_bytes()].concat();
    segment.extend(b"tag.crc.and a chunk");
    segment
}

fn send(bed: &Bed, from: &Pod, to: IpAddr, segment: &[u8]) -> Result<()> {
    let own = from.ips().into_iter().find(|ip| ip.is_ipv4() == to.is_ipv4()).context("no address")?;
    let packet = Ip::new(own, to).packet(SCTP, segment);
    let node = bed.cluster.podlane.iter().find(|node| node.pods.iter().any(|pod| pod.name == from.name));
    let node = node.context("a pod of no node")?;
    Capture::open(&from.netns, "eth0")?.inject(&ethernet(from.netns.mac("eth0")?, node.mac(), &packet))
}

/// The next SCTP packet that arrives.
fn arrives(capture: &mut Capture, to: IpAddr) -> Result<Headers> {
    capture.find("an SCTP packet", |packet| {
        packet.headers().filter(|headers| {
            headers.protocol == SCTP
                && headers.destination == to
                && !packet.outgoing
                && packet.checksums_hold()
        })
    })
}

/// SV-1, SV-9, SN-8: to a local and a remote backend and back, ports as they were.
#[test]
fn services_translate_addresses_only() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = Bed::two_nodes(|facts, config| {
        for (number, pod) in [(1, (0, 1)), (2, (1, 0))] {
            let port = ServicePort::new(Protocol::Sctp, PORT).backends(facts.addresses(&[pod]), PORT);
            let service = Service::new(&format!("default/diameter-{number}"), &address::cluster_ips(number));
            config.services.push(service.with(port));
        }
    })?;
    let client = bed.pod(0, 0);
    let mut heard = Capture::open(&client.netns, "eth0")?;
    for (number, backend) in [(1, bed.pod(0, 1)), (2, bed.pod(1, 0))] {
        let mut sink = Capture::open(&backend.netns, "eth0")?;
        for ((service, own), there) in
            address::cluster_ips(number).into_iter().zip(client.ips()).zip(backend.ips())
        {
            let (request, answer) = (segment(5000, PORT), segment(PORT, 5000));
            send(&bed, client, service, &request)?;
            let seen = arrives(&mut sink, there)?;
            ensure!(seen.source == own && seen.payload == request, "{seen:?}");
            send(&bed, backend, own, &answer)?;
            let seen = arrives(&mut heard, own)?;
            ensure!(seen.source == service && seen.payload == answer, "{seen:?}");
        }
    }
    Ok(())
}

/// SN-8, SN-2: under the node's address with the pod's own port, at which the answer is known although the masquerade has no such
/// port; a second pod that would need the same one is not let out, and that is counted.
#[test]
fn masquerading_translates_the_address_only() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = Bed::two_nodes(|_, config| config.masquerade = Some(Masquerade::on()))?;
    let mut outside = Capture::open(&bed.outside.netns, "eth0")?;
    let mut heard = Capture::open(&bed.pod(0, 0).netns, "eth0")?;
    for to in bed.outside.addresses.clone() {
        let request = segment(5000, PORT);
        let before = bed.node(0).counters()?;
        send(&bed, bed.pod(0, 0), to, &request)?;
        let seen = arrives(&mut outside, to)?;
        ensure!(
            Some(seen.source) == bed.node(0).spec.address_like(to) && seen.payload == request,
            "{seen:?}"
        );
        let answer = segment(PORT, 5000);
        let packet = Ip::new(to, seen.source).packet(SCTP, &answer);
        outside.inject(&ethernet(seen.destination_mac, seen.source_mac, &packet))?;
        let own = bed.pod(0, 0).ips().into_iter().find(|ip| ip.is_ipv4() == to.is_ipv4());
        let seen = arrives(&mut heard, own.context("no address")?)?;
        ensure!(seen.source == to && seen.payload == answer, "{seen:?}");
        send(&bed, bed.pod(0, 1), to, &request)?;
        counters::wait_for(&before, Hook::FromPod, Reason::PortsExhausted, 1)?;
        let other = segment(5001, PORT);
        send(&bed, bed.pod(0, 1), to, &other)?;
        let seen = arrives(&mut outside, to)?;
        ensure!(seen.payload == other, "{seen:?}");
    }
    Ok(())
}
