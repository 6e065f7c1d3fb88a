//! What the programs remember of flows, from outside of the loader that runs.

use std::io;

use aya::maps::MapData;
use common::maps::name;

use crate::{bpf::errno, paths::NodePaths, sync::Shared};

/// What is remembered of flows holds no longer: to be called when connections have been removed that may be in use.
///
/// # Errors
///
/// The map can't be read. That there is none is no error: programs of an earlier version remember nothing.
pub fn expire_flows(paths: &NodePaths) -> io::Result<()> {
    let epochs = match MapData::from_pin(paths.map(name::EPOCHS)).map_err(errno) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        epochs => epochs?,
    };
    let elements = epochs.info().map_err(errno)?.max_entries();
    Shared::map(epochs.fd(), elements, size_of::<u64>())?.advance();
    Ok(())
}
