//! What the node is, what is attached where, and how full the maps are.

use std::{
    collections::HashMap,
    fs::{self, File},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::Context as _;
use aya::programs::links::{FdLink, PinnedLink};
use common::maps::name;
use nix::{
    net::if_::if_indextoname,
    sched::{CloneFlags, setns},
};

use super::{pinned, running};
use crate::{
    bpf, mac,
    netlink::Handle,
    paths::NodePaths,
    report::{Attached, LoaderStatus, MapUse, NodeFacts, Pins, StatusReport, XdpStatus},
    state::{CollectorState, ServicesState, State, XdpState},
};

/// All of it, as far as it is there.
pub fn status(paths: &NodePaths) -> anyhow::Result<StatusReport> {
    let holder = running::holder(paths);
    let state = State::read(&paths.state())?;
    let kernel =
        fs::read_to_string("/proc/sys/kernel/osrelease").context("read /proc/sys/kernel/osrelease")?;
    Ok(StatusReport {
        node: paths.node().to_owned(),
        time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
        kernel: kernel.trim().to_owned(),
        loader: loader(paths, holder, state.as_ref()),
        facts: state.as_ref().map(facts),
        problems: state.iter().flat_map(|state| state.problems.clone()).collect(),
        services: ServicesState::read(&paths.services())?.services.len(),
        collector: CollectorState::read(&paths.collector()).unwrap_or_default().passes,
        attached: attached(paths, state.as_ref(), holder)?,
        maps: maps(paths)?,
        pins: Pins {
            directory: paths.pins().to_owned(),
            maps: names(&paths.maps()).len(),
            programs: names(&paths.programs()).len(),
            links: names(&paths.links()).len(),
        },
        last_reload: state.and_then(|state| state.last_reload),
    })
}

fn loader(paths: &NodePaths, holder: Option<u32>, state: Option<&State>) -> LoaderStatus {
    // What the state says of a process is about this one only if it is this one's.
    let state = state.filter(|state| holder.is_none_or(|pid| pid == state.pid));
    LoaderStatus {
        running: holder.is_some(),
        pid: holder.or_else(|| running::last_holder(paths)),
        version: state.map(|state| state.version.clone()),
        started: state.map(|state| state.started),
    }
}

fn facts(state: &State) -> NodeFacts {
    NodeFacts {
        mac: mac::show(state.mac),
        underlay: [state.underlay4.map(Into::into), state.underlay6.map(Into::into)]
            .into_iter()
            .flatten()
            .collect(),
        uplinks: state.uplinks.clone(),
        tc: state.tc,
        xdp: state.xdp.iter().map(xdp).collect(),
        sockets: state.sockets.clone(),
        gateway_device: state.gateway_device.clone(),
        gateways: [state.gateway4.map(Into::into), state.gateway6.map(Into::into)]
            .into_iter()
            .flatten()
            .collect(),
        vni: state.vni,
        port: state.port,
        mtu: state.mtu,
        netns: state.netns,
        netns_is_ours: is_here(Some(state)),
        pods: state.pods.len(),
        waiting: state.waiting.len(),
        peers: state.peers.len(),
    }
}

fn xdp(XdpState { facts, choice, .. }: &XdpState) -> XdpStatus {
    XdpStatus { device: facts.device.clone(), driver: facts.driver.clone(), choice: choice.clone() }
}

/// Names of what is in a directory, sorted; none without one.
fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut names: Vec<_> = entries.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    names
}

fn maps(paths: &NodePaths) -> anyhow::Result<Vec<MapUse>> {
    let pinned = names(&paths.maps());
    let maps = name::ALL.into_iter().filter(|map| pinned.iter().any(|pin| pin == map));
    maps.map(|map| {
        let info = pinned::data(paths, map)?
            .info()
            .with_context(|| format!("BPF_OBJ_GET_INFO_BY_FD of map {map}"))?;
        let kind =
            info.map_type().map_or_else(|_| "unknown".to_owned(), |kind| kind_name(&format!("{kind:?}")));
        // Of another version's map the entries can't be counted, and the rest is still worth showing.
        let entries = pinned::entries(paths, map).unwrap_or_default();
        Ok(MapUse { name: map.to_owned(), id: info.id(), kind, entries, capacity: info.max_entries() })
    })
    .collect()
}

/// `percpu_array` of `PerCpuArray`, as `bpftool` calls it.
fn kind_name(kind: &str) -> String {
    let kind = kind.replace("PerCpu", "Percpu");
    let mut name = String::new();
    for letter in kind.chars() {
        if letter.is_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.extend(letter.to_lowercase());
    }
    name
}

