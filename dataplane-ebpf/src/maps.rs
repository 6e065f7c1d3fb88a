//! The BPF maps. `docs/maps.md` lists them; names, sizes and layouts are `common::maps`'.

use aya_ebpf::{
    bindings::BPF_F_MMAPABLE,
    btf_maps::{Array, HashMap, LpmTrie, LruHashMap, PerCpuArray, PerCpuHashMap, ProgramArray},
    macros::btf_map,
};
use common::{
    counters::HookCounters,
    interest,
    maps::{
        Affinity, Allowed, Backend, Budget, Choice, Client, Connection, Endpoint, FlowSet, FragmentKey,
        FragmentPorts, Frontend, FrontendKey, HelperError, Hop, Resolved, Route, Service, SocketKey, Source,
        SourceRange, Staged, Traffic, Tuple, Vtep, capacity, flow_sets,
    },
    node::Node,
};

use crate::opaque::opaque;

const PODS: usize = capacity::PODS as usize;
const PEERS: usize = capacity::PEERS as usize;
const ROUTES: usize = capacity::ROUTES as usize;
const SOURCES: usize = capacity::SOURCES as usize;
const ERRORS: usize = capacity::ERRORS as usize;
const REMEMBERED: usize = capacity::HOPS as usize;
const AFFINITIES: usize = capacity::AFFINITY as usize;
const REMEMBERED_FLOWS: usize = flow_sets(capacity::FLOWS) as usize;
const FLOW_EPOCHS: usize = capacity::EPOCHS as usize;
const BACKEND_SLOTS: usize = capacity::BACKENDS as usize;
const CONNECTIONS: usize = capacity::CONNTRACK as usize;
const CUT_PACKETS: usize = capacity::FRAGMENTS as usize;
const FRONTEND_KEYS: usize = capacity::FRONTENDS as usize;
const CHOICES: usize = capacity::MAGLEV as usize;
const SERVICE_SLOTS: usize = capacity::SERVICES as usize;
const RANGES: usize = capacity::SOURCE_RANGES as usize;
const RESOLVED_SOCKETS: usize = capacity::SOCKETS as usize;
const NETNS: usize = capacity::NAMESPACES as usize;
const FILTER: usize = interest::WORDS as usize;

/// Memory that the loader writes without a system call, and in which one store is one change.
const SHARED: usize = BPF_F_MMAPABLE as usize;

/// How many hooks have counters.
const HOOKS: usize = 6;

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
    loopback4: [0; 4],
    loopback6: [0; 16],
    ports_first: 0,
    ports_last: 0,
    answers_first: 0,
    answers_last: 0,
    frame: 0,
    flow_sets: 0,
};

/// The facts of this node, as the loader has put them there and not as the compiler saw them.
#[inline(always)]
pub fn node() -> &'static Node {
    // SAFETY: the address of a static, gone through a register that the compiler knows nothing of.
    unsafe { &*(opaque(&raw const NODE as usize) as *const Node) }
}

#[btf_map(name = "affinity")]
pub static AFFINITY: LruHashMap<Client, Affinity, AFFINITIES> = LruHashMap::new();

#[btf_map(name = "backends")]
pub static BACKENDS: Array<Backend, BACKEND_SLOTS, SHARED> = Array::new();

#[btf_map(name = "conntrack4")]
pub static CONNTRACK4: HashMap<Tuple<[u8; 4]>, Connection<[u8; 4]>, CONNECTIONS> = HashMap::new();

#[btf_map(name = "conntrack6")]
pub static CONNTRACK6: HashMap<Tuple<[u8; 16]>, Connection<[u8; 16]>, CONNECTIONS> = HashMap::new();

#[btf_map(name = "counters")]
pub static COUNTERS: PerCpuArray<HookCounters, HOOKS> = PerCpuArray::new();

#[btf_map(name = "epochs")]
pub static EPOCHS: Array<u64, FLOW_EPOCHS, SHARED> = Array::new();

#[btf_map(name = "flows4")]
pub static FLOWS4: PerCpuArray<FlowSet<[u8; 4]>, REMEMBERED_FLOWS> = PerCpuArray::new();

#[btf_map(name = "flows6")]
pub static FLOWS6: PerCpuArray<FlowSet<[u8; 16]>, REMEMBERED_FLOWS> = PerCpuArray::new();

#[btf_map(name = "fragments")]
pub static FRAGMENTS: LruHashMap<FragmentKey, FragmentPorts, CUT_PACKETS> = LruHashMap::new();

#[btf_map(name = "frontends")]
pub static FRONTENDS: HashMap<FrontendKey, Frontend, FRONTEND_KEYS> = HashMap::new();

#[btf_map(name = "helper_errors")]
pub static HELPER_ERRORS: PerCpuHashMap<HelperError, u64, ERRORS> = PerCpuHashMap::new();

#[btf_map(name = "hops")]
pub static HOPS: PerCpuArray<Hop, REMEMBERED> = PerCpuArray::new();

#[btf_map(name = "interest")]
pub static INTEREST: Array<u64, FILTER, SHARED> = Array::new();

#[btf_map(name = "maglev")]
pub static MAGLEV: Array<u32, CHOICES, SHARED> = Array::new();

#[btf_map(name = "icmp_budget")]
pub static ICMP_BUDGET: PerCpuArray<Budget, 1> = PerCpuArray::new();

#[btf_map(name = "namespaces")]
pub static NAMESPACES: HashMap<u64, u32, NETNS> = HashMap::new();

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

#[btf_map(name = "services")]
pub static SERVICES: Array<Service, SERVICE_SLOTS, SHARED> = Array::new();

#[btf_map(name = "sockets")]
pub static SOCKETS: LruHashMap<SocketKey, Resolved, RESOLVED_SOCKETS> = LruHashMap::new();

#[btf_map(name = "socket_choices")]
pub static SOCKET_CHOICES: LruHashMap<SocketKey, Choice, RESOLVED_SOCKETS> = LruHashMap::new();

#[btf_map(name = "source_ranges")]
pub static SOURCE_RANGES: LpmTrie<SourceRange, u32, RANGES> = LpmTrie::new();

#[btf_map(name = "staged4")]
pub static STAGED4: PerCpuArray<Staged<[u8; 4]>, 1> = PerCpuArray::new();

#[btf_map(name = "staged6")]
pub static STAGED6: PerCpuArray<Staged<[u8; 16]>, 1> = PerCpuArray::new();

#[btf_map(name = "sources4")]
pub static SOURCES4: LpmTrie<Source<[u8; 4]>, Allowed, SOURCES> = LpmTrie::new();

#[btf_map(name = "sources6")]
pub static SOURCES6: LpmTrie<Source<[u8; 16]>, Allowed, SOURCES> = LpmTrie::new();

#[btf_map(name = "tail_calls")]
pub static TAIL_CALLS: ProgramArray<1> = ProgramArray::new();

#[btf_map(name = "vteps4")]
pub static VTEPS4: HashMap<[u8; 4], Vtep, PEERS> = HashMap::new();

#[btf_map(name = "vteps6")]
pub static VTEPS6: HashMap<[u8; 16], Vtep, PEERS> = HashMap::new();
