//! Maps: the entries that the desired state asks for, and the difference to what the maps hold.
//!
//! | module | what it holds |
//! |---|---|
//! | [`contents`](mod@contents) | from the desired state and the facts of the node to entries: a pure function |
//! | [`slots`] | which traffic counter belongs to which pod and peer, stable over restarts |
//! | [`apply`] | the difference, written so that nothing that stays is missing for a moment |
//! | [`services`] | services, whose maps are shared memory and change word by word |
//! | [`shared`] | that memory |

pub mod apply;
pub mod contents;
pub mod services;
pub mod shared;
pub mod slots;

#[cfg(test)]
mod memory;

pub use self::{
    apply::{MapOps, SyncError, Tables, Written, check_room},
    contents::{Contents, Facts, PodFacts, Prefix, contents},
    services::{ServiceMaps, Services},
    shared::Shared,
    slots::{Slots, SlotsError},
};
