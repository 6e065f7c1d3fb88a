//! A node whose programs are run one packet at a time.

use std::{ops::Range, path::Path};

use anyhow::{Context as _, Result, ensure};
use aya::{Ebpf, programs::ProgramInfo};
use common::{
    counters::{Hook, Reason},
    maps::{Hop, capacity},
    node::feature,
    verdict::Action,
};

use super::{
    devices::{Devices, Hops, Place, place},
    kept::Kept,
    model,
    plan::Pod,
    program::{Loaded, object},
    seen::Seen,
    services::Exposure,
    tables::{Room, Tables},
};
use crate::again::{Again, Flows};

/// A packet on a hook, and what is special about the run.
#[derive(Clone, Copy, Debug)]
pub struct Input<'a> {
    /// The hook.
    pub hook: Hook,
    /// The device on which it is.
    pub ifindex: u32,
    /// The packet.
    pub bytes: &'a [u8],
    /// Payload bytes per segment, if it is a GSO packet.
    pub gso_size: u32,
    /// What the kernel's helpers that change the packet's size are known to answer to it, if they refuse.
    pub refused: Option<i32>,
    /// ICMP errors that may still be sent.
    pub tokens: u64,
    /// What this CPU remembers of the way to the first peer; it remembers none to any other.
    pub remembered: Hop,
}

impl<'a> Input<'a> {
    /// An ordinary packet.
    #[must_use]
    pub fn new(hook: Hook, ifindex: u32, bytes: &'a [u8]) -> Self {
        let remembered = Hop::default();
        Self { hook, ifindex, bytes, gso_size: 0, refused: None, tokens: 100, remembered }
    }
}

/// What became of a packet, in the kernel and in memory alike.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// What was decided. Of a redirect the kernel's verdict does not say where to; the model's does.
    pub action: Action,
    /// What the packet was counted as.
    pub reason: Reason,
    /// What is to be seen.
    pub seen: Seen,
}

impl Outcome {
    /// Errs unless the packet was discarded for that reason.
    pub fn is_dropped(&self, reason: Reason) -> Result<()> {
        ensure!(
            self.action == Action::Drop && self.reason == reason,
            "not dropped as {}: {:?} as {}",
            reason.name(),
            self.action,
            self.reason.name()
        );
        Ok(())
    }

    /// Errs unless the packet went on by that action, for that reason.
    pub fn went(&self, reason: Reason, action: Action) -> Result<()> {
        ensure!(
            self.action == action && self.reason == reason,
            "not {action:?} as {}: {:?} as {}",
            reason.name(),
            self.action,
            self.reason.name()
        );
        Ok(())
    }
}

/// The node.
pub struct Rig {
    loaded: Loaded,
    devices: &'static Devices,
    tables: Tables,
    hops: &'static Hops,
    kept: Kept,
    arrivals: Arrivals,
    arrived: bool,
}

/// Where packets of the underlay are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Arrivals {
    /// At TC.
    Tc,
    /// At XDP, and what that leaves alone at TC.
    Xdp,
}

/// Makes a node with every kind of peer, direct ones too, and runs a body in its namespace. Its programs may have run for other tests,
/// its maps are as if they had not.
pub fn on_node(body: impl Fn(&mut Rig) -> Result<()> + Sync) -> Result<()> {
    on_node_with("podlane.o", feature::DIRECT, body)
}

/// The same with services, which are given what the node's pods turn out to be, and with masquerade.
pub fn on_node_serving(
    services: impl Fn([Pod; 2]) -> Vec<Exposure> + Sync,
    body: impl Fn(&mut Rig) -> Result<()> + Sync,
) -> Result<()> {
    let features =
        feature::DIRECT | feature::SERVICES | feature::MASQUERADE | feature::SERVICE_ECHO | feature::DSR;
    on("podlane.o", features, services, body)
}

/// The same with another object file and set of features.
pub fn on_node_with(file: &str, features: u32, body: impl Fn(&mut Rig) -> Result<()> + Sync) -> Result<()> {
    on(file, features, |_| Vec::new(), body)
}

fn on(
    file: &str,
    features: u32,
    services: impl Fn([Pod; 2]) -> Vec<Exposure> + Sync,
    body: impl Fn(&mut Rig) -> Result<()> + Sync,
) -> Result<()> {
    let run = |rig: &mut Rig| {
        body(rig)?;
        Ok(rig.arrived)
    };
    let file = object(file)?;
    let arrived = once(&file, (features, Room::default()), Arrivals::Tc, &services, run)?;
    if arrived {
        // NP-11: whatever comes by the uplink is decided at XDP as at TC.
        let features = features | feature::XDP;
        once(&file, (features, Room::default()), Arrivals::Xdp, &services, run).context("at XDP")?;
    }
    Ok(())
}

/// A node with services, both of whose hooks on the uplink are for the body to choose, that runs the programs of that object file.
pub fn on_node_timed<T: Send>(
    file: &Path,
    room: Room,
    services: impl Fn([Pod; 2]) -> Vec<Exposure> + Sync,
    body: impl FnOnce(&mut Rig) -> Result<T> + Send,
) -> Result<T> {
    let features = feature::DIRECT | feature::SERVICES | feature::MASQUERADE | feature::XDP;
    once(file, (features, room), Arrivals::Tc, &services, body)
}

