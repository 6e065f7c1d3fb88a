//! What is remembered of connections: how long, what ends them, and what happens when there is no room.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use common::maps::connection_flag;
use serde_json::Value;
use testbed::{
    bed::{Bed, FAMILIES, PROTOCOLS, SERVING, cluster_ip},
    capture::Capture,
    config::{Config, Protocol},
    connections::{self, Entry},
    frame::{Ip, ethernet},
    podlane_node::PodlaneNode,
    require, setup,
    traffic::{
        udp,
        who::{self, Session},
    },
    wait,
};

const NAME: &str = "default/web";
const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

fn bed(pods: &[(usize, usize)], mut more: impl FnMut(&mut Config)) -> Result<Bed> {
    Bed::two_nodes(|facts, config| {
        config.services.push(facts.service("web", 1, pods));
        more(config);
    })
}

/// Both entries of the connections to the service from this port.
fn entries(bed: &Bed, port: u16) -> Result<Vec<Entry>> {
    let mut entries = connections::list(&bed.node(0).pins())?;
    entries.retain(|entry| entry.from.port() == port || entry.to.port() == port);
    Ok(entries)
}

fn timeouts(config: &mut Config, seconds: &[(&str, u32)]) {
    let timeouts = seconds.iter().map(|(kind, seconds)| ((*kind).to_owned(), *seconds));
    config.conntrack.timeout = timeouts.collect();
}

/// Waits until neither half of a connection is left; both go together.
fn wait_until_gone(bed: &Bed, port: u16) -> Result<Duration> {
    let started = Instant::now();
    wait::until_after(
        Duration::from_secs(25),
        &format!("the connection of port {port} to be forgotten"),
        || {
            let entries = entries(bed, port)?;
            ensure!(entries.is_empty(), "{entries:?}");
            Ok(Some(()))
        },
    )?;
    Ok(started.elapsed())
}

/// CT-1, CT-4: a connection is two entries. Closed, reset, unanswered or idle ones are forgotten after the time of their state,
/// both halves together; one that is used or has long enough is not.
#[test]
fn connections_are_forgotten_by_their_state() -> Result<()> {
    require!(setup::ready_with_loader());
    let times = [("tcp-syn", 2), ("tcp-closing", 2), ("udp", 2), ("udp-stream", 4), ("icmp", 2)];
    let bed = bed(&[(0, 1), (1, 0)], |config| timeouts(config, &times))?;
    let pod = &bed.pod(0, 0).netns;
    let open = |port, protocol, ipv4| -> Result<Session> {
        let mut session = Session::open_port(pod, port, protocol, cluster_ip(1, ipv4))?;
        session.ask()?;
        let entries = entries(&bed, port)?;
        ensure!(entries.len() == 2, "{entries:?}");
        let reply = entries.iter().find(|entry| entry.is_reply()).context("no entry of the answers")?;
        let request = entries.iter().find(|entry| !entry.is_reply()).context("no entry of the requests")?;
        ensure!(reply.from == request.becomes_to && reply.to == request.becomes_from, "{entries:?}");
        ensure!(reply.becomes_from == request.to && reply.becomes_to == request.from, "{entries:?}");
        Ok(session)
    };
    let mut lasting = Vec::new();
    for (number, ipv4) in (0..).zip(FAMILIES) {
        lasting.push(open(40_000 + number, Protocol::Tcp, ipv4)?);
        let mut used = open(40_010 + number, Protocol::Udp, ipv4)?;
        drop(open(40_020 + number, Protocol::Tcp, ipv4)?);
        open(40_030 + number, Protocol::Tcp, ipv4)?.reset()?;
        drop(open(40_040 + number, Protocol::Udp, ipv4)?);
        for port in [40_020, 40_030, 40_040] {
            // The connection that is used meanwhile is never cut.
            let deadline = Instant::now() + Duration::from_secs(40);
            while !entries(&bed, port + number)?.is_empty() {
                ensure!(Instant::now() < deadline, "{:?}", entries(&bed, port + number)?);
                used.ask()?;
                std::thread::sleep(Duration::from_millis(200));
            }
        }
        ensure!(entries(&bed, 40_010 + number)?.len() == 2, "a connection in use was forgotten");
        lasting.push(used);
    }
    for (number, session) in lasting.iter_mut().enumerate() {
        session.ask().with_context(|| format!("lasting connection {number}"))?;
    }
    Ok(())
}

