//! In which state a connection is, and whether it is over.
//!
//! Both directions count together, and the one that was seen last decides: a connection is over when neither has had a packet for
//! as long as its state allows. One whose other direction is missing is judged by what is there.

use common::{
    maps::{connection::TICK_NS, connection_flag},
    wire::protocol,
};
use serde::Serialize;

use crate::desired::Timeouts;

/// For how many seconds a connection that was never answered is kept while the table is nearly full.
const PRESSED: u32 = 5;

/// For how many seconds the entry of a connection that is in use may say nothing of it: its flow is remembered for so long (`FRESH` of
/// [`common::flow_cache`], at the slowest clock that a kernel has), and entries have ticks.
const UNNOTED: u32 = 4;

/// What matters of one direction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Half {
    /// Bits of [`connection_flag`].
    pub flags: u32,
    /// When its last packet came, in ticks.
    pub seen: u32,
}

/// A connection: one direction of it at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pair {
    /// IP protocol number.
    pub protocol: u8,
    /// The direction that began it.
    pub forward: Option<Half>,
    /// The direction of the answers.
    pub reply: Option<Half>,
}

/// How far a connection has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// TCP, not established: not answered, or the answer not acknowledged.
    Syn,
    /// TCP, established.
    Established,
    /// TCP, closed by both sides, or reset.
    Closing,
    /// Not TCP, and not answered.
    Unanswered,
    /// Not TCP, and answered.
    Answered,
}

/// What else bears on the end of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Circumstances {
    /// Its service, its backend, or the node's address that it was given is gone: no packet is translated by it any more.
    pub is_stale: bool,
    /// The table is nearly full.
    pub is_pressed: bool,
}

impl Pair {
    /// How far it has got.
    #[must_use]
    pub fn state(&self) -> State {
        const FIN: u32 = connection_flag::FIN;
        let (forward, reply) = (self.flags(self.forward), self.flags(self.reply));
        let answered = reply & connection_flag::SEEN != 0;
        if self.protocol != protocol::TCP {
            return if answered { State::Answered } else { State::Unanswered };
        }
        // The answers of one that is handed on go another way: it is judged by what goes this way.
        let handed_on = forward & connection_flag::HANDED_ON != 0;
        let closed = forward & FIN != 0 && (handed_on || reply & FIN != 0);
        if closed || (forward | reply) & connection_flag::RST != 0 {
            return State::Closing;
        }
        // The handshake ends with the opener's acknowledgement; of an opener that is missing, it is as if it had been.
        let established = (handed_on || answered) && forward & connection_flag::ESTABLISHED != 0;
        if established { State::Established } else { State::Syn }
    }

    /// Those of a direction; of one that is missing, those of the other.
    fn flags(&self, half: Option<Half>) -> u32 {
        half.or(self.forward).or(self.reply).map_or(0, |half| half.flags)
    }

    /// When the last packet of either direction came, in ticks.
    #[must_use]
    pub fn seen(&self) -> u32 {
        self.forward.iter().chain(&self.reply).map(|half| half.seen).max().unwrap_or_default()
    }

    /// For how many seconds it may be silent.
    #[must_use]
    pub fn timeout(&self, timeouts: &Timeouts) -> u32 {
        match (self.state(), self.protocol) {
            (State::Syn, _) => timeouts.tcp_syn,
            (State::Established, _) => timeouts.tcp_established,
            (State::Closing, _) => timeouts.tcp_closing,
            (State::Unanswered, protocol::UDP) => timeouts.udp,
            (State::Answered, protocol::UDP) => timeouts.udp_stream,
            (_, protocol::ICMP | protocol::ICMPV6) => timeouts.icmp,
            (_, protocol::SCTP) => timeouts.sctp,
            _ => timeouts.other,
        }
    }

    /// Whether it is over at `now`, in ticks.
    #[must_use]
    pub fn is_over(&self, now: u32, timeouts: &Timeouts, circumstances: Circumstances) -> bool {
        let mut timeout = self.timeout(timeouts);
        if circumstances.is_stale {
            // Not at once: whoever still sends is told that his backend is gone.
            timeout = timeout.min(timeouts.tcp_closing);
        }
        if circumstances.is_pressed && matches!(self.state(), State::Syn | State::Unanswered) {
            timeout = timeout.min(PRESSED);
        }
        is_silent(self.seen(), now, timeout.max(UNNOTED))
    }
}

/// Whether a connection may be over, as far as one of its directions tells: of one that is over, one of both says so.
///
/// An answer's direction knows whether there were answers, the other one everything else, but for what has ended in the other direction. So
/// of a connection that is merely idle neither says anything, however often it is asked.
#[must_use]
pub fn may_be_over(
    protocol: u8,
    half: Half,
    now: u32,
    timeouts: &Timeouts,
    circumstances: Circumstances,
) -> bool {
    const ENDED: u32 = connection_flag::FIN | connection_flag::RST;
    let Half { flags, seen } = half;
    if flags & ENDED != 0 || circumstances.is_stale {
        return is_silent(seen, now, shortest(protocol, timeouts));
    }
    let is_answer = flags & connection_flag::REPLY != 0;
    let other = |flags| Some(Half { flags, seen });
    let (forward, reply) = match (is_answer, flags & connection_flag::SEEN != 0) {
        (false, _) => (Some(half), other(connection_flag::SEEN)),
        (true, false) => (other(0), Some(half)),
        (true, true) => return false,
    };
    Pair { protocol, forward, reply }.is_over(now, timeouts, circumstances)
}

/// Whether nothing has come for more than `seconds`.
#[must_use]
pub fn is_silent(seen: u32, now: u32, seconds: u32) -> bool {
    u64::from(now.saturating_sub(seen)) * TICK_NS > u64::from(seconds) * 1_000_000_000
}

/// The shortest that any connection of this protocol may be silent: one with a direction that is not, is not over.
#[must_use]
pub fn shortest(protocol: u8, timeouts: &Timeouts) -> u32 {
    let of_protocol = match protocol {
        protocol::TCP => timeouts.tcp_syn.min(timeouts.tcp_established).min(timeouts.tcp_closing),
        protocol::UDP => timeouts.udp.min(timeouts.udp_stream),
        protocol::ICMP | protocol::ICMPV6 => timeouts.icmp,
        protocol::SCTP => timeouts.sctp,
        _ => timeouts.other,
    };
    of_protocol.min(timeouts.tcp_closing).min(PRESSED)
}

#[cfg(test)]
mod tests;
