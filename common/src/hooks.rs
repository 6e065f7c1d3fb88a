//! One function per hook: what happens to a packet there.
//!
//! Each takes the packet, decides, counts, and returns what the hook does with it. `docs/architecture.md` draws the walks.

mod from_host;
mod from_pod;
mod from_uplink;
mod from_xdp;
mod reply;
mod to_pod;
mod uplink_xdp;

pub use self::{
    from_host::from_host, from_pod::from_pod, from_uplink::from_uplink, from_xdp::from_xdp, to_pod::to_pod,
    uplink_xdp::uplink_xdp,
};
