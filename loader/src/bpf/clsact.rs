//! The `clsact` qdisc (Linux 4.5): one filter per program and device, whose program is replaced in place. A filter has no pin: the
//! device holds it, and its name says whose it is.

use std::{collections::BTreeSet, os::fd::AsFd as _};

use common::counters::Hook;

use super::{BpfError, Programs, load::classifier};
use crate::{
    netlink::{Direction, Filter, Handle, Link},
    paths::NodePaths,
};

impl Programs {
    /// As a filter, which runs after those that others have added.
    pub(super) fn ensure_filter(
        &mut self,
        netlink: &mut Handle,
        hook: Hook,
        direction: Direction,
        device: &Link,
    ) -> Result<(), BpfError> {
        let entry = self.entry(hook);
        let program = classifier(&mut self.ebpf, entry)?;
        let failed = |source| BpfError::Attach { program: hook.name(), device: device.name.clone(), source };
        let id = program.info().map_err(failed)?.id();
        let name = filter_name(self.paths.node(), hook.name());
        let wanted = Filter { name, program: id };
        match netlink.filter(device.index, direction)? {
            Some(found) if found == wanted => return Ok(()),
            Some(found) if found.name != wanted.name => {
                return Err(BpfError::Taken { device: device.name.clone(), filter: found.name });
            }
            Some(_) => {}
            None => netlink.ensure_clsact(device)?,
        }
        let descriptor = program.fd().map_err(failed)?;
        netlink.put_filter(device, direction, &wanted.name, descriptor.as_fd())?;
        log::debug!("attached {} to {} (#{}) as a filter", hook.name(), device.name, device.index);
        Ok(())
    }
}

/// A node's program that is a filter of a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filtered {
    /// Name of the program.
    pub program: &'static str,
    /// Its number.
    pub program_id: u32,
    /// Interface index of the device.
    pub ifindex: u32,
    direction: Direction,
}

/// Every filter of the node in the network namespace of `netlink`.
pub fn filters(netlink: &mut Handle, paths: &NodePaths) -> Result<Vec<Filtered>, BpfError> {
    let mut filters = Vec::new();
    for link in netlink.links()? {
        for direction in Direction::ALL {
            let Some(Filter { name, program: program_id }) = netlink.filter(link.index, direction)? else {
                continue;
            };
            let ours = |hook: &Hook| filter_name(paths.node(), hook.name()) == name;
            if let Some(hook) = Hook::TC.into_iter().find(ours) {
                filters.push(Filtered { program: hook.name(), program_id, ifindex: link.index, direction });
            }
        }
    }
    Ok(filters)
}

/// Removes every filter of the node but those of the hooks and devices in `keep`. Returns how many. The qdisc stays: it may be
/// somebody else's, and one without filters does nothing.
pub fn prune_filters(
    netlink: &mut Handle,
    paths: &NodePaths,
    keep: &BTreeSet<(&'static str, u32)>,
) -> Result<usize, BpfError> {
    let mut pruned = 0;
    for Filtered { program, ifindex, direction, .. } in filters(netlink, paths)? {
        if !keep.contains(&(program, ifindex)) {
            netlink.delete_filter(ifindex, direction)?;
            log::debug!("removed filter {program} of device #{ifindex}");
            pruned += 1;
        }
    }
    Ok(pruned)
}

fn filter_name(node: &str, program: &str) -> String {
    format!("podlane/{node}/{program}")
}
