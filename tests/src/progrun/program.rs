//! The loaded programs and their maps.

use std::{
    env,
    ops::Range,
    os::fd::AsFd as _,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
};

use anyhow::{Context as _, Result, bail, ensure};
use aya::{
    Ebpf, EbpfLoader,
    maps::{Array, HashMap, PerCpuArray, PerCpuValues},
    programs::{Program, ProgramError, ProgramInfo, SchedClassifier, TestRun as _, TestRunOptions, Xdp},
};
use common::{
    counters::Hook,
    handover::{self, Handover},
    maps::{Budget, Connection, Flow, FlowSet, Tuple, name},
    memory::Memory,
    node::{self, Node},
    packet::Packet as _,
    verdict::Action,
};

use super::{
    kept::{self, Kept},
    maps::{bytes, fill, map, map_mut},
    rig::Input,
    seen::{REDIRECT, SHOT, Seen, UNSPEC},
    tables::{Room, Tables},
    totals::Totals,
};
use crate::{
    again::{Again, Flows},
    bpf_map::{Bytes, cpus, has_entries},
};

/// Slots of pods and peers that the plan uses, at most.
const SLOTS: u32 = 16;
/// Ways that a CPU remembers: the parts of the first peer's flows. So a run never depends on the one before.
pub const REMEMBERED: u32 = 8;
/// Entries of a table of connections or services that a test makes, at most.
pub const ENTRIES: u32 = 1024;
/// Maps that are smaller than on a real node.
const SIZES: [(&str, u32); 13] = [
    (name::AFFINITY, ENTRIES),
    (name::BACKENDS, ENTRIES),
    (name::CONNTRACK4, ENTRIES),
    (name::CONNTRACK6, ENTRIES),
    (name::FRAGMENTS, ENTRIES),
    (name::FRONTENDS, ENTRIES),
    (name::HOPS, REMEMBERED),
    (name::MAGLEV, ENTRIES),
    (name::PEER_TRAFFIC, SLOTS),
    (name::POD_TRAFFIC, SLOTS),
    (name::SERVICES, ENTRIES),
    (name::SOCKETS, ENTRIES),
    (name::SOCKET_CHOICES, ENTRIES),
];
/// What a packet may grow to.
const ROOM: usize = 4096;
/// Fields of `struct __sk_buff` of linux/bpf.h that the kernel takes: their offsets, and the size of it all.
const IFINDEX: usize = 40;
const GSO_SEGS: usize = 164;
const GSO_SIZE: usize = 176;
const CONTEXT: usize = 192;

/// Verdicts of `enum xdp_action` of linux/bpf.h.
mod xdp_action {
    pub const DROP: u32 = 1;
    pub const PASS: u32 = 2;
    pub const TX: u32 = 3;
}

/// The object file: `podlane.o` or, for the trace build, `podlane-trace.o`.
///
/// # Errors
///
/// It has not been built.
pub fn object(file: &str) -> Result<PathBuf> {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/ebpf").join(file);
    ensure!(built.is_file(), "{} is missing: run `cargo xtask build-ebpf`", built.display());
    Ok(built)
}

/// Whether the kernel runs a program on that frame. It refuses one whose network header is cut short
/// (`bpf_prog_test_run_skb` in `net/bpf/test_run.c`); inside a tunnel it does not look.
#[must_use]
pub fn runs(frame: &[u8]) -> bool {
    let needed = match frame.get(12..14) {
        Some([0x08, 0x00]) => 14 + 20,
        Some([0x86, 0xdd]) => 14 + 40,
        _ => 14,
    };
    frame.len() >= needed
}

/// What a run has come to.
struct Ran {
    /// As TC would say it.
    verdict: i32,
    /// The packet.
    bytes: Vec<u8>,
    /// What XDP left for TC to carry out.
    handed: Option<Action>,
}

/// What kinds of programs have in common.
trait Loadable {
    fn is_loaded(&self) -> bool;
    fn load(&mut self) -> Result<(), ProgramError>;
}

macro_rules! loadable {
    ($($kind:ty),+) => {
        $(
            impl Loadable for $kind {
                fn is_loaded(&self) -> bool {
                    self.fd().is_ok()
                }

                fn load(&mut self) -> Result<(), ProgramError> {
                    Self::load(self)
                }
            }
        )+
    };
}

loadable!(SchedClassifier, Xdp);

