//! Attaching: one pinned TCX link per program and device, whose program is replaced in place.

use std::collections::BTreeSet;

use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType,
    links::{FdLink, LinkError, PinnedLink},
    tc::{SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions},
};
use common::counters::Hook;

use super::{BpfError, Programs, load::classifier, pins};
use crate::{netlink::Link, paths::NodePaths};

impl Programs {
    /// Makes sure that a hook's program runs on a device: the one that is there is replaced between two packets, a missing
    /// one is attached after whatever others have attached. Returns whether anything had to be done.
    pub fn ensure_attached(&mut self, hook: Hook, device: &Link) -> Result<bool, BpfError> {
        let name = hook.name();
        let pin = self.paths.link(name, device.index);
        let failed = |source| BpfError::Attach { program: name, device: device.name.clone(), source };
        let program = classifier(&mut self.ebpf, name)?;
        let link = PinnedLink::from_pin(&pin).ok();
        if link.is_some() && runs_on(program, hook, device).map_err(failed)? {
            return Ok(false);
        }
        if let Some(link) = link {
            if adopt(program, hook, device, link).map_err(failed)? {
                return Ok(true);
            }
            log::info!("link {} was of another device; attaching anew", pin.display());
            pins::remove(&pin)?;
        }
        let order = TcAttachOptions::TcxOrder(LinkOrder::default());
        let attached = program.attach_with_options(&device.name, direction(hook), order).map_err(failed)?;
        let link = fd_link(program, attached).map_err(failed)?;
        link.pin(&pin).map_err(|error| BpfError::Program {
            call: "pin the link of",
            program: name,
            source: error.into(),
        })?;
        log::debug!("attached {name} to {} (#{})", device.name, device.index);
        Ok(true)
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

/// Puts the program into a link that is there. False if the link is of no use: of a device that is gone, or of another
/// one, since an index is used again once its device is gone, and in another namespace at any time.
fn adopt(
    program: &mut SchedClassifier,
    hook: Hook,
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
    runs_on(program, hook, device)
}

/// Whether the kernel runs this very program on the device.
fn runs_on(program: &SchedClassifier, hook: Hook, device: &Link) -> Result<bool, ProgramError> {
    let id = program.info()?.id();
    let (_, attached) = SchedClassifier::query_tcx(&device.name, direction(hook))?;
    Ok(attached.iter().any(|other| other.id() == id))
}

fn fd_link(program: &mut SchedClassifier, id: SchedClassifierLinkId) -> Result<FdLink, ProgramError> {
    program.take_link(id)?.try_into().map_err(invalid)
}

pub(super) fn invalid(error: LinkError) -> ProgramError {
    ProgramError::IOError(std::io::Error::other(error))
}

fn direction(hook: Hook) -> TcAttachType {
    match hook {
        // Neither XDP nor the socket programs are attached here, see `xdp` and `cgroup`.
        Hook::FromPod | Hook::FromUplink | Hook::UplinkXdp | Hook::Sock => TcAttachType::Ingress,
        Hook::ToPod | Hook::FromHost => TcAttachType::Egress,
    }
}
