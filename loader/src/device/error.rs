//! What can be wrong with a device.

use std::{io, path::PathBuf};

use ipnet::IpNet;
use thiserror::Error;

use super::{NetnsError, SysctlError};
use crate::netlink::NetlinkError;

/// A device is not as it should be and can't be made so.
#[derive(Debug, Error)]
pub enum DeviceError {
    /// The kernel refused.
    #[error(transparent)]
    Netlink(#[from] NetlinkError),
    /// The name is somebody else's.
    #[error("device {name} exists and is not Podlane's ({why}); {remedy}")]
    Taken {
        /// Name of the device.
        name: String,
        /// What shows it.
        why: String,
        /// What to do.
        remedy: &'static str,
    },
    /// A route to pods leads elsewhere.
    #[error(
        "the route to {0} leads through another device; delete it (`ip route del {0}`): until then the node itself does \
         not reach these pods through Podlane"
    )]
    RouteTaken(IpNet),
    /// It was there a moment ago.
    #[error("device {0} vanished while it was being set up; it is tried again")]
    Vanished(String),
    /// A sysctl can't be set.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// It has offloads that it should not have.
    #[error(
        "switch segmentation offloads of {device} off: {source}; SCTP's and tunnels' packets that are sent there may be \
         lost"
    )]
    Offloads {
        /// Name of the device.
        device: String,
        /// Why not.
        source: io::Error,
    },
    /// A namespace can't be used.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// A pod would be connected to the node itself.
    #[error(
        "{} is the node's own network namespace; a pod needs one of its own (`ip netns add <name>`)",
        .0.display()
    )]
    OwnNetns(PathBuf),
}

/// Why a pod is not connected.
#[derive(Debug, Error)]
pub enum PodError {
    /// Its namespace is not there yet: it is connected as soon as it is.
    #[error("network namespace {} does not exist", .0.display())]
    Waiting(PathBuf),
    /// Something is wrong.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

impl From<NetlinkError> for PodError {
    fn from(error: NetlinkError) -> Self {
        Self::Device(error.into())
    }
}