/// CT-1: a SYN that nobody answers is remembered for its own, shorter time.
#[test]
fn unanswered_calls_are_forgotten() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = bed(&[(0, 1)], |config| timeouts(config, &[("tcp-syn", 2), ("udp", 2)]))?;
    let from = bed.pod(0, 0);
    // The backend answers nobody.
    bed.pod(0, 1).netns.ip(&format!("route add blackhole {}", from.v4()?))?;
    let source = Capture::open(&from.netns, "eth0")?;
    let (mac, node) = (from.netns.mac("eth0")?, bed.node(0).mac());
    let ip = Ip::new(from.v4()?.into(), cluster_ip(1, true).ip());
    for packet in [ip.udp((41_001, 80), b"?"), ip.tcp((41_001, 80), SYN)] {
        source.inject(&ethernet(mac, node, &packet))?;
    }
    wait::until("the connection to be remembered", || Ok((entries(&bed, 41_001)?.len() == 4).then_some(())))?;
    wait_until_gone(&bed, 41_001)?;
    Ok(())
}

/// Waits until the one answer that a caller got has been acknowledged. Of two packets from different processors the second may
/// overtake the first, and what comes after a reset undoes it.
fn wait_for_acknowledgement(bed: &Bed, (from, to): (u16, SocketAddr)) -> Result<()> {
    wait::until("the answer to be acknowledged", || {
        let calls = |entry: &Entry| !entry.is_reply() && entry.from.port() == from && entry.to == to;
        // SYN, its acknowledgement, the question, and the acknowledgement of the answer.
        Ok(entries(bed, from)?.iter().any(|entry| calls(entry) && entry.packets >= 4).then_some(()))
    })
}

/// CT-2: the tuple of a connection that is over begins another one, which may get another backend.
#[test]
fn a_recycled_tuple_is_a_new_connection() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = bed(&[(0, 1)], |_| {})?;
    for reset in [false, true] {
        for (ipv4, caller) in FAMILIES.into_iter().zip([0, 1]) {
            for (turn, pod) in [(0, 1), (1, 0), (0, 2), (1, 1)].into_iter().enumerate() {
                // The old one stays, and takes nothing new.
                let facts = bed.facts();
                bed.change_service(NAME, |service| {
                    for port in &mut service.ports {
                        port.backends.iter_mut().for_each(|backend| backend.weight = Some(0));
                        let addresses = facts.addresses(&[pod]);
                        port.backends.retain(|backend| !addresses.contains(&backend.ip));
                        *port = port.clone().backends(addresses, SERVING);
                    }
                })?;
                let netns = bed.callers_inside()[caller].1;
                let mut session = Session::open_port(netns, 42_000, Protocol::Tcp, cluster_ip(1, ipv4))
                    .with_context(|| format!("turn {turn}, reset {reset}"))?;
                let seen = session.ask()?;
                let server = format!("pod-{}-{}", pod.0, pod.1);
                ensure!(seen.server == server, "turn {turn}, reset {reset}: {seen:?} instead of {server}");
                if reset {
                    wait_for_acknowledgement(&bed, (42_000, cluster_ip(1, ipv4)))?;
                    session.reset()?;
                } else {
                    // The server closes first, so that no end of ours holds the tuple.
                    drop(session.ask_and_close()?);
                }
            }
        }
    }
    Ok(())
}

