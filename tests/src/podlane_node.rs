//! A node that a real `loader run` serves.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::{
    address::Mac,
    config::{self, Config},
    counters::Counters,
    loader::{self, Answer, Loader},
    netns::Netns,
    pod::Pod,
    registry::{self, Entry, Kind},
    spec::{Route, Spec},
    wait,
};

/// A node whose dataplane is Podlane's.
#[derive(Debug)]
pub struct PodlaneNode {
    /// What its peers know of it.
    pub spec: Spec,
    /// Its namespace; the uplink `eth0` is in it.
    pub netns: Netns,
    /// Its pods.
    pub pods: Vec<Pod>,
    /// Its configuration; [`start`](Self::start) and [`reload`](Self::reload) write it.
    pub config: Config,
    loader: Option<Loader>,
    scratch: PathBuf,
    kept: bool,
    entries: Vec<Entry>,
}

impl PodlaneNode {
    /// Prepares the node in a namespace whose uplink has its addresses; nothing runs yet.
    pub fn new(spec: Spec, netns: Netns) -> Result<Self> {
        // What a careful host has: a packet comes by the device through which its source is reached, or not at all (RFC 3704).
        netns.sysctl("net.ipv4.conf.all.rp_filter", "1")?;
        let config = Config::new(&spec);
        let node_entry = Entry::new(Kind::Node, &spec.name)?;
        let (scratch, scratch_entry) = registry::scratch(&spec.name)?;
        Ok(Self {
            spec,
            netns,
            pods: Vec::new(),
            config,
            loader: None,
            scratch,
            kept: false,
            entries: vec![node_entry, scratch_entry],
        })
    }

    /// Adds a peer to the configuration.
    pub fn add_peer(&mut self, peer: &Spec, route: Route) {
        self.config.peers.push(config::Peer::new(peer, route));
    }

    /// Adds a pod to the configuration.
    pub fn add_pod(&mut self, pod: Pod) {
        self.config.pods.push(config::PodEntry::new(&pod));
        self.pods.push(pod);
    }

    /// MAC of the VTEP, the gateway and every host-side device.
    #[must_use]
    pub const fn mac(&self) -> Mac {
        self.spec.vtep_mac
    }

