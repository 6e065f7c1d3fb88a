//! Packets to services and their answers: each translated, and translated back to what it was.

use std::net::IpAddr;

use anyhow::{Context as _, Result, bail, ensure};
use common::{
    counters::{Hook, Reason},
    flow_cache,
    maps::{backend_flag, connection_flag},
    verdict::Action,
};
use testbed::{
    frame::Ip,
    progrun::{self, Exposure, Family, Outcome, Pod, outside, peer, underlay},
    require, setup,
};

use crate::craft::{from_peer, from_stack, hops_taken, icmp_error, on_wire, to_router};

const TCP: u8 = 6;
const UDP: u8 = 17;
const GRE: u8 = 47;
const SCTP: u8 = 132;
pub const SYN: u8 = 0x02;
pub const SYN_ACK: u8 = 0x12;
pub const ACK: u8 = 0x10;
const RST: u8 = 0x04;
const FIN: u8 = 0x01;

/// A service address.
pub fn vip(family: Family) -> IpAddr {
    match family {
        Family::V4 => [10, 32, 0, 10].into(),
        Family::V6 => [0xfd00, 0x10, 0x32, 0, 0, 0, 0, 10].into(),
    }
}

/// Port 80 is the second pod's 8080 over TCP, port 53 is the peer's pod's 5353 over UDP, port 81 has nobody, port 82 is the node's
/// own 8082, port 83 is the first pod itself; node ports 30080 and 30053 are the first two of them, 30054 the second with direct
/// server return, and 30055 of the peer the first, for whom the peer hands on.
pub fn services([here, there]: [Pod; 2]) -> Vec<Exposure> {
    let mut exposures = Vec::new();
    for family in Family::BOTH {
        let node = underlay(family, 20);
        let web = [(there.address(family), 8080, backend_flag::LOCAL)];
        let far = [(far(family), 5353, 0)];
        let own = [(node, 8082, backend_flag::LOCAL | backend_flag::HOST)];
        let itself = [(here.address(family), 8083, backend_flag::LOCAL)];
        exposures.extend([
            Exposure::new(vip(family), 80, TCP, &web),
            Exposure::new(vip(family), 53, UDP, &far),
            Exposure::new(vip(family), 81, TCP, &[]),
            Exposure::new(vip(family), 82, TCP, &own),
            Exposure::new(vip(family), 83, TCP, &itself),
            Exposure::node_port(node, 30080, TCP, &web),
            Exposure::node_port(node, 30053, UDP, &far),
            Exposure::node_port(node, 30054, UDP, &far).dsr(),
            Exposure::node_port(underlay(family, 21), 30055, TCP, &web).handed_on(),
            Exposure {
                range: Some((family.pod(0, 200), if family == Family::V4 { 32 } else { 128 })),
                ..Exposure::new(vip(family), 84, TCP, &web)
            },
        ]);
    }
    exposures
}

/// A pod of the first peer.
pub fn far(family: Family) -> IpAddr {
    family.pod(1, 10)
}

pub fn loopback(family: Family) -> IpAddr {
    family.pod(0, 0)
}

/// SV-1: pod to service to pod of the same node and back; every byte, both ways.
#[test]
fn a_pod_calls_a_service_with_a_local_backend() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        let [here, there] = node.pods();
        for family in Family::BOTH {
            let (client, backend) = (here.address(family), there.address(family));
            let outcome =
                node.from_pod(here, &here.sends(&Ip::new(client, vip(family)).tcp((4000, 80), SYN)))?;
            outcome.went(Reason::ToPod, Action::Pod { ifindex: there.ifindex })?;
            let expected = hops_taken(&Ip::new(client, backend).tcp((4000, 8080), SYN), 1);
            ensure!(outcome.seen.bytes == there.receives(&expected));

            let answer = Ip::new(backend, client).tcp((8080, 4000), SYN_ACK);
            let outcome = node.from_pod(there, &there.sends(&answer))?;
            outcome.went(Reason::ToPod, Action::Pod { ifindex: here.ifindex })?;
            let expected = hops_taken(&Ip::new(vip(family), client).tcp((80, 4000), SYN_ACK), 1);
            ensure!(outcome.seen.bytes == here.receives(&expected));
        }
        Ok(())
    })
}

