//! Services for sockets: whose sockets they are, the programs on the cgroup, and the end of sockets whose backend has gone.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use common::maps::namespace_kind;

use super::pods::Pods;
use crate::{
    bpf::{self, BpfError, Programs},
    desired::{self, Desired, SocketMode},
    device::{self, Netns},
    paths::NodePaths,
    sockets::{Ender, Namespace},
    state::SocketsState,
};

/// The namespace of the loader's threads.
const OWN: &str = "/proc/thread-self/ns/net";

/// What is known of it.
#[derive(Default)]
pub(super) struct Sockets {
    state: SocketsState,
    /// Cookie of the node's own network namespace.
    own: Option<u64>,
    /// Cookies of the pods' namespaces by the pods' names, with the host-side device that was there when it was asked for:
    /// another device may lead to another namespace.
    pods: BTreeMap<String, (u32, u64)>,
    namespaces: Vec<Namespace>,
    /// Backends have gone, and sockets may still be connected to them.
    lost: bool,
    ender: Option<Ender>,
}

impl Sockets {
    /// To be told of every change of the services.
    pub(super) fn backends_have_gone(&mut self, gone: bool) {
        self.lost |= gone;
    }

    /// Says whose sockets are this node's, and attaches the programs. A cgroup or a kernel that does not take them keeps nothing
    /// else from working.
    pub(super) fn attach(
        &mut self,
        programs: &mut Programs,
        desired: &Desired,
        pods: &Pods,
        problems: &mut Vec<String>,
    ) -> Result<(), BpfError> {
        let desired::Sockets { mode, cgroup } = &desired.sockets;
        let (mode, before) = (*mode, std::mem::take(&mut self.state));
        self.state = SocketsState { mode, cgroup: cgroup.clone(), attached: false, error: None };
        if mode == SocketMode::Off {
            self.pods.clear();
            self.namespaces.clear();
            if bpf::detach_sockets(programs.paths())? > 0 {
                log::info!("sockets: {}", self.state);
            }
            write(programs, &[], problems);
            return Ok(());
        }
        self.look(desired, pods, problems);
        write(programs, &self.namespaces, problems);
        let attached = match programs.without_sockets() {
            Some(why) => Err(why.to_owned()),
            None => programs.ensure_sockets(cgroup, mode).map_err(|error| error.to_string()),
        };
        match attached {
            Ok(()) => self.state.attached = true,
            Err(error) => {
                bpf::detach_sockets(programs.paths())?;
                problems
                    .push(format!("services are not resolved for sockets, but packet by packet: {error}"));
                self.state.error = Some(error);
            }
        }
        if self.state.attached && self.state != before {
            log::info!("sockets: {}", self.state);
        }
        Ok(())
    }

    /// Finds the namespaces of the node and of the connected pods.
    fn look(&mut self, desired: &Desired, pods: &Pods, problems: &mut Vec<String>) {
        if self.own.is_none() {
            match device::cookie() {
                Ok(cookie) => self.own = Some(cookie),
                Err(error) => problems.push(format!("the cookie of the node's network namespace: {error}")),
            }
        }
        let node = Namespace { cookie: 0, kind: namespace_kind::NODE, path: PathBuf::from(OWN) };
        self.namespaces = self.own.into_iter().map(|cookie| Namespace { cookie, ..node.clone() }).collect();
        let connected = pods.facts();
        self.pods.retain(|name, (ifindex, _)| connected.get(name).is_some_and(|pod| pod.ifindex == *ifindex));
        for pod in &desired.pods {
            let Some(facts) = connected.get(&pod.name) else { continue };
            let known = self.pods.get(&pod.name).map(|(_, cookie)| *cookie);
            let cookie = match known.map_or_else(|| cookie_of(&pod.netns), Ok) {
                Ok(cookie) => cookie,
                Err(error) => {
                    problems.push(format!(
                        "pod {}: its sockets' services stay to its packets: {error}",
                        pod.name
                    ));
                    continue;
                }
            };
            self.pods.insert(pod.name.clone(), (facts.ifindex, cookie));
            // A pod of the node's own network is the node.
            if self.own != Some(cookie) {
                self.namespaces.push(Namespace {
                    cookie,
                    kind: namespace_kind::POD,
                    path: pod.netns.clone(),
                });
            }
        }
    }

    /// Ends the sockets that are connected to backends that have gone, in a thread of its own.
    pub(super) fn end_lost_ones(&mut self, paths: &NodePaths, desired: &desired::Sockets) {
        if desired.mode == SocketMode::Off {
            self.lost = false;
            self.ender = None;
            return;
        }
        if !std::mem::take(&mut self.lost) {
            return;
        }
        if self.ender.is_none() {
            match Ender::start(paths) {
                Ok(ender) => self.ender = Some(ender),
                Err(error) => {
                    self.lost = true;
                    log::error!("start the thread that ends sockets: {error}");
                    return;
                }
            }
        }
        if let Some(ender) = &self.ender {
            ender.end_lost_ones(self.namespaces.clone());
        }
    }

    /// The links of the programs.
    pub(super) fn links(&self) -> impl Iterator<Item = (&'static str, u32)> {
        let mode = if self.state.attached { self.state.mode } else { SocketMode::Off };
        bpf::socket_links(mode)
    }

    /// For the state file.
    pub(super) fn state(&self) -> SocketsState {
        self.state.clone()
    }
}

/// Brings the map of namespaces to these.
fn write(programs: &mut Programs, namespaces: &[Namespace], problems: &mut Vec<String>) {
    let wanted: BTreeMap<_, _> =
        namespaces.iter().map(|namespace| (namespace.cookie, namespace.kind)).collect();
    let map = &mut programs.namespaces;
    let mut bring = || {
        let found = map.list()?;
        for (cookie, kind) in wanted.iter().filter(|(cookie, kind)| found.get(cookie) != Some(kind)) {
            map.insert(cookie, kind)?;
        }
        found.keys().filter(|cookie| !wanted.contains_key(cookie)).try_for_each(|cookie| map.remove(cookie))
    };
    if let Err(error) = bring() {
        problems.push(format!("map {}: {error}", map.name()));
    }
}

/// Cookie of the namespace that a file is of.
fn cookie_of(path: &Path) -> Result<u64, String> {
    let netns = Netns::open(path).map_err(|error| error.to_string())?;
    let netns = netns.ok_or_else(|| format!("{} is no network namespace", path.display()))?;
    let cookie = netns.run(device::cookie).map_err(|error| error.to_string())?;
    cookie.map_err(|error| format!("SO_NETNS_COOKIE in {}: {error}", path.display()))
}
