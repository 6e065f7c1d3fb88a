//! The stage before forwarding, as the hooks call it: what may be done to a packet, and what that comes to.
//!
//! In the programs each call is a function that the verifier walks through once, on its own, and not again for every state that a hook
//! may be in (half a million instructions, else). So what they come to is a number each.

mod step;
mod taken;

pub use self::{
    step::{Side, Step},
    taken::Taken,
};
use crate::family::{Family, Ip};

/// What the stage does.
pub trait Stage<F: Family> {
    /// See [`nat::translate`](crate::nat::translate).
    fn translate(&mut self, ip: &mut Ip<F>, side: Side) -> Step;

    /// See [`nat::masquerade`](crate::nat::masquerade).
    fn masquerade(&mut self, ip: &mut Ip<F>) -> Step;

    /// See [`nat::inbound`](crate::nat::inbound).
    fn inbound(&mut self, ip: &mut Ip<F>) -> Step;

    /// See [`flow_cache::take`](crate::flow_cache::take).
    fn take(&mut self, ip: &mut Ip<F>, side: Side) -> Taken;

    /// See [`flow_cache::learn`](crate::flow_cache::learn).
    fn learn(&mut self, ip: &mut Ip<F>, side: Side);

    /// See [`nat::undo`](crate::nat::undo).
    fn undo(&mut self, ip: &mut Ip<F>);
}
