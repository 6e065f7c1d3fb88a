//! Loading: the object, with the node's facts in it and the pinned maps under it.

use std::{collections::HashMap, fs, io, path::Path};

use aya::{
    Ebpf, EbpfLoader, Pod,
    maps::{HashMap as BpfHashMap, LpmTrie, Map, MapData, MapError, PerCpuArray, PerCpuValues, ProgramArray},
    programs::{CgroupSockAddr, Program, ProgramError, SchedClassifier, Xdp},
    util::nr_cpus,
};
use aya_log::EbpfLogger;
use common::{
    counters::Hook,
    maps::{Backend, Service, Traffic, name},
    node::{GLOBAL, Node, feature},
};

use super::{
    BpfError, carry,
    compat::{Definition, capacity, definitions},
    hash_map::Hash,
    held::{self, Held},
    lpm_map::Lpm,
    pins,
    replaced::{Replaced, incompatible},
    revisions,
    sock_programs::{self, SockProgram},
};
use crate::{
    desired::Capacities,
    paths::NodePaths,
    sync::{MapOps, ServiceMaps, Shared, Tables},
};

/// How much of the verifier's log is shown.
const LOG_TAIL_LINES: usize = 40;
/// Name of the program in front of the one at [`Hook::FromUplink`], where XDP leaves packets to TC.
pub(super) const IN_FRONT: &str = "from_xdp";
/// Map of the trace build's messages.
const TRACE_MAP: &str = "AYA_LOGS";

/// Messages of the trace build, on their way to the log.
pub type TraceLog = EbpfLogger<&'static dyn log::Log>;

/// What is to be loaded.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The object file's bytes.
    pub object: &'a [u8],
    /// What the programs are to know of the node.
    pub node: Node,
    /// Sizes of the maps.
    pub capacities: Capacities,
    /// Where things are pinned.
    pub paths: &'a NodePaths,
}

/// Programs in the kernel, and the maps that they use.
pub struct Programs {
    pub(super) ebpf: Ebpf,
    pub(super) paths: NodePaths,
    /// Where `from_xdp` finds the program behind it.
    pub(super) tail_calls: ProgramArray<MapData>,
    /// Maps that the loader fills.
    pub tables: Tables,
    service_maps: Option<ServiceMaps>,
    epochs: Shared,
    pod_traffic: PerCpuArray<MapData, Traffic>,
    peer_traffic: PerCpuArray<MapData, Traffic>,
    trace: Option<TraceLog>,
    /// Cookies of the node's network namespaces, with a [`namespace_kind`](common::maps::namespace_kind) each.
    pub namespaces: Box<dyn MapOps<u64, u32>>,
    /// Why the kernel did not take the XDP program, if it did not.
    without_xdp: Option<String>,
    /// Why the kernel did not take the socket programs, if it did not.
    without_sockets: Option<String>,
    node: Node,
    capacities: Capacities,
    /// Maps that take the place of pinned ones when the programs are committed.
    pub(super) replaced: Replaced,
    pub(super) held: Vec<Held>,
    pub(super) committed: bool,
}

