//! What can be wrong with BPF, and what to do about it.

use std::{io, path::PathBuf};

use aya::{
    EbpfError,
    maps::MapError,
    programs::{ProgramError, links::LinkError},
};
use thiserror::Error;

use crate::{causes::one_line, netlink::NetlinkError};

/// The programs can't be loaded, pinned or attached.
#[derive(Debug, Error)]
pub enum BpfError {
    /// The kernel is too old.
    #[error(
        "this is Linux {release}; Podlane needs 6.1 or newer: older verifiers and helpers are not what its programs were tried with"
    )]
    OldKernel {
        /// As `uname -r` prints it.
        release: String,
    },
    /// TCX is asked for.
    #[error(
        "tc.mode is \"tcx\", and this kernel has none: it came with Linux 6.6; \"auto\" takes filters of the clsact qdisc instead"
    )]
    NoTcx,
    /// Whether the kernel has TCX can't be told.
    #[error("ask what is attached to {device} by TCX: {source}; it is asked again")]
    AskTcx {
        /// Name of the device.
        device: &'static str,
        /// The errno.
        source: io::Error,
    },
    /// Somebody else's filter.
    #[error(
        "filter {filter:?} of device {device} is where Podlane's goes; `tc filter del` it, or set tc.mode to \"tcx\""
    )]
    Taken {
        /// Name of the device.
        device: String,
        /// Name of the filter.
        filter: String,
    },
    /// Something about filters.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// Something in the BPF file system or on the way to it.
    #[error("{call} {}: {source}{hint}", path.display())]
    File {
        /// System call.
        call: &'static str,
        /// On which file.
        path: PathBuf,
        /// The errno.
        source: io::Error,
        /// What to do, after a semicolon; or nothing.
        hint: &'static str,
    },
    /// The object is not one of ours.
    #[error("the BPF object {what}; build it with `cargo xtask build-ebpf`")]
    Object {
        /// What is wrong with it.
        what: String,
    },
    /// The object can't be loaded.
    #[error("load the BPF object: {}", one_line(.0))]
    Load(EbpfError),
    /// The verifier rejects a program.
    #[error(
        "the kernel's verifier rejects program {program}: {source}; its log's end:\n{tail}\n(all of it: {})",
        log.display()
    )]
    Verifier {
        /// Name of the program.
        program: &'static str,
        /// The errno.
        source: io::Error,
        /// Where the whole log is.
        log: PathBuf,
        /// Its last lines.
        tail: String,
    },
    /// Something else about a program.
    #[error("{call} program {program}: {}", one_line(&**source))]
    Program {
        /// What was tried.
        call: &'static str,
        /// Name of the program.
        program: &'static str,
        /// Why not.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A program can't be attached.
    #[error("attach program {program} to {device}: {}", one_line(source))]
    Attach {
        /// Name of the program.
        program: &'static str,
        /// Name of the device.
        device: String,
        /// Why not.
        source: ProgramError,
    },
    /// Something about a map.
    #[error("{call} map {map}: {}", one_line(source))]
    Map {
        /// What was tried.
        call: &'static str,
        /// Name of the map.
        map: &'static str,
        /// Why not.
        source: MapError,
    },
}

/// That a link which was just made is no BPF link.
pub(super) fn invalid(error: LinkError) -> ProgramError {
    ProgramError::IOError(io::Error::other(error))
}
