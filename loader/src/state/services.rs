//! The services by name, which the maps don't have.

use std::{io, net::IpAddr, path::Path};

use serde::{Deserialize, Serialize};

use super::{StateError, failed, read, replace};

/// `services.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServicesState {
    /// Every service port, sorted by name.
    pub services: Vec<ServiceState>,
}

/// A service port, of one family.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServiceState {
    /// Name of the service, or of the pod whose host port it is.
    pub service: String,
    /// Name of the port.
    pub port_name: Option<String>,
    /// Name of the protocol, in capitals.
    pub protocol: String,
    /// Port at the service's own addresses.
    pub port: u16,
    /// Number of the service port: `group` in `services` and `backends`.
    pub group: u32,
    /// Picked at random instead of by Maglev.
    pub random: bool,
    /// For how long a client keeps its endpoint; 0: not at all.
    pub affinity_seconds: u32,
    /// Where it is called.
    pub exposures: Vec<ExposureState>,
}

/// The frontends of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExposureState {
    /// Name of the kind, as Kubernetes has it.
    pub kind: String,
    /// Index into `services`.
    pub id: u32,
    /// Addresses and ports.
    pub frontends: Vec<(IpAddr, u16)>,
    /// Pods and the node itself get endpoints of this node only.
    pub inside_local: bool,
    /// What comes by an uplink gets endpoints of this node only.
    pub outside_local: bool,
}

impl ServicesState {
    /// What the file at `path` says; nothing without one.
    pub fn read(path: &Path) -> Result<Self, StateError> {
        Ok(read(path)?.unwrap_or_default())
    }

    /// Replaces the file at `path`.
    pub fn write(&self, path: &Path) -> Result<(), StateError> {
        let text = serde_json::to_vec(self).map_err(io::Error::from).map_err(failed("write", path))?;
        replace(path, text)
    }
}