/// CT-3: a reset that somebody else made up does not end a connection that goes on: it is not forgotten while it is used.
#[test]
fn a_spurious_reset_ends_nothing() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = bed(&[(1, 0)], |config| timeouts(config, &[("tcp-closing", 2)]))?;
    let from = bed.pod(0, 0);
    let source = Capture::open(&from.netns, "eth0")?;
    for (ipv4, own) in FAMILIES.into_iter().zip(from.ips()) {
        let port = if ipv4 { 43_004 } else { 43_006 };
        let mut session = Session::open_port(&from.netns, port, Protocol::Tcp, cluster_ip(1, ipv4))?;
        session.ask()?;
        let to = cluster_ip(1, ipv4).ip();
        // Its sequence number is far from the connection's.
        let reset = Ip::new(own, to).tcp((port, 80), RST);
        let reset = ethernet(from.netns.mac("eth0")?, bed.node(0).mac(), &reset);
        let is_reset = || -> Result<bool> {
            Ok(entries(&bed, port)?.iter().any(|entry| entry.flags & connection_flag::RST != 0))
        };
        // An acknowledgement that was on its way undoes it, too.
        wait::until("the reset to be noticed", || {
            source.inject(&reset)?;
            Ok(is_reset()?.then_some(()))
        })?;
        let started = Instant::now();
        while started.elapsed() < Duration::from_secs(8) {
            session.ask().with_context(|| format!("after {:?}", started.elapsed()))?;
            std::thread::sleep(Duration::from_millis(300));
        }
        // Or it would be forgotten as soon as it is silent.
        ensure!(!is_reset()?, "it is taken for one that is over");
    }
    Ok(())
}

/// CT-5: a table without room keeps the connections that it has; what it can't take is counted, and taken when there is room
/// again.
#[test]
fn a_full_table_keeps_what_it_has() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = bed(&[(0, 1)], |config| {
        config.maps.insert("conntrack".to_owned(), 64);
        // None ends before all have been tried.
        timeouts(config, &[("udp-stream", 4 * wait::slowness()), ("udp", 2 * wait::slowness())]);
    })?;
    let pod = &bed.pod(0, 0).netns;
    let to = cluster_ip(1, true);
    let mut old = Session::open(pod, Protocol::Tcp, to)?;
    old.ask()?;
    let before = bed.node(0).counters()?;
    let mut waiting = Vec::new();
    for _ in 0..60 {
        let socket = udp::connect(pod, to)?;
        socket.set_nonblocking(true).context("make a socket non-blocking")?;
        socket.send(b"a question").context("send")?;
        waiting.push(socket);
        old.ask().context("the connection from before")?;
    }
    let mut taken = Vec::new();
    // However late an answer is: a question has one, or is counted.
    let refused = wait::until("every question's answer or refusal", || {
        taken.extend(waiting.extract_if(.., |socket| socket.recv(&mut [0; 256]).is_ok()));
        let refused = bed.node(0).counters()?.since(&before).remove("from_pod/conntrack_full").unwrap_or(0);
        Ok((waiting.len() as u64 == refused).then_some(refused))
    })?;
    ensure!(refused > 0 && taken.len() >= 25, "{} taken, {refused} refused", taken.len());
    for socket in taken {
        socket.set_nonblocking(false).context("make a socket blocking")?;
        socket.send(b"another").context("send")?;
        socket.recv(&mut [0; 256]).context("one that was taken")?;
    }
    wait::until_after(Duration::from_secs(30), "room again", || {
        old.ask()?;
        let mut session = Session::open(pod, Protocol::Udp, to)?;
        session.patience(wait::scaled(Duration::from_millis(100)))?;
        Ok(session.ask().ok())
    })?;
    Ok(())
}

