//! The program behind `from_xdp`. It is one of its own because the kernel spoils what XDP hands over for a program that writes to
//! packets: `dataplane-ebpf/src/main.rs` tells how.

use aya::maps::MapError;
use common::{counters::Hook, maps::name};

use super::{
    BpfError, Programs,
    load::{IN_FRONT, classifier},
};

/// Where `from_xdp` looks.
const SLOT: u32 = 0;

impl Programs {
    /// Name of the program that is attached at a hook of TC.
    pub(super) fn entry(&self, hook: Hook) -> &'static str {
        if hook == Hook::FromUplink && self.expect_xdp() { IN_FRONT } else { hook.name() }
    }

    /// Puts the uplinks' program where the one in front of it, of this loader or of the one before, goes on: before it is
    /// attached, so that no packet finds nothing there.
    pub(super) fn put_behind(&mut self) -> Result<(), BpfError> {
        if !self.expect_xdp() {
            return Ok(());
        }
        let hook = Hook::FromUplink.name();
        let failed = |source| BpfError::Program { call: "take a descriptor of", program: hook, source };
        let program = classifier(&mut self.ebpf, hook)?;
        let descriptor = program.fd().map_err(|error| failed(error.into()))?;
        self.tail_calls.set(SLOT, descriptor, 0).map_err(|error| map_failed("write", error))
    }

    /// Lets go of a program that nobody is in front of any more.
    pub(super) fn leave_behind(&mut self) -> Result<(), BpfError> {
        if self.expect_xdp() {
            return Ok(());
        }
        match self.tail_calls.clear_index(&SLOT) {
            Err(MapError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOENT) => {
                Ok(())
            }
            outcome => outcome.map_err(|error| map_failed("clear", error)),
        }
    }
}

fn map_failed(call: &'static str, source: MapError) -> BpfError {
    BpfError::Map { call, map: name::TAIL_CALLS, source }
}