/// SV-1: a UDP checksum of zero stays zero.
#[test]
fn a_datagram_without_checksum_has_none_afterwards() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        let [here, _] = node.pods();
        let family = Family::V4;
        let client = here.address(family);
        let packet = Ip::new(client, vip(family)).udp_without_checksum((4000, 53), b"question");
        let outcome = node.from_pod(here, &here.sends(&packet))?;
        outcome.went(Reason::ToOverlay, Action::Device { ifindex: node.uplink() })?;
        let expected =
            hops_taken(&Ip::new(client, far(family)).udp_without_checksum((4000, 5353), b"question"), 1);
        ensure!(outcome.seen.bytes.ends_with(&expected));
        Ok(())
    })
}

/// SV-1: a UDP checksum that comes to zero is sent as 0xffff, or it would say that there is none (RFC 768): of what a pod asks and
/// hears, of what a client outside does, and of a flow whose way is remembered.
#[test]
fn a_checksum_that_comes_to_zero_is_sent_as_ones() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        let [here, _] = node.pods();
        let uplink = Action::Device { ifindex: node.uplink() };
        let near = peer("near")?;
        for family in Family::BOTH {
            let (pod, called, backend) = (here.address(family), vip(family), far(family));
            let (client, own) = (outside(family), underlay(family, 20));
            for _ in 0..2 * flow_cache::STEADY {
                let becomes = (Ip::new(pod, backend), (4000, 5353));
                let (sent, expected) = with_zero_sum(&becomes, (Ip::new(pod, called), (4000, 53)))?;
                let outcome = node.from_pod(here, &here.sends(&sent))?;
                outcome.went(Reason::ToOverlay, uplink)?;
                ensure!(outcome.seen.bytes.ends_with(&expected), "{:02x?}", outcome.seen.bytes);

                let becomes = (Ip::new(called, pod), (53, 4000));
                let (sent, expected) = with_zero_sum(&becomes, (Ip::new(backend, pod), (5353, 4000)))?;
                let outcome = node.from_uplink(&from_peer(&near, &sent))?;
                outcome.went(Reason::ToPod, Action::Pod { ifindex: here.ifindex })?;
                ensure!(outcome.seen.bytes.ends_with(&expected), "{:02x?}", outcome.seen.bytes);

                let becomes = (Ip::new(loopback(family), backend), (4001, 5353));
                let (sent, expected) = with_zero_sum(&becomes, (Ip::new(client, own), (4001, 30053)))?;
                let outcome = node.from_uplink(&on_wire(&sent))?;
                outcome.went(Reason::ToOverlay, uplink)?;
                ensure!(outcome.seen.bytes.ends_with(&expected), "{:02x?}", outcome.seen.bytes);

                let becomes = (Ip::new(own, client), (30053, 4001));
                let answer = (Ip::new(backend, loopback(family)), (5353, 4001));
                let (sent, expected) = with_zero_sum(&becomes, answer)?;
                let outcome = node.from_uplink(&from_peer(&near, &sent))?;
                outcome.went(Reason::ToClient, uplink)?;
                ensure!(outcome.seen.bytes.ends_with(&expected), "{:02x?}", outcome.seen.bytes);
            }
        }
        Ok(())
    })
}

/// A datagram as it is sent, and as it arrives a hop later, with a payload that makes the checksum of what it becomes 0xffff.
fn with_zero_sum(
    (becomes, ports): &(Ip, (u16, u16)),
    (sent, sent_ports): (Ip, (u16, u16)),
) -> Result<(Vec<u8>, Vec<u8>)> {
    /// Where the checksum of a datagram with two bytes of payload is, from its end.
    const CHECKSUM: usize = 4;
    let checksum = |packet: &[u8]| [packet[packet.len() - CHECKSUM], packet[packet.len() - CHECKSUM + 1]];
    // A word that is what a sum lacks makes it all ones.
    let payload = checksum(&becomes.udp(*ports, &[0; 2]));
    let (sent, arrives) = (sent.udp(sent_ports, &payload), becomes.udp(*ports, &payload));
    ensure!(checksum(&arrives) == [0xff; 2] && checksum(&sent) != [0xff; 2], "another payload is wanted");
    Ok((sent, hops_taken(&arrives, 1)))
}

/// SV-1: pod to service to pod of another node and back.
#[test]
fn a_pod_calls_a_service_with_a_remote_backend() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        let [here, _] = node.pods();
        for family in Family::BOTH {
            let client = here.address(family);
            let packet = Ip::new(client, vip(family)).udp((4000, 53), b"question");
            let outcome = node.from_pod(here, &here.sends(&packet))?;
            outcome.went(Reason::ToOverlay, Action::Device { ifindex: node.uplink() })?;
            let expected = hops_taken(&Ip::new(client, far(family)).udp((4000, 5353), b"question"), 1);
            ensure!(outcome.seen.bytes.ends_with(&expected));

            let answer = Ip::new(far(family), client).udp((5353, 4000), b"answer");
            let outcome = node.from_uplink(&from_peer(&peer("near")?, &answer))?;
            outcome.went(Reason::ToPod, Action::Pod { ifindex: here.ifindex })?;
            let expected = hops_taken(&Ip::new(vip(family), client).udp((53, 4000), b"answer"), 1);
            ensure!(outcome.seen.bytes == here.receives(&expected));
        }
        Ok(())
    })
}

