//! Attaching at traffic control: by TCX, or as filters where that is not to be had.

use std::{collections::BTreeSet, fmt};

use common::counters::Hook;
use serde::{Deserialize, Serialize};

use super::{BpfError, Programs, pins, tcx};
use crate::{
    desired::TcMode,
    netlink::{Direction, Handle, Link},
    paths::NodePaths,
};

/// How programs are attached at traffic control.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TcWay {
    /// By links of TCX.
    #[default]
    Tcx,
    /// As filters of the `clsact` qdisc.
    Clsact,
}

impl fmt::Display for TcWay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tcx => "tcx",
            Self::Clsact => "clsact",
        })
    }
}

/// How programs are to be attached on this kernel.
///
/// # Errors
///
/// The kernel has no TCX, and nothing else will do; or it can't tell now.
pub fn tc_way(mode: TcMode) -> Result<TcWay, BpfError> {
    match mode {
        TcMode::Auto | TcMode::Tcx if tcx::exists()? => Ok(TcWay::Tcx),
        TcMode::Auto | TcMode::Clsact => Ok(TcWay::Clsact),
        TcMode::Tcx => Err(BpfError::NoTcx),
    }
}

impl Programs {
    /// Makes sure that a hook's program runs on a device: the one that is there is replaced between two packets, a
    /// missing one is attached after whatever others have attached.
    pub fn ensure_attached(
        &mut self,
        netlink: &mut Handle,
        hook: Hook,
        device: &Link,
        way: TcWay,
    ) -> Result<(), BpfError> {
        if hook == Hook::FromUplink {
            self.put_behind()?;
        }
        match way {
            TcWay::Tcx => self.ensure_link(hook, direction(hook), device),
            TcWay::Clsact => self.ensure_filter(netlink, hook, direction(hook), device),
        }
    }
}

/// Unpins, and thereby detaches, every link but those of the hooks and devices in `keep`. Returns how many.
pub fn prune_links(paths: &NodePaths, keep: &BTreeSet<(&'static str, u32)>) -> Result<usize, BpfError> {
    let keep: BTreeSet<String> = keep
        .iter()
        .filter_map(|(program, ifindex)| {
            paths.link(program, *ifindex).file_name()?.to_str().map(str::to_owned)
        })
        .collect();
    let mut pruned = 0;
    for name in pins::list(&paths.links())?.iter().filter(|name| !keep.contains(*name)) {
        pins::remove(&paths.links().join(name))?;
        log::debug!("removed link {name}");
        pruned += 1;
    }
    Ok(pruned)
}

/// Whether a hook is where packets come from its device, or where they go to it.
fn direction(hook: Hook) -> Direction {
    match hook {
        // Neither XDP nor the socket programs are attached here, see `xdp` and `cgroup`.
        Hook::FromPod | Hook::FromUplink | Hook::UplinkXdp | Hook::Sock => Direction::Ingress,
        Hook::ToPod | Hook::FromHost => Direction::Egress,
    }
}
