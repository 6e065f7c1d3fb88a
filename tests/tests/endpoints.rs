//! Backends that come and go: nothing is stale.

use std::{
    fs, io, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use common::{
    counters::{Hook, Reason},
    flow_cache,
    maps::{WAYS, name},
};
use testbed::{
    bed::{Bed, FAMILIES, PROTOCOLS, SERVING, cluster_ip},
    capture::Capture,
    config::{Algorithm, Backend, Config, Policy, Protocol, State},
    counters, flows,
    frame::{Ip, ethernet},
    netns::Netns,
    podlane_node::PodlaneNode,
    require, setup,
    traffic::who::{self, Session},
};

const NAME: &str = "default/web";
/// Affinity of three seconds holds at least for two ticks of its clock (`common::maps::TICK_NS`), which is longer.
const NOT_OVER: Duration = Duration::from_secs(2);

/// A cluster with one service, whose backends these pods are.
fn bed(pods: &[(usize, usize)]) -> Result<Bed> {
    Bed::two_nodes(|facts, config| config.services.push(facts.service("web", 1, pods)))
}

/// Gives the service other backends, each in a state.
fn give(bed: &mut Bed, pods: &[((usize, usize), State)]) -> Result<()> {
    let facts = bed.facts();
    bed.change_service(NAME, |service| {
        for port in &mut service.ports {
            port.backends = pods
                .iter()
                .flat_map(|(pod, state)| facts.addresses(&[*pod]).into_iter().map(|ip| (ip, *state)))
                .map(|(ip, state)| Backend { state: Some(state), ..Backend::new(ip, SERVING) })
                .collect();
        }
    })
}

fn sessions(netns: &Netns, protocol: Protocol) -> Result<Vec<Session>> {
    FAMILIES.into_iter().map(|ipv4| Session::open(netns, protocol, cluster_ip(1, ipv4))).collect()
}

/// SV-5, never stale: a UDP client that keeps sending moves to a live backend at once when its own goes.
#[test]
fn udp_moves_on_when_its_backend_goes() -> Result<()> {
    require!(setup::ready_with_loader());
    for caller in 0..2 {
        let mut bed = bed(&[(0, 1)])?;
        let netns = bed.callers_inside()[caller].1;
        let mut sessions = sessions(netns, Protocol::Udp)?;
        let turns = [(1, 0), (0, 2), (1, 1), (0, 1)];
        for session in &mut sessions {
            ensure!(session.ask()?.server == "pod-0-1", "another backend");
        }
        for (node, pod) in turns {
            for session in &mut sessions {
                // Until its way is remembered.
                for _ in 0..flow_cache::STEADY {
                    session.ask()?;
                }
            }
            give(&mut bed, &[((node, pod), State::Ready)])?;
            for session in &mut sessions {
                // The very next datagram.
                let seen = session.ask().with_context(|| format!("after the move to pod-{node}-{pod}"))?;
                ensure!(seen.server == format!("pod-{node}-{pod}"), "{} answered", seen.server);
            }
        }
    }
    Ok(())
}

/// SV-5, NP-9: a node port that becomes another service's takes a UDP client along that keeps sending; TCP goes on with whom it has.
#[test]
fn udp_follows_a_node_port_to_another_service() -> Result<()> {
    const PORTS: [u16; 3] = [30_080, 30_081, 30_082];
    require!(setup::ready_with_loader());
    let mut bed = Bed::two_nodes(|facts, config| {
        config.services.push(facts.node_port_service("web", 1, PORTS[0], &[(0, 1)]));
        config.services.push(facts.node_port_service("other", 2, PORTS[1], &[(1, 0)]));
    })?;
    let open = |bed: &Bed, protocol| -> Result<Vec<Session>> {
        let called = bed.node(0).spec.addresses();
        FAMILIES
            .into_iter()
            .map(|ipv4| Session::open(&bed.outside.netns, protocol, who::at(&called, ipv4, PORTS[0])?))
            .collect()
    };
    let (mut udp, mut tcp) = (open(&bed, Protocol::Udp)?, open(&bed, Protocol::Tcp)?);
    for session in udp.iter_mut().chain(&mut tcp) {
        // Until its way is remembered.
        for _ in 0..2 * flow_cache::STEADY {
            ensure!(session.ask()?.server == "pod-0-1", "another backend");
        }
    }
    bed.change(|config| {
        for (service, port) in config.services.iter_mut().zip([PORTS[2], PORTS[0]]) {
            service.ports.iter_mut().for_each(|of| of.node_port = Some(port));
        }
    })?;
    for session in &mut udp {
        let server = session.ask().context("once the port is another service's")?.server;
        ensure!(server == "pod-1-0", "{server} answers for the other service");
    }
    for session in &mut tcp {
        ensure!(session.ask()?.server == "pod-0-1", "a connection moved");
    }
    bed.change(|config| {
        config.services[1].ports.iter_mut().for_each(|of| of.node_port = None);
    })?;
    for session in &mut udp {
        session.must_be_refused().context("the port is nobody's")?;
    }
    Ok(())
}

/// SV-5, OV-12: what the programs remember of flows holds until services or peers change, or connections are flushed.
#[test]
fn what_is_remembered_of_flows_ends_with_a_change() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = bed(&[(0, 1)])?;
    let pins = bed.node(0).pins();
    let mut sessions = sessions(&bed.pod(0, 0).netns, Protocol::Udp)?;
    for session in &mut sessions {
        for _ in 0..2 * flow_cache::STEADY {
            session.ask()?;
        }
    }
    let remembered = flows::remembered(&pins)?;
    ensure!(remembered >= 2 * FAMILIES.len(), "{remembered} flows are remembered: there, and back");

    let before = flows::epochs(&pins)?;
    give(&mut bed, &[((0, 2), State::Ready)])?;
    ensure!(flows::have_ended(&before, &pins)?, "other backends end nothing");
    for session in &mut sessions {
        ensure!(session.ask()?.server == "pod-0-2", "the old one answered");
    }

    let before = flows::epochs(&pins)?;
    bed.change(|config| config.peers.clear())?;
    ensure!(flows::have_ended(&before, &pins)?, "a peer that goes ends nothing");

    let before = flows::epochs(&pins)?;
    let node = bed.node(0);
    let flushed = node.verb(&["conntrack", "flush", "--all", "--node", &node.spec.name])?;
    ensure!(flushed.code == 0, "{flushed:?}");
    ensure!(flows::have_ended(&before, &pins)?, "flushing ends nothing");

    // Programs of an earlier version remember nothing, and have no such map.
    sessions[0].ask()?;
    fs::remove_file(counters::map_path(&pins, name::EPOCHS)?)?;
    let flushed = node.verb(&["conntrack", "flush", "--all", "--node", &node.spec.name])?;
    ensure!(flushed.code == 0 && flushed.stdout.starts_with("1 "), "{flushed:?}");
    Ok(())
}