/// SV-9: a pod that is its own backend hears from itself by way of the node's loopback address.
#[test]
fn a_pod_reaches_itself_through_its_service() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        let [here, _] = node.pods();
        for family in Family::BOTH {
            let own = here.address(family);
            let outcome =
                node.from_pod(here, &here.sends(&Ip::new(own, vip(family)).tcp((4000, 83), SYN)))?;
            outcome.went(Reason::ToPod, Action::Pod { ifindex: here.ifindex })?;
            let expected = hops_taken(&Ip::new(loopback(family), own).tcp((4000, 8083), SYN), 1);
            ensure!(outcome.seen.bytes == here.receives(&expected));

            let answer = Ip::new(own, loopback(family)).tcp((8083, 4000), SYN_ACK);
            let outcome = node.from_pod(here, &here.sends(&answer))?;
            outcome.went(Reason::ToPod, Action::Pod { ifindex: here.ifindex })?;
            let expected = hops_taken(&Ip::new(vip(family), own).tcp((83, 4000), SYN_ACK), 1);
            ensure!(outcome.seen.bytes == here.receives(&expected));
        }
        Ok(())
    })
}

/// SV-7, SV-13: nobody there, no such port, not for this client.
#[test]
fn who_finds_nobody_is_told() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        let [here, _] = node.pods();
        for family in Family::BOTH {
            let ip = Ip::new(here.address(family), vip(family));
            for (port, reason) in [(81, Reason::NoBackend), (9999, Reason::NoSuchService)] {
                let packet = ip.tcp((4000, port), SYN);
                let outcome = node.from_pod(here, &here.sends(&packet))?;
                outcome.went(reason, Action::Pod { ifindex: here.ifindex })?;
                ensure!(outcome.seen.packets(Reason::IcmpError) == 1);
                // The service address says so itself, about the packet as it was sent.
                ensure!(outcome.seen.bytes.ends_with(&packet));
                let header = 14 + family.header_len();
                let unreachable = if family == Family::V4 { [3, 3] } else { [1, 4] };
                ensure!(outcome.seen.bytes[header..header + 2] == unreachable);
            }
            node.from_pod(here, &here.sends(&ip.tcp((4000, 84), SYN)))?.is_dropped(Reason::SourceRange)?;
        }
        Ok(())
    })
}

/// SV-2, SV-13: a protocol that no service has at a service address, for pods, for the node and for clients outside: refused, from the
/// address that was called, whatever the port is that it would have.
#[test]
fn a_protocol_that_no_service_has_is_refused() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        let [here, _] = node.pods();
        let uplink = node.uplink();
        for family in Family::BOTH {
            for (hook, caller, told) in [
                (Hook::FromPod, here.address(family), Action::Pod { ifindex: here.ifindex }),
                (Hook::FromHost, family.gateway(), Action::Host),
                (Hook::FromUplink, outside(family), Action::Device { ifindex: uplink }),
            ] {
                let ip = Ip::new(caller, vip(family));
                // At port 80 there is a service by TCP, at port 53 one by UDP.
                let ports = |to: u16| [&[0x0f, 0xa0][..], &to.to_be_bytes(), &[0; 8]].concat();
                for packet in [
                    ip.packet(GRE, &[0, 0, 8, 0, 1, 2, 3, 4]),
                    ip.packet(SCTP, &ports(80)),
                    ip.packet(SCTP, &ports(53)),
                    ip.udp((4000, 80), b"question"),
                    ip.tcp((4000, 53), SYN),
                ] {
                    let outcome = match hook {
                        Hook::FromPod => node.from_pod(here, &here.sends(&packet)),
                        Hook::FromHost => node.from_host(&from_stack(&packet)),
                        _ => node.from_uplink(&on_wire(&packet)),
                    }?;
                    outcome.went(Reason::NoSuchService, told)?;
                    ensure!(outcome.seen.packets(Reason::IcmpError) == 1, "{:?}", outcome.seen.counts);
                    ensure!(outcome.seen.connections.is_empty(), "{:?}", outcome.seen.connections);
                    let kind = if family == Family::V4 { (3, 3) } else { (1, 4) };
                    let error = icmp_error(ip.destination, ip.source, kind, 0, &packet);
                    ensure!(outcome.seen.bytes.ends_with(&error), "{:02x?}", outcome.seen.bytes);
                }
            }
        }
        Ok(())
    })
}