/// Loads the programs; nothing that is attached changes.
pub fn load(request: Request<'_>) -> Result<Programs, BpfError> {
    let Request { object, node, capacities, paths } = request;
    pins::make_directories(paths)?;
    let wanted = definitions(object, &capacities)?;
    let replaced = incompatible(&wanted, paths)?;

    let mut loader = EbpfLoader::new();
    loader.override_global(GLOBAL, &node, true);
    for map in name::ALL {
        let pin = paths.map(map);
        loader.map_pin_path(map, if replaced.all.contains(&map) { pins::next(&pin) } else { pin });
        if let Some(capacity) = capacity(&capacities, map) {
            loader.map_max_entries(map, capacity);
        }
    }
    let mut ebpf = loader.load(object).map_err(BpfError::Load)?;
    let held = held::hold(paths, &replaced)?;
    for hook in Hook::TC {
        classifier(&mut ebpf, hook.name())?.load().map_err(|error| rejected(hook.name(), error, paths))?;
    }
    if node.has(feature::XDP) {
        classifier(&mut ebpf, IN_FRONT)?.load().map_err(|error| rejected(IN_FRONT, error, paths))?;
    }
    let without_xdp = if node.has(feature::XDP) { load_xdp(&mut ebpf, paths)? } else { None };
    let without_sockets = if node.has(feature::SOCKETS) { load_sockets(&mut ebpf, paths)? } else { None };
    let trace = trace_log(&mut ebpf)?;
    let tables = take_tables(&mut ebpf, &wanted)?;
    let mut service_maps = take_service_maps(&mut ebpf, &wanted)?;
    if replaced.carried.contains(&name::SERVICES) {
        carry::services(&mut service_maps, paths)?;
    }
    let left = carry::connections(&mut ebpf, &replaced, paths)?;
    if left > 0 {
        log::warn!("{left} entries of connections have no room in the smaller maps and are forgotten");
    }
    let elements = wanted.get(name::EPOCHS).map_or(0, |definition| definition.max_entries);
    let epochs = shared(&mut ebpf, name::EPOCHS, elements, size_of::<u64>())?;
    let room = wanted.get(name::NAMESPACES).map_or(0, |definition| definition.max_entries);
    let namespaces = hash(&mut ebpf, name::NAMESPACES, room)?;
    let pod_traffic = take(&mut ebpf, name::POD_TRAFFIC)?;
    let peer_traffic = take(&mut ebpf, name::PEER_TRAFFIC)?;
    let tail_calls = take(&mut ebpf, name::TAIL_CALLS)?;
    let paths = paths.clone();
    Ok(Programs {
        ebpf,
        paths,
        tail_calls,
        tables,
        service_maps: Some(service_maps),
        epochs,
        pod_traffic,
        peer_traffic,
        trace,
        namespaces,
        without_xdp,
        without_sockets,
        node,
        capacities,
        replaced,
        held,
        committed: false,
    })
}

impl Programs {
    /// Whether these are what would be loaded for this node and these sizes.
    #[must_use]
    pub fn are_for(&self, node: &Node, capacities: &Capacities) -> bool {
        self.node == *node && self.capacities == *capacities
    }

    /// Where they are pinned.
    pub(crate) fn paths(&self) -> &NodePaths {
        &self.paths
    }

    /// Whether these expect XDP on an uplink.
    #[must_use]
    pub fn expect_xdp(&self) -> bool {
        self.node.has(feature::XDP)
    }

    /// Why the kernel did not take the XDP program, if it did not.
    #[must_use]
    pub fn without_xdp(&self) -> Option<&str> {
        self.without_xdp.as_deref()
    }

    /// Why the kernel did not take the socket programs, if it did not.
    #[must_use]
    pub fn without_sockets(&self) -> Option<&str> {
        self.without_sockets.as_deref()
    }

    /// The maps of services, for whoever asks first.
    pub fn take_service_maps(&mut self) -> Option<ServiceMaps> {
        self.service_maps.take()
    }

    /// What the programs remember of flows holds no longer: to be called when anything that they look up has been changed.
    pub fn expire_flows(&self) {
        self.epochs.advance();
    }

    /// Messages of the trace build.
    pub fn trace(&mut self) -> Option<&mut TraceLog> {
        self.trace.as_mut()
    }

    /// Forgets what the previous owner of a pod's slot has counted.
    pub fn reset_pod(&mut self, slot: u32) -> Result<(), BpfError> {
        reset(&mut self.pod_traffic, name::POD_TRAFFIC, slot)
    }

    /// Forgets what the previous owner of a peer's slot has counted.
    pub fn reset_peer(&mut self, slot: u32) -> Result<(), BpfError> {
        reset(&mut self.peer_traffic, name::PEER_TRAFFIC, slot)
    }

    /// Tells new maps of the connections that have begun since they were filled: to be called before the programs are attached, so that
    /// they know all that are older than the moment in which they are.
    pub fn catch_up(&mut self) -> Result<(), BpfError> {
        carry::connections(&mut self.ebpf, &self.replaced, &self.paths).map(drop)
    }

    /// Pins the programs, and lets new maps take the place of the pinned ones: to be called when every link has the new
    /// programs.
    pub fn commit(&mut self) -> Result<(), BpfError> {
        if self.committed {
            return Ok(());
        }
        // The programs before these may have known other facts of the node.
        self.expire_flows();
        self.leave_behind()?;
        for (name, is_loaded) in self.pinned() {
            let pin = self.paths.program(name);
            if !is_loaded {
                pins::remove(&pin)?;
                continue;
            }
            let next = pins::next(&pin);
            pins::remove(&next)?;
            let program = program(&mut self.ebpf, name)?;
            program.pin(&next).map_err(|error| BpfError::Program {
                call: "pin",
                program: name,
                source: error.into(),
            })?;
            pins::advance(&pin)?;
        }
        self.catch_up()?;
        // One by one off the list: what fails is where it goes on.
        while let Some(map) = self.replaced.all.first() {
            pins::advance(&self.paths.map(map))?;
            self.replaced.all.remove(0);
        }
        for map in std::mem::take(&mut self.replaced).aside {
            pins::remove(&pins::aside(&self.paths.map(map)))?;
        }
        revisions::write(&self.paths)?;
        self.committed = true;
        Ok(())
    }

