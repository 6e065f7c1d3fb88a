//! The paths of the cluster, and one trip along each.

use std::{net::IpAddr, time::Duration};

use anyhow::Result;

use crate::{
    cluster::Cluster,
    netns::Netns,
    spec::Spec,
    traffic::{Ping, http, tcp},
};

/// Where traffic goes, and who takes it there.
struct Path<'a> {
    from: (&'a str, &'a Netns),
    to: (&'a str, &'a Netns),
    /// Addresses of the destination.
    addresses: Vec<IpAddr>,
    means: &'static str,
}

/// What one kind of traffic came to: what to show, or what went wrong.
pub type Outcome = Result<String, String>;

/// What came of a path.
#[derive(Debug)]
pub struct Trip {
    /// Who sent.
    pub from: String,
    /// Who received.
    pub to: String,
    /// How it got there.
    pub means: &'static str,
    /// Ping by IPv4, ping by IPv6, HTTP, a TCP stream.
    pub outcomes: [Outcome; 4],
}

impl Trip {
    /// Whether all of it arrived.
    #[must_use]
    pub fn worked(&self) -> bool {
        self.outcomes.iter().all(Result::is_ok)
    }
}

/// Sends everything along every path.
pub(super) fn travel(cluster: &Cluster) -> Vec<Trip> {
    paths(cluster).iter().map(trip).collect()
}

fn paths(cluster: &Cluster) -> Vec<Path<'_>> {
    let (one, two, kernel) = (&cluster.podlane[0], &cluster.podlane[1], &cluster.kernel[0]);
    let (own, beside, remote) = (&one.pods[0], &one.pods[1], &two.pods[0]);
    let flannel = &kernel.pods[0];
    let path = |from, to, addresses, means| Path { from, to, addresses, means };
    let pod = |pod: &'_ crate::pod::Pod| pod.ips();
    vec![
        path(("pod-0-0", &own.netns), ("pod-0-1", &beside.netns), pod(beside), "same node, veth to veth"),
        path(("pod-0-0", &own.netns), ("pod-1-0", &remote.netns), pod(remote), "VXLAN, Podlane to Podlane"),
        path(("pod-1-0", &remote.netns), ("pod-0-0", &own.netns), pod(own), "VXLAN, Podlane to Podlane"),
        path(("pod-0-0", &own.netns), ("pod-2-0", &flannel.netns), pod(flannel), "VXLAN, Podlane to kernel"),
        path(("pod-2-0", &flannel.netns), ("pod-0-0", &own.netns), pod(own), "VXLAN, kernel to Podlane"),
        path(("worker-0", &one.netns), ("pod-0-0", &own.netns), pod(own), "node to its own pod"),
        path(
            ("worker-0", &one.netns),
            ("pod-1-0", &remote.netns),
            pod(remote),
            "node to a remote pod, VXLAN",
        ),
        path(
            ("worker-0", &one.netns),
            ("pod-2-0", &flannel.netns),
            pod(flannel),
            "node to a kernel node's pod",
        ),
        path(("worker-2", &kernel.netns), ("pod-0-0", &own.netns), pod(own), "kernel node to a Podlane pod"),
        path(("pod-0-0", &own.netns), ("worker-0", &one.netns), node(&one.spec), "pod to its own node"),
        path(
            ("pod-0-0", &own.netns),
            ("worker-1", &two.netns),
            node(&two.spec),
            "pod to another node, VXLAN",
        ),
        path(
            ("pod-0-0", &own.netns),
            ("worker-2", &kernel.netns),
            node(&kernel.spec),
            "pod to the kernel node",
        ),
    ]
}

fn node(spec: &Spec) -> Vec<IpAddr> {
    spec.addresses()
}

fn trip(path: &Path<'_>) -> Trip {
    let of_family = |v4: bool| path.addresses.iter().copied().find(|ip| ip.is_ipv4() == v4);
    let (from, to) = (path.from.1, path.to.1);
    let outcomes = [
        outcome(of_family(true), |ip| ping(from, ip)),
        outcome(of_family(false), |ip| ping(from, ip)),
        outcome(of_family(true), |ip| {
            http::get(from, (to, ip), "hello from the other side").map(|_body| "200 OK".to_owned())
        }),
        outcome(of_family(true), |ip| {
            tcp::transfer(from, (to, ip), 16 << 20)?;
            let stream = tcp::throughput(from, (to, ip), Duration::from_millis(500))?;
            Ok(format!("{:.1} Gbit/s", stream.gigabits_per_second()))
        }),
    ];
    Trip { from: path.from.0.to_owned(), to: path.to.0.to_owned(), means: path.means, outcomes }
}

fn outcome(ip: Option<IpAddr>, send: impl FnOnce(IpAddr) -> Result<String>) -> Outcome {
    ip.map_or_else(|| Ok("-".to_owned()), |ip| send(ip).map_err(|error| format!("{error:#}")))
}

fn ping(from: &Netns, to: IpAddr) -> Result<String> {
    let report = Ping { count: 10, interval: 5, ..Ping::default() }.must_reach(from, to)?;
    Ok(format!("{:.3} ms", report.mean.as_secs_f64() * 1000.0))
}
