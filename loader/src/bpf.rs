//! BPF: the object loaded, its maps and programs pinned, its programs attached.
//!
//! What is pinned outlives the loader; so a start adopts what it finds there, in this order, at every point of which
//! packets are forwarded and after every point of which another start succeeds:
//!
//! 1. `load`: load new programs with the pinned maps, or, for a map whose definition has changed or what its entries mean, with
//!    a new one that is pinned beside it; one of another size takes over what connections and services need of the old one, and of
//!    one that a start before this was killed with;
//! 2. the caller fills the maps, through [`Programs::tables`], and has connections [caught up](Programs::catch_up);
//! 3. [`Programs::ensure_attached`], then [`Programs::ensure_xdp`]: every link that is there gets its program replaced,
//!    which the kernel does between two packets; every other one is made; behind an uplink's program there is another one where XDP
//!    may run (`tail_call`); so with [`Programs::ensure_sockets`], on the cgroup;
//! 4. [`Programs::commit`]: new maps and programs take the place of the old ones' pins;
//! 5. [`prune_links`] and [`prune_filters`]: what is attached to devices that are not wanted any more, or by another way, goes.

mod attach;
pub mod batch;
mod carry;
mod cgroup;
mod clsact;
mod compat;
mod environment;
mod error;
mod hash_map;
mod held;
mod load;
mod lpm_map;
mod pins;
mod replaced;
mod revisions;
mod sock_programs;
mod system_call;
mod tail_call;
mod tcx;
mod xdp;

pub use self::{
    attach::{TcWay, prune_links, tc_way},
    cgroup::{detach_sockets, socket_links},
    clsact::{filters, prune_filters},
    environment::check_environment,
    error::BpfError,
    hash_map::errno,
    load::{Programs, Request, TraceLog, load},
    pins::{pinned_array, remove_pins},
    xdp::{XdpFound, detach_xdp, refusal, xdp_on},
};

/// The object that the binary carries.
pub static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("PODLANE_EBPF_OBJECT"));
