//! Takes a node's dataplane away. Needs no state file and no configuration: pins are found by the node's name, devices by
//! their alias.

use std::{collections::BTreeSet, fs};

use anyhow::Context as _;

use super::{NodeLock, reconcile::set_accept_local};
use crate::{
    bpf,
    causes::one_line,
    device::{self, DeviceError, Netns, Owner},
    netlink::Handle,
    paths::NodePaths,
    state::State,
};

/// Takes away links, programs, maps, devices with their addresses and routes, and runtime state. Goes on past errors and
/// reports them all; may be called again. Refused while a loader runs.
pub fn cleanup(paths: &NodePaths) -> anyhow::Result<()> {
    let lock = NodeLock::take(paths)?;
    warn_of_another_namespace(paths);

    let (pins, errors) = bpf::remove_pins(paths);
    let mut errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let filters = match remove_filters(paths) {
        Ok(filters) => filters,
        Err(error) => {
            errors.push(one_line(error.as_ref()));
            0
        }
    };
    let devices = match remove_devices(paths.node()) {
        Ok(devices) => devices,
        Err(error) => {
            errors.push(one_line(error.as_ref()));
            Vec::new()
        }
    };
    if let Err(error) = set_accept_local(paths, false) {
        errors.push(one_line(error.as_ref()));
    }
    if let Err(error) = fs::remove_dir_all(paths.run()) {
        errors.push(format!("remove {}: {error}", paths.run().display()));
    }
    if let Some(all_nodes) = paths.run().parent() {
        // Other nodes may be there.
        let _ = fs::remove_dir(all_nodes);
    }
    drop(lock);
    log::info!("node {}: removed {pins} pins, {filters} filters and {} devices", paths.node(), devices.len());
    if errors.is_empty() {
        Ok(())
    } else {
        anyhow::bail!("not everything could be removed: {}", errors.join("; "))
    }
}

fn remove_filters(paths: &NodePaths) -> anyhow::Result<usize> {
    let mut netlink = Handle::open().context("open a netlink socket")?;
    Ok(bpf::prune_filters(&mut netlink, paths, &BTreeSet::new())?)
}

fn remove_devices(node: &str) -> anyhow::Result<Vec<String>> {
    let owner = Owner { node };
    let mut netlink = Handle::open().context("open a netlink socket")?;
    let mut removed = device::remove_strangers(&mut netlink, owner, &[])?;
    removed.extend(device::remove_gateways(&mut netlink, owner, None)?);
    Ok(removed)
}

/// Devices are looked for in one network namespace, and the node may have been in another.
fn warn_of_another_namespace(paths: &NodePaths) {
    let state = match State::read(&paths.state()) {
        Ok(Some(state)) => state,
        Ok(None) => return,
        Err(error) => return log::debug!("{error}"),
    };
    let here: Result<_, DeviceError> = Netns::current().map_err(Into::into);
    if here.is_ok_and(|here| here.id().inode != state.netns) {
        log::warn!(
            "node {} ran in another network namespace (inode {}); if that still exists, run this in there too \
             (`nsenter --net=<file> loader cleanup`) for its devices",
            paths.node(),
            state.netns
        );
    }
}
