//! The demo: a cluster of three nodes on this machine, real loaders, real traffic along every path, and an account of it.

mod account;
mod paths;
mod picture;
mod services;
mod table;

use std::{fs, path::Path};

use anyhow::{Context as _, Result, bail};

pub use self::paths::{Outcome, Trip};
use self::services::Services;
use crate::{
    cluster::{Cluster, Dataplane, Plan, Underlay},
    kernel_node, loader, registry, setup,
    spec::Family,
};

/// Begins the name of every namespace and node of the demo.
const NAME: &str = "demo";

/// Makes the cluster, sends traffic, prints what came of it, and takes it down, or with `keep` leaves it up. True if every
/// path worked.
pub fn run(keep: bool) -> Result<bool> {
    setup::ready_with_loader()?;
    if Path::new("/run/netns").join(format!("{NAME}-router")).exists() {
        bail!("a demo is up already; take it down with `podlane-testbed clean --all`");
    }
    println!(
        "Making three nodes, a router between their subnets, five pods, and a host outside, out of network namespaces ..."
    );
    let mut cluster = plan().build()?;
    let mut services = Services::prepare(NAME, &mut cluster)?;
    for node in &mut cluster.podlane {
        node.start()?;
        let pid = node.loader()?.pid();
        println!("  {}: `loader run --config {}`, pid {pid}", node.spec.name, node.config_path().display());
    }
    for node in &cluster.kernel {
        println!("  {}: no Podlane; the kernel's vxlan device, set up as flannel does", node.spec.name);
    }
    picture::print(&cluster, &services.outside);
    println!("Sending traffic along every path ...\n");
    let trips = paths::travel(&cluster);
    account::print_trips(&trips);
    println!("Calling services, and the world outside ...\n");
    let calls = services.call(&cluster)?;
    account::print_calls(&calls);
    account::print_counters(&cluster)?;
    let all_worked = trips.iter().all(Trip::worked) && calls.iter().all(services::Call::worked);
    if keep {
        services.outside.netns.keep();
        leave_up(cluster)?;
    } else {
        drop(services);
        let served: Vec<_> = cluster.podlane.iter().map(|node| (node.pins(), node.run_directory())).collect();
        take_down(cluster)?;
        for path in served.iter().flat_map(|(pins, state)| [pins, state]) {
            if fs::exists(path).with_context(|| format!("look for {}", path.display()))? {
                bail!("{} was left behind", path.display());
            }
        }
        println!("Taken down; nothing is left.");
    }
    println!(
        "\n{}",
        if all_worked { "Every path worked." } else { "Some paths FAILED; see above for what each said." }
    );
    Ok(all_worked)
}

fn plan() -> Plan {
    let kernel = Dataplane::Kernel(kernel_node::Options::default());
    let mut plan = Plan::new(&[(Dataplane::Podlane, 2), (Dataplane::Podlane, 2), (kernel, 1)]);
    plan.name = Some(NAME.to_owned());
    plan.underlay(Underlay::Routed).family(Family::Dual)
}

/// Takes the dataplane away as an operator would, then the namespaces.
fn take_down(mut cluster: Cluster) -> Result<()> {
    for node in &mut cluster.podlane {
        let answer = node.cleanup()?;
        if answer.code != 0 {
            bail!("`loader cleanup` of {} ended with {}: {}", node.spec.name, answer.code, answer.stderr);
        }
    }
    Ok(())
}

fn leave_up(mut cluster: Cluster) -> Result<()> {
    registry::keep()?;
    cluster.keep();
    let loader = loader::binary()?;
    let loader = loader.display();
    let testbed = std::env::current_exe()
        .ok()
        .and_then(|own| own.parent().map(|directory| directory.join("podlane-testbed")))
        .map_or_else(|| "podlane-testbed".to_owned(), |path| path.display().to_string());
    let (here, there) = (&cluster.podlane[0], &cluster.podlane[1]);
    let (pod, far) = (&here.pods[0], &there.pods[0]);
    let (netns, node) = (pod.netns.path().display(), &here.spec.name);
    println!("It stays up. Some things to try, as root:");
    for ip in far.ips() {
        println!("  nsenter --net={netns} ping {ip}");
    }
    println!("  nsenter --net={netns} ping -M do -s 1422 {}      # as large as the overlay takes", far.v4()?);
    println!(
        "  nsenter --net={} tcpdump -nni eth0 udp port 8472    # VXLAN on the wire",
        here.netns.path().display()
    );
    for verb in ["status", "pods", "peers", "services", "conntrack list", "counters"] {
        println!("  {loader} {verb} --node {node}");
    }
    for map in ["pods4", "routes4", "frontends", "conntrack4"] {
        let path = crate::counters::map_path(&here.pins(), map)?;
        println!("  bpftool map dump pinned {}", path.display());
    }
    println!("  $EDITOR {}    # the loader takes the changes up", here.config_path().display());
    println!("Take it down with:\n  {testbed} clean --all");
    Ok(())
}
