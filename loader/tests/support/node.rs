//! A node of its own for a test, and a loader that runs for it. Both go when the test does, also when it fails.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{self, Child, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use aya::{
    maps::{HashMap, Map, MapData},
    programs::links::{FdLink, PinnedLink},
};
use common::maps::Endpoint;
use loader::{
    bpf,
    netlink::{Handle, Link},
    paths::NodePaths,
    run,
    state::State,
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::TempDir;

use crate::support::Netns;

/// How long anything may take: on a machine that is said to be slow (`cargo xtask vm-test`) so many times longer, and on any as long as
/// the testbed waits (`tests/src/wait.rs` has the reason).
pub fn deadline() -> Duration {
    let slowness = std::env::var("PODLANE_PATIENCE").ok().and_then(|said| said.parse().ok());
    (Duration::from_secs(20) * slowness.unwrap_or(1)).max(Duration::from_mins(1))
}

/// Waits until `condition` holds.
#[track_caller]
pub fn wait_until(what: &str, mut condition: impl FnMut() -> bool) {
    let start = Instant::now();
    while !condition() {
        assert!(start.elapsed() < deadline(), "waited in vain: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// A node: a name, an uplink in this thread's network namespace, a configuration, a loader.
pub struct Node {
    pub name: String,
    pub paths: NodePaths,
    pub netlink: Handle,
    pub directory: TempDir,
    loader: Option<Loader>,
}

struct Loader {
    child: Child,
    log: Arc<Mutex<String>>,
}

impl Node {
    /// With a name that nobody else has, and an uplink `up0`.
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("plL-{}-{}", process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let paths = NodePaths::new(Path::new("/sys/fs/bpf"), &name);
        let mut node = Self {
            name,
            paths,
            netlink: Handle::open().unwrap(),
            directory: tempfile::tempdir().unwrap(),
            loader: None,
        };
        node.add_uplink();
        node
    }

    pub fn add_uplink(&mut self) -> Link {
        self.netlink.create_sink("up0", [2, 0, 0, 0, 0, 1], 1500).unwrap();
        let link = self.link("up0").unwrap();
        self.netlink.add_address(&link, "10.240.0.20/24".parse().unwrap()).unwrap();
        self.netlink.set_up(&link).unwrap();
        link
    }

    pub fn link(&mut self, name: &str) -> Option<Link> {
        self.netlink.link(name).unwrap()
    }

    pub fn config(&self) -> PathBuf {
        self.directory.path().join("node.toml")
    }

    /// Where a pod's namespace is expected; `None` until [`provide`](Self::provide) is called.
    pub fn pod_path(&self, pod: &str) -> PathBuf {
        self.directory.path().join(pod)
    }

    /// Lets a pod's path lead to a namespace.
    pub fn provide(&self, pod: &str, netns: &Netns) {
        let path = self.pod_path(pod);
        let next = path.with_extension("next");
        symlink(netns.path(), &next).unwrap();
        fs::rename(next, path).unwrap();
    }

    /// Writes the configuration: pods by name and last byte of their address, and more lines.
    pub fn configure(&self, pods: &[(&str, u8)], more: &str) {
        let mut text = format!(
            "[node]\nname = \"{}\"\naddress = [\"10.240.0.20\"]\nuplink = [\"up0\"]\n\
             pod-cidr = [\"10.200.0.0/24\", \"fd00:10:200::/64\"]\n{more}\n",
            self.name
        );
        let tables = pods.iter().map(|(pod, last)| {
            format!(
                "[[pod]]\nname = \"default/{pod}\"\nnetns = \"{}\"\n\
                 ip = [\"10.200.0.{last}\", \"fd00:10:200::{last}\"]\n",
                self.pod_path(pod).display()
            )
        });
        text.extend(tables);
        let next = self.directory.path().join("node.toml.next");
        fs::write(&next, text).unwrap();
        fs::rename(next, self.config()).unwrap();
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_loader"));
        command.arg("run").arg("--config").arg(self.config());
        command
    }

    /// Starts a loader in this thread's network namespace and waits until it is ready.
    #[track_caller]
    pub fn start(&mut self) {
        let mut child = self.command().stderr(Stdio::piped()).spawn().unwrap();
        let log = Arc::new(Mutex::new(String::new()));
        let (lines, sink) = (BufReader::new(child.stderr.take().unwrap()).lines(), Arc::clone(&log));
        thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = sink.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        self.loader = Some(Loader { child, log });
        self.wait_for_log("] ready");
    }

    /// Everything that the loader has logged.
    pub fn log(&self) -> String {
        self.loader.as_ref().map(|loader| loader.log.lock().unwrap().clone()).unwrap_or_default()
    }

    #[track_caller]
    pub fn wait_for_log(&mut self, text: &str) {
        let start = Instant::now();
        while !self.log().contains(text) {
            let ended = self.loader.as_mut().unwrap().child.try_wait().unwrap();
            assert!(ended.is_none() && start.elapsed() < deadline(), "no `{text}` in:\n{}", self.log());
            thread::sleep(Duration::from_millis(20));
        }
    }

    pub fn pid(&self) -> u32 {
        self.loader.as_ref().unwrap().child.id()
    }

    pub fn signal(&self, signal: Signal) {
        kill(Pid::from_raw(self.pid().try_into().unwrap()), signal).unwrap();
    }

    /// Ends the loader and waits for it.
    pub fn stop(&mut self, with: Signal) -> ExitStatus {
        self.signal(with);
        self.loader.take().unwrap().child.wait().unwrap()
    }

    /// Runs a loader that is expected to fail, and returns what it says.
    pub fn refused(&self, arguments: &[&str]) -> (i32, String) {
        let output = self.command().args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap_or(-1), said)
    }

    pub fn state(&self) -> State {
        State::read(&self.paths.state()).unwrap().unwrap()
    }

    /// What the map of pods says of `10.200.0.<last>`.
    pub fn endpoint(&self, last: u8) -> Option<Endpoint> {
        let map = Map::from_map_data(MapData::from_pin(self.paths.map("pods4")).ok()?).unwrap();
        let map: HashMap<MapData, [u8; 4], Endpoint> = map.try_into().unwrap();
        map.get(&[10, 200, 0, last], 0).ok()
    }

    /// The programs at traffic control, as `<program>_<ifindex>`: pinned links, or filters where the kernel has no TCX.
    pub fn attached(&self) -> Vec<String> {
        let links = fs::read_dir(self.paths.links()).into_iter().flatten();
        let links = links.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let filters = bpf::filters(&mut Handle::open().unwrap(), &self.paths).unwrap().into_iter();
        let mut names: Vec<String> =
            links.chain(filters.map(|filter| format!("{}_{}", filter.program, filter.ifindex))).collect();
        names.sort();
        names
    }

    /// How a program is attached to a device: by the link of that number, or by a filter, which has none; and its number.
    pub fn attachment(&self, program: &str, device: &str) -> (Option<u32>, u32) {
        let mut netlink = Handle::open().unwrap();
        let ifindex = netlink.link(device).unwrap().unwrap().index;
        let pin = self.paths.link(program, ifindex);
        if pin.exists() {
            let info = FdLink::from(PinnedLink::from_pin(pin).unwrap()).info().unwrap();
            return (Some(info.id()), info.program_id());
        }
        let filters = bpf::filters(&mut netlink, &self.paths).unwrap();
        let filter = filters.iter().find(|filter| filter.program == program && filter.ifindex == ifindex);
        (None, filter.unwrap().program_id)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Some(mut loader) = self.loader.take() {
            let _ = loader.child.kill();
            let _ = loader.child.wait();
            if thread::panicking() {
                println!("{}", loader.log.lock().unwrap());
            }
        }
        let _ = run::cleanup(&self.paths);
    }
}