/// Programs and maps.
pub struct Loaded {
    ebpf: Ebpf,
    object: PathBuf,
    node: Node,
    /// Whether the next test may have them.
    reusable: bool,
}

/// Programs that have run for a test and wait for another. To verify one takes longer than any test; each is loaded once for all tests
/// of a node's constants.
static IDLE: Mutex<Vec<Loaded>> = Mutex::new(Vec::new());

impl Loaded {
    /// The programs for that node, with its tables in their maps and nothing else. A program goes to the kernel when it is first run.
    pub fn new(object: PathBuf, tables: &Tables) -> Result<Self> {
        // To empty maps of another size may take longer than to load the programs once more.
        let reusable = tables.room == Room::default();
        if reusable && let Some(mut loaded) = idle(&object, tables.node) {
            loaded.start_over(tables)?;
            return Ok(loaded);
        }
        let ebpf = load(&object, tables)?;
        Ok(Self { ebpf, object, node: *tables.node, reusable })
    }

    /// The same object once more.
    pub fn anew(&self, tables: &Tables) -> Result<Ebpf> {
        load(&self.object, tables)
    }

    /// Empties all maps, and fills in the tables.
    pub fn start_over(&mut self, tables: &Tables) -> Result<()> {
        for (name, map) in self.ebpf.maps().filter(|(name, map)| !is_constant(name) && has_entries(map)) {
            Bytes::of(map).and_then(|map| map.clear()).with_context(|| format!("empty map {name}"))?;
        }
        fill(&mut self.ebpf, tables)
    }

    /// Leaves the programs to the next test.
    pub fn give_back(self) {
        if self.reusable {
            IDLE.lock().unwrap_or_else(PoisonError::into_inner).push(self);
        }
    }

    /// The object, for what a test looks up itself.
    pub const fn ebpf(&self) -> &Ebpf {
        &self.ebpf
    }

    /// The object, for a test that does something with it: no other gets it.
    pub const fn ebpf_mut(&mut self) -> &mut Ebpf {
        self.reusable = false;
        &mut self.ebpf
    }

    /// Runs a packet.
    pub fn run(&mut self, input: &Input<'_>, kept: &Kept) -> Result<Seen> {
        self.prepare(input)?;
        self.remember(kept)?;
        let before = Totals::read(&self.ebpf, input.hook)?;
        let run = match input.hook {
            Hook::UplinkXdp => self.run_xdp(input),
            _ => self.run_tc(input),
        };
        let ran = run.with_context(|| format!("run {} on {} bytes", input.hook.name(), input.bytes.len()))?;
        let mut seen = Totals::read(&self.ebpf, input.hook)?.since(&before);
        seen.connections = self.connections()?;
        if !seen.connections.is_empty() {
            seen.flows = self.flows(kept)?;
        }
        seen.verdict = ran.verdict;
        seen.handed = ran.handed;
        if seen.verdict != SHOT {
            seen.bytes = ran.bytes;
        }
        Ok(seen)
    }

    /// Runs a packet so many times, each time as it is given.
    pub fn repeat(&mut self, input: &Input<'_>, runs: u32) -> Result<()> {
        self.prepare(input)?;
        for _ in 0..runs {
            match input.hook {
                Hook::UplinkXdp => self.run_xdp(input)?,
                _ => self.run_tc(input)?,
            };
        }
        Ok(())
    }

    /// A hook's program at XDP with a packet that it gets again and again.
    pub fn again(&mut self, input: &Input<'_>, flows: Flows) -> Result<Again> {
        self.prepare(input)?;
        Again::new(self.loaded::<Xdp>(input.hook)?.fd()?.as_fd(), input.ifindex, input.bytes, flows)
    }

    /// What the kernel knows of a hook's program.
    pub fn info(&mut self, hook: Hook) -> Result<ProgramInfo> {
        Ok(match hook {
            Hook::UplinkXdp => self.loaded::<Xdp>(hook)?.info(),
            _ => self.loaded::<SchedClassifier>(hook)?.info(),
        }?)
    }

