//! Services of the demo, and calls of them: a DNS-like one by UDP and TCP, a web one with a node port, and the world outside.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result};

use crate::{
    address,
    cluster::Cluster,
    config::{Masquerade, Protocol, Service, ServicePort},
    netns::Netns,
    outside::Outside,
    pod::Pod,
    traffic::{
        dns,
        who::{self, Seen},
    },
};

/// Port at which the pods serve the web.
const SERVING: u16 = 8080;
const NODE_PORT: u16 = 30_080;
/// Which addresses of the service CIDRs.
const DNS: u8 = 10;
const WEB: u8 = 80;

/// The host outside, and who serves.
pub(super) struct Services {
    pub(super) outside: Outside,
    dns: Vec<dns::Server>,
    web: Vec<who::Server>,
}

/// What came of a call.
pub(super) struct Call {
    pub(super) from: &'static str,
    pub(super) what: &'static str,
    pub(super) protocol: &'static str,
    pub(super) to: SocketAddr,
    pub(super) outcome: Result<Seen, String>,
    /// Addresses of the caller, to tell whether it was seen as itself.
    own: Vec<IpAddr>,
}

impl Call {
    /// Whether it was answered.
    pub(super) const fn worked(&self) -> bool {
        self.outcome.is_ok()
    }

    /// What was translated on the way, by what the server saw.
    pub(super) fn translated(&self, seen: &Seen) -> &'static str {
        match (self.what == WORLD, self.own.contains(&seen.client.ip())) {
            (true, true) => "nothing",
            (true, false) => "source: the node's address",
            (false, true) => "destination",
            (false, false) => "destination, source: the node's own",
        }
    }
}

const WORLD: &str = "a web server outside";

impl Services {
    /// Adds the services to the configuration of every Podlane node, and a host outside.
    pub(super) fn prepare(name: &str, cluster: &mut Cluster) -> Result<Self> {
        let dns: Vec<IpAddr> = [(0, 1), (1, 0)].into_iter().flat_map(|at| pod(cluster, at).ips()).collect();
        let web: Vec<IpAddr> =
            [(0, 0), (1, 1), (2, 0)].into_iter().flat_map(|at| pod(cluster, at).ips()).collect();
        let services = [
            Service::new("kube-system/dns", &address::cluster_ips(DNS))
                .with(ServicePort::new(Protocol::Udp, 53).named("dns").backends(dns.clone(), 53))
                .with(ServicePort::new(Protocol::Tcp, 53).named("dns-tcp").backends(dns, 53)),
            Service::new("default/web", &address::cluster_ips(WEB)).with(
                ServicePort::new(Protocol::Tcp, 80).named("http").node_port(NODE_PORT).backends(web, SERVING),
            ),
        ];
        for node in &mut cluster.podlane {
            node.config.node.service_cidr = address::service_cidrs().to_vec();
            node.config.masquerade = Some(Masquerade::on());
            node.config.services.extend(services.clone());
        }
        let router = cluster.router.as_mut().context("a router")?;
        let outside = Outside::new(Netns::with_name(&format!("{name}-outside"))?, router, 0)?;
        Ok(Self { outside, dns: Vec::new(), web: Vec::new() })
    }

    /// Starts the servers, calls everything in both families, and says what came of it.
    pub(super) fn call(&mut self, cluster: &Cluster) -> Result<Vec<Call>> {
        self.serve(cluster)?;
        let (node, other) = (&cluster.podlane[0], &cluster.podlane[1]);
        let caller = pod(cluster, (0, 0));
        let mut calls = Vec::new();
        for ipv4 in [true, false] {
            let dns = SocketAddr::new(address::cluster_ips(DNS)[usize::from(!ipv4)], 53);
            let web = SocketAddr::new(address::cluster_ips(WEB)[usize::from(!ipv4)], 80);
            let a_pod = ("pod-0-0", &caller.netns, caller.ips());
            let gateway = node.spec.gateway(dns.ip()).context("a gateway")?;
            let the_node = ("worker-0", &node.netns, vec![gateway]);
            let outside = ("outside", &self.outside.netns, self.outside.addresses.clone());
            let world = who::at(&self.outside.addresses, ipv4, 80)?;
            for (from, what, protocol, to) in [
                (&a_pod, "DNS", Protocol::Udp, dns),
                (&a_pod, "DNS", Protocol::Tcp, dns),
                (&the_node, "DNS", Protocol::Udp, dns),
                (&a_pod, "web", Protocol::Tcp, web),
                (&the_node, "web", Protocol::Tcp, web),
                (
                    &outside,
                    "web, a node port",
                    Protocol::Tcp,
                    who::at(&node.spec.addresses(), ipv4, NODE_PORT)?,
                ),
                (
                    &outside,
                    "web, a node port",
                    Protocol::Tcp,
                    who::at(&other.spec.addresses(), ipv4, NODE_PORT)?,
                ),
                (&a_pod, WORLD, Protocol::Tcp, world),
            ] {
                calls.push(call(from, what, protocol, to));
            }
        }
        Ok(calls)
    }

    fn serve(&mut self, cluster: &Cluster) -> Result<()> {
        for at in [(0, 1), (1, 0)] {
            let pod = pod(cluster, at);
            self.dns.push(dns::Server::start(&pod.netns, short(pod), &pod.ips(), 53)?);
        }
        for at in [(0, 0), (1, 1), (2, 0)] {
            let pod = pod(cluster, at);
            let addresses: Vec<_> = pod.ips().into_iter().map(|ip| SocketAddr::new(ip, SERVING)).collect();
            self.web.push(who::Server::start(&pod.netns, short(pod), Protocol::Tcp, &addresses)?);
        }
        let addresses: Vec<_> = self.outside.addresses.iter().map(|ip| SocketAddr::new(*ip, 80)).collect();
        self.web.push(who::Server::start(&self.outside.netns, "outside", Protocol::Tcp, &addresses)?);
        Ok(())
    }
}

fn call(
    (from, netns, own): &(&'static str, &Netns, Vec<IpAddr>),
    what: &'static str,
    protocol: Protocol,
    to: SocketAddr,
) -> Call {
    let asked = match what {
        "DNS" => dns::ask(netns, protocol, to),
        _ => who::Session::open(netns, protocol, to).and_then(|mut session| session.exchange(1000, 1 << 20)),
    };
    Call {
        from,
        what,
        protocol: if protocol == Protocol::Udp { "UDP" } else { "TCP" },
        to,
        outcome: asked.map_err(|error| format!("{error:#}")),
        own: own.clone(),
    }
}

/// A pod by the numbers of its node and its own.
fn pod(cluster: &Cluster, (node, pod): (usize, usize)) -> &Pod {
    match cluster.podlane.get(node) {
        Some(node) => &node.pods[pod],
        None => &cluster.kernel[node - cluster.podlane.len()].pods[pod],
    }
}

fn short(pod: &Pod) -> &str {
    pod.name.rsplit('/').next().unwrap_or(&pod.name)
}
