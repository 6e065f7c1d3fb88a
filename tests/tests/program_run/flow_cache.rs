//! Flows of which many packets come: remembered whole, and sent on as ever.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result, bail, ensure};
use common::{
    counters::{Hook, Reason},
    flow, flow_cache,
    maps::{Hop, WAYS, capacity, flow_sets},
    verdict::Action,
    wire::protocol,
};
use testbed::{
    frame::Ip,
    progrun::{self, Family, Input, Outcome, Rig, Room, outside, peer, underlay, way_to},
    require, setup,
};

use crate::{
    craft::{from_peer, on_wire},
    services::{ACK, far, loopback, services, vip},
};

const SYN: u8 = 0x02;
const FIN_ACK: u8 = 0x11;

/// Packets of a flow, its hook and device, and what they are counted as.
struct Flow {
    name: &'static str,
    hook: Hook,
    ifindex: u32,
    frame: Vec<u8>,
    reason: Reason,
    /// Whose way is known: a peer's, or a client's.
    via: IpAddr,
}

/// One packet of a flow of each kind whose way is remembered; answers come behind what they answer.
fn flows(node: &Rig, family: Family) -> Result<Vec<Flow>> {
    let [here, there] = node.pods();
    let (client, own) = (outside(family), underlay(family, 20));
    let (pod, backend) = (here.address(family), there.address(family));
    let near = peer("near")?;
    let flow = |name, (hook, ifindex), frame, reason| Flow {
        name,
        hook,
        ifindex,
        frame,
        reason,
        via: near.address(),
    };
    let (from_pod, from_backend) = ((Hook::FromPod, here.ifindex), (Hook::FromPod, there.ifindex));
    let arrives = (Hook::FromUplink, node.uplink());
    Ok(vec![
        flow(
            "ClusterIP, local backend",
            from_pod,
            here.sends(&Ip::new(pod, vip(family)).tcp((4000, 80), ACK)),
            Reason::ToPod,
        ),
        flow(
            "answer of a local backend",
            from_backend,
            there.sends(&Ip::new(backend, pod).tcp((8080, 4000), ACK)),
            Reason::ToPod,
        ),
        flow(
            "ClusterIP, remote backend",
            from_pod,
            here.sends(&Ip::new(pod, vip(family)).udp((4000, 53), b"question")),
            Reason::ToOverlay,
        ),
        flow(
            "answer of a remote backend",
            arrives,
            from_peer(&near, &Ip::new(far(family), pod).udp((5353, 4000), b"answer")),
            Reason::ToPod,
        ),
        flow(
            "NodePort, local backend",
            arrives,
            on_wire(&Ip::new(client, own).tcp((4000, 30080), ACK)),
            Reason::ToPod,
        ),
        Flow {
            via: client,
            ..flow(
                "answer of a local backend to outside",
                from_backend,
                there.sends(&Ip::new(backend, client).tcp((8080, 4000), ACK)),
                Reason::ToClient,
            )
        },
        flow(
            "NodePort, remote backend",
            arrives,
            on_wire(&Ip::new(client, own).udp((4001, 30053), b"question")),
            Reason::ToOverlay,
        ),
        Flow {
            via: client,
            ..flow(
                "answer of a remote backend to outside",
                arrives,
                from_peer(&near, &Ip::new(far(family), loopback(family)).udp((5353, 4001), b"answer")),
                Reason::ToClient,
            )
        },
    ])
}

/// A packet of a flow, the way being known.
fn run(node: &mut Rig, flow: &Flow) -> Result<Outcome> {
    let remembered = way_to(flow.via, node.uplink());
    node.run(&Input { remembered, ..Input::new(flow.hook, flow.ifindex, &flow.frame) })
}

/// Sends so many packets of a flow that the next one goes the short way; what became of the last one.
fn steady(node: &mut Rig, flow: &Flow) -> Result<Outcome> {
    let mut outcome = run(node, flow)?;
    for _ in 1..flow_cache::STEADY {
        outcome = run(node, flow)?;
        ensure!(outcome.reason == flow.reason, "{}: {}", flow.name, outcome.reason.name());
    }
    Ok(outcome)
}

