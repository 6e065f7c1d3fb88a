//! Socket programs on a cgroup: one pinned link per program, whose program is replaced in place.

use std::{
    fs::File,
    io,
    os::{
        fd::{FromRawFd as _, OwnedFd},
        unix::fs::MetadataExt as _,
    },
    path::Path,
};

use nix::sys::statfs::{CGROUP2_SUPER_MAGIC, fstatfs};

use super::{
    BpfError, Programs,
    load::sock_addr,
    pins,
    sock_programs::{self, SockProgram, needed},
    system_call::{self, bpf, descriptor, detach, open},
};
use crate::{desired::SocketMode, paths::NodePaths};

const BPF_OBJ_GET_INFO_BY_FD: libc::c_int = 15;
const BPF_LINK_CREATE: libc::c_int = 28;
const BPF_LINK_UPDATE: libc::c_int = 29;

/// A cgroup has no interface index; its links are named by this one.
const NO_DEVICE: u32 = 0;

impl Programs {
    /// Makes sure that the programs of that mode run on a cgroup, and no others: one that is there is replaced between two
    /// calls, a missing one is attached beside whatever others have attached.
    pub fn ensure_sockets(&mut self, cgroup: &Path, mode: SocketMode) -> Result<(), BpfError> {
        let directory = open_cgroup(cgroup)?;
        let number = directory.metadata().map_err(pins::failed("stat", cgroup))?.ino();
        for program in needed(mode) {
            self.ensure_socket_program(program, &directory, number)?;
        }
        for SockProgram { name, .. } in
            sock_programs::ALL.iter().filter(|program| mode == SocketMode::Tcp && !program.tcp)
        {
            remove(&self.paths, name)?;
        }
        Ok(())
    }

    /// The same of one program, on the cgroup with that number.
    fn ensure_socket_program(
        &mut self,
        SockProgram { name, attach_type, .. }: SockProgram,
        cgroup: &File,
        number: u64,
    ) -> Result<(), BpfError> {
        let pin = self.paths.link(name, NO_DEVICE);
        let failed =
            |call| move |source: io::Error| BpfError::Program { call, program: name, source: source.into() };
        let program = sock_addr(&mut self.ebpf, name)?;
        let id = program.info().map_err(io::Error::other).map_err(failed("look at"))?.id();
        let program = program.fd().map_err(io::Error::other).map_err(failed("open"))?;
        let program = descriptor(program).map_err(failed("open"))?;
        if let Ok(link) = open(&pin) {
            let found = look_at(&link).map_err(failed("look at the link of"))?;
            if found.cgroup == number {
                // To replace a program by itself would cost as much as another: the kernel goes through all cgroups below.
                return if found.program == id {
                    Ok(())
                } else {
                    replace(&link, program).map_err(failed("replace"))
                };
            }
            log::info!("link {} was of another cgroup; attaching anew", pin.display());
            remove(&self.paths, name)?;
        }
        let link = attach(program, cgroup, attach_type).map_err(failed("attach"))?;
        system_call::pin(&link, &pin).map_err(failed("pin the link of"))
    }
}

/// Takes the programs off their cgroup at once, and their pins away. Returns how many were there.
pub fn detach_sockets(paths: &NodePaths) -> Result<usize, BpfError> {
    let mut detached = 0;
    for SockProgram { name, .. } in sock_programs::ALL {
        detached += usize::from(remove(paths, name)?);
    }
    Ok(detached)
}

/// The links that a mode has, as [`prune_links`](super::prune_links) knows them.
pub fn socket_links(mode: SocketMode) -> impl Iterator<Item = (&'static str, u32)> {
    needed(mode).map(|program| (program.name, NO_DEVICE))
}

/// Opens a cgroup.
fn open_cgroup(path: &Path) -> Result<File, BpfError> {
    let failed = |call| pins::failed(call, path);
    let directory = File::open(path).map_err(failed("open"))?;
    let kind = fstatfs(&directory).map_err(io::Error::from).map_err(failed("statfs"))?.filesystem_type();
    if kind == CGROUP2_SUPER_MAGIC {
        return Ok(directory);
    }
    Err(BpfError::File {
        call: "open",
        path: path.to_owned(),
        source: io::Error::other("no cgroup of version 2"),
        hint: "; `findmnt -t cgroup2` tells where they are, for sockets.cgroup",
    })
}

fn attach(program: u32, cgroup: &File, attach_type: u32) -> io::Result<OwnedFd> {
    #[repr(C)]
    struct Create {
        program: u32,
        target: u32,
        attach_type: u32,
        flags: u32,
    }
    let link = bpf(BPF_LINK_CREATE, &Create { program, target: descriptor(cgroup)?, attach_type, flags: 0 })?;
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(link) })
}

/// Puts a program in the place of a link's.
fn replace(link: &OwnedFd, program: u32) -> io::Result<()> {
    #[repr(C)]
    struct Update {
        link: u32,
        program: u32,
        flags: u32,
        old_program: u32,
    }
    bpf(BPF_LINK_UPDATE, &Update { link: descriptor(link)?, program, flags: 0, old_program: 0 }).map(drop)
}

/// What a link is to.
struct LinkTo {
    /// Number of the cgroup; zero if that has gone.
    cgroup: u64,
    /// Number of the program.
    program: u32,
}

fn look_at(link: &OwnedFd) -> io::Result<LinkTo> {
    /// The first part of `struct bpf_link_info`, as it is of a cgroup.
    #[repr(C)]
    #[derive(Default)]
    struct Info {
        kind: u32,
        id: u32,
        program: u32,
        hole: u32,
        cgroup: u64,
        attach_type: u32,
        rest: u32,
    }
    #[repr(C)]
    struct Query {
        link: u32,
        length: u32,
        info: u64,
    }
    let mut info = Info::default();
    let to = &raw mut info;
    let length = u32::try_from(size_of::<Info>()).map_err(io::Error::other)?;
    // The kernel writes to `info`, which outlives the call.
    bpf(BPF_OBJ_GET_INFO_BY_FD, &Query { link: descriptor(link)?, length, info: to as u64 })?;
    // SAFETY: a live value of integers, which the compiler has not seen written to.
    let Info { cgroup, program, .. } = unsafe { to.read_volatile() };
    Ok(LinkTo { cgroup, program })
}

/// Detaches a program, if it is attached, and removes the link's pin; whether there was one.
fn remove(paths: &NodePaths, name: &str) -> Result<bool, BpfError> {
    let pin = paths.link(name, NO_DEVICE);
    match open(&pin).and_then(|link| detach(&link)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => log::warn!("detach link {}: {error}; it goes with its pin", pin.display()),
        Ok(()) => {}
    }
    pins::remove(&pin)?;
    Ok(true)
}
