//! What holds for every connection that is translated, whatever its packets: a node in memory that keeps its connections from
//! one packet to the next.

#[cfg(test)]
#[path = "properties/cluster.rs"]
mod cluster;
#[cfg(test)]
#[path = "translation/errors.rs"]
mod errors;
#[cfg(test)]
#[path = "translation/fragments.rs"]
mod fragments;
#[cfg(test)]
#[path = "translation/inverse.rs"]
mod inverse;
#[cfg(test)]
#[path = "translation/life.rs"]
mod life;
#[cfg(test)]
#[path = "translation/message.rs"]
mod message;
#[cfg(test)]
#[path = "translation/moved.rs"]
mod moved;
#[cfg(test)]
#[path = "translation/own_address.rs"]
mod own_address;
#[cfg(test)]
#[path = "translation/ports.rs"]
mod ports;
#[cfg(test)]
#[path = "translation/world.rs"]
mod world;

/// So many cases.
fn cases(cases: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config { cases, failure_persistence: None, ..Default::default() }
}
