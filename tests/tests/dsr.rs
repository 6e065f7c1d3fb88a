//! Direct server return: who calls a node from outside and gets a backend of another node is handed on to it as he is, and
//! answered by it past the node that he called.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use common::counters::{Hook, Reason};
use testbed::{
    address,
    bed::{Bed, FAMILIES, Facts, PROTOCOLS, SERVING, cluster_ip, external_ip},
    config::{Forwarding, Policy, Protocol, Service, Xdp},
    require, setup,
    spec::Route,
    traffic::{
        probe::Probe,
        who::{self, Session},
    },
};

const NAME: &str = "default/web";
const NODE_PORT: u16 = 30_080;
/// Port at which no pod serves.
const CLOSED: u16 = 9;

/// A service by direct server return with everything that is called from outside.
fn service(facts: &Facts, pods: &[(usize, usize)], port: u16) -> Service {
    let mut service = facts.node_port_service("web", 1, NODE_PORT, pods);
    service.forwarding_mode = Some(Forwarding::Dsr);
    service.external_ip = address::external_ips(1).to_vec();
    service.load_balancer_ip = address::external_ips(2).to_vec();
    for served in &mut service.ports {
        served.backends.iter_mut().for_each(|backend| backend.port = port);
    }
    service
}

/// Two nodes with two pods each, and these behind the service; whoever calls an address in the world outside calls the first.
fn bed(route: Route, pods: &[(usize, usize)], port: u16, xdp: Option<&'static str>) -> Result<Bed> {
    let bed = Bed::start(&[2, 2], route, |facts, config| {
        config.services.push(service(facts, pods, port));
        if let Some(mode) = xdp {
            config.xdp = Some(Xdp { mode: mode.into() });
        }
    })?;
    bed.lead(&address::external_ips(1), 0)?;
    bed.lead(&address::external_ips(2), 0)?;
    Ok(bed)
}

/// Where the first node is called.
fn frontends(bed: &Bed, ipv4: bool) -> Result<[SocketAddr; 3]> {
    let node_port = who::at(&bed.node(0).spec.addresses(), ipv4, NODE_PORT)?;
    Ok([node_port, external_ip(1, ipv4), external_ip(2, ipv4)])
}

/// How many answers a node has sent to clients outside: its own pods', and those of other nodes' pods.
fn answers(bed: &Bed, node: usize) -> Result<(u64, u64)> {
    let counters = bed.node(node).counters()?;
    let of = |hook| counters.packets(hook, Reason::ToClient);
    Ok((of(Hook::FromPod), of(Hook::FromUplink) + of(Hook::UplinkXdp)))
}

/// NP-5: the backend on the other node sees the client, whatever was called, and answers past the node that was.
fn the_backends_node_answers(xdp: Option<&'static str>) -> Result<()> {
    let bed = bed(Route::Overlay, &[(0, 1), (1, 0)], SERVING, xdp)?;
    let before = (answers(&bed, 0)?, answers(&bed, 1)?);
    for ipv4 in FAMILIES {
        let client = bed.outside.address_like(frontends(&bed, ipv4)?[0].ip())?;
        for to in frontends(&bed, ipv4)? {
            for protocol in PROTOCOLS {
                let case = || format!("{protocol:?} to {to}");
                who::everyone(&bed.outside.netns, protocol, to, &["pod-0-1", "pod-1-0"])
                    .with_context(case)?;
                for _ in 0..6 {
                    let mut session = Session::open(&bed.outside.netns, protocol, to)?;
                    for size in [16, if protocol == Protocol::Tcp { 1 << 20 } else { 1300 }] {
                        let seen = session.exchange(size, size).with_context(case)?;
                        ensure!(seen.client.ip() == client, "{}: seen as {}", case(), seen.client);
                    }
                }
            }
        }
    }
    let after = (answers(&bed, 0)?, answers(&bed, 1)?);
    ensure!(after.0.1 == before.0.1, "answers came back by the node that was called: {before:?}, {after:?}");
    ensure!(after.1.0 > before.1.0, "the backend's node sent none: {before:?}, {after:?}");
    bed.kernel_tracks_nothing()
}

#[test]
fn the_backends_node_answers_the_client() -> Result<()> {
    require!(setup::ready_with_loader());
    the_backends_node_answers(None)
}

#[test]
fn the_backends_node_answers_the_client_at_xdp() -> Result<()> {
    require!(setup::ready_with_loader());
    the_backends_node_answers(Some("generic"))
}

/// NP-7: pods and nodes call the same service at all its addresses and at any node's port.
#[test]
fn whoever_is_inside_calls_as_ever() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = bed(Route::Overlay, &[(0, 1), (1, 0)], SERVING, None)?;
    for (caller, netns) in bed.callers_inside() {
        for ipv4 in FAMILIES {
            let [at_node, external, balanced] = frontends(&bed, ipv4)?;
            let at_other = who::at(&bed.node(1).spec.addresses(), ipv4, NODE_PORT)?;
            for to in [cluster_ip(1, ipv4), at_node, at_other, external, balanced] {
                for protocol in PROTOCOLS {
                    who::everyone(netns, protocol, to, &["pod-0-1", "pod-1-0"])
                        .with_context(|| format!("{caller}, {protocol:?} to {to}"))?;
                }
            }
        }
    }
    Ok(())
}