/// As many flows are remembered as there is room for, which is for four at least, and the others go on.
#[test]
fn flows_are_remembered_where_there_is_room_for_four() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = Bed::two_nodes(|facts, config| {
        config.services.push(facts.service("web", 1, &[(0, 1)]));
        config.maps.insert("flows".to_owned(), 1);
    })?;
    let pins = bed.node(0).pins();
    ensure!(flows::places(&pins)? == WAYS, "{} places", flows::places(&pins)?);
    for session in &mut sessions(&bed.pod(0, 0).netns, Protocol::Udp)? {
        for _ in 0..2 * flow_cache::STEADY {
            session.ask()?;
        }
    }
    let remembered = flows::remembered(&pins)?;
    ensure!(remembered >= FAMILIES.len(), "{remembered} flows are remembered: one of each family at least");
    Ok(())
}

/// SV-5: the same for a backend that is no longer ready, but still listed.
#[test]
fn udp_leaves_a_backend_that_is_not_ready() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = bed(&[(0, 1)])?;
    let mut sessions = sessions(&bed.pod(0, 0).netns, Protocol::Udp)?;
    for session in &mut sessions {
        session.ask()?;
    }
    give(&mut bed, &[((0, 1), State::NotReady), ((1, 0), State::Ready)])?;
    for session in &mut sessions {
        ensure!(session.ask()?.server == "pod-1-0", "it stayed");
    }
    Ok(())
}

/// SV-5, never stale: TCP to a backend that is removed is reset, not left hanging; a new connection goes elsewhere.
#[test]
fn tcp_to_a_removed_backend_is_reset() -> Result<()> {
    require!(setup::ready_with_loader());
    for removed in [(0, 1), (1, 0)] {
        let mut bed = bed(&[removed])?;
        for number in 0..2 {
            let netns = bed.callers_inside()[number].1;
            let mut open = sessions(netns, Protocol::Tcp)?;
            for session in &mut open {
                session.ask()?;
            }
            let before = bed.node(0).counters()?;
            give(&mut bed, &[((1, 1), State::Ready)])?;
            for session in &mut open {
                session.must_be_reset().with_context(|| format!("{removed:?}"))?;
            }
            let hook = [Hook::FromPod, Hook::FromHost][number];
            let after = bed.node(0).counters()?;
            let gone = after.packets(hook, Reason::BackendGone) - before.packets(hook, Reason::BackendGone);
            ensure!(gone >= 2, "counted {:?}", after.since(&before));
            for ipv4 in FAMILIES {
                who::everyone(
                    bed.callers_inside()[number].1,
                    Protocol::Tcp,
                    cluster_ip(1, ipv4),
                    &["pod-1-1"],
                )?;
            }
            give(&mut bed, &[(removed, State::Ready)])?;
        }
    }
    Ok(())
}