/// CT-6: a connection that is not remembered goes on, or is reset; never does the client see an address that it did not call.
#[test]
fn a_forgotten_connection_shows_nobody_the_backend() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = bed(&[(0, 1), (1, 0), (1, 1)], |_| {})?;
    let from = bed.pod(0, 0);
    for ipv4 in FAMILIES {
        let mut capture = Capture::open(&from.netns, "eth0")?;
        let called = cluster_ip(1, ipv4);
        for protocol in PROTOCOLS {
            let mut session = Session::open(&from.netns, protocol, called)?;
            session.ask()?;
            let port = session.own_address()?.port();
            let gone = connections::remove(&bed.node(0).pins(), |entry| {
                entry.from.port() == port || entry.to.port() == port
            })?;
            ensure!(gone == 2, "{gone} entries");
            // By Maglev it gets the same backend again.
            session.ask().with_context(|| format!("{protocol:?}, forgotten"))?;
        }
        // A segment of a connection that nobody has.
        let stray = Ip::new(who::at(&from.ips(), ipv4, 0)?.ip(), called.ip()).tcp((44_000, 80), ACK);
        capture.inject(&ethernet(from.netns.mac("eth0")?, bed.node(0).mac(), &stray))?;
        capture.find("the answer to a stray segment", |packet| {
            packet
                .headers()
                .filter(|headers| headers.ports == Some((80, 44_000)) && headers.source == called.ip())
        })?;
        for packet in capture.drain()? {
            let Some(headers) = packet.headers().filter(|headers| headers.protocol == 6 && !packet.outgoing)
            else {
                continue;
            };
            ensure!(headers.source == called.ip(), "the client saw {headers:?}");
        }
    }
    Ok(())
}

/// CT-7: a backend is called by its service and directly at the same time, from different ports; neither disturbs the other.
#[test]
fn direct_calls_and_calls_of_the_service_go_side_by_side() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = bed(&[(0, 1), (1, 0)], |_| {})?;
    for ipv4 in FAMILIES {
        for protocol in PROTOCOLS {
            for (_, netns) in bed.callers_inside() {
                let mut sessions = Vec::new();
                for pod in [(0, 1), (1, 0)] {
                    let direct = who::at(&bed.pod(pod.0, pod.1).ips(), ipv4, SERVING)?;
                    sessions.push(Session::open(netns, protocol, cluster_ip(1, ipv4))?);
                    sessions.push(Session::open(netns, protocol, direct)?);
                }
                for _ in 0..5 {
                    for session in &mut sessions {
                        session.exchange(1000, 1000)?;
                    }
                }
            }
        }
    }
    Ok(())
}

/// SV-10: what two services have in common is a pod; what is counted for it is counted for the service that was called, to the byte.
#[test]
fn services_that_share_a_backend_are_counted_apart() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = Bed::two_nodes(|facts, config| {
        config.services.push(facts.service("few", 1, &[(0, 1)]));
        config.services.push(facts.service("many", 2, &[(0, 1)]));
    })?;
    let backends = bed.pod(0, 1).ips();
    let mut expected = Vec::new();
    for (number, name, connections) in [(1, "default/few", 2), (2, "default/many", 5)] {
        for (ipv4, backend) in FAMILIES.into_iter().zip(&backends) {
            let headers = if ipv4 { HEADERS } else { HEADERS + 20 };
            let (mut packets, mut bytes) = (0, 0);
            for _ in 0..connections {
                let caller = &bed.pod(0, 0).netns;
                let mut session = Session::open(caller, Protocol::Udp, cluster_ip(number, ipv4))?;
                // Few enough to be counted at once (`common::flow_cache::STEADY`).
                for _ in 0..3 {
                    let seen = session.exchange(SENT, SENT)?;
                    let answer = format!("{} {}\n", seen.server, seen.client).len() + SENT;
                    packets += 2;
                    bytes += u64::try_from(2 * headers + SENT + answer)?;
                }
            }
            expected.push((name, *backend, [connections, packets, bytes]));
            for (name, backend, expected) in &expected {
                let now = counted(bed.node(0), name, Protocol::Udp, *backend)?;
                ensure!(now == *expected, "{name} at {backend}: {now:?} instead of {expected:?}");
                let tcp = counted(bed.node(0), name, Protocol::Tcp, *backend)?;
                ensure!(tcp == [0; 3], "{name} at {backend}: {tcp:?} by TCP, which nobody spoke");
            }
        }
    }
    bed.change(|config| config.services.truncate(1))?;
    for (name, backend, expected) in expected.iter().filter(|(name, ..)| *name == "default/few") {
        let now = counted(bed.node(0), name, Protocol::Udp, *backend)?;
        ensure!(now == *expected, "once the other is gone: {now:?} instead of {expected:?}");
    }
    Ok(())
}

