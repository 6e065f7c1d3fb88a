//! Network namespaces: recognised, compared, entered.

use std::{
    fs::File,
    io,
    net::{Ipv4Addr, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd},
        unix::fs::MetadataExt as _,
    },
    path::{Path, PathBuf},
    thread,
};

use nix::{
    sched::{CloneFlags, setns},
    sys::statfs::{NSFS_MAGIC, fstatfs},
};
use thiserror::Error;

/// Which namespace it is, for as long as anything holds on to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NetnsId {
    device: u64,
    /// Inode number, as in `readlink /proc/self/ns/net`.
    pub inode: u64,
}

/// A namespace can't be opened or entered.
#[derive(Debug, Error)]
#[error("{call} {}: {source}", path.display())]
pub struct NetnsError {
    call: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl NetnsError {
    /// `call` failed on the namespace at `path`.
    pub(super) fn new(call: &'static str, path: &Path, source: io::Error) -> Self {
        Self { call, path: path.to_owned(), source }
    }
}

/// A network namespace that is held open.
#[derive(Debug)]
pub struct Netns {
    path: PathBuf,
    file: File,
    id: NetnsId,
}

impl Netns {
    /// The namespace of the calling thread.
    pub fn current() -> Result<Self, NetnsError> {
        let path = Path::new("/proc/thread-self/ns/net");
        let missing = || failed("open", path)(io::Error::from(io::ErrorKind::NotFound));
        Self::open(path)?.ok_or_else(missing)
    }

    /// The namespace that `path` is the file of; none if it isn't there, or not yet: `ip netns add` makes the file
    /// first and mounts the namespace on it afterwards.
    pub fn open(path: &Path) -> Result<Option<Self>, NetnsError> {
        let file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(failed("open", path)(error)),
        };
        let kind = fstatfs(&file).map_err(io::Error::from).map_err(failed("statfs", path))?.filesystem_type();
        if kind != NSFS_MAGIC {
            return Ok(None);
        }
        let metadata = file.metadata().map_err(failed("stat", path))?;
        let id = NetnsId { device: metadata.dev(), inode: metadata.ino() };
        Ok(Some(Self { path: path.to_owned(), file, id }))
    }

    /// Which one it is.
    #[must_use]
    pub fn id(&self) -> NetnsId {
        self.id
    }

    /// Runs `work` in a thread of its own inside the namespace, and waits for it: the caller stays where it is.
    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T, NetnsError> {
        let inside = || {
            setns(&self.file, CloneFlags::CLONE_NEWNET)?;
            Ok(work())
        };
        thread::scope(|scope| {
            // Not `Scope::spawn`, which panics where no thread can be had.
            let thread = thread::Builder::new()
                .spawn_scoped(scope, inside)
                .map_err(failed("start a thread for", &self.path))?;
            let joined = thread.join();
            let outcome: io::Result<T> =
                joined.unwrap_or_else(|_| Err(io::Error::other("the thread inside it panicked")));
            outcome.map_err(failed("setns", &self.path))
        })
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn failed(call: &'static str, path: &Path) -> impl Fn(io::Error) -> NetnsError {
    move |source| NetnsError::new(call, path, source)
}

/// Cookie of the calling thread's namespace: the kernel gives none twice, so it stands for one namespace for ever.
pub fn cookie() -> io::Result<u64> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0))?;
    let mut cookie = 0_u64;
    let mut length = libc::socklen_t::try_from(size_of_val(&cookie)).map_err(io::Error::other)?;
    // SAFETY: the pointers describe `cookie` and `length`, which outlive the call.
    let outcome = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            SO_NETNS_COOKIE,
            (&raw mut cookie).cast(),
            &raw mut length,
        )
    };
    if outcome < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

/// `SO_NETNS_COOKIE` of asm-generic/socket.h.
const SO_NETNS_COOKIE: libc::c_int = 71;