/// SV-4, SV-6: a terminating backend keeps its connections and gets no new ones while any is ready; when none is, it does. One
/// that is not ready keeps its TCP connections and never gets any.
#[test]
fn terminating_backends_keep_what_they_have() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = bed(&[(0, 1)])?;
    let (ready, terminating, not_ready) = (State::Ready, State::ServingTerminating, State::NotReady);
    let mut old = sessions(&bed.pod(0, 0).netns, Protocol::Tcp)?;
    let mut old_udp = sessions(&bed.pod(0, 0).netns, Protocol::Udp)?;
    for session in old.iter_mut().chain(&mut old_udp) {
        session.ask()?;
    }
    let only = |bed: &Bed, servers: &[&str]| -> Result<()> {
        for (ipv4, protocol) in
            FAMILIES.into_iter().zip(PROTOCOLS).chain(FAMILIES.into_iter().rev().zip(PROTOCOLS))
        {
            who::everyone(&bed.pod(0, 0).netns, protocol, cluster_ip(1, ipv4), servers)
                .with_context(|| format!("{servers:?} by {protocol:?}"))?;
        }
        Ok(())
    };
    give(&mut bed, &[((0, 1), terminating), ((1, 0), ready)])?;
    only(&bed, &["pod-1-0"])?;
    for session in old.iter_mut().chain(&mut old_udp) {
        ensure!(session.ask()?.server == "pod-0-1", "an old connection moved");
    }
    give(&mut bed, &[((0, 1), terminating), ((1, 0), terminating), ((1, 1), not_ready)])?;
    only(&bed, &["pod-0-1", "pod-1-0"])?;
    give(&mut bed, &[((0, 1), not_ready), ((1, 0), terminating)])?;
    only(&bed, &["pod-1-0"])?;
    for session in &mut old {
        ensure!(session.ask()?.server == "pod-0-1", "an old connection moved");
    }
    give(&mut bed, &[((0, 1), not_ready), ((1, 0), not_ready)])?;
    for (ipv4, protocol) in FAMILIES.into_iter().zip(PROTOCOLS) {
        who::refused(&bed.pod(0, 0).netns, protocol, cluster_ip(1, ipv4))?;
    }
    for session in &mut old {
        session.ask().context("an old connection to what is not ready")?;
    }
    give(&mut bed, &[((0, 1), ready)])?;
    only(&bed, &["pod-0-1"])
}

/// SV-7: without backends the caller is told at once, by every protocol, and it is counted.
#[test]
fn no_backend_is_refused() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = bed(&[])?;
    let before = bed.node(0).counters()?;
    for (caller, netns) in bed.callers_inside() {
        for ipv4 in FAMILIES {
            for protocol in PROTOCOLS {
                who::refused(netns, protocol, cluster_ip(1, ipv4)).context(caller)?;
            }
        }
    }
    let counted = bed.node(0).counters()?.since(&before);
    for hook in ["from_pod", "from_host"] {
        ensure!(counted.get(&format!("{hook}/no_backend")) >= Some(&4), "{counted:?}");
    }
    Ok(())
}

/// SV-7, NP-10: with the internal policy Local and no backend on the node, silence: what is sent goes nowhere, and is counted. Where
/// there is one, it alone answers.
#[test]
fn a_local_policy_without_local_backends_is_silent() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = bed(&[(1, 0), (1, 1)])?;
    bed.change_service(NAME, |service| service.internal_traffic_policy = Some(Policy::Local))?;
    let before = bed.node(0).counters()?;
    for (caller, netns) in bed.callers_inside() {
        for (ipv4, protocol) in FAMILIES.into_iter().zip(PROTOCOLS) {
            who::silent(netns, protocol, cluster_ip(1, ipv4)).context(caller)?;
        }
    }
    let counted = bed.node(0).counters()?.since(&before);
    for hook in ["from_pod", "from_host"] {
        ensure!(counted.get(&format!("{hook}/no_local_backend")) >= Some(&2), "{counted:?}");
    }
    give(&mut bed, &[((0, 1), State::Ready), ((1, 0), State::Ready)])?;
    for (caller, netns) in bed.callers_inside() {
        for (ipv4, protocol) in FAMILIES.into_iter().zip(PROTOCOLS) {
            who::everyone(netns, protocol, cluster_ip(1, ipv4), &["pod-0-1"]).context(caller)?;
        }
    }
    who::everyone(&bed.pod(1, 2).netns, Protocol::Tcp, cluster_ip(1, true), &["pod-1-0"])
}

