//! TCX (Linux 6.6): one pinned link per program and device, whose program is replaced in place.

use std::io;

use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
    tc::{SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions},
};
use common::counters::Hook;
use nix::net::if_::if_nametoindex;

use super::{BpfError, Programs, error::invalid, load::classifier, pins};
use crate::netlink::{Direction, Link};

impl Programs {
    /// By a link, which is attached after whatever others have attached.
    pub(super) fn ensure_link(
        &mut self,
        hook: Hook,
        direction: Direction,
        device: &Link,
    ) -> Result<(), BpfError> {
        let name = hook.name();
        let pin = self.paths.link(name, device.index);
        let failed = |source| BpfError::Attach { program: name, device: device.name.clone(), source };
        let entry = self.entry(hook);
        let program = classifier(&mut self.ebpf, entry)?;
        let link = PinnedLink::from_pin(&pin).ok();
        if link.is_some() && runs_on(program, direction, device).map_err(failed)? {
            return Ok(());
        }
        if let Some(link) = link {
            if adopt(program, direction, device, link).map_err(failed)? {
                return Ok(());
            }
            log::info!("link {} was of another device; attaching anew", pin.display());
            pins::remove(&pin)?;
        }
        let order = TcAttachOptions::TcxOrder(LinkOrder::default());
        let attached =
            program.attach_with_options(&device.name, attach_type(direction), order).map_err(failed)?;
        let link = fd_link(program, attached).map_err(failed)?;
        // It was asked for by name, and the name may be another device's by now, which gets a link of its own.
        if if_nametoindex(device.name.as_str()) != Ok(device.index) {
            let gone = io::Error::from_raw_os_error(libc::ENODEV);
            return Err(failed(ProgramError::IOError(gone)));
        }
        link.pin(&pin).map_err(|error| BpfError::Program {
            call: "pin the link of",
            program: name,
            source: error.into(),
        })?;
        log::debug!("attached {name} to {} (#{})", device.name, device.index);
        Ok(())
    }
}

/// Whether the kernel has it: it is asked what is attached to the loopback device that way, which one without does not
/// understand.
pub(super) fn exists() -> bool {
    SchedClassifier::query_tcx("lo", TcAttachType::Ingress).is_ok()
}

/// Puts the program into a link that is there. False if the link is of no use: of a device that is gone, or of another
/// one, since an index is used again once its device is gone, and in another namespace at any time.
fn adopt(
    program: &mut SchedClassifier,
    direction: Direction,
    device: &Link,
    link: PinnedLink,
) -> Result<bool, ProgramError> {
    let Ok(link) = SchedClassifierLink::try_from(FdLink::from(link)) else { return Ok(false) };
    let attached = match program.attach_to_link(link) {
        Err(ProgramError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOLINK) => {
            return Ok(false);
        }
        outcome => outcome?,
    };
    // The pin holds the link; this descriptor of it may go.
    drop(fd_link(program, attached)?);
    runs_on(program, direction, device)
}

/// Whether the kernel runs this very program on the device.
fn runs_on(program: &SchedClassifier, direction: Direction, device: &Link) -> Result<bool, ProgramError> {
    let id = program.info()?.id();
    let (_, attached) = SchedClassifier::query_tcx(&device.name, attach_type(direction))?;
    Ok(attached.iter().any(|other| other.id() == id))
}

fn fd_link(program: &mut SchedClassifier, id: SchedClassifierLinkId) -> Result<FdLink, ProgramError> {
    program.take_link(id)?.try_into().map_err(invalid)
}

fn attach_type(direction: Direction) -> TcAttachType {
    match direction {
        Direction::Ingress => TcAttachType::Ingress,
        Direction::Egress => TcAttachType::Egress,
    }
}
