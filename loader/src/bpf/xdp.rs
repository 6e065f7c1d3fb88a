//! XDP on uplinks: one pinned link per device, whose program is replaced in place. A link keeps the way in which it was made,
//! so another way is another link.

use std::io;

use aya::programs::{
    ProgramError, Xdp, XdpMode,
    links::{FdLink, PinnedLink},
    xdp::{XdpError, XdpLink, XdpLinkId},
};
use common::counters::Hook;

use super::{
    BpfError, Programs,
    error::invalid,
    load::xdp,
    pins,
    system_call::{detach, open},
};
use crate::{
    causes::one_line,
    netlink::{Handle, Link},
    paths::NodePaths,
    xdp::{Refusal, Way},
};

/// Name of the program.
const NAME: &str = Hook::UplinkXdp.name();

/// What XDP a device runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpFound {
    /// How it runs ours; none if it does not.
    pub ours: Option<Way>,
    /// Number of somebody else's program.
    pub foreign: Option<u32>,
}

impl Programs {
    /// Makes sure that the program runs on a device in this way: the one that is there is replaced between two packets, a
    /// missing one is attached. `device` is as it is now.
    pub fn ensure_xdp(&mut self, netlink: &mut Handle, device: &Link, way: Way) -> Result<(), BpfError> {
        let failed = |source| BpfError::Attach { program: NAME, device: device.name.clone(), source };
        let pin = self.paths.link(NAME, device.index);
        let found = xdp_on(&self.paths, device);
        let program = xdp(&mut self.ebpf)?;
        let id = program.info().map_err(failed)?.id();
        if found.ours == Some(way)
            && let Ok(link) = PinnedLink::from_pin(&pin)
        {
            let link = FdLink::from(link);
            let is_this = link.info().is_ok_and(|info| info.program_id() == id);
            if is_this || adopt(program, link).map_err(failed)? && runs_on(netlink, device, way, id) {
                return Ok(());
            }
            log::info!("link {} was of another device; attaching anew", pin.display());
        }
        detach_xdp(&self.paths, device.index)?;
        let mode = match way {
            Way::Native => XdpMode::Driver,
            Way::Generic => XdpMode::Skb,
        };
        let attached = program.attach_to_if_index(device.index, mode).map_err(failed)?;
        let link = fd_link(program, attached).map_err(failed)?;
        link.pin(&pin).map_err(|error| BpfError::Program {
            call: "pin the link of",
            program: NAME,
            source: error.into(),
        })?;
        log::debug!("attached {NAME} ({way}) to {} (#{})", device.name, device.index);
        Ok(())
    }
}

/// What XDP `device`, which is as it is now, runs.
#[must_use]
pub fn xdp_on(paths: &NodePaths, device: &Link) -> XdpFound {
    let ours = PinnedLink::from_pin(paths.link(NAME, device.index)).map(FdLink::from);
    let ours = ours.ok().and_then(|link| Some(link.info().ok()?.program_id()));
    let programs = device.xdp;
    let way = match ours {
        Some(_) if programs.native == ours => Some(Way::Native),
        Some(_) if programs.generic == ours => Some(Way::Generic),
        _ => None,
    };
    let foreign = [programs.native, programs.generic, programs.offloaded]
        .into_iter()
        .flatten()
        .find(|program| way.is_none() || Some(*program) != ours);
    XdpFound { ours: way, foreign }
}

/// Takes the program off the device with this index, at once, and its pin away: closing a link lets the kernel detach it when
/// it finds the time.
pub fn detach_xdp(paths: &NodePaths, ifindex: u32) -> Result<(), BpfError> {
    let pin = paths.link(NAME, ifindex);
    match open(&pin).and_then(|link| detach(&link)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            log::warn!("detach link {}: {error}; it goes with its pin", pin.display());
        }
        _ => {}
    }
    pins::remove(&pin)
}

/// Why the kernel refused `way`; the error itself if it is about something else.
pub fn refusal(way: Way, error: BpfError) -> Result<Refusal, BpfError> {
    let BpfError::Attach { source, .. } = &error else { return Err(error) };
    let errno = match source {
        ProgramError::SyscallError(error) => error.io_error.raw_os_error(),
        // What the kernel is asked next where it gave EINVAL, with words of its own at times.
        ProgramError::XdpError(XdpError::NetlinkError(error)) => error.raw_os_error(),
        _ => None,
    };
    let error = one_line(source);
    Ok(Refusal { way, errno, error })
}

/// Puts the program into a link that is there. False if its device is gone.
fn adopt(program: &mut Xdp, link: FdLink) -> Result<bool, ProgramError> {
    let Ok(link) = XdpLink::try_from(link) else { return Ok(false) };
    match program.attach_to_link(link) {
        // The pin holds the link; this descriptor of it may go.
        Ok(attached) => fd_link(program, attached).map(|_| true),
        Err(ProgramError::SyscallError(error)) if error.io_error.raw_os_error() == Some(libc::ENOLINK) => {
            Ok(false)
        }
        Err(error) => Err(error),
    }
}

/// Whether the device runs this program now.
fn runs_on(netlink: &mut Handle, device: &Link, way: Way, id: u32) -> bool {
    let Ok(Some(device)) = netlink.link_by_index(device.index) else { return false };
    let running = match way {
        Way::Native => device.xdp.native,
        Way::Generic => device.xdp.generic,
    };
    running == Some(id)
}

fn fd_link(program: &mut Xdp, id: XdpLinkId) -> Result<FdLink, ProgramError> {
    program.take_link(id)?.try_into().map_err(invalid)
}
