//! What the verbs print: gathered from the pins and the state file, so that it works while no loader runs, too.
//!
//! | module | what it holds |
//! |---|---|
//! | `nodes` | which nodes there are, and the one that is meant |
//! | `pinned` | maps, opened by their pins |
//! | `status`, `counters`, `traffic`, `services`, `connections` | what each verb prints |
//! | `service_names` | services by number |
//! | `running` | whether a loader has a node's lock |

mod connections;
mod counters;
mod nodes;
mod pinned;
mod running;
mod service_names;
mod services;
mod status;
mod traffic;

pub use self::{
    connections::{ConnectionQuery, connections, flush},
    counters::counters,
    nodes::{SelectError, select},
    services::services,
    status::status,
    traffic::{peers, pods},
};
