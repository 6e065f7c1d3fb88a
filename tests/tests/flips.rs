//! One write makes a change visible: under steady load services change as a whole, and nothing with a live backend is lost.

use std::{
    collections::BTreeSet,
    fs,
    io::{self, Write as _},
    net::{IpAddr, SocketAddr},
    path::Path,
};

use anyhow::{Context as _, Result, bail, ensure};
use testbed::{
    bed::{Bed, FAMILIES, PROTOCOLS, SERVING, cluster_ip},
    config::{Backend, Masquerade, Protocol, Service, ServicePort, State},
    connections, require, setup,
    traffic::{
        self,
        load::{Connections, Load},
        who::{self, Server, Session},
    },
};

const NAME: &str = "default/web";
const NODE_PORT: u16 = 30_080;
/// Where a pod serves a hundred times.
const MANY: std::ops::Range<u16> = 20_000..20_100;

/// Loads of every kind on the service: from a pod, from the node and from outside; new connections and lasting ones.
struct Loads(Vec<Load>);

impl Loads {
    fn start(bed: &Bed) -> Result<Self> {
        let node_port = |ipv4| who::at(&bed.node(0).spec.addresses(), ipv4, NODE_PORT);
        let mut loads = Vec::new();
        for (ipv4, protocol) in [true, false].into_iter().zip(PROTOCOLS) {
            loads.push(Load::start(&bed.pod(0, 0).netns, protocol, cluster_ip(1, ipv4), Connections::New)?);
            loads.push(Load::start(&bed.outside.netns, protocol, node_port(ipv4)?, Connections::New)?);
        }
        loads.push(Load::start(&bed.pod(0, 0).netns, Protocol::Udp, cluster_ip(1, true), Connections::One)?);
        loads.push(Load::start(&bed.node(0).netns, Protocol::Tcp, cluster_ip(1, true), Connections::New)?);
        loads.push(Load::start(&bed.outside.netns, Protocol::Udp, node_port(true)?, Connections::One)?);
        let loads = Self(loads);
        loads.go_on()?;
        Ok(loads)
    }

    fn go_on(&self) -> Result<()> {
        self.0.iter().try_for_each(|load| load.wait_for(20))
    }

    /// Ends them: nothing may have been lost. Returns every server that answered.
    fn finish(self) -> Result<BTreeSet<String>> {
        let mut servers = BTreeSet::new();
        for load in self.0 {
            let name = load.name().to_owned();
            let account = load.finish()?;
            let lost = &account.lost;
            if !lost.is_empty() {
                let said = format!("{name}: {} lost of {:?}: {lost:#?}", lost.len(), account.answered);
                // Past libtest, which says why a test failed only when all have ended: a run that is stopped never gets there.
                let _unheard = writeln!(io::stderr(), "{said}");
                bail!(said);
            }
            servers.extend(account.answered.into_keys());
        }
        Ok(servers)
    }
}

fn bed(pods: &[(usize, usize)]) -> Result<Bed> {
    Bed::two_nodes(|facts, config| config.services.push(facts.node_port_service("web", 1, NODE_PORT, pods)))
}

/// The reasons for which a packet of a service is dropped.
fn nothing_dropped(bed: &Bed, before: &testbed::counters::Counters) -> Result<()> {
    let counted = bed.node(0).counters()?.since(before);
    let reasons = [
        "no_backend",
        "no_such_service",
        "backend_gone",
        "conntrack_full",
        "ports_exhausted",
        "helper_failed",
    ];
    let dropped: Vec<_> =
        counted.iter().filter(|(name, _)| reasons.iter().any(|reason| name.ends_with(reason))).collect();
    ensure!(dropped.is_empty(), "dropped {dropped:?}");
    Ok(())
}

/// Gives the service endpoints.
fn give(bed: &mut Bed, endpoints: &[(IpAddr, u16, State)]) -> Result<()> {
    bed.change_service(NAME, |service| {
        for port in &mut service.ports {
            port.backends = endpoints
                .iter()
                .map(|(ip, port, state)| Backend { state: Some(*state), ..Backend::new(*ip, *port) })
                .collect();
        }
    })
}

