//! One function per hook: what happens to a packet there.
//!
//! Each takes the packet, decides, counts, and returns what the hook does with it. `docs/architecture.md` draws the walks.

mod from_host;
mod from_pod;
mod from_uplink;
mod to_pod;

pub use self::{from_host::from_host, from_pod::from_pod, from_uplink::from_uplink, to_pod::to_pod};
use crate::{
    counters::Reason,
    tables::Dataplane,
    verdict::{Action, Refusal, Verdict},
};

/// Counts a packet that came in with `len` bytes, under the one reason of its verdict.
#[inline(always)]
fn settle<D: Dataplane>(packet: &mut D, len: usize, verdict: Verdict) -> Action {
    packet.count(verdict.reason, len);
    verdict.action
}

/// What becomes of a refused packet that nobody is told of.
#[inline(always)]
fn discard<D: Dataplane>(packet: &mut D, refusal: Refusal) -> Verdict {
    match refusal {
        Refusal::Drop(reason) | Refusal::Answer(reason, _) => Verdict::drop(reason),
        Refusal::Failed(failure) => {
            packet.failed(failure);
            Verdict::drop(Reason::HelperFailed)
        }
    }
}