/// Errs unless a packet of a steady flow went the short way. Its connection does not know of it then.
fn went_short(flow: &Flow, before: &Outcome, after: &Outcome) -> Result<()> {
    ensure!(after.seen.connections == before.seen.connections, "{}: went the long way", flow.name);
    Ok(())
}

/// PF-11, NP-11: a packet of a steady flow comes to what the one before it came to, and is counted alike, at either hook.
#[test]
fn a_steady_flow_goes_the_short_way_to_the_same_end() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        for family in Family::BOTH {
            for flow in flows(node, family)? {
                let long = steady(node, &flow)?;
                let short = run(node, &flow)?;
                went_short(&flow, &long, &short)?;
                ensure!(
                    (short.action, short.reason) == (long.action, long.reason)
                        && short.seen.bytes == long.seen.bytes
                        && short.seen.counts == long.seen.counts
                        && short.seen.accounts == long.seen.accounts,
                    "{}: {:02x?} instead of {:02x?}",
                    flow.name,
                    short.seen,
                    long.seen
                );
            }
        }
        Ok(())
    })
}

/// CT-2, SV-10: what says something new about a connection goes the long way, and with it what had been counted elsewhere.
#[test]
fn the_end_of_a_connection_is_noticed() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        for family in Family::BOTH {
            let [here, _] = node.pods();
            let call = Ip::new(here.address(family), vip(family));
            let [flow, ..] = &flows(node, family)?[..] else { bail!("no flows") };
            let long = steady(node, flow)?;
            went_short(flow, &long, &run(node, flow)?)?;
            let outcome = node.from_pod(here, &here.sends(&call.tcp((4000, 80), FIN_ACK)))?;
            let packets = format!(" {} packets", flow_cache::STEADY + 2);
            ensure!(
                outcome.seen.connections.iter().any(|line| line.contains(&packets)),
                "not{packets}: {:?}",
                outcome.seen.connections
            );
            let next = run(node, flow)?;
            ensure!(next.seen.connections != outcome.seen.connections, "the short way after the end");
        }
        Ok(())
    })
}

/// CT-2: where a connection ends, what is remembered of its answers ends with it, whichever CPU remembers it.
#[test]
fn a_recycled_tuple_has_no_flow() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        for family in Family::BOTH {
            let [here, _] = node.pods();
            let call = Ip::new(here.address(family), vip(family));
            let [there, back, ..] = &flows(node, family)?[..] else { bail!("no flows") };
            steady(node, there)?;
            let long = steady(node, back)?;
            let short = run(node, back)?;
            went_short(back, &long, &short)?;
            node.from_pod(here, &here.sends(&call.tcp((4000, 80), FIN_ACK)))?;
            let again = node.from_pod(here, &here.sends(&call.tcp((4000, 80), SYN)))?;
            let answer = run(node, back)?;
            ensure!(answer.seen.connections != again.seen.connections, "the old connection's answer");
        }
        Ok(())
    })
}

/// SV-5: what the loader changes holds for the next packet.
#[test]
fn a_change_is_noticed_at_once() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        for family in Family::BOTH {
            for flow in flows(node, family)? {
                let long = steady(node, &flow)?;
                let short = run(node, &flow)?;
                went_short(&flow, &long, &short)?;
                node.expire_flows()?;
                let next = run(node, &flow)?;
                ensure!(next.seen.connections != short.seen.connections, "{}: went the short way", flow.name);
                went_short(&flow, &next, &run(node, &flow)?)?;
            }
        }
        Ok(())
    })
}

/// OV-12: the way to a peer is asked for anew when it is old, of a steady flow too.
#[test]
fn a_way_that_is_old_is_asked_for() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        for family in Family::BOTH {
            for flow in flows(node, family)?.iter().filter(|flow| flow.reason == Reason::ToOverlay) {
                let long = steady(node, flow)?;
                let Flow { hook, ifindex, frame, via, .. } = flow;
                let old = Hop { until: 0, ..way_to(*via, node.uplink()) };
                let outcome = node.run(&Input { remembered: old, ..Input::new(*hook, *ifindex, frame) })?;
                ensure!(
                    matches!(outcome.action, Action::Route { .. }),
                    "{}: {:?}",
                    flow.name,
                    outcome.action
                );
                ensure!(
                    outcome.seen.connections != long.seen.connections,
                    "{}: went the short way",
                    flow.name
                );
            }
        }
        Ok(())
    })
}