/// SV-2, SV-13: a port that no service has, a protocol that no service has and an address that no service has: refused, counted, and
/// nothing of it leaves the node.
#[test]
fn undefined_ports_and_addresses_never_leave_the_node() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = bed(&[(0, 1)])?;
    let mut uplink = Capture::open(&bed.node(0).netns, "eth0")?;
    let before = bed.node(0).counters()?;
    for (caller, netns) in bed.callers_inside() {
        for ipv4 in FAMILIES {
            for protocol in PROTOCOLS {
                let case = || format!("{caller}, {protocol:?}, IPv4 {ipv4}");
                let mut undefined = cluster_ip(1, ipv4);
                undefined.set_port(81);
                who::refused(netns, protocol, undefined).with_context(case)?;
                let error =
                    who::ask(netns, protocol, cluster_ip(77, ipv4)).err().context("an answer from nobody")?;
                let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
                let told = [
                    io::ErrorKind::ConnectionRefused,
                    io::ErrorKind::HostUnreachable,
                    io::ErrorKind::NetworkUnreachable,
                ];
                ensure!(kind.is_some_and(|kind| told.contains(&kind)), "{}: {error:#}", case());
            }
        }
    }
    let counted = bed.node(0).counters()?.since(&before);
    for hook in ["from_pod", "from_host"] {
        ensure!(counted.get(&format!("{hook}/no_such_service")) >= Some(&8), "{counted:?}");
    }
    let pod = bed.pod(0, 0);
    let source = Capture::open(&pod.netns, "eth0")?;
    for ipv4 in FAMILIES {
        let ip = Ip::new(who::at(&pod.ips(), ipv4, 0)?.ip(), cluster_ip(1, ipv4).ip());
        // GRE, SCTP for a port at which there is TCP, and ICMP that is neither an echo nor an error.
        let port = [0x0f, 0xa0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0];
        let asks = if ipv4 { 13 } else { 200 };
        for packet in [ip.packet(47, &[0; 8]), ip.packet(132, &port), ip.icmp(asks, 0, &[0; 16])] {
            let before = bed.node(0).counters()?;
            source.inject(&ethernet(pod.netns.mac("eth0")?, bed.node(0).mac(), &packet))?;
            counters::wait_for(&before, Hook::FromPod, Reason::NoSuchService, 1)
                .with_context(|| format!("{packet:02x?}"))?;
        }
    }
    for packet in uplink.drain()? {
        let out = packet.headers().filter(|_| packet.outgoing);
        let services = testbed::address::service_cidrs();
        let leaked = out.filter(|headers| services.iter().any(|cidr| cidr.contains(&headers.destination)));
        ensure!(leaked.is_none(), "left the node: {leaked:?}");
    }
    Ok(())
}

/// SV-8: a client keeps its backend for every port it calls from, by TCP and UDP alike; not when it is removed or terminating,
/// and not without affinity, which is switched live.
#[test]
fn a_client_keeps_its_backend() -> Result<()> {
    require!(setup::ready_with_loader());
    for algorithm in [Algorithm::Maglev, Algorithm::Random] {
        let all = [(0, 1), (0, 2), (1, 0), (1, 1)];
        let names = ["pod-0-1", "pod-0-2", "pod-1-0", "pod-1-1"];
        let mut bed = bed(&all)?;
        bed.change_service(NAME, |service| service.algorithm = Some(algorithm))?;
        who::everyone(&bed.pod(0, 0).netns, Protocol::Tcp, cluster_ip(1, true), &names)?;
        bed.change_service(NAME, |service| {
            service.affinity = Some(testbed::config::Affinity { client_ip_seconds: 600 });
        })?;
        for (caller, ipv4, protocol) in [
            (0, true, Protocol::Tcp),
            (0, false, Protocol::Udp),
            (1, true, Protocol::Udp),
            (1, false, Protocol::Tcp),
        ] {
            let to = cluster_ip(1, ipv4);
            let kept = who::ask(bed.callers_inside()[caller].1, protocol, to)?.server;
            for _ in 0..20 {
                let server = who::ask(bed.callers_inside()[caller].1, protocol, to)?.server;
                ensure!(server == kept, "{algorithm:?}: {kept} first, then {server}");
            }
            // Terminating: new connections go elsewhere, and stay there.
            let at = names.iter().position(|name| *name == kept).context("a backend")?;
            let states: Vec<_> = all
                .iter()
                .enumerate()
                .map(|(index, pod)| {
                    (*pod, if index == at { State::ServingTerminating } else { State::Ready })
                })
                .collect();
            give(&mut bed, &states)?;
            let next = who::ask(bed.callers_inside()[caller].1, protocol, to)?.server;
            ensure!(next != kept, "a new connection to one that is terminating");
            // Gone.
            let without: Vec<_> =
                states.iter().filter(|(_, state)| *state == State::Ready).copied().collect();
            give(&mut bed, &without)?;
            for _ in 0..10 {
                let server = who::ask(bed.callers_inside()[caller].1, protocol, to)?.server;
                ensure!(server == next, "{algorithm:?}: {next} first, then {server}");
            }
            give(&mut bed, &all.map(|pod| (pod, State::Ready)))?;
        }
        bed.change_service(NAME, |service| service.affinity = None)?;
        who::everyone(&bed.pod(0, 0).netns, Protocol::Tcp, cluster_ip(1, true), &names)?;
    }
    Ok(())
}

