//! Network namespaces with a name, and running code and commands in them.

use std::{
    fs::{self, File},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::{Path, PathBuf},
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    thread,
};

use anyhow::{Context as _, Result, anyhow};
use nix::sched::{CloneFlags, setns};
use serde_json::Value;

use crate::{
    command,
    registry::{Entry, Kind},
};

/// A network namespace that goes with its owner.
#[derive(Debug)]
pub struct Netns {
    name: String,
    path: PathBuf,
    file: File,
    kept: bool,
    entry: Entry,
}

impl Netns {
    /// Makes a namespace with its loopback device up. Its name begins with `pl<pid>-` and ends with `label`.
    pub fn new(label: &str) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self::with_name(&format!("pl{}-{number}-{label}", process::id()))
    }

    /// Makes a namespace with exactly this name.
    pub fn with_name(name: &str) -> Result<Self> {
        let entry = Entry::new(Kind::Netns, name)?;
        command::run(&["ip", "netns", "add", name])?;
        let path = Path::new("/run/netns").join(name);
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let netns = Self { name: name.to_owned(), path, file, kept: false, entry };
        netns.ip("link set lo up")?;
        Ok(netns)
    }

    /// Another handle of the same namespace, for another thread. It leaves the namespace to its owner.
    pub fn another(&self) -> Result<Self> {
        let file = self.file.try_clone().context("duplicate a descriptor")?;
        let Self { name, path, .. } = self;
        Ok(Self { name: name.clone(), path: path.clone(), file, kept: true, entry: Entry::none() })
    }

    /// Name, as `ip netns` shows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The file that a process enters the namespace by.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Leaves the namespace there when this value goes.
    pub fn keep(&mut self) {
        self.kept = true;
        self.entry.keep();
    }

    /// Takes the name away, so that the namespace ends with this process however that ends.
    pub fn without_name(mut self) -> Result<Self> {
        command::run(&["ip", "netns", "del", &self.name])?;
        self.kept = true;
        self.entry = Entry::none();
        Ok(self)
    }

    /// Runs `body` on a thread of its own inside the namespace. Sockets that it makes stay there wherever they go.
    pub fn enter<T: Send>(&self, body: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        thread::scope(|scope| {
            let worker = scope.spawn(|| {
                setns(&self.file, CloneFlags::CLONE_NEWNET)
                    .with_context(|| format!("setns into {}", self.path.display()))?;
                body()
            });
            worker.join().map_err(|_panic| anyhow!("a thread in namespace {} panicked", self.name))?
        })
    }

    /// A command that will run inside. Only the network namespace changes, so bpffs stays where it is.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        let descriptor = self.file.as_raw_fd();
        // SAFETY: between fork and exec only `setns` is called, which is async-signal-safe; the descriptor is open in the
        // child, which has a copy of this process's table.
        unsafe {
            command.pre_exec(move || {
                if libc::setns(descriptor, libc::CLONE_NEWNET) == 0 {
                    Ok(())
                } else {
                    Err(std::io::Error::last_os_error())
                }
            });
        }
        command
    }

    /// Runs a command line, split at blanks, and returns what it printed.
    pub fn run(&self, line: &str) -> Result<String> {
        let mut words = line.split_whitespace();
        let program = words.next().context("an empty command")?;
        command::output(self.command(program).args(words))
            .with_context(|| format!("in namespace {}", self.name))
    }

    /// Runs `ip` with these arguments, split at blanks.
    pub fn ip(&self, arguments: &str) -> Result<String> {
        self.run(&format!("ip {arguments}"))
    }

    /// Sets a sysctl, by its name with dots or slashes.
    pub fn sysctl(&self, key: &str, value: &str) -> Result<()> {
        let path = if key.contains('/') { key.to_owned() } else { key.replace('.', "/") };
        let path = Path::new("/proc/sys").join(path);
        // The kernel shows each reader the values of its own namespace.
        self.enter(|| fs::write(&path, value).with_context(|| format!("write {value} to {}", path.display())))
    }

    /// What `ip -j -s -d link show` says of a device.
    pub fn link(&self, device: &str) -> Result<Value> {
        let text = self.ip(&format!("-j -s -d link show dev {device}"))?;
        let links: Value = serde_json::from_str(&text).context("what `ip -j link` printed")?;
        links.get(0).cloned().with_context(|| format!("no device {device} in {}", self.name))
    }

    /// Interface index of a device.
    pub fn ifindex(&self, device: &str) -> Result<u32> {
        self.enter(|| {
            nix::net::if_::if_nametoindex(device).with_context(|| format!("if_nametoindex of {device}"))
        })
    }

    /// MAC address of a device.
    pub fn mac(&self, device: &str) -> Result<[u8; 6]> {
        let link = self.link(device)?;
        let text = link["address"].as_str().context("a device without an address")?;
        crate::address::parse_mac(text)
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        if !self.kept {
            let _gone = command::run(&["ip", "netns", "del", &self.name]);
        }
    }
}