/// NP-5, NP-7: another node's own process is no client outside: the node that it calls translates it, also to a third node's pod.
#[test]
fn a_process_of_another_node_is_not_handed_on() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = Bed::start(&[1, 1, 1], Route::Overlay, |facts, config| {
        config.services.push(service(facts, &[(2, 0)], SERVING));
    })?;
    for ipv4 in FAMILIES {
        let to = who::at(&bed.node(1).spec.addresses(), ipv4, NODE_PORT)?;
        for protocol in PROTOCOLS {
            let mut session = Session::open(&bed.node(0).netns, protocol, to)?;
            let seen = session.exchange(1300, 1300).with_context(|| format!("{protocol:?} to {to}"))?;
            ensure!(seen.server == "pod-2-0", "{} answers", seen.server);
        }
    }
    Ok(())
}

/// FR-1, IC-1: fragments go where their datagram does, and the client learns what the tunnel takes.
#[test]
fn fragments_and_large_packets_arrive() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = bed(Route::Overlay, &[(1, 0)], SERVING, None)?;
    for to in frontends(&bed, true)? {
        let mut session = Session::open(&bed.outside.netns, Protocol::Udp, to)?;
        session.exchange(8000, 8000).with_context(|| format!("fragments to {to}"))?;
    }
    for ipv4 in FAMILIES {
        let to = frontends(&bed, ipv4)?[0];
        let probe = Probe::to(&bed.outside.netns, to)?;
        probe.discover_mtu()?;
        probe.send(1440)?;
        let notice = probe.notice().with_context(|| format!("{to}: not told of the MTU"))?;
        let expected = if ipv4 { (3, 4) } else { (2, 0) };
        ensure!((notice.kind, notice.code, notice.info) == (expected.0, expected.1, 1450), "{notice:?}");
    }
    Ok(())
}

/// IC-1, IC-2: an error of the backend's reaches the client's own socket, about the address that it called.
#[test]
fn a_closed_backend_port_is_told_to_the_client() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = bed(Route::Overlay, &[(1, 0)], CLOSED, None)?;
    for ipv4 in FAMILIES {
        for to in frontends(&bed, ipv4)? {
            for protocol in PROTOCOLS {
                who::refused(&bed.outside.netns, protocol, to)?;
            }
        }
    }
    Ok(())
}

/// SV-4, SV-5: a backend goes: UDP moves on at once, TCP is told, and new connections have the other one.
#[test]
fn clients_move_when_their_backend_goes() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = bed(Route::Overlay, &[(1, 0)], SERVING, None)?;
    let mut sessions = Vec::new();
    for ipv4 in FAMILIES {
        for to in frontends(&bed, ipv4)? {
            for protocol in PROTOCOLS {
                let mut session = Session::open(&bed.outside.netns, protocol, to)?;
                ensure!(session.ask()?.server == "pod-1-0", "{to}");
                sessions.push((protocol, to, session));
            }
        }
    }
    let other = bed.facts().addresses(&[(1, 1)]);
    bed.change_service(NAME, |service| {
        for port in &mut service.ports {
            let backends = std::mem::take(&mut port.backends);
            *port = port.clone().backends(other.clone(), backends[0].port);
        }
    })?;
    for (protocol, to, mut session) in sessions {
        match protocol {
            Protocol::Tcp => session.must_be_reset()?,
            _ => ensure!(session.ask()?.server == "pod-1-1", "{to}: a datagram did not move on"),
        }
        ensure!(who::ask(&bed.outside.netns, protocol, to)?.server == "pod-1-1", "{to}");
    }
    Ok(())
}

/// NP-6: where nobody can be handed on, callers are treated as without it: over direct routes, and with the external policy Local.
#[test]
fn without_a_tunnel_callers_get_the_nodes_address() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = bed(Route::Direct, &[(1, 0)], SERVING, None)?;
    for (ipv4, cidr) in FAMILIES.into_iter().zip(&bed.node(0).spec.pod_cidrs) {
        let seen = who::ask(&bed.outside.netns, Protocol::Tcp, frontends(&bed, ipv4)?[0])?;
        ensure!(seen.client.ip() == cidr.network(), "seen as {}", seen.client);
    }
    bed.change_service(NAME, |service| service.external_traffic_policy = Some(Policy::Local))?;
    who::silent(&bed.outside.netns, Protocol::Tcp, frontends(&bed, true)?[0])
}

/// OP-1: with another loader in between, the node that was called still hands on to the same backend.
#[test]
fn connections_outlive_both_loaders() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = bed(Route::Overlay, &[(1, 0), (1, 1)], SERVING, None)?;
    let to = frontends(&bed, true)?[0];
    let mut session = Session::open(&bed.outside.netns, Protocol::Tcp, to)?;
    let server = session.ask()?.server;
    for node in &mut bed.cluster.podlane {
        node.kill()?;
        node.start()?;
    }
    for _ in 0..3 {
        ensure!(session.ask()?.server == server, "another one answers");
    }
    Ok(())
}