fn attached(paths: &NodePaths, state: Option<&State>, loader: Option<u32>) -> anyhow::Result<Vec<Attached>> {
    let mut attached = Vec::new();
    for name in names(&paths.links()) {
        let Some((program, ifindex)) = program_and_device(&name) else { continue };
        let path = paths.links().join(&name);
        let link = match PinnedLink::from_pin(&path) {
            Ok(link) => FdLink::from(link),
            // Gone since the directory was read.
            Err(_) if !path.exists() => continue,
            Err(error) => return Err(error).with_context(|| format!("open link {}", path.display())),
        };
        let info =
            link.info().with_context(|| format!("BPF_OBJ_GET_INFO_BY_FD of link {}", path.display()))?;
        attached.push(Attached {
            program: program.to_owned(),
            device: None,
            ifindex,
            link_id: Some(info.id()),
            program_id: info.program_id(),
        });
    }
    let netns = netns(state, loader);
    if let Some(netns) = &netns {
        attached.extend(filters(netns, paths)?);
    }
    let ifindexes: Vec<_> = attached.iter().map(|attached| attached.ifindex).collect();
    let names = netns.and_then(|netns| names_in(&netns, &ifindexes)).unwrap_or_default();
    let devices = Devices { state, names };
    for Attached { device, program, ifindex, .. } in &mut attached {
        *device = devices.name(program, *ifindex);
    }
    attached.sort_by(|a, b| (a.ifindex, &a.program).cmp(&(b.ifindex, &b.program)));
    Ok(attached)
}

/// The programs that are filters of devices in a network namespace.
fn filters(netns: &Path, paths: &NodePaths) -> anyhow::Result<Vec<Attached>> {
    let look_up = || {
        let mut netlink = Handle::open().context("open a netlink socket")?;
        bpf::filters(&mut netlink, paths).map_err(anyhow::Error::from)
    };
    // A namespace that may not be entered tells nothing.
    let filters = in_netns(netns, look_up).transpose()?.unwrap_or_default();
    let attached = filters.into_iter().map(|filter| Attached {
        program: filter.program.to_owned(),
        device: None,
        ifindex: filter.ifindex,
        link_id: None,
        program_id: filter.program_id,
    });
    Ok(attached.collect())
}

/// The parts of a pinned link's name, `from_pod_7`; `None` of a link that is about to take another one's place.
fn program_and_device(name: &str) -> Option<(&str, u32)> {
    let (program, ifindex) = name.rsplit_once('_')?;
    Some((program, ifindex.parse().ok()?))
}

/// Names of the node's devices.
struct Devices<'a> {
    state: Option<&'a State>,
    names: HashMap<u32, String>,
}

impl Devices<'_> {
    fn name(&self, program: &str, ifindex: u32) -> Option<String> {
        self.names.get(&ifindex).cloned().or_else(|| name_by_state(self.state?, program, ifindex))
    }
}

/// Where the node is, if that can be told: here, or where its loader runs.
fn netns(state: Option<&State>, loader: Option<u32>) -> Option<PathBuf> {
    match loader {
        _ if is_here(state) => Some(PathBuf::from(OWN_NETNS)),
        Some(pid) => Some(PathBuf::from(format!("/proc/{pid}/ns/net"))),
        None => None,
    }
}

/// What the state tells of the device of a program.
fn name_by_state(state: &State, program: &str, ifindex: u32) -> Option<String> {
    if program.starts_with("sock_") {
        return Some(state.sockets.cgroup.display().to_string());
    }
    let name = match (program, &state.uplinks[..]) {
        ("from_host", _) => &state.gateway_device,
        ("from_uplink" | "uplink_xdp", [only]) => only,
        _ => &state.pods.iter().find(|pod| pod.ifindex == ifindex)?.host_device,
    };
    Some(name.clone())
}

/// Network namespace that the process is in.
const OWN_NETNS: &str = "/proc/self/ns/net";

/// Whether the node's network namespace is the one that the process is in.
fn is_here(state: Option<&State>) -> bool {
    let netns = fs::metadata(OWN_NETNS).map(|netns| netns.ino());
    matches!((netns, state), (Ok(netns), Some(state)) if netns == state.netns)
}

/// Names of devices in a network namespace; `None` if it may not be entered.
fn names_in(netns: &Path, ifindexes: &[u32]) -> Option<HashMap<u32, String>> {
    in_netns(netns, || {
        let name = |ifindex: &u32| {
            let name = if_indextoname(*ifindex).ok()?.into_string().ok()?;
            // What nix 0.31 answers for a device that there is not.
            (!name.is_empty()).then_some((*ifindex, name))
        };
        ifindexes.iter().filter_map(name).collect()
    })
}

/// What `look_up` finds in a network namespace, which a thread of its own enters; `None` if it may not.
fn in_netns<T: Send>(netns: &Path, look_up: impl FnOnce() -> T + Send) -> Option<T> {
    let netns = File::open(netns).ok()?;
    let enter = || setns(netns, CloneFlags::CLONE_NEWNET).ok().map(|()| look_up());
    thread::scope(|scope| thread::Builder::new().spawn_scoped(scope, enter).ok()?.join().ok().flatten())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_links() {
        assert_eq!(program_and_device("from_pod_7"), Some(("from_pod", 7)));
        assert_eq!(program_and_device("from_pod_7_next"), None);
        assert_eq!(program_and_device("stray"), None);
    }

    #[test]
    fn names_of_devices() {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root to enter a network namespace");
            return;
        }
        let names = names_in(Path::new(OWN_NETNS), &[1, u32::MAX]).unwrap();
        assert_eq!(names, HashMap::from([(1, "lo".to_owned())]));
        assert_eq!(names_in(Path::new("/nowhere"), &[1]), None);
    }

    #[test]
    fn kinds_as_bpftool_has_them() {
        for (kind, name) in [
            ("Hash", "hash"),
            ("PerCpuArray", "percpu_array"),
            ("PerCpuHash", "percpu_hash"),
            ("LpmTrie", "lpm_trie"),
        ] {
            assert_eq!(kind_name(kind), name);
        }
    }
}