/// IC-1: an echo request to a service address is answered.
#[test]
fn a_service_address_answers_ping() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        let [here, _] = node.pods();
        for family in Family::BOTH {
            let ip = Ip::new(here.address(family), vip(family));
            let outcome = node.from_pod(here, &here.sends(&ip.echo(7, 1, b"ping")))?;
            outcome.went(Reason::EchoReply, Action::Pod { ifindex: here.ifindex })?;
            let back = Ip::new(vip(family), here.address(family));
            let (kind, body) =
                (if family == Family::V4 { 0 } else { 129 }, [0, 7, 0, 1, b'p', b'i', b'n', b'g']);
            let reply = here.receives(&back.icmp(kind, 0, &body));
            ensure!(outcome.seen.bytes == reply);
            // However long the way of the request was.
            let last = Ip { ttl: 1, ..ip }.echo(7, 1, b"ping");
            ensure!(node.from_pod(here, &here.sends(&last))?.seen.bytes == reply);
        }
        Ok(())
    })
}

/// SN-1, SN-6: to the outside under the node's address, and back; a port in the range is kept, and so is an identifier.
#[test]
fn a_pod_leaves_under_the_nodes_address() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        let [here, _] = node.pods();
        for family in Family::BOTH {
            let (pod, own, there) = (here.address(family), underlay(family, 20), outside(family));
            let sent = [
                (Ip::new(pod, there).tcp((61500, 80), SYN), Ip::new(own, there).tcp((61500, 80), SYN)),
                (Ip::new(pod, there).udp((61501, 80), b"hi"), Ip::new(own, there).udp((61501, 80), b"hi")),
                (Ip::new(pod, there).echo(62000, 1, b"ping"), Ip::new(own, there).echo(62000, 1, b"ping")),
            ];
            for (packet, expected) in sent {
                let outcome = node.from_pod(here, &here.sends(&packet))?;
                outcome.went(Reason::Masqueraded, Action::Device { ifindex: node.uplink() })?;
                ensure!(outcome.seen.bytes == to_router(&hops_taken(&expected, 1)));
            }
            let answered = [
                (
                    Ip::new(there, own).tcp((80, 61500), SYN_ACK),
                    Ip::new(there, pod).tcp((80, 61500), SYN_ACK),
                ),
                (Ip::new(there, own).udp((80, 61501), b"ho"), Ip::new(there, pod).udp((80, 61501), b"ho")),
            ];
            for (packet, expected) in answered {
                let outcome = node.from_uplink(&on_wire(&packet))?;
                outcome.went(Reason::ToPod, Action::Pod { ifindex: here.ifindex })?;
                ensure!(outcome.seen.bytes == here.receives(&hops_taken(&expected, 1)));
            }
        }
        Ok(())
    })
}

/// IC-1: an error from the backend's side about a packet that was translated reaches the client as one about what it sent.
#[test]
fn an_error_about_a_translated_packet_quotes_it_as_it_was_sent() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        let [here, there] = node.pods();
        for family in Family::BOTH {
            let (client, backend) = (here.address(family), there.address(family));
            let sent = Ip::new(client, vip(family)).tcp((4000, 80), SYN);
            let arrived = node.from_pod(here, &here.sends(&sent))?.seen.bytes[14..].to_vec();
            let kind = if family == Family::V4 { (3, 3) } else { (1, 4) };
            let error = icmp_error(backend, client, kind, 0, &arrived);
            let outcome = node.from_pod(there, &there.sends(&error))?;
            outcome.went(Reason::ToPod, Action::Pod { ifindex: here.ifindex })?;
            let expected = icmp_error(vip(family), client, kind, 0, &hops_taken(&sent, 1));
            ensure!(
                outcome.seen.bytes == here.receives(&hops_taken(&expected, 1)),
                "{:02x?}\n{:02x?}",
                outcome.seen.bytes,
                here.receives(&hops_taken(&expected, 1))
            );
        }
        Ok(())
    })
}

