//! TCX (Linux 6.6): one pinned link per program and device, whose program is replaced in place.

use std::{cell::UnsafeCell, io, sync::OnceLock};

use aya::programs::{
    LinkOrder, ProgramError, SchedClassifier, TcAttachType,
    links::{FdLink, PinnedLink},
    tc::{SchedClassifierLink, SchedClassifierLinkId, TcAttachOptions},
};
use common::counters::Hook;
use nix::net::if_::if_nametoindex;

use super::{BpfError, Programs, error::invalid, load::classifier, pins, system_call::bpf};
use crate::netlink::{Direction, Link};

const BPF_PROG_QUERY: libc::c_int = 16;
const BPF_TCX_INGRESS: u32 = 46;
const BPF_TCX_EGRESS: u32 = 47;
/// As many programs as the kernel takes on one hook of a device (`BPF_MPROG_MAX`).
const MOST_PROGRAMS: usize = 64;
/// A device that every network namespace has.
const LOOPBACK: &str = "lo";

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

/// Whether the kernel has it. It is asked once: a kernel stays what it is.
pub(super) fn exists() -> Result<bool, BpfError> {
    static ANSWER: OnceLock<bool> = OnceLock::new();
    if let Some(answer) = ANSWER.get() {
        return Ok(*answer);
    }
    let asked = if_nametoindex(LOOPBACK).map_err(io::Error::from);
    let asked = asked.and_then(|ifindex| attached(ifindex, Direction::Ingress));
    let answer = is_understood(asked).map_err(|source| BpfError::AskTcx { device: LOOPBACK, source })?;
    Ok(*ANSWER.get_or_init(|| answer))
}

/// Whether the question what is attached that way was understood. A kernel before 6.6, or one built without, answers `EINVAL`,
/// which a known device and no flags get for nothing else; any other error is about this question alone.
fn is_understood(answer: io::Result<Vec<u32>>) -> io::Result<bool> {
    match answer {
        Ok(_) => Ok(true),
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Numbers of the programs that are attached to a device, of whomever. They are only asked for, not opened: one that goes meanwhile
/// does no harm.
fn attached(ifindex: u32, direction: Direction) -> io::Result<Vec<u32>> {
    /// As much of `union bpf_attr` as the kernel writes to.
    #[repr(C)]
    struct Query {
        ifindex: u32,
        attach_type: u32,
        flags: u32,
        attach_flags: u32,
        programs: u64,
        count: u32,
        hole: u32,
        program_attach_flags: u64,
        links: u64,
        link_attach_flags: u64,
        revision: u64,
    }
    let mut programs = vec![0_u32; MOST_PROGRAMS];
    let query = UnsafeCell::new(Query {
        ifindex,
        attach_type: match direction {
            Direction::Ingress => BPF_TCX_INGRESS,
            Direction::Egress => BPF_TCX_EGRESS,
        },
        flags: 0,
        attach_flags: 0,
        programs: programs.as_mut_ptr() as u64,
        count: u32::try_from(programs.len()).map_err(io::Error::other)?,
        hole: 0,
        program_attach_flags: 0,
        links: 0,
        link_attach_flags: 0,
        revision: 0,
    });
    bpf(BPF_PROG_QUERY, &query)?;
    programs.truncate(usize::try_from(query.into_inner().count).map_err(io::Error::other)?);
    Ok(programs)
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
    Ok(attached(device.index, direction).map_err(ProgramError::IOError)?.contains(&id))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_question_that_is_not_understood_means_that_there_is_none() {
        let answer = |errno| is_understood(Err(io::Error::from_raw_os_error(errno)));
        assert!(!answer(libc::EINVAL).unwrap());
        assert!(is_understood(Ok(Vec::new())).unwrap());
        for errno in [libc::ENOENT, libc::ENOMEM, libc::EMFILE, libc::EPERM, libc::ENODEV] {
            assert_eq!(answer(errno).unwrap_err().raw_os_error(), Some(errno));
        }
    }
}