/// Never stale, SV-6: every backend is replaced, again and again: the new ones are added, the old ones terminate, then go.
#[test]
fn replacing_every_backend_loses_nothing() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = bed(&[(0, 1), (1, 0)])?;
    let loads = Loads::start(&bed)?;
    let before = bed.node(0).counters()?;
    let sets = [[(0, 2), (1, 1)], [(1, 2), (1, 0)], [(0, 1), (1, 1)], [(0, 2), (1, 0)]];
    let mut old = bed.facts().addresses(&[(0, 1), (1, 0)]);
    for pods in sets {
        let new = bed.facts().addresses(&pods);
        let mut endpoints: Vec<_> = new.iter().map(|ip| (*ip, SERVING, State::Ready)).collect();
        let leaving = old.iter().filter(|ip| !new.contains(ip));
        endpoints.extend(leaving.map(|ip| (*ip, SERVING, State::ServingTerminating)));
        give(&mut bed, &endpoints)?;
        // What is on its way to the old ones arrives.
        loads.go_on()?;
        endpoints.truncate(new.len());
        give(&mut bed, &endpoints)?;
        loads.go_on().with_context(|| format!("with {pods:?}"))?;
        old = new;
    }
    nothing_dropped(&bed, &before)?;
    let servers = loads.finish()?;
    ensure!(servers.len() == 5, "only {servers:?} answered");
    Ok(())
}

/// Never stale: from one backend to a hundred and back, at once.
#[test]
fn scaling_from_one_to_a_hundred_and_back_loses_nothing() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = bed(&[(0, 1)])?;
    let mut servers = Vec::new();
    let mut many = Vec::new();
    for (node, pod) in [(0, 1), (1, 0)] {
        let pod = bed.pod(node, pod);
        let addresses = pod.ips();
        let ports = if node == 0 { MANY.start..MANY.start + 50 } else { MANY.start + 50..MANY.end };
        for protocol in PROTOCOLS {
            let at: Vec<SocketAddr> = ports
                .clone()
                .flat_map(|port| addresses.iter().map(move |ip| SocketAddr::new(*ip, port)))
                .collect();
            servers.push(Server::start(&pod.netns, "many", protocol, &at)?);
        }
        many.extend(
            ports.flat_map(|port| addresses.clone().into_iter().map(move |ip| (ip, port, State::Ready))),
        );
    }
    let one: Vec<_> =
        bed.facts().addresses(&[(0, 1)]).into_iter().map(|ip| (ip, SERVING, State::Ready)).collect();
    let loads = Loads::start(&bed)?;
    let before = bed.node(0).counters()?;
    for _ in 0..2 {
        let all: Vec<_> = one.iter().chain(&many).copied().collect();
        give(&mut bed, &all)?;
        loads.go_on().context("with a hundred")?;
        let leaving = many.iter().map(|(ip, port, _)| (*ip, *port, State::ServingTerminating));
        let both: Vec<_> = one.iter().copied().chain(leaving).collect();
        give(&mut bed, &both)?;
        loads.go_on().context("back to one")?;
        give(&mut bed, &one)?;
        loads.go_on().context("with one")?;
    }
    nothing_dropped(&bed, &before)?;
    loads.finish()?;
    drop(servers);
    Ok(())
}