/// SV-8: the time slides: each connection begins it anew, and when it is over the client may get anybody.
#[test]
fn affinity_ends_after_its_time() -> Result<()> {
    require!(setup::ready_with_loader());
    let all = [(0, 1), (0, 2), (1, 0), (1, 1)];
    let bed = Bed::two_nodes(|facts, config| {
        let mut service = facts.service("web", 1, &all);
        service.affinity = Some(testbed::config::Affinity { client_ip_seconds: 3 });
        service.algorithm = Some(Algorithm::Random);
        config.services.push(service);
    })?;
    let ask = || who::ask(&bed.pod(0, 0).netns, Protocol::Udp, cluster_ip(1, true)).map(|seen| seen.server);
    // Longer than the timeout in all, never so long between two: where the machine stood still for longer, it begins anew.
    let deadline = Instant::now() + testbed::wait::patience();
    let (mut asked, mut kept, mut stayed) = (Instant::now(), ask()?, 0);
    while stayed < 5 {
        ensure!(Instant::now() < deadline, "never five times in a row within the time");
        thread::sleep(Duration::from_secs(1));
        let before = std::mem::replace(&mut asked, Instant::now());
        let server = ask()?;
        if before.elapsed() < NOT_OVER {
            ensure!(server == kept, "{kept} first, then {server}");
            stayed += 1;
        } else {
            (kept, stayed) = (server, 0);
        }
    }
    // One in four stays by chance: of ten times that the time is over, one at least goes elsewhere.
    testbed::wait::until_after(Duration::from_secs(40), "another backend", || {
        thread::sleep(Duration::from_millis(4500));
        Ok((ask()? != kept).then_some(()))
    })
}

/// SV-5: a service that goes takes its connections along: TCP is reset and UDP refused. One of its name that comes back has none of
/// them.
#[test]
fn a_service_that_goes_is_gone() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = bed(&[(0, 1), (1, 0)])?;
    let mut open = sessions(&bed.pod(0, 0).netns, Protocol::Tcp)?;
    let mut open_udp = sessions(&bed.pod(0, 0).netns, Protocol::Udp)?;
    for session in open.iter_mut().chain(&mut open_udp) {
        session.ask()?;
    }
    let taken = |config: &mut Config| config.services.clear();
    bed.change(taken)?;
    for ipv4 in FAMILIES {
        for protocol in PROTOCOLS {
            who::unanswered(&bed.pod(0, 0).netns, protocol, cluster_ip(1, ipv4))?;
        }
    }
    for session in &mut open {
        session.must_be_reset().context("a connection outlives its service")?;
    }
    for session in &mut open_udp {
        session.must_be_refused().context("a socket outlives the service that it called")?;
    }
    let facts = bed.facts();
    bed.change(|config| config.services.push(facts.service("web", 1, &[(1, 1)])))?;
    for ipv4 in FAMILIES {
        for protocol in PROTOCOLS {
            who::everyone(&bed.pod(0, 0).netns, protocol, cluster_ip(1, ipv4), &["pod-1-1"])?;
        }
    }
    served(bed.node(0))
}

/// The loader has no complaint.
fn served(node: &PodlaneNode) -> Result<()> {
    let state = node.state()?;
    ensure!(state["problems"].as_array().is_some_and(Vec::is_empty), "{}", state["problems"]);
    Ok(())
}
