//! The loop.

use std::{
    collections::HashMap,
    io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::PathBuf,
    process,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use super::{
    events::{Events, Happened},
    notify,
    pace::Pace,
    reconcile::{Circumstances, LOOPBACK, Outcome, Reconciler, RememberedSlots, check_ports},
    source::Source,
};
use crate::{
    bpf::{Programs, TraceLog},
    causes::one_line,
    desired::Desired,
    device::host_device_name,
    netlink::LinkNews,
    paths::NodePaths,
    state::{Reload, State},
    sync::{SyncError, slots::SlotsError},
};

/// How often everything is looked at again although nothing has happened: somebody may have changed a route or a pin.
const RESYNC: Duration = Duration::from_secs(30);
/// How often while something is missing or wrong.
const RETRY: Duration = Duration::from_secs(2);

/// A running loader.
pub(super) struct Daemon {
    source: Source,
    /// What a newer file asks for, which the node could not be brought to.
    refused: Option<Refused>,
    paths: NodePaths,
    reconciler: Reconciler,
    remembered: RememberedSlots,
    started: u64,
    last_reload: Option<Reload>,
    outcome: Option<Outcome>,
    /// Why the node could not be looked after the last time, to be logged once.
    failure: Option<String>,
    /// When everything was last looked at.
    looked: Instant,
    /// When it is looked at because of news.
    pace: Pace,
    /// When the file was last looked at although nothing told of it.
    reread: Instant,
    /// Which namespace each pod's file was of when it was last looked at.
    namespaces: HashMap<PathBuf, (u64, u64)>,
}

/// A configuration that was refused for a reason that may pass: it is tried again without being written again.
struct Refused {
    source: Source,
    tried: Instant,
    /// How things were then.
    circumstances: Circumstances,
}

impl Daemon {
    /// With a state to be reached.
    pub(super) fn new(source: Source, paths: NodePaths, mut reconciler: Reconciler) -> Self {
        let state = State::read(&paths.state()).unwrap_or_else(|error| {
            log::warn!("{error}; going on without what it remembers");
            None
        });
        let remembered = state.as_ref().map(RememberedSlots::of).unwrap_or_default();
        if let Some(state) = &state {
            reconciler.remember(state);
        }
        Self {
            source,
            refused: None,
            paths,
            reconciler,
            remembered,
            started: now(),
            last_reload: None,
            outcome: None,
            failure: None,
            looked: Instant::now(),
            pace: Pace::default(),
            reread: Instant::now(),
            namespaces: HashMap::new(),
        }
    }

    /// Reaches the desired state for the first time.
    pub(super) fn start(&mut self) -> anyhow::Result<()> {
        let desired = &self.source.desired;
        log::info!(
            "node {}: {} pods, {} peers, {} service ports",
            desired.node.name,
            desired.pods.len(),
            desired.peers.len(),
            desired.services.len()
        );
        check_ports(desired)?;
        self.namespaces = self.look_at_namespaces();
        let outcome = self.reconciler.reconcile(&self.source.desired, &self.remembered)?;
        self.record(outcome);
        Ok(())
    }

    /// Keeps the node there until told to stop.
    pub(super) fn serve(&mut self, events: &Events) -> io::Result<()> {
        loop {
            let patience = if self.is_well() { RESYNC } else { RETRY };
            let patience = self.pace.wait(Instant::now()).map_or(patience, |wait| wait.min(patience));
            let trace = self.reconciler.programs().and_then(Programs::trace);
            let mut happened = events.wait(patience, trace.map(|trace| TraceLog::as_fd(trace)))?;
            if let Some(trace) = self.reconciler.programs().and_then(Programs::trace) {
                trace.flush();
            }
            if let Some(signal) = happened.stop {
                log::info!("{signal}: leaving; the dataplane stays (`loader cleanup` takes it away)");
                notify::stopping();
                return Ok(());
            }
            // Not every way in which the file can become another is an event in its directory.
            if self.reread.elapsed() >= RESYNC {
                self.reread = Instant::now();
                if events.file_has_changed() {
                    happened.reload.get_or_insert("the file has changed");
                }
            }
            if self.concerns_us(&happened) {
                self.pace.heard(Instant::now());
            }
            if let Some(cause) = happened.reload {
                self.reload(cause);
                self.pace.settle();
            } else if self.pace.is_due(Instant::now()) {
                self.look();
                self.pace.acted(Instant::now());
            } else if happened.mounts && self.look_at_namespaces() != self.namespaces || self.is_due() {
                self.look();
                self.pace.settle();
            }
        }
    }

    /// Looks at everything, and tries again what was refused: when what decides has changed, and every now and then.
    fn look(&mut self) {
        let Some(refused) = &self.refused else { return self.resync() };
        let circumstances = self.reconciler.circumstances(&refused.source.desired);
        if refused.tried.elapsed() >= RESYNC || refused.circumstances != circumstances {
            self.retry();
        } else {
            self.resync();
        }
    }

    /// Tries again what was refused.
    fn retry(&mut self) {
        let Some(refused) = self.refused.take() else { return };
        let error = self.change_to(refused.source).err().map(|error| one_line(error.as_ref()));
        let before = self.last_reload.as_ref().and_then(|reload| reload.error.as_ref());
        match &error {
            Some(text) if before == Some(text) => return,
            Some(text) => log::error!("still not reloaded, the node stays as it was: {text}"),
            None => log::info!("reloaded, now that nothing is in its way"),
        }
        self.last_reload = Some(Reload { time: now(), ok: error.is_none(), error });
        self.write_state();
    }

    /// Reads the configuration again; one that can't be realised is refused whole.
    fn reload(&mut self, cause: &str) {
        log::info!("{cause}: reading {} again", self.source.path().display());
        let error = match self.try_reload() {
            Ok(()) => {
                log::info!("reloaded");
                None
            }
            Err(error) => {
                let text = one_line(error.as_ref());
                log::error!("not reloaded, the node stays as it was: {text}");
                Some(text)
            }
        };
        self.last_reload = Some(Reload { time: now(), ok: error.is_none(), error });
        self.write_state();
    }

    fn try_reload(&mut self) -> anyhow::Result<()> {
        // Whatever was refused, the file may say something else now.
        self.refused = None;
        let Some(newer) = self.source.newer()? else {
            check_ports(&self.source.desired)?;
            self.resync();
            return self.failure.clone().map_or(Ok(()), |failure| Err(anyhow::Error::msg(failure)));
        };
        let (old, new) = (&self.source.desired.node.name, &newer.desired.node.name);
        if old != new {
            anyhow::bail!(
                "node.name has changed from {old} to {new}: that is another node; run `loader cleanup` and start anew"
            );
        }
        self.change_to(newer)
    }

    /// Brings the node to what `newer` asks for, or leaves it as it was.
    fn change_to(&mut self, newer: Source) -> anyhow::Result<()> {
        let circumstances = self.reconciler.circumstances(&newer.desired);
        self.namespaces = namespaces_of(&newer.desired);
        let outcome = check_ports(&newer.desired)
            .and_then(|()| self.reconciler.reconcile(&newer.desired, &self.remembered));
        match outcome {
            Ok(outcome) => {
                self.source = newer;
                self.record(outcome);
                Ok(())
            }
            Err(error) => {
                if may_pass(&error) {
                    self.refused = Some(Refused { source: newer, tried: Instant::now(), circumstances });
                }
                self.resync();
                Err(error)
            }
        }
    }

    /// Brings the node back to the state that it should be in.
    fn resync(&mut self) {
        self.looked = Instant::now();
        self.namespaces = self.look_at_namespaces();
        match self.reconciler.reconcile(&self.source.desired, &self.remembered) {
            Ok(outcome) => self.record(outcome),
            Err(error) => {
                let text = one_line(error.as_ref());
                if self.failure.as_ref() != Some(&text) {
                    log::error!("{text}; trying again every {} s", RETRY.as_secs());
                }
                self.failure = Some(text);
                self.write_state();
            }
        }
    }

    /// Logs what is new about the node, and writes it down.
    fn record(&mut self, outcome: Outcome) {
        let before = self.outcome.as_ref();
        let known = |problem: &&String| before.is_some_and(|before| before.problems.contains(*problem));
        for problem in outcome.problems.iter().filter(|problem| !known(problem)) {
            log::warn!("{problem}");
        }
        for problem in
            before.iter().flat_map(|before| &before.problems).filter(|old| !outcome.problems.contains(old))
        {
            log::info!("no longer: {problem}");
        }
        for pod in &outcome.waiting {
            if !before.is_some_and(|before| before.waiting.contains(pod)) {
                log::warn!("pod {} is not connected: {}", pod.name, pod.reason);
            }
        }
        let recovered = self.failure.take().is_some();
        if recovered {
            log::info!("recovered");
        }
        let changed = before != Some(&outcome);
        self.outcome = Some(outcome);
        if changed || recovered {
            self.write_state();
        }
    }

    fn is_well(&self) -> bool {
        let complete = |outcome: &Outcome| outcome.waiting.is_empty() && outcome.problems.is_empty();
        self.failure.is_none() && self.outcome.as_ref().is_some_and(complete)
    }

    /// Whether to look at everything although nothing has happened. Of what is waited for, the files can be seen to have
    /// changed.
    fn is_due(&self) -> bool {
        let since = self.looked.elapsed();
        let wrong = |outcome: &Outcome| !outcome.problems.is_empty();
        let trouble = || self.failure.is_some() || self.outcome.as_ref().is_none_or(wrong);
        since >= RESYNC || since >= RETRY && (trouble() || self.look_at_namespaces() != self.namespaces)
    }

    /// Whether there is news of a link that matters.
    fn concerns_us(&self, happened: &Happened) -> bool {
        let link = |news: &LinkNews| match news {
            LinkNews::Lost => true,
            LinkNews::Gone(link) | LinkNews::Changed(link) => {
                let node = &self.source.desired.node;
                let refused = self.refused.as_ref().map(|refused| &refused.source.desired.node);
                link.name == node.gateway_device
                    || link.name == LOOPBACK
                    || [Some(node), refused].into_iter().flatten().any(|node| node.uplinks.contains(&link.name))
                    // One on top of an uplink may be what XDP is given up for.
                    || link.below.is_some()
                    || self.source.desired.pods.iter().any(|pod| host_device_name(&pod.name) == link.name)
            }
        };
        happened.links.iter().any(link)
    }

    fn look_at_namespaces(&self) -> HashMap<PathBuf, (u64, u64)> {
        namespaces_of(&self.source.desired)
    }

    /// Writes `state.json`; the node works without.
    fn write_state(&self) {
        let Some(outcome) = &self.outcome else { return };
        let Desired { node, overlay, .. } = &self.source.desired;
        let mut problems = outcome.problems.clone();
        problems.extend(self.failure.clone());
        let state = State {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            node: node.name.clone(),
            pid: process::id(),
            started: self.started,
            netns: self.reconciler.netns_inode(),
            mac: node.mac,
            mtu: outcome.mtu,
            vni: overlay.vni,
            port: overlay.port,
            underlay4: node.underlay4,
            underlay6: node.underlay6,
            uplinks: node.uplinks.clone(),
            gateway_device: node.gateway_device.clone(),
            gateway4: node.gateway4,
            gateway6: node.gateway6,
            pods: outcome.pods.clone(),
            waiting: outcome.waiting.clone(),
            problems,
            peers: outcome.peers.clone(),
            tc: outcome.tc,
            xdp: outcome.xdp.clone(),
            sockets: outcome.sockets.clone(),
            mapped_ports: self.reconciler.mapped_ports().cloned(),
            last_reload: self.last_reload.clone(),
        };
        if let Err(error) = state.write(&self.paths.state()) {
            log::warn!("{error}");
        }
    }
}

/// Which namespace the file of each pod is of: device and inode of the file, whatever it is.
fn namespaces_of(desired: &Desired) -> HashMap<PathBuf, (u64, u64)> {
    let identity = |path: &PathBuf| {
        let metadata = path.metadata().ok()?;
        Some((path.clone(), (metadata.dev(), metadata.ino())))
    };
    desired.pods.iter().filter_map(|pod| identity(&pod.netns)).collect()
}

/// Whether what was refused for this reason may be taken later as it is. No map gets room by waiting, and to try it would change devices
/// in vain.
fn may_pass(error: &anyhow::Error) -> bool {
    let is_full = |error: &SyncError| matches!(error, SyncError::Full { .. });
    !error.is::<SlotsError>() && !error.downcast_ref().is_some_and(is_full)
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;
    use crate::desired::MtuError;

    #[test]
    fn only_what_may_pass_is_tried_again() {
        let full = SyncError::Full { map: "routes4", capacity: 2, wanted: 3, key: "routes" };
        let slots: Result<(), _> = Err(SlotsError { wanted: 2, capacity: 1 });
        assert!(!may_pass(&full.into()));
        assert!(!may_pass(&slots.context("pods (`pods` in [maps])").unwrap_err()));
        assert!(may_pass(&MtuError::NoUplink.into()));
    }
}
