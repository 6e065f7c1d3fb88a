//! How programs are attached at traffic control, as it is configured.

use std::fmt;

use serde::{Deserialize, Serialize};

/// `mode` under `[tc]`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TcMode {
    /// By TCX where the kernel has it, else as filters.
    #[default]
    Auto,
    /// By links of TCX.
    Tcx,
    /// As filters of the `clsact` qdisc.
    Clsact,
}

impl TcMode {
    /// Every mode.
    pub const ALL: [Self; 3] = [Self::Auto, Self::Tcx, Self::Clsact];

    /// As it is written in the file.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        }
    }
}

impl fmt::Display for TcMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}