    /// Where the configuration is.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.scratch.join("podlane.toml")
    }

    /// Where the node's maps, programs and links are pinned.
    #[must_use]
    pub fn pins(&self) -> PathBuf {
        Path::new("/sys/fs/bpf/podlane").join(&self.spec.name)
    }

    /// Where the node's runtime state is.
    #[must_use]
    pub fn run_directory(&self) -> PathBuf {
        Path::new("/run/podlane").join(&self.spec.name)
    }

    /// Writes the configuration file.
    pub fn write_config(&self) -> Result<()> {
        let text = toml::to_string(&self.config).context("write the configuration as TOML")?;
        self.write_config_text(&text)
    }

    /// Writes any text as the configuration file, in one step.
    pub fn write_config_text(&self, text: &str) -> Result<()> {
        let path = self.config_path();
        let new = path.with_extension("new");
        fs::write(&new, text).with_context(|| format!("write {}", new.display()))?;
        fs::rename(&new, &path).with_context(|| format!("rename to {}", path.display()))
    }

    /// Writes the configuration and starts the loader; returns when every pod is connected.
    pub fn start(&mut self) -> Result<()> {
        self.write_config()?;
        self.start_loader()
    }

    /// Starts the loader on the file as it is.
    pub fn start_loader(&mut self) -> Result<()> {
        ensure!(self.loader.is_none(), "the loader of {} runs already", self.spec.name);
        self.loader = Some(Loader::start(&self.netns, &self.spec.name, &self.config_path())?);
        self.wait_for_pods()
    }

    /// The running loader.
    pub fn loader(&mut self) -> Result<&mut Loader> {
        self.loader.as_mut().with_context(|| format!("no loader of {} runs", self.spec.name))
    }

    /// Ends the loader as an operator would; the dataplane stays. Returns its exit code.
    pub fn stop(&mut self) -> Result<Option<i32>> {
        self.end(Signal::SIGTERM)
    }

    /// Kills the loader.
    pub fn kill(&mut self) -> Result<Option<i32>> {
        self.end(Signal::SIGKILL)
    }

    fn end(&mut self, signal: Signal) -> Result<Option<i32>> {
        let code = self.loader()?.end(signal)?;
        self.loader = None;
        Ok(code)
    }

    /// Writes the configuration, asks for a reload, and waits until the loader says that it is done.
    pub fn reload(&mut self) -> Result<()> {
        self.reload_services()?;
        self.wait_for_config()
    }

    /// As [`reload`](Self::reload) where pods and peers stay as they are.
    pub fn reload_services(&mut self) -> Result<()> {
        self.write_config()?;
        self.loader()?.reload()
    }

    /// Waits until the pods and peers that the loader reports are those of the configuration.
    pub fn wait_for_config(&self) -> Result<()> {
        self.wait_for_pods()?;
        let mut wanted: Vec<String> = self
            .config
            .peers
            .iter()
            .map(|peer| format!("{} {:?} {:?}", peer.name, peer.address.first(), peer.route == "direct"))
            .collect();
        wanted.sort();
        wait::until(&format!("peers of {} to be those configured", self.spec.name), || {
            let state = self.state()?;
            let mut reported = Vec::new();
            for peer in state["peers"].as_array().context("no `peers` in state.json")? {
                let underlay: std::net::IpAddr = peer["underlay"].as_str().unwrap_or_default().parse()?;
                let name = peer["name"].as_str().unwrap_or_default();
                reported.push(format!("{name} {:?} {:?}", Some(underlay), peer["direct"] == true));
            }
            reported.sort();
            ensure!(reported == wanted, "reported {reported:?}, wanted {wanted:?}");
            Ok(Some(()))
        })
    }

    /// Waits until the pods that the loader reports as connected are those of the configuration.
    pub fn wait_for_pods(&self) -> Result<()> {
        let mut wanted: Vec<&str> = self.config.pods.iter().map(|pod| pod.name.as_str()).collect();
        wanted.sort_unstable();
        wait::until(&format!("pods of {} to be connected", self.spec.name), || {
            let state = self.state()?;
            let pods = state["pods"].as_array().context("no `pods` in state.json")?;
            let mut reported: Vec<&str> = pods.iter().filter_map(|pod| pod["name"].as_str()).collect();
            reported.sort_unstable();
            ensure!(
                reported == wanted,
                "connected {reported:?}, wanted {wanted:?}, problems {}",
                state["problems"]
            );
            Ok(Some(()))
        })
    }

    /// What the loader says of itself.
    pub fn state(&self) -> Result<Value> {
        loader::state(&self.spec.name)
    }

    /// What the loader reports of one pod: device, index, slot.
    pub fn pod_state(&self, pod: &str) -> Result<Value> {
        let state = self.state()?;
        let found = state["pods"].as_array().into_iter().flatten().find(|entry| entry["name"] == pod);
        found.cloned().with_context(|| format!("{} reports no pod {pod}", self.spec.name))
    }

    /// Name of a pod's host-side device.
    pub fn host_device(&self, pod: &str) -> Result<String> {
        let state = self.pod_state(pod)?;
        let device = state["host_device"].as_str().context("no `host_device` in state.json")?;
        Ok(device.to_owned())
    }

    /// Runs a verb of the loader in the node's namespace.
    pub fn verb(&self, arguments: &[&str]) -> Result<Answer> {
        loader::verb(&self.netns, arguments)
    }

    /// Runs a verb for this node that has to succeed, and reads its JSON.
    pub fn verb_json(&self, name: &str) -> Result<Value> {
        let answer = self.verb(&[name, "--node", &self.spec.name, "-o", "json"])?;
        ensure!(answer.code == 0, "`loader {name}` ended with {}: {}", answer.code, answer.stderr);
        serde_json::from_str(&answer.stdout)
            .with_context(|| format!("what `loader {name}` printed: {}", answer.stdout))
    }

    /// Reads the counters straight from the pinned maps.
    pub fn counters(&self) -> Result<Counters> {
        Counters::read(&self.pins())
    }

    /// Takes the dataplane away as an operator would.
    pub fn cleanup(&mut self) -> Result<Answer> {
        if self.loader.is_some() {
            self.stop()?;
        }
        self.verb(&["cleanup", "--node", &self.spec.name])
    }

    /// Leaves everything up when this value goes.
    pub fn keep(&mut self) {
        self.kept = true;
        self.netns.keep();
        for pod in &mut self.pods {
            pod.netns.keep();
        }
        if let Some(loader) = &mut self.loader {
            loader.keep();
        }
        self.entries.iter_mut().for_each(Entry::keep);
    }
}

impl Drop for PodlaneNode {
    fn drop(&mut self) {
        if self.kept {
            return;
        }
        if let Some(loader) = &mut self.loader {
            if std::thread::panicking() || std::env::var_os("PODLANE_SHOW_LOGS").is_some() {
                eprintln!("--- loader of {}:\n{}", self.spec.name, loader.log());
            }
            let _gone = loader.end(Signal::SIGKILL);
        }
        // By hand rather than by `loader cleanup`: the devices go with the namespace, and a broken loader must not leave pins.
        registry::remove_node(&self.spec.name);
        registry::remove_scratch(&self.spec.name);
    }
}