/// PF-2, OV-8: a packet of a steady flow that is not to be sent on is left to the long way as it came, and answered.
#[test]
fn what_is_not_to_be_sent_on_is_answered() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        for family in Family::BOTH {
            let [here, _] = node.pods();
            let call = Ip::new(here.address(family), vip(family));
            let from_outside = Ip::new(outside(family), underlay(family, 20));
            let last_hop = |ip: &Ip| Ip { ttl: 1, ..ip.clone() };
            let mut steady_flow = |name| -> Result<Flow> {
                let flow = flows(node, family)?
                    .into_iter()
                    .find(|flow| flow.name == name)
                    .context("no such flow")?;
                let long = steady(node, &flow)?;
                went_short(&flow, &long, &run(node, &flow)?)?;
                Ok(flow)
            };
            let local = steady_flow("ClusterIP, local backend")?;
            let remote = steady_flow("ClusterIP, remote backend")?;
            // Who is told has to be reached.
            let arriving = Flow { via: outside(family), ..steady_flow("NodePort, local backend")? };
            for (flow, frame, reason) in [
                (&local, here.sends(&last_hop(&call).tcp((4000, 80), ACK)), Reason::TtlExceeded),
                (&remote, here.sends(&last_hop(&call).udp((4000, 53), b"question")), Reason::TtlExceeded),
                (&arriving, on_wire(&last_hop(&from_outside).tcp((4000, 30080), ACK)), Reason::TtlExceeded),
                (&remote, here.sends(&call.udp((4000, 53), &[0; 1440])), Reason::TooBig),
            ] {
                let Flow { name, hook, ifindex, via, .. } = *flow;
                let outcome = run(node, &Flow { name, hook, ifindex, frame, reason, via })?;
                ensure!(outcome.reason == reason, "{name}: {}", outcome.reason.name());
            }
        }
        Ok(())
    })
}

/// One flow more than there are places for its like: the others are remembered, each for its time, and all arrive. That goes for as long
/// as nothing is said of their connections: what is said of others does not make room.
#[test]
fn as_many_flows_as_have_places_go_the_short_way() -> Result<()> {
    require!(setup::ready());
    progrun::on_node_serving(services, |node| {
        let family = Family::V4;
        let [here, there] = node.pods();
        let (IpAddr::V4(pod), IpAddr::V4(service)) = (here.address(family), vip(family)) else {
            bail!("not of that family")
        };
        let hash = |port: u16| {
            let ([a, b], [c, d]) = (port.to_be_bytes(), 80_u16.to_be_bytes());
            let fold = |address: Ipv4Addr| u32::from_ne_bytes(address.octets());
            flow::hash(fold(pod), fold(service), [a, b, c, d], protocol::TCP)
        };
        let set = |port| flow::place(hash(port), flow_sets(Room::default().flows));
        let epoch = |port| hash(port) % capacity::EPOCHS;
        let mut ports = (4000..u16::MAX).filter(|port| set(*port) == set(4000));
        let mut next = || ports.next().context("no such port");
        let of = |port| Flow {
            name: "ClusterIP",
            hook: Hook::FromPod,
            ifindex: here.ifindex,
            frame: here.sends(&Ip::new(pod.into(), service.into()).tcp((port, 80), ACK)),
            reason: Reason::ToPod,
            via: vip(family),
        };
        let held = (0..WAYS).map(|_| next()).collect::<Result<Vec<_>>>()?;
        let late = next()?;
        for port in &held {
            let before = steady(node, &of(*port))?;
            went_short(&of(*port), &before, &run(node, &of(*port))?)?;
        }
        ensure!(held.iter().all(|port| epoch(*port) != epoch(late)), "the ports say nothing");
        node.expire_flows_of(epoch(late)..epoch(late) + 1)?;
        let long = steady(node, &of(late))?;
        let next = run(node, &of(late))?;
        ensure!(next.seen.connections != long.seen.connections, "all of them have a place");
        for port in held {
            went_short(&of(port), &next, &run(node, &of(port))?)?;
        }
        next.went(Reason::ToPod, Action::Pod { ifindex: there.ifindex })
    })
}
