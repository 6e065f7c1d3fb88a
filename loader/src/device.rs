//! Network devices of the node, made and kept as the desired state says.
//!
//! Every function here converges: it looks at what is, changes what differs, and does nothing on a second call. So a
//! crash at any point is repaired by running again. What is somebody else's is left alone and reported.

mod alias;
mod error;
mod ethtool;
mod gateway;
mod netns;
mod offloads;
mod pod;
mod sysctl;

pub use self::{
    alias::Owner,
    error::{DeviceError, PodError},
    ethtool::{Ethtool, Features},
    gateway::{Gateway, check_gateway, ensure_gateway, remove_gateways},
    netns::{Netns, NetnsError, NetnsId, cookie},
    offloads::merging_datagrams,
    pod::{PodSpec, await_pod, ensure_pod, find_pod_device, host_device_name, remove_strangers},
    sysctl::{Sysctl, SysctlError},
};