    fn run_tc(&mut self, input: &Input<'_>) -> Result<Ran> {
        let mut context = [0; CONTEXT];
        let mut field = |at: usize, value: u32| context[at..at + 4].copy_from_slice(&value.to_ne_bytes());
        field(IFINDEX, input.ifindex);
        if input.gso_size != 0 {
            field(GSO_SIZE, input.gso_size);
            field(GSO_SEGS, 2);
        }
        let mut bytes = vec![0; ROOM];
        let options = TestRunOptions {
            data_in: Some(input.bytes),
            data_out: Some(&mut bytes),
            ctx_in: Some(&context),
            ..TestRunOptions::new()
        };
        let program = self.loaded::<SchedClassifier>(input.hook)?;
        let result = program.test_run(options)?;
        bytes.truncate(usize::try_from(result.data_size_out)?);
        Ok(Ran { verdict: result.return_value.cast_signed(), bytes, handed: None })
    }

    /// Runs a packet at XDP. The verdict is TC's for the same action, as far as there is one.
    fn run_xdp(&mut self, input: &Input<'_>) -> Result<Ran> {
        let end = u32::try_from(input.bytes.len())?;
        // `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
        let mut given = Vec::new();
        for field in [0, end, 0, input.ifindex, 0, 0] {
            given.extend(field.to_ne_bytes());
        }
        let mut left = vec![0; given.len()];
        let mut bytes = vec![0; ROOM];
        let options = TestRunOptions {
            data_in: Some(input.bytes),
            data_out: Some(&mut bytes),
            ctx_in: Some(&given),
            ctx_out: Some(&mut left),
            ..TestRunOptions::new()
        };
        let program = self.loaded::<Xdp>(input.hook)?;
        let result = program.test_run(options)?;
        bytes.truncate(usize::try_from(result.data_size_out)?);
        // The metadata comes first.
        let start = left.first_chunk().map_or(0, |start| u32::from_ne_bytes(*start));
        let packet = bytes.split_off(usize::try_from(start)?);
        let handed = match bytes.len() {
            0 => None,
            handover::LEN => Memory::packet(&bytes).at::<Handover>(0).and_then(Handover::action),
            length => bail!("{length} bytes of metadata"),
        };
        let verdict = match (result.return_value, handed) {
            (xdp_action::DROP, _) => SHOT,
            (xdp_action::TX, _) | (xdp_action::PASS, Some(_)) => REDIRECT,
            (xdp_action::PASS, None) => UNSPEC,
            (other, _) => bail!("XDP returned {other}"),
        };
        Ok(Ran { verdict, bytes: packet, handed })
    }

    /// The program of a hook, which is loaded when it is run for the first time.
    fn loaded<'a, P>(&'a mut self, hook: Hook) -> Result<&'a mut P>
    where
        P: Loadable,
        &'a mut P: TryFrom<&'a mut Program, Error = ProgramError>,
    {
        let name = hook.name();
        let program =
            self.ebpf.program_mut(name).with_context(|| format!("no program {name} in the object"))?;
        let program: &mut P = program.try_into().with_context(|| format!("program {name}"))?;
        if !program.is_loaded() {
            program.load().with_context(|| format!("load program {name}"))?;
        }
        Ok(program)
    }

    /// Sets what a run depends on besides its packet: the allowance of ICMP errors, of which none is earned in any time that
    /// passes, and what is remembered.
    fn prepare(&self, input: &Input<'_>) -> Result<()> {
        bytes(&self.ebpf, name::ICMP_BUDGET)?
            .set_all(&Budget { updated_ns: u64::MAX, tokens: input.tokens })?;
        bytes(&self.ebpf, name::HOPS)?.set_all(&input.remembered)
    }

    /// Entries of the connection tables, as lines.
    fn connections(&self) -> Result<Vec<String>> {
        let four: HashMap<_, Tuple<[u8; 4]>, Connection<[u8; 4]>> = map(&self.ebpf, name::CONNTRACK4)?;
        let six: HashMap<_, Tuple<[u8; 16]>, Connection<[u8; 16]>> = map(&self.ebpf, name::CONNTRACK6)?;
        let mut lines = Vec::new();
        for entry in &four {
            let (key, connection) = entry?;
            lines.push(kept::line(&key, &connection));
        }
        for entry in &six {
            let (key, connection) = entry?;
            lines.push(kept::line(&key, &connection));
        }
        lines.sort();
        Ok(lines)
    }

    /// Has every CPU remember the same flows, and for good: which CPU runs a packet, and when, is nobody's choice.
    fn remember(&mut self, kept: &Kept) -> Result<()> {
        let mut flows4: PerCpuArray<_, FlowSet<[u8; 4]>> = map_mut(&mut self.ebpf, name::FLOWS4)?;
        for (index, flows) in &kept.flows4 {
            let flows = lasting(bytemuck::cast::<_, FlowSet<[u8; 4]>>(*flows));
            flows4.set(*index, PerCpuValues::try_from(vec![flows; cpus()?])?, 0)?;
        }
        let mut flows6: PerCpuArray<_, FlowSet<[u8; 16]>> = map_mut(&mut self.ebpf, name::FLOWS6)?;
        for (index, flows) in &kept.flows6 {
            let flows = lasting(bytemuck::cast::<_, FlowSet<[u8; 16]>>(*flows));
            flows6.set(*index, PerCpuValues::try_from(vec![flows; cpus()?])?, 0)?;
        }
        Ok(())
    }

    /// Adds one to each of those `epochs`.
    pub fn expire_flows(&mut self, of: Range<u32>) -> Result<()> {
        let mut epochs: Array<_, u64> = map_mut(&mut self.ebpf, name::EPOCHS)?;
        for index in of {
            let epoch = epochs.get(&index, 0)?;
            epochs.set(index, epoch + 1, 0)?;
        }
        Ok(())
    }

    /// What the CPU that has run a packet remembers of flows, as lines.
    fn flows(&self, kept: &Kept) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        let flows4: Vec<Vec<FlowSet<[u8; 4]>>> = bytes(&self.ebpf, name::FLOWS4)?.values()?;
        for (index, cpus) in (0..).zip(flows4) {
            let before = kept.flows4.get(&index).map(|flows| lasting(bytemuck::cast(*flows)));
            lines.extend(kept::flow_lines(index, &changed(&cpus, before)));
        }
        let flows6: Vec<Vec<FlowSet<[u8; 16]>>> = bytes(&self.ebpf, name::FLOWS6)?.values()?;
        for (index, cpus) in (0..).zip(flows6) {
            let before = kept.flows6.get(&index).map(|flows| lasting(bytemuck::cast(*flows)));
            lines.extend(kept::flow_lines(index, &changed(&cpus, before)));
        }
        Ok(lines)
    }
}