/// Bytes of a datagram's payload.
const SENT: usize = 16;
/// Ethernet, IPv4 and UDP in front of it.
const HEADERS: usize = 14 + 20 + 8;

/// Connections, packets and bytes that `loader services` counts for a backend of a service.
fn counted(node: &PodlaneNode, service: &str, protocol: Protocol, backend: IpAddr) -> Result<[u64; 3]> {
    let printed = node.verb(&["services", service, "--node", &node.spec.name, "-o", "json"])?;
    ensure!(printed.code == 0, "{printed:?}");
    let report: Value = serde_json::from_str(&printed.stdout).context("what `loader services` printed")?;
    let (wanted, backend) = (format!("{protocol:?}").to_uppercase(), backend.to_string());
    let services = report["services"].as_array().context("services")?;
    let of_service = services.iter().filter(|row| row["service"] == service && row["protocol"] == *wanted);
    let mut backends = of_service.filter_map(|row| row["backends"].as_array()).flatten();
    let row = backends.find(|row| row["address"] == *backend).with_context(|| printed.stdout.clone())?;
    let number = |key: &str| row[key].as_u64().with_context(|| format!("no {key} in {row}"));
    Ok([number("connections")?, number("packets")?, number("bytes")?])
}

/// SV-10: the verbs: connections are listed, by service and by other filters, and flushed.
#[test]
fn connections_are_listed_and_flushed() -> Result<()> {
    require!(setup::ready_with_loader());
    let bed = bed(&[(0, 1)], |_| {})?;
    let node = bed.node(0);
    let mut session = Session::open_port(&bed.pod(0, 0).netns, 45_000, Protocol::Udp, cluster_ip(1, true))?;
    session.ask()?;
    let mut other = Session::open_port(&bed.pod(0, 2).netns, 45_001, Protocol::Tcp, cluster_ip(1, false))?;
    other.ask()?;
    let name = ["--node", &node.spec.name];
    let listed = |filters: &[&str]| -> Result<[bool; 2]> {
        let list = node.verb(&[&["conntrack", "list"], &name[..], filters].concat())?;
        ensure!(list.code == 0, "{list:?}");
        Ok(["45000", "45001"].map(|port| list.stdout.contains(port)))
    };
    let source = bed.pod(0, 0).v4()?.to_string();
    for (filters, expected) in [
        (&[][..], [true, true]),
        (&["--protocol", "udp"], [true, false]),
        (&["--service", NAME, "--state", "established"], [false, true]),
        (&["--source", &source], [true, false]),
        (&["--port", "79"], [false, false]),
    ] {
        let listed = listed(filters)?;
        ensure!(listed == expected, "{filters:?} list {listed:?}");
    }
    let flush = |filters: &[&str]| node.verb(&[&["conntrack", "flush"], &name[..], filters].concat());
    ensure!(flush(&[])?.code == 2, "everything is flushed unasked");
    ensure!(
        flush(&["--source", &source])?.code == 0 && listed(&[])? == [false, true],
        "another one was flushed"
    );
    ensure!(flush(&["--all"])?.code == 0, "not flushed");
    ensure!(connections::list(&node.pins())?.is_empty(), "connections are left");
    session.ask()?;
    let services = node.verb(&["services", "--node", &node.spec.name])?;
    ensure!(services.code == 0 && services.stdout.contains(NAME), "{services:?}");
    Ok(())
}
