//! Clusters of nodes: an underlay, nodes of either kind on it, pods on each.

use anyhow::{Context as _, Result};

use crate::{
    kernel_node::{self, KernelVtepNode},
    netns::Netns,
    pod::Pod,
    podlane_node::PodlaneNode,
    spec::{Family, Route, Spec},
    wire::{self, Router, Switch},
};

/// What joins the nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Underlay {
    /// One link that all nodes are on.
    SameL2,
    /// A subnet for each node, and a router between them.
    Routed,
}

/// What serves a node.
#[derive(Clone, Copy, Debug)]
pub enum Dataplane {
    /// Podlane.
    Podlane,
    /// The kernel, as flannel sets it up.
    Kernel(kernel_node::Options),
}

/// A cluster to be made.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Begins the names of nodes and namespaces; unique names if absent.
    pub name: Option<String>,
    /// What joins the nodes.
    pub underlay: Underlay,
    /// Families of the underlay.
    pub family: Family,
    /// How nodes reach each other's pods.
    pub route: Route,
    /// MTU of the underlay.
    pub mtu: u32,
    /// For each node what serves it and how many pods it has.
    pub nodes: Vec<(Dataplane, u8)>,
    /// Whether pods have IPv6 addresses besides IPv4.
    pub dual_stack: bool,
}

impl Plan {
    /// Nodes on one IPv4 link, dual-stack pods, VXLAN.
    #[must_use]
    pub fn new(nodes: &[(Dataplane, u8)]) -> Self {
        Self {
            name: None,
            underlay: Underlay::SameL2,
            family: Family::V4,
            route: Route::Overlay,
            mtu: 1500,
            nodes: nodes.to_vec(),
            dual_stack: true,
        }
    }

    /// With this underlay.
    #[must_use]
    pub const fn underlay(mut self, underlay: Underlay) -> Self {
        self.underlay = underlay;
        self
    }

    /// With these families of the underlay.
    #[must_use]
    pub const fn family(mut self, family: Family) -> Self {
        self.family = family;
        self
    }

    /// With this way to the other nodes' pods.
    #[must_use]
    pub const fn route(mut self, route: Route) -> Self {
        self.route = route;
        self
    }

    /// With IPv4 only, for pods too: nothing in the cluster speaks unless a test does.
    #[must_use]
    pub const fn quiet(mut self) -> Self {
        self.dual_stack = false;
        self
    }

    /// Makes the cluster, with loaders that don't run yet.
    pub fn build(&self) -> Result<Cluster> {
        Cluster::build(self)
    }

    /// Makes the cluster and starts every loader.
    pub fn start(&self) -> Result<Cluster> {
        let mut cluster = self.build()?;
        for node in &mut cluster.podlane {
            node.start()?;
        }
        Ok(cluster)
    }
}

/// A cluster. Fields drop in order: loaders end before the namespaces under them go.
#[derive(Debug)]
pub struct Cluster {
    /// Nodes that Podlane serves, in order of their numbers.
    pub podlane: Vec<PodlaneNode>,
    /// Nodes that the kernel serves, in order of their numbers.
    pub kernel: Vec<KernelVtepNode>,
    /// The switch, on one link.
    pub switch: Option<Switch>,
    /// The router between subnets.
    pub router: Option<Router>,
}

impl Cluster {
    fn build(plan: &Plan) -> Result<Self> {
        let mut cluster = Self { podlane: Vec::new(), kernel: Vec::new(), switch: None, router: None };
        match plan.underlay {
            Underlay::SameL2 => cluster.switch = Some(Switch::new(plan.mtu)?),
            Underlay::Routed => cluster.router = Some(Router::new(netns(plan, "router")?, plan.mtu)?),
        }
        let specs = specs(plan);
        for (spec, (dataplane, pods)) in specs.iter().zip(&plan.nodes) {
            let netns = cluster.connect(plan, spec)?;
            let pods = make_pods(plan, spec, *pods)?;
            match dataplane {
                Dataplane::Podlane => cluster.add_podlane(PodlaneNode::new(spec.clone(), netns)?, pods),
                Dataplane::Kernel(options) => {
                    let options = kernel_node::Options { mtu: plan.mtu, ..*options };
                    cluster.add_kernel(KernelVtepNode::new(spec.clone(), netns, options)?, pods)?;
                }
            }
        }
        cluster.introduce(plan, &specs)?;
        cluster.settle()?;
        Ok(cluster)
    }

    /// Waits until all that the testbed has given an address uses it.
    fn settle(&self) -> Result<()> {
        let pods = self.kernel.iter().flat_map(|node| &node.pods).map(|pod| &pod.netns);
        let nodes =
            self.podlane.iter().map(|node| &node.netns).chain(self.kernel.iter().map(|node| &node.netns));
        nodes.chain(pods).chain(self.router.as_ref().map(Router::netns)).try_for_each(wire::settle)
    }

    /// Makes the node's namespace and its uplink.
    fn connect(&mut self, plan: &Plan, spec: &Spec) -> Result<Netns> {
        let netns = netns(plan, &format!("worker-{}", spec.number))?;
        wire::without_dad(&netns)?;
        if plan.family == Family::V4 && !plan.dual_stack {
            wire::without_ipv6(&netns)?;
        }
        match (&mut self.switch, &mut self.router) {
            (Some(switch), _) => drop(switch.plug(&netns, "eth0")?),
            (None, Some(router)) => {
                let subnets = spec.underlay.iter().zip(&spec.routers);
                let addresses: Vec<_> =
                    subnets.map(|(own, router)| crate::address::with_prefix(*router, *own)).collect();
                router.plug(&netns, "eth0", &addresses)?;
            }
            (None, None) => {}
        }
        for address in &spec.underlay {
            wire::add_address(&netns, "eth0", *address)?;
        }
        for router in &spec.routers {
            wire::add_route(&netns, "default", *router)?;
        }
        Ok(netns)
    }

