//! The BPF maps. `docs/maps.md` lists them; names, sizes and layouts are `common::maps`'.

use aya_ebpf::{
    btf_maps::{HashMap, LpmTrie, PerCpuArray, PerCpuHashMap},
    macros::btf_map,
};
use common::{
    counters::HookCounters,
    maps::{Allowed, Budget, Endpoint, HelperError, Hop, Route, Source, Traffic, Vtep, capacity},
    node::Node,
};

use crate::opaque::opaque;

const PODS: usize = capacity::PODS as usize;
const PEERS: usize = capacity::PEERS as usize;
const ROUTES: usize = capacity::ROUTES as usize;
const SOURCES: usize = capacity::SOURCES as usize;
const ERRORS: usize = capacity::ERRORS as usize;
const REMEMBERED: usize = capacity::HOPS as usize;

/// How many hooks have counters.
const HOOKS: usize = 4;

/// The facts of this node; filled in by the loader before verification.
#[unsafe(no_mangle)]
static NODE: Node = Node {
    gateway_ifindex: 0,
    features: 0,
    mac: [0; 6],
    port: [0; 2],
    vni: [0; 3],
    reserved: 0,
    gateway4: [0; 4],
    gateway6: [0; 16],
    underlay4: [0; 4],
    underlay6: [0; 16],
};

/// The facts of this node, as the loader has put them there and not as the compiler saw them.
#[inline(always)]
pub fn node() -> &'static Node {
    // SAFETY: the address of a static, gone through a register that the compiler knows nothing of.
    unsafe { &*(opaque(&raw const NODE as usize) as *const Node) }
}

#[btf_map(name = "counters")]
pub static COUNTERS: PerCpuArray<HookCounters, HOOKS> = PerCpuArray::new();

#[btf_map(name = "helper_errors")]
pub static HELPER_ERRORS: PerCpuHashMap<HelperError, u64, ERRORS> = PerCpuHashMap::new();

#[btf_map(name = "hops")]
pub static HOPS: PerCpuArray<Hop, REMEMBERED> = PerCpuArray::new();

#[btf_map(name = "icmp_budget")]
pub static ICMP_BUDGET: PerCpuArray<Budget, 1> = PerCpuArray::new();

#[btf_map(name = "pod_traffic")]
pub static POD_TRAFFIC: PerCpuArray<Traffic, PODS> = PerCpuArray::new();

#[btf_map(name = "peer_traffic")]
pub static PEER_TRAFFIC: PerCpuArray<Traffic, PEERS> = PerCpuArray::new();

#[btf_map(name = "pods4")]
pub static PODS4: HashMap<[u8; 4], Endpoint, PODS> = HashMap::new();

#[btf_map(name = "pods6")]
pub static PODS6: HashMap<[u8; 16], Endpoint, PODS> = HashMap::new();

#[btf_map(name = "routes4")]
pub static ROUTES4: LpmTrie<[u8; 4], Route, ROUTES> = LpmTrie::new();

#[btf_map(name = "routes6")]
pub static ROUTES6: LpmTrie<[u8; 16], Route, ROUTES> = LpmTrie::new();

#[btf_map(name = "sources4")]
pub static SOURCES4: LpmTrie<Source<[u8; 4]>, Allowed, SOURCES> = LpmTrie::new();

#[btf_map(name = "sources6")]
pub static SOURCES6: LpmTrie<Source<[u8; 16]>, Allowed, SOURCES> = LpmTrie::new();

#[btf_map(name = "vteps4")]
pub static VTEPS4: HashMap<[u8; 4], Vtep, PEERS> = HashMap::new();

#[btf_map(name = "vteps6")]
pub static VTEPS6: HashMap<[u8; 16], Vtep, PEERS> = HashMap::new();
