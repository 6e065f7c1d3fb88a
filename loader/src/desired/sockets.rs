//! For which sockets services are resolved, as it is configured.

use std::{
    fmt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// `[sockets]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Sockets {
    /// For which sockets.
    pub mode: SocketMode,
    /// The cgroup (version 2) that the programs are attached to: of the sockets of processes in it and below it.
    pub cgroup: PathBuf,
}

/// `mode` under `[sockets]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SocketMode {
    /// None: packets are translated.
    #[default]
    Off,
    /// TCP sockets.
    Tcp,
    /// TCP and UDP sockets.
    On,
}

/// Where cgroups usually are.
pub const DEFAULT_CGROUP: &str = "/sys/fs/cgroup";

impl Default for Sockets {
    fn default() -> Self {
        Self { mode: SocketMode::default(), cgroup: Path::new(DEFAULT_CGROUP).to_owned() }
    }
}

impl SocketMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Off, Self::Tcp, Self::On];

    /// As it is written in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Tcp => "tcp",
            Self::On => "on",
        }
    }
}

impl fmt::Display for SocketMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