/// Flows that hold for as long as a test takes, if they hold at all.
fn lasting<A>(flows: FlowSet<A>) -> FlowSet<A> {
    let until = |flow: &Flow<A>| if flow.until == 0 { 0 } else { u32::MAX };
    FlowSet { ways: flows.ways.map(|flow| Flow { until: until(&flow), ..flow }) }
}

/// The CPU's element that is another than it was; if there is none, any.
fn changed<A: Copy + Default + PartialEq>(cpus: &[FlowSet<A>], before: Option<FlowSet<A>>) -> FlowSet<A> {
    let before = before.unwrap_or_default();
    cpus.iter().find(|flows| **flows != before).copied().unwrap_or(before)
}

/// Loads the object for that node, with its tables in the maps.
fn load(object: &Path, tables: &Tables) -> Result<Ebpf> {
    let connections = tables.room.connections;
    let mut ebpf = small(&mut EbpfLoader::new(), tables.node)
        .map_max_entries(name::CONNTRACK4, connections)
        .map_max_entries(name::CONNTRACK6, connections)
        .load_file(object)
        .with_context(|| format!("load {}", object.display()))?;
    fill(&mut ebpf, tables)?;
    Ok(ebpf)
}

/// Whether a map is constants of the programs (`.rodata`), which nobody can change.
fn is_constant(map: &str) -> bool {
    map.starts_with(".rodata")
}

/// Programs for that node that no test has.
fn idle(object: &Path, node: &Node) -> Option<Loaded> {
    let mut idle = IDLE.lock().unwrap_or_else(PoisonError::into_inner);
    let found = idle.iter().position(|loaded| loaded.object == object && loaded.node == *node)?;
    Some(idle.swap_remove(found))
}

/// A loader of the programs for that node, with as many flows as it says and other maps no larger than a test needs: the kernel makes room for all entries beforehand, and
/// they are emptied for every test.
pub fn small<'a, 'b>(loader: &'a mut EbpfLoader<'b>, node: &'b Node) -> &'a mut EbpfLoader<'b> {
    loader.override_global(node::GLOBAL, node, true);
    for (map, entries) in SIZES {
        loader.map_max_entries(map, entries);
    }
    for map in [name::FLOWS4, name::FLOWS6] {
        loader.map_max_entries(map, node.flow_sets);
    }
    loader
}
