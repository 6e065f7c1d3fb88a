//! Services by the kernel's own means.

use std::{
    fs,
    io::Write as _,
    process::{Command, Stdio},
    thread::{self, ScopedJoinHandle},
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};

use super::{iptables, nftables, plan::Service, scenario::Dataplane};
use crate::{command, kernel_node::KernelVtepNode, netns::Netns};

/// The range of all pods' addresses: what comes from elsewhere to a cluster IP is masqueraded.
const PODS: &str = "10.200.0.0/16";

/// Loads all services at once, as kube-proxy does when it starts, on both nodes at the same time.
pub fn load(nodes: &[KernelVtepNode; 2], dataplane: Dataplane, services: &[Service]) -> Result<()> {
    thread::scope(|scope| {
        let loading = nodes.each_ref().map(|node| scope.spawn(move || load_node(node, dataplane, services)));
        let mut loaded = loading.into_iter().map(ScopedJoinHandle::join);
        loaded.try_for_each(|loaded| loaded.map_err(|_panic| anyhow!("a loading thread panicked"))?)
    })
}

fn load_node(node: &KernelVtepNode, dataplane: Dataplane, services: &[Service]) -> Result<()> {
    let netns = &node.netns;
    // Answers of a pod on the bridge to another have to be translated back on their way.
    netns.sysctl("net.bridge.bridge-nf-call-iptables", "1")?;
    let mut command = netns.command(dataplane.tool().context("a dataplane that is not the kernel's")?);
    if dataplane == Dataplane::Nftables {
        let text = nftables::render(services, PODS, node.spec.address())?;
        feed(command.args(["-f", "-"]), &text)
    } else {
        feed(&mut command, &iptables::render(services, PODS)?)
    }
}

/// Runs a command that reads this text.
fn feed(command: &mut Command, text: &str) -> Result<()> {
    let shown = command::show(command);
    command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("start `{shown}`"))?;
    let mut stdin = child.stdin.take().context("a child without stdin")?;
    // A child that ends early says why on stderr.
    let written = stdin.write_all(text.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().with_context(|| format!("wait for `{shown}`"))?;
    if !output.status.success() {
        let stderr: String = String::from_utf8_lossy(&output.stderr).chars().take(2000).collect();
        bail!("`{shown}`: {}: {stderr}", output.status);
    }
    written.with_context(|| format!("write to `{shown}`"))
}

/// Errs if connection tracking had no room for an entry.
pub fn had_room(netns: &Netns) -> Result<()> {
    // The columns have names in the first line; each further line is a CPU.
    let text = netns.enter(|| {
        let path = "/proc/thread-self/net/stat/nf_conntrack";
        fs::read_to_string(path).with_context(|| format!("read {path}"))
    })?;
    let mut lines = text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let names = lines.next().unwrap_or_default();
    for values in lines {
        for (name, value) in
            names.iter().zip(values).filter(|(name, _)| ["drop", "early_drop"].contains(name))
        {
            let count =
                u64::from_str_radix(value, 16).with_context(|| format!("`{name}` of nf_conntrack"))?;
            ensure!(
                count == 0,
                "connection tracking of {} had no room {count} times: raise net.netfilter.nf_conntrack_max",
                netns.name()
            );
        }
    }
    Ok(())
}

/// Errs if a connection is tracked: nobody has asked for it in this namespace.
pub fn tracks_nothing(netns: &Netns) -> Result<()> {
    let path = "/proc/sys/net/netfilter/nf_conntrack_count";
    // Without the file there is no connection tracking at all.
    let Ok(count) = netns.enter(|| Ok(fs::read_to_string(path)?)) else { return Ok(()) };
    ensure!(count.trim() == "0", "the kernel tracks {} connections in {}", count.trim(), netns.name());
    Ok(())
}
