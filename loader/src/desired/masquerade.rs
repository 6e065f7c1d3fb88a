//! Masquerading of what pods send out of the cluster.

use std::ops::RangeInclusive;

use ipnet::IpNet;
use serde::Serialize;

/// Ports to masquerade with unless configured: above the kernel's own for outgoing connections, and above node ports.
pub const DEFAULT_PORTS: RangeInclusive<u16> = 61000..=65535;

/// Under which address pods leave the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Masquerade {
    /// Under the node's; else under their own.
    pub enabled: bool,
    /// Destinations that see the pod's own address all the same.
    pub exclude: Vec<IpNet>,
    /// The node's ports that translated connections may take, those to backends outside the cluster too: whether or not
    /// it is enabled.
    pub ports: RangeInclusive<u16>,
}

impl Default for Masquerade {
    fn default() -> Self {
        Self { enabled: false, exclude: Vec::new(), ports: DEFAULT_PORTS }
    }
}