    fn add_podlane(&mut self, mut node: PodlaneNode, pods: Vec<Pod>) {
        for pod in pods {
            node.add_pod(pod);
        }
        self.podlane.push(node);
    }

    fn add_kernel(&mut self, mut node: KernelVtepNode, pods: Vec<Pod>) -> Result<()> {
        pods.into_iter().try_for_each(|pod| node.add_pod(pod))?;
        self.kernel.push(node);
        Ok(())
    }

    /// Tells every node of every other.
    fn introduce(&mut self, plan: &Plan, specs: &[Spec]) -> Result<()> {
        for node in &mut self.podlane {
            others(specs, node.spec.number).for_each(|peer| node.add_peer(peer, plan.route));
        }
        for node in &self.kernel {
            others(specs, node.spec.number).try_for_each(|peer| node.add_peer(peer, plan.route))?;
        }
        Ok(())
    }

    /// Makes the nodes' uplinks as those of a machine whose network card knows nothing of tunnels: what is large is cut, with
    /// the tunnel's headers on every piece, before it leaves.
    ///
    /// Between namespaces a large packet would go through whole. The kernel of the receiving node then still holds what has
    /// been decapsulated for a tunnelled packet, and no BPF helper of Linux 6.18 can tell it otherwise: it can't cut a large
    /// UDP packet, for a socket or for a device, any more. On a wire there are no such packets.
    pub fn as_on_a_wire(&self) -> Result<()> {
        let nodes = self.podlane.iter().map(|node| &node.netns);
        for netns in nodes.chain(self.kernel.iter().map(|node| &node.netns)) {
            for offload in ["tx-udp_tnl-segmentation", "tx-udp_tnl-csum-segmentation"] {
                wire::set_offload(netns, "eth0", offload, false)?;
            }
        }
        Ok(())
    }

    /// Leaves everything up when this value goes.
    pub fn keep(&mut self) {
        self.podlane.iter_mut().for_each(PodlaneNode::keep);
        for node in &mut self.kernel {
            node.netns.keep();
            node.pods.iter_mut().for_each(|pod| pod.netns.keep());
        }
        if let Some(switch) = &mut self.switch {
            switch.netns_mut().keep();
        }
        if let Some(router) = &mut self.router {
            router.netns_mut().keep();
        }
    }

    /// The underlay's own namespace, for captures between nodes.
    pub fn underlay(&self) -> Result<&Netns> {
        let switch = self.switch.as_ref().map(Switch::netns);
        switch.or(self.router.as_ref().map(Router::netns)).context("a cluster without an underlay")
    }
}

/// Two Podlane nodes with two pods each, on one IPv4 link.
#[must_use]
pub fn two_nodes() -> Plan {
    Plan::new(&[(Dataplane::Podlane, 2), (Dataplane::Podlane, 2)])
}

/// One Podlane node with three pods.
#[must_use]
pub fn one_node() -> Plan {
    Plan::new(&[(Dataplane::Podlane, 3)])
}

/// A Podlane node and a kernel node on one IPv4 link, with two pods each.
#[must_use]
pub fn interop(options: kernel_node::Options) -> Plan {
    Plan::new(&[(Dataplane::Podlane, 2), (Dataplane::Kernel(options), 2)])
}

/// Two kernel nodes with two pods each: proves the testbed itself.
#[must_use]
pub fn kernel_only(options: kernel_node::Options) -> Plan {
    Plan::new(&[(Dataplane::Kernel(options), 2), (Dataplane::Kernel(options), 2)])
}

fn specs(plan: &Plan) -> Vec<Spec> {
    let prefix = plan.name.as_ref().map_or_else(unique_prefix, |name| format!("{name}-"));
    let routed = plan.underlay == Underlay::Routed;
    let mut specs: Vec<Spec> =
        (0..).zip(&plan.nodes).map(|(number, _)| Spec::new(&prefix, number, plan.family, routed)).collect();
    if !plan.dual_stack {
        for spec in &mut specs {
            spec.pod_cidrs.truncate(1);
        }
    }
    specs
}

fn others(specs: &[Spec], number: u8) -> impl Iterator<Item = &Spec> {
    specs.iter().filter(move |spec| spec.number != number)
}

/// Tests of one process follow each other on one machine with those of others: no two nodes share a name.
fn unique_prefix() -> String {
    use std::sync::atomic::{AtomicU32, Ordering};
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("pl{}-{}-", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn make_pods(plan: &Plan, spec: &Spec, count: u8) -> Result<Vec<Pod>> {
    let pods = (0..count).map(|number| {
        let label = format!("pod-{}-{number}", spec.number);
        let netns = netns(plan, &label)?;
        if !plan.dual_stack {
            wire::without_ipv6(&netns)?;
        }
        Pod::new(&format!("default/{label}"), netns, spec.pod_addresses(number))
    });
    pods.collect()
}

fn netns(plan: &Plan, label: &str) -> Result<Netns> {
    plan.name.as_ref().map_or_else(|| Netns::new(label), |name| Netns::with_name(&format!("{name}-{label}")))
}
