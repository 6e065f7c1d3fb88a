//! The node and pods: kubelet's probes, host-network processes, pods that call their node or another.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use testbed::{
    cluster::{self, Plan, Underlay},
    netns::Netns,
    podlane_node::PodlaneNode,
    require, setup,
    spec::{Family, Route},
    traffic,
};

/// All paths between nodes and pods, without NAT, in a cluster of two Podlane nodes whose hosts filter by reverse path
/// and forward nothing by themselves.
fn every_path(plan: &Plan) -> Result<()> {
    let mut cluster = plan.build()?;
    for node in &cluster.podlane {
        strict(&node.netns)?;
    }
    for node in &mut cluster.podlane {
        node.start()?;
    }
    let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
    if plan.route == Route::Direct {
        // A packet of the node's own stack that waits for a direct peer to be found may be lost (docs/operations.md).
        for address in there.spec.addresses() {
            traffic::ping(&here.netns, address)?;
        }
    }
    let own = &here.pods[0];
    for ip in own.ips() {
        check(&here.netns, (&own.netns, ip), "node to its pod")?;
        let gateway = here.spec.gateway(ip).context("a gateway")?;
        check(&own.netns, (&here.netns, gateway), "pod to its gateway")?;
    }
    for address in here.spec.addresses() {
        check(&own.netns, (&here.netns, address), "pod to its node")?;
    }
    let remote = &there.pods[0];
    for ip in remote.ips() {
        check(&here.netns, (&remote.netns, ip), "node to another node's pod")?;
    }
    for address in there.spec.addresses() {
        check(&own.netns, (&there.netns, address), "pod to another node")?;
    }
    for node in [here, there] {
        untouched(node)?;
    }
    Ok(())
}

fn check(from: &Netns, to: (&Netns, IpAddr), case: &str) -> Result<()> {
    traffic::every_kind(from, to).with_context(|| format!("{case} at {}", to.1))
}

/// What a careful host has, and what the kernel starts with.
fn strict(netns: &Netns) -> Result<()> {
    for key in ["all", "default", "eth0"] {
        netns.sysctl(&format!("net.ipv4.conf.{key}.rp_filter"), "1")?;
    }
    netns.sysctl("net.ipv4.ip_forward", "0")?;
    netns.sysctl("net.ipv6.conf.all.forwarding", "0")
}

/// PF-10: the loader sets nothing but its own devices' sysctls.
fn untouched(node: &PodlaneNode) -> Result<()> {
    for (key, expected) in [
        ("net/ipv4/ip_forward", "0"),
        ("net/ipv4/conf/all/rp_filter", "1"),
        ("net/ipv4/conf/default/rp_filter", "1"),
        ("net/ipv4/conf/all/forwarding", "0"),
        ("net/ipv4/conf/default/forwarding", "0"),
        ("net/ipv4/conf/eth0/forwarding", "0"),
        ("net/ipv6/conf/all/forwarding", "0"),
        ("net/ipv6/conf/default/forwarding", "0"),
        ("net/ipv6/conf/eth0/forwarding", "0"),
    ] {
        let value = node.netns.run(&format!("cat /proc/sys/{key}"))?;
        ensure!(value.trim() == expected, "{key} is {} on {}", value.trim(), node.spec.name);
    }
    Ok(())
}

/// PF-10: VXLAN between nodes on one link, IPv4 underlay.
#[test]
fn nodes_and_pods_talk_over_ipv4() -> Result<()> {
    require!(setup::ready_with_loader());
    every_path(&cluster::two_nodes())
}

/// PF-10: VXLAN over an IPv6 underlay.
#[test]
fn nodes_and_pods_talk_over_ipv6() -> Result<()> {
    require!(setup::ready_with_loader());
    every_path(&cluster::two_nodes().family(Family::V6))
}

/// PF-10: VXLAN through a router, nodes with addresses of both families.
#[test]
fn nodes_and_pods_talk_through_a_router() -> Result<()> {
    require!(setup::ready_with_loader());
    every_path(&cluster::two_nodes().underlay(Underlay::Routed).family(Family::Dual))
}

/// PF-10: direct routes.
#[test]
fn nodes_and_pods_talk_over_direct_routes() -> Result<()> {
    require!(setup::ready_with_loader());
    every_path(&cluster::two_nodes().family(Family::Dual).route(Route::Direct))
}

/// PF-10: no NAT anywhere: a pod sees the node's gateway address, a node sees the pod's own address.
#[test]
fn addresses_are_those_that_the_sender_has() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().start()?;
    let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
    let seen = |from: &Netns, to: &Netns, ip: IpAddr| -> Result<IpAddr> {
        let server = traffic::udp::bind(to, ip)?;
        let client = traffic::udp::connect(from, server.local_addr()?)?;
        client.send(b"who am I")?;
        Ok(server.recv_from(&mut [0; 16])?.1.ip())
    };
    for ip in there.pods[0].ips() {
        let gateway = here.spec.gateway(ip);
        ensure!(
            Some(seen(&here.netns, &there.pods[0].netns, ip)?) == gateway,
            "node to another node's pod at {ip}"
        );
        let own = here.pods[0]
            .ips()
            .into_iter()
            .find(|own| own.is_ipv4() == ip.is_ipv4())
            .context("an own address")?;
        ensure!(seen(&here.pods[0].netns, &there.pods[0].netns, ip)? == own, "pod to pod at {ip}");
        ensure!(
            seen(&here.pods[0].netns, &here.netns, gateway.context("a gateway")?)? == own,
            "pod to its node at {ip}"
        );
        ensure!(Some(seen(&here.netns, &here.pods[0].netns, own)?) == gateway, "node to its pod at {own}");
    }
    let own = here.pods[0].v4()?;
    ensure!(seen(&here.pods[0].netns, &there.netns, there.spec.address())? == own, "pod to another node");
    Ok(())
}

/// PF-10: a process of the node that binds to the node's own address reaches pods of this node and of others.
#[test]
fn the_nodes_own_address_may_be_the_source() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().start()?;
    let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
    for pod in [&here.pods[0], &there.pods[0]] {
        traffic::Ping { source: Some(here.spec.address()), ..traffic::Ping::default() }
            .must_reach(&here.netns, pod.v4()?.into())?;
    }
    Ok(())
}

/// PF-10, PF-7: nodes still reach each other's own addresses plainly while Podlane runs.
#[test]
fn node_to_node_traffic_is_left_alone() -> Result<()> {
    require!(setup::ready_with_loader());
    let cluster = cluster::two_nodes().family(Family::Dual).start()?;
    let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
    for address in there.spec.addresses() {
        traffic::every_kind(&here.netns, (&there.netns, address))?;
    }
    Ok(())
}