/// Never stale: a thousand services are edited at once, and none of them loses anything.
#[test]
fn editing_a_thousand_services_at_once_loses_nothing() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = bed(&[(0, 1), (1, 0)])?;
    let backends = [(0, 1), (0, 2), (1, 0), (1, 1)].map(|pod| bed.facts().addresses(&[pod]));
    let services = |turn: usize| {
        let backends = &backends;
        (0..1000_u16).map(move |number| {
            let [high, low] = number.to_be_bytes();
            let address = IpAddr::from([10, 32, 128 + high, low]);
            let chosen =
                [0, 1].map(|more| backends[(usize::from(number) + turn + more) % 4].clone()).concat();
            Service::new(&format!("many/service-{number}"), &[address]).with(
                ServicePort::new(Protocol::Udp, 80)
                    .backends(chosen.into_iter().filter(IpAddr::is_ipv4), SERVING),
            )
        })
    };
    let set = |bed: &mut Bed, turn: usize| {
        bed.change(|config| {
            config.services.truncate(1);
            config.services.extend(services(turn));
        })
    };
    set(&mut bed, 0)?;
    let mut loads = Loads::start(&bed)?;
    for number in [0_u8, 123, 255] {
        let to = SocketAddr::from(([10, 32, 128, number], 80));
        loads.0.push(Load::start(&bed.pod(0, 0).netns, Protocol::Udp, to, Connections::New)?);
    }
    let before = bed.node(0).counters()?;
    for turn in 1..5 {
        set(&mut bed, turn)?;
        loads.go_on().with_context(|| format!("turn {turn}"))?;
    }
    nothing_dropped(&bed, &before)?;
    loads.finish()?;
    Ok(())
}

/// OP-1: maps of services of another size are made anew under load, and not a question is lost; connections outlive that, and maps of
/// connections of another size. What begins in the very moment in which programs with such maps are attached, one by one, may have to
/// ask again.
#[test]
fn maps_of_another_size_lose_no_question() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = Bed::two_nodes(|facts, config| {
        config.services.push(facts.node_port_service("web", 1, NODE_PORT, &[(0, 1), (1, 0)]));
        config.masquerade = Some(Masquerade::on());
        // For as long as a change of maps takes on an emulated machine.
        config.conntrack.timeout.extend(["udp", "udp-stream"].map(|kind| (kind.to_owned(), 3600)));
    })?;
    let _servers = Server::both(&bed.outside.netns, "outside", &bed.outside.addresses, SERVING)?;
    let mut lasting = Vec::new();
    for (ipv4, protocol) in FAMILIES.into_iter().flat_map(|ipv4| PROTOCOLS.map(|protocol| (ipv4, protocol))) {
        for to in [cluster_ip(1, ipv4), who::at(&bed.outside.addresses, ipv4, SERVING)?] {
            let mut session = Session::open(&bed.pod(0, 0).netns, protocol, to)?;
            let seen = session.ask()?;
            lasting.push((session, seen));
        }
    }
    let loads = Loads::start(&bed)?;
    let before = bed.node(0).counters()?;
    let mut resize = |sizes: &[(&str, u32)]| -> Result<()> {
        bed.change(|config| config.maps.extend(sizes.iter().map(|(map, size)| ((*map).to_owned(), *size))))?;
        for (session, seen) in &mut lasting {
            let again = session.ask().with_context(|| format!("with {sizes:?}"))?;
            ensure!(again == *seen, "{seen:?} before {sizes:?}, and then {again:?}");
        }
        Ok(())
    };
    for map in [("frontends", 70_000), ("services", 40_000), ("maglev", 1_100_000), ("backends", 140_000)] {
        resize(&[map])?;
        loads.go_on().with_context(|| format!("with {map:?}"))?;
    }
    resize(&[("source-ranges", 9000), ("pods", 2048)])?;
    loads.finish()?;
    resize(&[("conntrack", 300_000), ("affinity", 70_000), ("fragments", 9000), ("sockets", 70_000)])?;
    resize(&[("conntrack", 200_000), ("affinity", 60_000)])?;
    nothing_dropped(&bed, &before)?;
    // What has no room is forgotten, and no reason not to go on.
    bed.change(|config| config.maps.extend([("conntrack".to_owned(), 6)]))?;
    let entries = connections::list(&bed.node(0).pins())?.len();
    ensure!((1..=2 * 6).contains(&entries), "{entries} entries in two tables of 6");
    Ok(())
}

