//! UDP sockets that are connected to a backend which has gone: ended, so that their owners connect anew and get a live one.
//!
//! In a thread of its own: a change of the services does not wait for it.

use std::{
    collections::{HashMap, HashSet},
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd as _,
    path::PathBuf,
    sync::mpsc::{self, Receiver, Sender},
    thread::{self, JoinHandle},
    time::Instant,
};

use aya::maps::{HashMap as BpfHashMap, Map, MapData, MapError};
use common::{
    maps::{Backend, FrontendKey, Resolved, SocketKey, backend_state, name},
    wire::protocol,
};

use crate::{
    bpf::{batch, errno, pinned_array},
    device::Netns,
    netlink::diag::Diag,
    paths::NodePaths,
    sync::Shared,
};

/// A network namespace of the node's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    /// Its cookie.
    pub cookie: u64,
    /// A [`namespace_kind`](common::maps::namespace_kind).
    pub kind: u32,
    /// Its file.
    pub path: PathBuf,
}

/// The thread, for as long as this is.
pub struct Ender {
    orders: Option<Sender<Vec<Namespace>>>,
    thread: Option<JoinHandle<()>>,
}

/// Sockets of one namespace, by cookie, with the backends that they must not be connected to any more.
type Lost = HashMap<u64, Vec<SocketKey>>;

impl Ender {
    /// Starts it.
    pub fn start(paths: &NodePaths) -> io::Result<Self> {
        let (orders, received) = mpsc::channel();
        let paths = paths.clone();
        let thread =
            thread::Builder::new().name("sockets".to_owned()).spawn(move || work(&paths, &received))?;
        Ok(Self { orders: Some(orders), thread: Some(thread) })
    }

    /// Ends what is connected to backends that have gone by now, in these namespaces.
    pub fn end_lost_ones(&self, namespaces: Vec<Namespace>) {
        if let Some(orders) = &self.orders {
            // It fails only if the thread has died, which is said when this goes.
            let _ = orders.send(namespaces);
        }
    }
}

impl Drop for Ender {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            log::error!("the thread that ends sockets has died");
        }
    }
}

fn work(paths: &NodePaths, orders: &Receiver<Vec<Namespace>>) {
    let mut failure = None;
    while let Ok(mut namespaces) = orders.recv() {
        // One pass is for all that has changed before it.
        while let Ok(later) = orders.try_recv() {
            namespaces = later;
        }
        let error = pass(paths, &namespaces).err().map(|error| match error.raw_os_error() {
            Some(libc::EOPNOTSUPP) => format!("{error}; the kernel has no CONFIG_INET_DIAG_DESTROY"),
            Some(libc::ENOENT) => format!("{error}; the kernel has no CONFIG_INET_UDP_DIAG"),
            _ => error.to_string(),
        });
        if let Some(error) = error.as_ref().filter(|error| failure.as_ref() != Some(*error)) {
            log::warn!("UDP sockets stay connected to backends that have gone: {error}");
        }
        failure = error;
    }
}

/// Looks through the map once.
fn pass(paths: &NodePaths, namespaces: &[Namespace]) -> io::Result<()> {
    let started = Instant::now();
    let backends = pinned_array(paths, name::BACKENDS, size_of::<Backend>())?;
    let data = MapData::from_pin(paths.map(name::SOCKETS)).map_err(errno)?;
    let mut lost: HashMap<u64, Lost> = HashMap::new();
    let mut entries = 0_u64;
    batch::for_each(data.fd().as_fd(), |key: SocketKey, resolved: Resolved| {
        entries += 1;
        if is_lost(&backends, &key, &resolved) {
            lost.entry(resolved.namespace).or_default().entry(key.cookie).or_default().push(key);
        }
    })?;
    let mut map: BpfHashMap<_, SocketKey, Resolved> =
        BpfHashMap::try_from(Map::LruHashMap(data)).map_err(errno)?;
    let (mut ended, mut failure) = (0, Ok(()));
    for (cookie, lost) in &lost {
        let namespace = namespaces.iter().find(|namespace| namespace.cookie == *cookie);
        // A namespace that is none of the node's any more has none of its sockets.
        let outcome = namespace.map_or_else(|| Ok((0, HashSet::new())), |namespace| end(namespace, lost));
        let (some, living) = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                failure = Err(error);
                continue;
            }
        };
        ended += some;
        for key in lost.iter().filter(|(cookie, _)| !living.contains(cookie)).flat_map(|(_, keys)| keys) {
            match map.remove(key) {
                Ok(()) | Err(MapError::KeyNotFound) => {}
                Err(error) => log::debug!("map {}: {}", name::SOCKETS, errno(error)),
            }
        }
    }
    if ended > 0 {
        log::info!("{ended} UDP sockets were connected to backends that have gone, and are no more");
    }
    log::debug!("sockets: {ended} ended, looked through {entries} entries in {:.1?}", started.elapsed());
    failure
}

/// Whether it is about a backend that has gone, by UDP.
fn is_lost(backends: &Shared, key: &SocketKey, resolved: &Resolved) -> bool {
    let backend = backend(backends, resolved.choice.backend);
    key.peer.protocol == protocol::UDP
        && (backend.generation != resolved.choice.generation || backend.state == backend_state::GONE)
}

/// An element of `backends`; a free one if there is none.
fn backend(backends: &Shared, id: u32) -> Backend {
    if id >= backends.len() {
        return Backend::default();
    }
    bytemuck::cast([0, 1, 2, 3].map(|word| backends.load(id, word)))
}

/// Ends the sockets of a namespace that are connected to a backend that they have lost. Returns how many, and the cookies of all
/// sockets that there are.
fn end(namespace: &Namespace, lost: &Lost) -> io::Result<(usize, HashSet<u64>)> {
    let Some(netns) = Netns::open(&namespace.path).map_err(io::Error::other)? else {
        return Ok((0, HashSet::new()));
    };
    let diag = netns.run(Diag::open).map_err(io::Error::other)??;
    let (mut ended, mut living) = (0, HashSet::new());
    for socket in diag.udp_sockets()? {
        living.insert(socket.cookie());
        let keys = lost.get(&socket.cookie()).into_iter().flatten();
        if keys.map(|key| address(&key.peer)).any(|backend| backend == socket.peer()) {
            match diag.destroy(&socket) {
                Ok(()) => ended += 1,
                // Closed, or connected to somebody else, since it was listed.
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESTALE)) => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok((ended, living))
}

/// Address and port of a key.
fn address(key: &FrontendKey) -> SocketAddr {
    let [a, b, c, d, ..] = key.address;
    let address = if key.family == 4 {
        IpAddr::V4(Ipv4Addr::new(a, b, c, d))
    } else {
        IpAddr::V6(Ipv6Addr::from(key.address))
    };
    SocketAddr::new(address, u16::from_be_bytes(key.port))
}
