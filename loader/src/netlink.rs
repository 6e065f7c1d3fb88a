//! Route netlink: links, addresses and routes of one network namespace, and news of its links.
//!
//! Synchronous on purpose: a request is a system call that the kernel answers at once, and a [`Handle`] stays in the
//! namespace in which its socket was opened, whichever thread uses it.

mod address;
pub mod diag;
mod error;
mod filter;
mod link;
mod monitor;
mod route;
mod socket;

pub use self::{
    address::Address,
    error::NetlinkError,
    filter::{Direction, Filter},
    link::{Link, VethEnd, XdpPrograms},
    monitor::{LinkNews, Monitor},
    route::Route,
    socket::{Handle, Listing},
};