/// SV-12: a backend in the node's own network sees the node's loopback address where it would answer past the programs, and the
/// pod itself where it would not.
#[test]
fn a_backend_of_the_nodes_own_network() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        let [here, _] = node.pods();
        for family in Family::BOTH {
            let (client, own) = (here.address(family), underlay(family, 20));
            let outcome =
                node.from_pod(here, &here.sends(&Ip::new(client, vip(family)).tcp((4000, 82), SYN)))?;
            outcome.went(Reason::ToHost, Action::Host)?;
            ensure!(outcome.seen.bytes.ends_with(&Ip::new(client, own).tcp((4000, 8082), SYN)));
            let answer = Ip::new(own, client).tcp((8082, 4000), SYN_ACK);
            let outcome = node.from_host(&from_stack(&answer))?;
            outcome.went(Reason::ToPod, Action::Device { ifindex: here.ifindex })?;
            ensure!(outcome.seen.bytes.ends_with(&Ip::new(vip(family), client).tcp((82, 4000), SYN_ACK)));

            let call = Ip::new(family.gateway(), vip(family)).tcp((4001, 82), SYN);
            let outcome = node.from_host(&from_stack(&call))?;
            outcome.went(Reason::ToHost, Action::Host)?;
            ensure!(outcome.seen.bytes.ends_with(&Ip::new(loopback(family), own).tcp((4001, 8082), SYN)));
        }
        Ok(())
    })
}

/// CT-1, CT-2: each direction notes what it has sent and counts it, and a new SYN after either end has closed begins anew, by a FIN as
/// by a RST; while none has, it is the old one's once more.
#[test]
fn a_tuple_may_be_used_again() -> Result<()> {
    const SEEN: u32 = connection_flag::SEEN;
    const OPEN: u32 = SEEN | connection_flag::ESTABLISHED;
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        let [here, there] = node.pods();
        for family in Family::BOTH {
            let (client, backend) = (here.address(family), there.address(family));
            let call = |flags| here.sends(&Ip::new(client, vip(family)).tcp((4000, 80), flags));
            let answer = |flags| there.sends(&Ip::new(backend, client).tcp((8080, 4000), flags));
            for (end, flag) in [(ACK | FIN, connection_flag::FIN), (RST, connection_flag::RST)] {
                for by_client in [true, false] {
                    node.start_over()?;
                    // The second SYN is the first one once more, and opens nothing new.
                    for (packets, flags, noted) in [(1, SYN, SEEN), (2, SYN, SEEN), (3, ACK, OPEN)] {
                        let outcome = node.from_pod(here, &call(flags))?;
                        ensure!(directions(&outcome)?[0] == (packets, noted), "{:?}", directions(&outcome)?);
                    }
                    for (packets, flags, noted) in [(1, SYN_ACK, SEEN), (2, ACK, OPEN)] {
                        let outcome = node.from_pod(there, &answer(flags))?;
                        ensure!(directions(&outcome)?[1] == (packets, noted), "{:?}", directions(&outcome)?);
                    }
                    let (outcome, expected) = if by_client {
                        (node.from_pod(here, &call(end))?, [(4, OPEN | flag), (2, OPEN)])
                    } else {
                        (node.from_pod(there, &answer(end))?, [(3, OPEN), (3, OPEN | flag)])
                    };
                    ensure!(directions(&outcome)? == expected, "{:?}", directions(&outcome)?);
                    // Of the answers nothing has come yet.
                    let outcome = node.from_pod(here, &call(SYN))?;
                    outcome.went(Reason::ToPod, Action::Pod { ifindex: there.ifindex })?;
                    ensure!(directions(&outcome)? == [(1, SEEN), (0, 0)], "{:?}", directions(&outcome)?);
                    let outcome = node.from_pod(there, &answer(SYN_ACK))?;
                    ensure!(directions(&outcome)? == [(1, SEEN), (1, SEEN)], "{:?}", directions(&outcome)?);
                }
            }
        }
        Ok(())
    })
}

/// Packets and flags of the one connection that there is: of its requests, and of its answers without the flag that says so.
fn directions(outcome: &Outcome) -> Result<[(u64, u32); 2]> {
    let mut directions = [None; 2];
    for line in &outcome.seen.connections {
        let (_, counted) = line.rsplit_once("]: ").context("an entry without its tuples")?;
        let packets = counted.split(' ').next().context("no packets")?.parse()?;
        let (_, flags) = counted.split_once("flags 0x").context("no flags")?;
        let flags = u32::from_str_radix(flags.split(',').next().context("no flags")?, 16)?;
        let direction = &mut directions[usize::from(flags & connection_flag::REPLY != 0)];
        ensure!(direction.is_none(), "another connection: {line}");
        *direction = Some((packets, flags & !connection_flag::REPLY));
    }
    let [Some(requests), Some(answers)] = directions else {
        bail!("half a connection: {:?}", outcome.seen.connections);
    };
    Ok([requests, answers])
}
