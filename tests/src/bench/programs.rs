//! What the BPF programs cost: nanoseconds per run, instructions, sizes.
//!
//! The time is the kernel's own (`BPF_ENABLE_STATS`) while real traffic of one kind passes, divided by the number of runs
//! in that time. `BPF_PROG_TEST_RUN` with a repeat count would be steadier, but it runs a program again and again on the
//! same packet: one that has been encapsulated gets another header around it, one that has been decapsulated is no VXLAN
//! any more, and after 63 times its TTL is used up, so that most runs would take some other path than the one in question.

use std::{path::Path, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{ProgramInfo, loaded_programs};
use serde::Serialize;

use super::{
    cores::Cores,
    flows::{self, Flow, Program, Task},
    load::Window,
    progress::Progress,
    service_flows,
    services::Cluster,
    topology::{Inner, Topologies},
};
use crate::{
    foreign::{self, Direction, Foreign},
    pod::DEVICE,
};

const PROGRAMS: [&str; 4] = ["from_pod", "to_pod", "from_uplink", "from_host"];
/// Fewer runs than these say nothing.
const ENOUGH: u64 = 100;

/// What a program takes to do one thing.
#[derive(Clone, Debug, Serialize)]
pub struct Cost {
    /// What it does.
    pub does: &'static str,
    /// Family of the pods' packets.
    pub family: Inner,
    /// Which program.
    pub program: &'static str,
    /// Among how many services; none are configured where it is absent.
    pub services: Option<u16>,
    /// Nanoseconds per run in each round, the kernel's taking of the time included.
    pub nanoseconds: Vec<f64>,
    /// Runs in all rounds.
    pub runs: u64,
}

/// What the kernel says of a loaded program.
#[derive(Clone, Debug, Serialize)]
pub struct Facts {
    /// Its name.
    pub program: &'static str,
    /// Instructions that the verifier has walked, on all paths.
    pub verified_instructions: Option<u32>,
    /// Bytes of BPF instructions, dead code removed.
    pub translated_bytes: Option<u32>,
    /// Bytes of machine code.
    pub jited_bytes: u32,
}

/// From pod to pod, and what else there is without services.
pub fn without_services(topologies: &Topologies, rounds: usize, window: Window) -> Result<Vec<Cost>> {
    let [node, _] = topologies.podlane();
    let pod = node.pods.first().context("a node without pods")?;
    let empty = Foreign::attach(&pod.netns, DEVICE, Direction::Egress)?;
    costs(&flows::all(topologies, &empty)?, rounds, window)
}

/// What services add, with each number of them.
pub fn with_services(clusters: &[Cluster], rounds: usize, window: Window) -> Result<Vec<Cost>> {
    let flows = clusters.iter().map(service_flows::of).collect::<Result<Vec<_>>>()?;
    // Those that are alike follow each other: their ratio is what is asked for.
    let mut by_kind: Vec<_> = flows.into_iter().map(Vec::into_iter).collect();
    let mut interleaved = Vec::new();
    while by_kind.iter().any(|flows| flows.len() > 0) {
        interleaved.extend(by_kind.iter_mut().filter_map(Iterator::next));
    }
    costs(&interleaved, rounds, window)
}

/// Sends each kind of traffic in each round and reads the run times.
fn costs(flows: &[Flow<'_>], rounds: usize, window: Window) -> Result<Vec<Cost>> {
    let cores = Cores::find()?;
    let _counting = foreign::count_runs()?;
    let mut samples: Vec<Vec<Vec<Sample>>> =
        flows.iter().map(|flow| vec![Vec::new(); flow.tasks.len()]).collect();
    let mut progress = Progress::begin("programs", (rounds, window), 1, flows.len());
    for round in 0..rounds {
        for (flow, samples) in flows.iter().zip(&mut samples) {
            for (task, sample) in samples.iter_mut().zip(once(flow, window, cores)?) {
                task.push(sample);
            }
        }
        progress.step(round, "all kinds of packets");
    }
    let costs = flows.iter().zip(&samples).flat_map(|(flow, samples)| {
        flow.tasks.iter().zip(samples).map(|(task, samples)| cost(flow, task, samples))
    });
    Ok(costs.collect())
}

/// What the kernel says of each of Podlane's programs.
pub fn facts(topologies: &Topologies) -> Result<Vec<Facts>> {
    let [node, _] = topologies.podlane();
    let facts = PROGRAMS.into_iter().map(|program| {
        let info = pinned(&flows::pin(node, program))?;
        Ok(Facts {
            program,
            verified_instructions: info.verified_instruction_count(),
            translated_bytes: info.size_translated(),
            jited_bytes: info.size_jitted(),
        })
    });
    facts.collect()
}

/// How long a program has run, and how often.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    time: Duration,
    runs: u64,
}

impl Sample {
    /// What the kernel has counted so far.
    pub fn of(info: &ProgramInfo) -> Self {
        Self { time: info.run_time(), runs: info.run_count() }
    }

    fn read(program: &Program<'_>) -> Result<Self> {
        let info = match program {
            Program::Pinned(_, path) => pinned(path)?,
            Program::Empty(empty) => loaded(empty.id()?)?,
        };
        Ok(Self::of(&info))
    }

    /// What has come since.
    pub fn since(self, before: Self) -> Self {
        Self { time: self.time.saturating_sub(before.time), runs: self.runs.saturating_sub(before.runs) }
    }

    #[expect(clippy::cast_precision_loss, reason = "a time is shown with three digits")]
    /// Nanoseconds per run.
    pub fn nanoseconds(self) -> f64 {
        self.time.as_nanos() as f64 / self.runs as f64
    }
}

/// Sends the traffic once; what it took each task.
fn once(flow: &Flow<'_>, window: Window, cores: Cores) -> Result<Vec<Sample>> {
    let read = || flow.tasks.iter().map(|task| Sample::read(&task.program)).collect::<Result<Vec<_>>>();
    let before = read()?;
    let sent = flow.traffic.send(window, cores);
    sent.with_context(|| {
        format!("traffic for {:?}", flow.tasks.iter().map(|task| task.does).collect::<Vec<_>>())
    })?;
    let samples: Vec<Sample> =
        read()?.into_iter().zip(before).map(|(after, before)| after.since(before)).collect();
    for (task, sample) in flow.tasks.iter().zip(&samples) {
        let Sample { runs, .. } = *sample;
        ensure!(runs >= ENOUGH, "`{}` ran {runs} times only, for {}", name(&task.program), task.does);
    }
    Ok(samples)
}

fn cost(flow: &Flow<'_>, task: &Task<'_>, samples: &[Sample]) -> Cost {
    Cost {
        does: task.does,
        family: flow.family,
        program: name(&task.program),
        services: flow.services,
        nanoseconds: samples.iter().map(|sample| sample.nanoseconds()).collect(),
        runs: samples.iter().map(|sample| sample.runs).sum(),
    }
}

const fn name(program: &Program<'_>) -> &'static str {
    match program {
        Program::Pinned(name, _) => name,
        Program::Empty(_) => "(empty)",
    }
}

fn pinned(path: &Path) -> Result<ProgramInfo> {
    ProgramInfo::from_pin(path).with_context(|| format!("open {}", path.display()))
}

fn loaded(id: u32) -> Result<ProgramInfo> {
    for program in loaded_programs() {
        let program = program.context("list programs")?;
        if program.id() == id {
            return Ok(program);
        }
    }
    anyhow::bail!("program {id} is not loaded")
}