/// OP-1: somebody takes the pins of a node away while its loader runs, and with them everything that is attached. The next look
/// makes all of it again, with the maps that the loader holds: pods talk, and connections with services go on where they were.
#[test]
fn pins_that_are_taken_away_come_back_with_every_connection() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = bed(&[(0, 1), (1, 0)])?;
    let mut lasting = Vec::new();
    for to in [cluster_ip(1, true), cluster_ip(1, false)] {
        let mut session = Session::open(&bed.pod(0, 0).netns, Protocol::Tcp, to)?;
        let seen = session.ask()?;
        lasting.push((session, seen));
    }
    let pins = bed.node(0).pins();
    let entries = |pins: &Path| Ok::<_, anyhow::Error>(connections::list(pins)?.len());
    let before = entries(&pins)?;
    fs::remove_dir_all(&pins).with_context(|| format!("rm -r {}", pins.display()))?;
    // A look is due twice a minute; a reload is one, too.
    bed.cluster.podlane[0].loader()?.reload()?;
    for (session, seen) in &mut lasting {
        let again = session.ask()?;
        ensure!(again == *seen, "{seen:?} before, and then {again:?}");
    }
    ensure!(entries(&pins)? >= before, "{before} entries of connections before, {} now", entries(&pins)?);
    for pod in [bed.pod(0, 1), bed.pod(1, 0)] {
        for ip in pod.ips() {
            traffic::every_kind(&bed.pod(0, 0).netns, (&pod.netns, ip))?;
        }
    }
    // The next loader finds everything as ever.
    bed.cluster.podlane[0].kill()?;
    bed.cluster.podlane[0].start_loader()?;
    for (session, seen) in &mut lasting {
        let again = session.ask()?;
        ensure!(again == *seen, "{seen:?} before, and then {again:?}");
    }
    Ok(())
}

/// Never stale: backends that are taken out without any warning cost at most what was on its way to them at that moment.
#[test]
fn an_abrupt_replacement_costs_one_question_at_most() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = bed(&[(0, 1)])?;
    let to = cluster_ip(1, true);
    let load = Load::start(&bed.pod(0, 0).netns, Protocol::Udp, to, Connections::One)?;
    let turns = [(1, 0), (0, 2), (1, 1), (0, 1), (1, 2), (0, 2)];
    for pod in turns {
        let endpoints: Vec<_> =
            bed.facts().addresses(&[pod]).into_iter().map(|ip| (ip, SERVING, State::Ready)).collect();
        give(&mut bed, &endpoints)?;
        load.wait_for(50)?;
    }
    let account = load.finish()?;
    ensure!(account.lost.len() <= turns.len(), "{account:?}");
    Ok(())
}

/// Principle 6, OP-1: the loader is killed and started in the midst of service traffic: not a question is lost, the ids of
/// services and backends stay, and connections outlive it.
#[test]
fn a_killed_loader_loses_no_question() -> Result<()> {
    require!(setup::ready_with_loader());
    let mut bed = bed(&[(0, 1), (1, 0)])?;
    let mut lasting = Vec::new();
    for netns in [&bed.pod(0, 0).netns, &bed.node(0).netns] {
        let mut session = Session::open(netns, Protocol::Tcp, cluster_ip(1, true))?;
        let server = session.ask()?.server;
        lasting.push((session, server));
    }
    let loads = Loads::start(&bed)?;
    let before = bed.node(0).counters()?;
    for _ in 0..3 {
        bed.cluster.podlane[0].kill()?;
        loads.go_on().context("without a loader")?;
        bed.cluster.podlane[0].start_loader()?;
        loads.go_on().context("with a new loader")?;
        for (session, server) in &mut lasting {
            ensure!(session.ask()?.server == *server, "a connection moved");
        }
    }
    // The new one can change what the old one has made.
    let facts = bed.facts();
    bed.change_service(NAME, |service| {
        service
            .ports
            .iter_mut()
            .for_each(|port| *port = port.clone().backends(facts.addresses(&[(1, 2)]), SERVING));
    })?;
    loads.go_on()?;
    nothing_dropped(&bed, &before)?;
    let servers = loads.finish()?;
    ensure!(servers.contains("pod-1-2"), "only {servers:?} answered");
    Ok(())
}
