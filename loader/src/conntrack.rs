//! Connections: read, forgotten when they are over, shown and flushed.
//!
//! | module | what it holds |
//! |---|---|
//! | [`table`] | the tables of both families, read in batches |
//! | [`expiry`] | in which state a connection is, and whether it is over: a pure function |
//! | [`collect`] | one pass over a table |
//! | [`collector`] | the thread that makes a pass every few seconds |
//! | [`filter`] | which connections a verb is about |
//! | [`flows`] | what the programs remember of them besides |

pub mod collect;
pub mod collector;
pub mod expiry;
pub mod filter;
pub mod flows;
pub mod table;

pub use self::{
    collector::{Collector, Settings},
    expiry::{Half, Pair, State},
    filter::Filter,
    flows::expire_flows,
    table::{Entry, Table},
};
