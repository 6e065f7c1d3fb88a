//! How the uplinks' packets are taken at XDP, as it is configured.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `mode` under `[xdp]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum XdpMode {
    /// Native where that pays, else off: chosen for each uplink.
    #[default]
    Auto,
    /// In the driver; by the kernel's generic hook where the driver refuses.
    Native,
    /// By the kernel's generic hook, behind the driver.
    Generic,
    /// At TC only.
    Off,
}

impl XdpMode {
    /// Every mode.
    pub const ALL: [Self; 4] = [Self::Auto, Self::Native, Self::Generic, Self::Off];

    /// As it is written in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Off => "off",
        }
    }
}

impl fmt::Display for XdpMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
