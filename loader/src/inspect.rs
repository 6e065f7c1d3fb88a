//! What the verbs print: gathered from the pins and the state file, so that it works while no loader runs, too.
//!
//! | module | what it holds |
//! |---|---|
//! | `nodes` | which nodes there are, and the one that is meant |
//! | `pinned` | maps, opened by their pins |
//! | `status`, `counters`, `traffic` | what each verb prints |
//! | `running` | whether a loader has a node's lock |

mod counters;
mod nodes;
mod pinned;
mod running;
mod status;
mod traffic;

pub use self::{
    counters::counters,
    nodes::{SelectError, select},
    status::status,
    traffic::{peers, pods},
};