    /// Names of the programs that may be pinned, and whether they are to be.
    pub(super) fn pinned(&self) -> Vec<(&'static str, bool)> {
        let has_xdp = self.expect_xdp() && self.without_xdp.is_none();
        let has_sockets = self.node.has(feature::SOCKETS) && self.without_sockets.is_none();
        let of_packets = Hook::OF_PACKETS.map(|hook| (hook.name(), hook != Hook::UplinkXdp || has_xdp));
        let of_sockets = sock_programs::ALL.map(|program| (program.name, has_sockets));
        let in_front = (IN_FRONT, self.expect_xdp());
        of_packets.into_iter().chain(of_sockets).chain([in_front]).collect()
    }
}

/// The program called `name`.
pub(super) fn classifier<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut SchedClassifier, BpfError> {
    program(ebpf, name)?
        .try_into()
        .map_err(|_| BpfError::Object { what: format!("has a program {name} that is no classifier") })
}

/// The program for XDP on uplinks.
pub(super) fn xdp(ebpf: &mut Ebpf) -> Result<&mut Xdp, BpfError> {
    let name = Hook::UplinkXdp.name();
    program(ebpf, name)?
        .try_into()
        .map_err(|_| BpfError::Object { what: format!("has a program {name} that is not for XDP") })
}

fn program<'a>(ebpf: &'a mut Ebpf, name: &'static str) -> Result<&'a mut Program, BpfError> {
    ebpf.program_mut(name).ok_or_else(|| BpfError::Object { what: format!("has no program {name}") })
}

/// Loads the program for XDP. The node works without, so a kernel that does not take it is no failure: why it does not is
/// returned, and its verifier's log kept.
fn load_xdp(ebpf: &mut Ebpf, paths: &NodePaths) -> Result<Option<String>, BpfError> {
    let name = Hook::UplinkXdp.name();
    let Err(error) = xdp(ebpf)?.load() else { return Ok(None) };
    Ok(Some(refused(rejected(name, error, paths))))
}

/// What the kernel had against a program, in one line; all of it is logged.
fn refused(error: BpfError) -> String {
    log::error!("{error}");
    match error {
        BpfError::Verifier { program, source, log, .. } => {
            format!("the kernel's verifier rejects program {program}: {source}; its log is {}", log.display())
        }
        error => error.to_string(),
    }
}

/// The socket program called `name`.
pub(super) fn sock_addr<'a>(
    ebpf: &'a mut Ebpf,
    name: &'static str,
) -> Result<&'a mut CgroupSockAddr, BpfError> {
    program(ebpf, name)?
        .try_into()
        .map_err(|_| BpfError::Object { what: format!("has a program {name} that is not for sockets") })
}

/// Loads the socket programs. As with XDP, the node works without.
fn load_sockets(ebpf: &mut Ebpf, paths: &NodePaths) -> Result<Option<String>, BpfError> {
    for SockProgram { name, .. } in sock_programs::ALL {
        if let Err(error) = sock_addr(ebpf, name)?.load() {
            return Ok(Some(refused(rejected(name, error, paths))));
        }
    }
    Ok(None)
}

fn rejected(program: &'static str, error: ProgramError, paths: &NodePaths) -> BpfError {
    let ProgramError::LoadError { io_error: source, verifier_log } = error else {
        return BpfError::Program { call: "load", program, source: error.into() };
    };
    let full = verifier_log.to_string();
    let log = paths.run().join("verifier.log");
    if let Err(error) = fs::write(&log, &full) {
        log::warn!("write {}: {error}", log.display());
    }
    let lines: Vec<&str> = full.trim_end().lines().collect();
    let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n");
    BpfError::Verifier { program, source, log, tail }
}

