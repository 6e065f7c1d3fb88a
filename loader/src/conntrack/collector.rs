//! The thread that forgets connections: a pass over both tables every few seconds, beside the loop, which never waits for it.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::IpAddr,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use common::{
    interest::Bit,
    maps::{Backend, Service, name},
};

use super::{
    collect::{BackendId, Pass, Rules, Total, generation_of_backend, pass},
    table::{Table, ticks},
};
use crate::{
    bpf::pinned_array,
    desired::Timeouts,
    paths::NodePaths,
    state::{CollectorState, PassState},
};

/// Between two passes.
const INTERVAL: Duration = Duration::from_secs(5);
/// Between two passes while a table is half full or more: it may be full before the next one else.
const HURRIED: Duration = Duration::from_secs(1);
/// One pass of so many is thorough: a system call for each direction of each idle connection, and two more for each connection.
const THOROUGH: u64 = 12;
/// How often the file is written although nothing was counted.
const WRITE: Duration = Duration::from_secs(30);

/// What the thread goes by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// When connections are forgotten.
    pub timeouts: Timeouts,
    /// The node's addresses on the underlay.
    pub underlays: Vec<IpAddr>,
    /// Bits of the interest filter that nobody wants but connections.
    pub lingering: HashSet<Bit>,
    /// Which services these are for: the number of times that they have changed.
    pub epoch: u64,
}

/// The thread, for as long as this is.
pub struct Collector {
    shared: Arc<Communal>,
    thread: Option<JoinHandle<()>>,
}

/// What both threads see.
#[derive(Default)]
struct Communal {
    orders: Mutex<Orders>,
    woken: Condvar,
    unneeded: Mutex<Option<(u64, HashSet<Bit>)>>,
}

#[derive(Default)]
struct Orders {
    settings: Settings,
    stop: bool,
}

impl Collector {
    /// Starts the thread, which works as `settings` say.
    pub fn start(paths: &NodePaths, settings: Settings) -> io::Result<Self> {
        let shared = Arc::new(Communal::default());
        lock(&shared.orders).settings = settings;
        let worker = Worker {
            shared: Arc::clone(&shared),
            paths: paths.clone(),
            state: CollectorState::read(&paths.collector()).unwrap_or_default(),
            written: None,
            is_changed: false,
            failure: None,
        };
        let thread = thread::Builder::new().name("conntrack".to_owned()).spawn(move || worker.run())?;
        Ok(Self { shared, thread: Some(thread) })
    }

    /// From now on it works as `settings` say.
    pub fn set(&self, settings: Settings) {
        lock(&self.shared.orders).settings = settings;
    }

    /// The bits that no connection has needed since the services changed for the `epoch`th time.
    #[must_use]
    pub fn take_unneeded(&self, epoch: u64) -> HashSet<Bit> {
        let unneeded = lock(&self.shared.unneeded).take();
        unneeded.filter(|(of, _)| *of == epoch).map(|(_, bits)| bits).unwrap_or_default()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        lock(&self.shared.orders).stop = true;
        self.shared.woken.notify_all();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread that forgets connections has died");
        }
    }
}

/// What the thread knows.
struct Worker {
    shared: Arc<Communal>,
    paths: NodePaths,
    state: CollectorState,
    written: Option<Instant>,
    /// Whether there are totals that the file doesn't have.
    is_changed: bool,
    /// Why the last pass failed, to be logged once.
    failure: Option<String>,
}

impl Worker {
    fn run(mut self) {
        while let Some(settings) = self.wait() {
            match self.pass(&settings) {
                Ok(()) => self.failure = None,
                Err(error) => {
                    let text = error.to_string();
                    if self.failure.as_ref() != Some(&text) {
                        log::warn!("connections are not forgotten: {text}");
                    }
                    self.failure = Some(text);
                }
            }
            if self.is_changed || self.written.is_none_or(|written| written.elapsed() >= WRITE) {
                self.write();
            }
        }
        self.write();
    }

    /// Waits for the next pass; nothing if there is to be none.
    fn wait(&self) -> Option<Settings> {
        let interval =
            if self.state.passes.values().any(PassState::is_half_full) { HURRIED } else { INTERVAL };
        let orders = lock(&self.shared.orders);
        let waited = self.shared.woken.wait_timeout_while(orders, interval, |orders| !orders.stop);
        let (orders, _) = waited.unwrap_or_else(PoisonError::into_inner);
        (!orders.stop).then(|| orders.settings.clone())
    }

    fn pass(&mut self, settings: &Settings) -> io::Result<()> {
        let services = pinned_array(&self.paths, name::SERVICES, size_of::<Service>())?;
        let backends = pinned_array(&self.paths, name::BACKENDS, size_of::<Backend>())?;
        let mut needed = HashSet::new();
        for map in [name::CONNTRACK4, name::CONNTRACK6] {
            let last = self.state.passes.get(map).copied().unwrap_or_default();
            let rules = Rules {
                timeouts: settings.timeouts,
                underlays: &settings.underlays,
                now: ticks()?,
                services: &services,
                backends: &backends,
                lingering: &settings.lingering,
                entries_before: last.entries,
                is_thorough: last.passes.is_multiple_of(THOROUGH),
            };
            let started = Instant::now();
            let (found, capacity) = if map == name::CONNTRACK4 {
                let mut table = Table::<[u8; 4]>::open(&self.paths)?;
                (pass(&mut table, &rules)?, table.capacity())
            } else {
                let mut table = Table::<[u8; 16]>::open(&self.paths)?;
                (pass(&mut table, &rules)?, table.capacity())
            };
            needed.extend(found.needed.iter().copied());
            self.note(map, &found, capacity, started.elapsed());
        }
        self.state.totals.retain(|(id, generation), _| generation_of_backend(&backends, *id) == *generation);
        let unneeded = settings.lingering.difference(&needed).copied().collect();
        *lock(&self.shared.unneeded) = Some((settings.epoch, unneeded));
        Ok(())
    }

    fn note(&mut self, map: &str, found: &Pass, capacity: u32, took: Duration) {
        add(&mut self.state.totals, &found.totals);
        self.is_changed |= !found.totals.is_empty();
        let known = self.state.passes.entry(map.to_owned()).or_default();
        *known = PassState {
            time: SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()),
            microseconds: u64::try_from(took.as_micros()).unwrap_or(u64::MAX),
            entries: found.entries.saturating_sub(found.removed),
            capacity: capacity.into(),
            removed: found.removed,
            removed_ever: known.removed_ever + found.removed,
            passes: known.passes + 1,
        };
        log::debug!("{map}: {} of {} entries removed in {took:.1?}", found.removed, found.entries);
    }

    fn write(&mut self) {
        self.written = Some(Instant::now());
        self.is_changed = false;
        if let Err(error) = self.state.write(&self.paths.collector()) {
            log::warn!("{error}");
        }
    }
}

/// Adds to the totals of each backend.
fn add(totals: &mut HashMap<BackendId, Total>, more: &HashMap<BackendId, Total>) {
    for (backend, total) in more {
        totals.entry(*backend).or_default().add(total.connections, total.packets, total.bytes);
    }
}

/// Whoever has died with it has left nothing half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
