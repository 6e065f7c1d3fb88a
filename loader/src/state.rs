//! What a running loader leaves for the other verbs: names, which the maps don't have, and what happened.

mod collector;
mod services;

use std::{
    fmt, fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    ops::RangeInclusive,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use thiserror::Error;

pub use self::{
    collector::{CollectorState, PassState},
    services::{ExposureState, ServiceState, ServicesState},
};
use crate::{
    bpf::TcWay,
    desired::{SocketMode, TcMode, XdpMode},
    mac::Mac,
    xdp::{Choice, Facts},
};

/// `state.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Version of the loader that wrote it.
    pub version: String,
    /// Name of the node.
    pub node: String,
    /// Process that wrote it.
    pub pid: u32,
    /// When that process started, in seconds since 1970.
    pub started: u64,
    /// Inode of the network namespace that the node is in.
    pub netns: u64,
    /// MAC of the VTEP.
    pub mac: Mac,
    /// MTU of the overlay.
    pub mtu: u32,
    /// VXLAN network identifier.
    pub vni: u32,
    /// VXLAN's UDP port.
    pub port: u16,
    /// IPv4 address on the underlay.
    pub underlay4: Option<Ipv4Addr>,
    /// IPv6 address on the underlay.
    pub underlay6: Option<Ipv6Addr>,
    /// Names of the uplinks.
    pub uplinks: Vec<String>,
    /// Name of the gateway device.
    pub gateway_device: String,
    /// The IPv4 pods' gateway.
    pub gateway4: Option<Ipv4Addr>,
    /// The IPv6 pods' gateway.
    pub gateway6: Option<Ipv6Addr>,
    /// The pods of the node that are connected.
    pub pods: Vec<PodState>,
    /// The pods that are not, and why.
    #[serde(default)]
    pub waiting: Vec<WaitingPod>,
    /// What is not as it should be, one line each: an uplink that is gone, a pod that can't be connected.
    #[serde(default)]
    pub problems: Vec<String>,
    /// The peers.
    pub peers: Vec<PeerState>,
    /// How programs are attached at traffic control.
    #[serde(default)]
    pub tc: TcState,
    /// XDP on the uplinks that are there.
    #[serde(default)]
    pub xdp: Vec<XdpState>,
    /// Services for sockets.
    #[serde(default)]
    pub sockets: SocketsState,
    /// First and last of the ports that connections may have from source translation: those of every `masquerade.ports` so far.
    #[serde(default)]
    pub mapped_ports: Option<RangeInclusive<u16>>,
    /// How the last reload of the configuration went; none yet if absent.
    pub last_reload: Option<Reload>,
}

/// A pod as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PodState {
    /// Name.
    pub name: String,
    /// File of its network namespace.
    pub netns: PathBuf,
    /// Name of its device, in its namespace.
    pub interface: String,
    /// Name of the host-side device.
    pub host_device: String,
    /// Interface index of the host-side device.
    pub ifindex: u32,
    /// Index into `pod_traffic`.
    pub slot: u32,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// MAC of its own end.
    pub mac: Mac,
}

/// A pod that is configured but not connected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitingPod {
    /// Name.
    pub name: String,
    /// File of its network namespace.
    pub netns: PathBuf,
    /// Why it is not connected, for a person.
    pub reason: String,
}

/// A peer as it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerState {
    /// Name.
    pub name: String,
    /// Index into `peer_traffic`.
    pub slot: u32,
    /// Underlay address at which it is reached.
    pub underlay: IpAddr,
    /// MAC of its VTEP.
    pub vtep_mac: Mac,
    /// Where its pods are.
    pub pod_cidrs: Vec<IpNet>,
    /// Reached without encapsulation.
    pub direct: bool,
}

/// How programs are attached at traffic control: what is configured, and what is in force.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TcState {
    /// What is configured.
    pub mode: TcMode,
    /// What is in force.
    pub way: TcWay,
}

impl TcState {
    /// Why that is in force.
    #[must_use]
    pub const fn why(&self) -> &'static str {
        match (self.mode, self.way) {
            (TcMode::Auto, TcWay::Clsact) => "this kernel has no TCX, which came with Linux 6.6",
            (TcMode::Auto, TcWay::Tcx) => "this kernel has it",
            _ => "as configured",
        }
    }
}

impl fmt::Display for TcState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.way, self.why())
    }
}

/// XDP on an uplink: what is in force, and what it was chosen by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct XdpState {
    /// Interface index of the uplink.
    pub ifindex: u32,
    /// What is configured.
    pub wanted: XdpMode,
    /// What was known of the device.
    #[serde(flatten)]
    pub facts: Facts,
    /// What was chosen.
    #[serde(flatten)]
    pub choice: Choice,
}

/// Services for sockets: what is configured, and what is in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketsState {
    /// For which sockets.
    pub mode: SocketMode,
    /// The cgroup that the programs are attached to, or should be.
    pub cgroup: PathBuf,
    /// Whether they are.
    pub attached: bool,
    /// Why not, if they should be.
    pub error: Option<String>,
}

impl fmt::Display for SocketsState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, cgroup, attached, error } = self;
        match (mode, attached) {
            (SocketMode::Off, _) => write!(f, "off: services are translated packet by packet"),
            (_, true) => write!(f, "{mode}: attached to {}", cgroup.display()),
            (_, false) => write!(f, "{mode}, but not attached: {}", error.as_deref().unwrap_or("not yet")),
        }
    }
}

/// How reading the configuration again went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reload {
    /// When, in seconds since 1970.
    pub time: u64,
    /// Whether the node is in the state that the file asks for.
    pub ok: bool,
    /// Why not.
    pub error: Option<String>,
}

/// The state file can't be read or written.
#[derive(Debug, Error)]
#[error("{call} {}: {source}", path.display())]
pub struct StateError {
    call: &'static str,
    path: PathBuf,
    source: io::Error,
}

impl State {
    /// What the file at `path` says; none without one.
    pub fn read(path: &Path) -> Result<Option<Self>, StateError> {
        read(path)
    }

    /// Replaces the file at `path`: whoever reads it sees the old state or the new one.
    pub fn write(&self, path: &Path) -> Result<(), StateError> {
        let text = serde_json::to_vec_pretty(self).map_err(io::Error::from).map_err(failed("write", path))?;
        replace(path, text)
    }
}

/// What a file says; none without one.
fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, StateError> {
    let text = match fs::read(path) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(failed("read", path)(error)),
    };
    serde_json::from_slice(&text).map(Some).map_err(io::Error::from).map_err(failed("understand", path))
}

/// Gives a file another content: whoever reads it sees the old one or the new one.
fn replace(path: &Path, mut text: Vec<u8>) -> Result<(), StateError> {
    let next = path.with_extension("json.next");
    text.push(b'\n');
    fs::write(&next, text).map_err(failed("write", &next))?;
    fs::rename(&next, path).map_err(failed("rename to", path))
}

fn failed(call: &'static str, path: &Path) -> impl Fn(io::Error) -> StateError {
    move |source| StateError { call, path: path.to_owned(), source }
}