fn trace_log(ebpf: &mut Ebpf) -> Result<Option<TraceLog>, BpfError> {
    if ebpf.map(TRACE_MAP).is_none() {
        return Ok(None);
    }
    log::info!("this is the trace build of the programs: they log packets, and are slower for it");
    let what = |error| BpfError::Object { what: format!("has messages that can't be read: {error}") };
    EbpfLogger::init(ebpf).map(Some).map_err(what)
}

fn take_tables(ebpf: &mut Ebpf, wanted: &HashMap<&'static str, Definition>) -> Result<Tables, BpfError> {
    let room = |name| wanted.get(name).map_or(0, |definition| definition.max_entries);
    Ok(Tables {
        pods4: hash(ebpf, name::PODS4, room(name::PODS4))?,
        pods6: hash(ebpf, name::PODS6, room(name::PODS6))?,
        routes4: lpm(ebpf, name::ROUTES4, room(name::ROUTES4))?,
        routes6: lpm(ebpf, name::ROUTES6, room(name::ROUTES6))?,
        sources4: lpm(ebpf, name::SOURCES4, room(name::SOURCES4))?,
        sources6: lpm(ebpf, name::SOURCES6, room(name::SOURCES6))?,
        vteps4: hash(ebpf, name::VTEPS4, room(name::VTEPS4))?,
        vteps6: hash(ebpf, name::VTEPS6, room(name::VTEPS6))?,
    })
}

fn take_service_maps(
    ebpf: &mut Ebpf,
    wanted: &HashMap<&'static str, Definition>,
) -> Result<ServiceMaps, BpfError> {
    let room = |name| wanted.get(name).map_or(0, |definition| definition.max_entries);
    Ok(ServiceMaps {
        services: shared(ebpf, name::SERVICES, room(name::SERVICES), size_of::<Service>())?,
        backends: shared(ebpf, name::BACKENDS, room(name::BACKENDS), size_of::<Backend>())?,
        maglev: shared(ebpf, name::MAGLEV, room(name::MAGLEV), size_of::<u32>())?,
        interest: shared(ebpf, name::INTEREST, room(name::INTEREST), size_of::<u64>())?,
        frontends: hash(ebpf, name::FRONTENDS, room(name::FRONTENDS))?,
        source_ranges: lpm(ebpf, name::SOURCE_RANGES, room(name::SOURCE_RANGES))?,
    })
}

fn shared(ebpf: &mut Ebpf, name: &'static str, elements: u32, value_size: usize) -> Result<Shared, BpfError> {
    let failed = |source| BpfError::Map { call: "mmap", map: name, source };
    let Some(Map::Array(map)) = ebpf.take_map(name) else {
        return Err(BpfError::Object { what: format!("has no array {name}") });
    };
    Shared::map(map.fd(), elements, value_size).map_err(|error| failed(error.into()))
}

fn hash<K: Pod + Ord, V: Pod>(
    ebpf: &mut Ebpf,
    name: &'static str,
    capacity: u32,
) -> Result<Box<Hash<K, V>>, BpfError> {
    let map: BpfHashMap<MapData, K, V> = take(ebpf, name)?;
    Ok(Box::new(Hash { name, capacity, map }))
}

fn lpm<const N: usize, V: Pod>(
    ebpf: &mut Ebpf,
    name: &'static str,
    capacity: u32,
) -> Result<Box<Lpm<N, V>>, BpfError> {
    let map: LpmTrie<MapData, [u8; N], V> = take(ebpf, name)?;
    Ok(Box::new(Lpm { name, capacity, map }))
}

fn take<M: TryFrom<Map, Error = MapError>>(ebpf: &mut Ebpf, name: &'static str) -> Result<M, BpfError> {
    let map = ebpf.take_map(name).ok_or_else(|| BpfError::Object { what: format!("has no map {name}") })?;
    M::try_from(map).map_err(|source| BpfError::Map { call: "open", map: name, source })
}

fn reset(map: &mut PerCpuArray<MapData, Traffic>, name: &'static str, slot: u32) -> Result<(), BpfError> {
    let failed = |source| BpfError::Map { call: "reset a counter of", map: name, source };
    let cpus =
        nr_cpus().map_err(|(path, error): (&str, io::Error)| pins::failed("read", Path::new(path))(error))?;
    let zeros =
        PerCpuValues::try_from(vec![Traffic::default(); cpus]).map_err(|error| failed(error.into()))?;
    map.set(slot, zeros, 0).map_err(failed)
}
