//! The testbed proves itself: every path that the other suites take, between nodes whose dataplane is the kernel's.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use testbed::{
    capture::Capture,
    cluster::{self, Cluster, Underlay},
    kernel_node::Options,
    require, setup,
    spec::{Family, Route},
    traffic::{self, Ping, conversation::Conversation, ping, probe::Probe},
    wait,
};

/// Everything between a pod of one node and a pod of the other, and a pod beside it.
fn everything(cluster: &Cluster) -> Result<()> {
    let (here, beside) = (&cluster.kernel[0].pods[0], &cluster.kernel[0].pods[1]);
    let there = &cluster.kernel[1].pods[0];
    for (from, to) in [(here, beside), (here, there)] {
        for ip in to.ips() {
            traffic::every_kind(&from.netns, (&to.netns, ip))?;
            traffic::udp::segmented(&from.netns, (&to.netns, ip), 1300, 3)?;
        }
    }
    Ok(())
}

/// VXLAN between kernel nodes: the testbed's own ground truth.
#[test]
fn pods_reach_each_other_over_kernel_vxlan() -> Result<()> {
    require!(setup::ready());
    for outer_checksum in [true, false] {
        let options = Options { outer_checksum, ..Options::default() };
        let cluster = cluster::kernel_only(options).build()?;
        everything(&cluster)?;
    }
    Ok(())
}

/// The same through a router, and over IPv6.
#[test]
fn kernel_vxlan_works_through_a_router_and_over_ipv6() -> Result<()> {
    require!(setup::ready());
    for family in [Family::V4, Family::V6] {
        let plan = cluster::kernel_only(Options::default()).underlay(Underlay::Routed).family(family);
        everything(&plan.build().with_context(|| format!("{family:?}"))?)?;
    }
    Ok(())
}

/// Plain routes between kernel nodes.
#[test]
fn kernel_nodes_route_directly() -> Result<()> {
    require!(setup::ready());
    let plan = cluster::kernel_only(Options::default()).family(Family::Dual).route(Route::Direct);
    let cluster = plan.quiet().build()?;
    everything(&cluster)
}

/// The capture reads what the kernel sends, and the probe hears of errors.
#[test]
fn captures_and_probes_see_what_the_kernel_does() -> Result<()> {
    require!(setup::ready());
    let cluster = cluster::kernel_only(Options::default()).build()?;
    let (here, there) = (&cluster.kernel[0].pods[0], &cluster.kernel[1].pods[0]);
    let mut wire = Capture::open(cluster.underlay()?, "port0")?;
    ping(&here.netns, there.v4()?)?;
    let vxlan = wire.find("an echo request in VXLAN", |packet| {
        packet
            .vxlan(8472)
            .filter(|vxlan| vxlan.inner.headers().is_some_and(|inner| inner.icmp == Some((8, 0))))
    })?;
    ensure!(vxlan.vni() == 1 && vxlan.inner.checksums_hold(), "{vxlan:?}");

    let probe = Probe::new(&here.netns, there.v4()?.into())?;
    probe.set_ttl(1)?;
    probe.send(10)?;
    let notice = probe.notice()?;
    ensure!((notice.kind, notice.code) == (11, 0), "{notice:?}");
    Ping { count: 1, dont_fragment: true, size: 1422, ..Ping::default() }
        .must_reach(&here.netns, there.v4()?.into())?;
    Ok(())
}

/// A conversation notices what is lost of it, whichever end sent it, and nothing else.
#[test]
fn conversations_notice_what_is_lost() -> Result<()> {
    require!(setup::ready());
    let cluster = cluster::kernel_only(Options::default()).build()?;
    let (here, there) = (&cluster.kernel[0].pods[0], &cluster.kernel[1].pods[0]);
    let start = || Conversation::start(&here.netns, (&there.netns, there.v4()?.into()));
    for (node, to) in [(&cluster.kernel[0], there), (&cluster.kernel[1], here)] {
        let route = format!("blackhole {}", to.v4()?);
        wait::until("a loss to be noticed", || {
            let conversation = start()?;
            conversation.wait_for(20)?;
            node.netns.ip(&format!("route add {route}"))?;
            thread::sleep(Duration::from_millis(50));
            node.netns.ip(&format!("route del {route}"))?;
            conversation.wait_for(20)?;
            Ok((conversation.finish()?.lost > 0).then_some(()))
        })?;
    }
    let conversation = start()?;
    conversation.wait_for(20)?;
    let seen = conversation.finish()?;
    ensure!(seen.lost == 0 && seen.answered >= 20, "{seen:?}");
    Ok(())
}