/// Runs a body on a node of its own.
fn once<T: Send>(
    file: &Path,
    (features, room): (u32, Room),
    arrivals: Arrivals,
    services: &(impl Fn([Pod; 2]) -> Vec<Exposure> + Sync),
    body: impl FnOnce(&mut Rig) -> Result<T> + Send,
) -> Result<T> {
    let Place { netns, devices, hops } = place()?;
    // A program run looks up devices in the namespace of the thread that asks for it.
    netns.enter(|| {
        let tables = Tables::new(devices, features, room, &services(devices.pods))?;
        let loaded = Loaded::new(file.to_owned(), &tables)?;
        let kept = Kept::default();
        let mut rig = Rig { loaded, devices, tables, hops, kept, arrivals, arrived: false };
        let result = body(&mut rig)?;
        rig.loaded.give_back();
        Ok(result)
    })
}

impl Rig {
    /// Its pods.
    #[must_use]
    pub const fn pods(&self) -> [Pod; 2] {
        self.devices.pods
    }

    /// Interface index of its uplink.
    #[must_use]
    pub const fn uplink(&self) -> u32 {
        self.devices.uplink
    }

    /// Interface index of its gateway device.
    #[must_use]
    pub const fn gateway(&self) -> u32 {
        self.devices.gateway
    }

    /// The loaded object.
    #[must_use]
    pub const fn ebpf(&self) -> &Ebpf {
        self.loaded.ebpf()
    }

    /// The loaded object, for a test to do with as it likes: no other test gets it.
    pub const fn ebpf_mut(&mut self) -> &mut Ebpf {
        self.loaded.ebpf_mut()
    }

    /// Makes the maps what they are for the next test.
    pub fn start_over(&mut self) -> Result<()> {
        self.kept = Kept::default();
        self.loaded.start_over(&self.tables)
    }

    /// The same object for the same node, loaded once more: what [`start_over`](Self::start_over) is measured by.
    pub fn anew(&self) -> Result<Ebpf> {
        self.loaded.anew(&self.tables)
    }

    /// A frame that a pod sends.
    pub fn from_pod(&mut self, pod: Pod, frame: &[u8]) -> Result<Outcome> {
        self.run(&Input::new(Hook::FromPod, pod.ifindex, frame))
    }

    /// A frame that is about to cross to a pod.
    pub fn to_pod(&mut self, pod: Pod, frame: &[u8]) -> Result<Outcome> {
        self.run(&Input::new(Hook::ToPod, pod.ifindex, frame))
    }

    /// A frame that the uplink receives.
    pub fn from_uplink(&mut self, frame: &[u8]) -> Result<Outcome> {
        self.run(&Input::new(Hook::FromUplink, self.devices.uplink, frame))
    }

    /// A frame that the node's stack hands to the gateway device.
    pub fn from_host(&mut self, frame: &[u8]) -> Result<Outcome> {
        self.run(&Input::new(Hook::FromHost, self.devices.gateway, frame))
    }

    /// Runs a packet in the kernel and in memory, and compares all that is to be seen.
    pub fn run(&mut self, input: &Input<'_>) -> Result<Outcome> {
        if input.hook != Hook::FromUplink {
            return self.compare(input);
        }
        self.arrived = true;
        // A GSO packet is nothing that a driver has.
        if self.arrivals == Arrivals::Tc || input.gso_size != 0 {
            return self.compare(input);
        }
        let outcome = self.compare(&Input { hook: Hook::UplinkXdp, ..*input })?;
        if outcome.reason != Reason::ToTc {
            return Ok(outcome);
        }
        ensure!(outcome.seen.bytes == input.bytes, "a packet that is left to TC was changed");
        self.compare(input)
    }

    /// What is remembered of flows holds no more, as after a change that the loader has made.
    pub fn expire_flows(&mut self) -> Result<()> {
        self.expire_flows_of(0..capacity::EPOCHS)
    }

    /// What is remembered of flows of those epochs holds no more, as after a connection is forgotten.
    pub fn expire_flows_of(&mut self, epochs: Range<u32>) -> Result<()> {
        self.kept.expire_flows(epochs.clone());
        self.loaded.expire_flows(epochs)
    }

    /// Runs a packet in the kernel so many times, and compares nothing.
    pub fn repeat(&mut self, input: &Input<'_>, runs: u32) -> Result<()> {
        self.loaded.repeat(input, runs)
    }

    /// The program at XDP, with a packet from the uplink that it gets again and again.
    pub fn again(&mut self, frame: &[u8], flows: Flows) -> Result<Again> {
        let uplink = self.uplink();
        self.loaded.again(&Input::new(Hook::UplinkXdp, uplink, frame), flows)
    }

    /// What the kernel knows of a hook's program.
    pub fn info(&mut self, hook: Hook) -> Result<ProgramInfo> {
        self.loaded.info(hook)
    }

    fn compare(&mut self, input: &Input<'_>) -> Result<Outcome> {
        let (memory, action) = model::run(&self.tables, self.hops, &self.kept, input);
        let expected = Seen::of(input.hook, &memory, action);
        let seen = self.loaded.run(input, &self.kept)?;
        ensure!(
            seen == expected,
            "{} on {:02x?}:\nthe program showed {seen:02x?}\nthe model showed   {expected:02x?}",
            input.hook.name(),
            input.bytes
        );
        self.kept.take(&memory);
        let reason = seen
            .reason()
            .with_context(|| format!("{} counted a packet not once: {:?}", input.hook.name(), seen.counts))?;
        Ok(Outcome { action, reason, seen })
    }
}
