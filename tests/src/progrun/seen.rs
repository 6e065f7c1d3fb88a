//! What can be seen of a run, in the kernel and in the model alike.

use std::collections::BTreeMap;

use super::kept;
use common::{
    counters::{Hook, Outcome, Reason},
    memory::Memory,
    verdict::Action,
};

/// `TC_ACT_UNSPEC` of `linux/pkt_cls.h`.
pub const UNSPEC: i32 = -1;
/// `TC_ACT_SHOT`.
pub const SHOT: i32 = 2;
/// `TC_ACT_REDIRECT`.
pub const REDIRECT: i32 = 7;

/// Packets and bytes.
pub type Amount = (u64, u64);

/// What a run has shown.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Seen {
    /// What the program returned.
    pub verdict: i32,
    /// What XDP has left for TC to carry out.
    pub handed: Option<Action>,
    /// The packet afterwards, unless it was dropped.
    pub bytes: Vec<u8>,
    /// What was counted at the hook, by reason.
    pub counts: BTreeMap<&'static str, Amount>,
    /// What was counted for pods and peers.
    pub accounts: BTreeMap<String, Amount>,
    /// Refusals of helpers.
    pub failures: BTreeMap<String, u64>,
    /// Entries of the connection tables, as lines.
    pub connections: Vec<String>,
    /// What is remembered of flows, likewise.
    pub flows: Vec<String>,
}

impl Seen {
    /// What the model shows.
    #[must_use]
    pub fn of(hook: Hook, memory: &Memory, action: Action) -> Self {
        let mut seen = Self {
            verdict: match action {
                Action::Continue => UNSPEC,
                Action::Drop => SHOT,
                Action::Pod { .. }
                | Action::Host
                | Action::Loopback
                | Action::Device { .. }
                | Action::Route { .. }
                | Action::Neighbour { .. } => REDIRECT,
            },
            ..Self::default()
        };
        let back = action == Action::Device { ifindex: memory.ifindex };
        if hook == Hook::UplinkXdp && seen.verdict == REDIRECT && !back {
            seen.handed = Some(action);
        }
        if seen.verdict != SHOT {
            seen.bytes.clone_from(&memory.bytes);
        }
        for (reason, bytes) in &memory.counts {
            add(seen.counts.entry(reason.name()).or_default(), *bytes);
        }
        for (account, bytes) in &memory.accounts {
            add(seen.accounts.entry(format!("{account:?}")).or_default(), *bytes);
        }
        for failure in &memory.failures {
            let key = failure_key(failure.helper as u8, failure.code);
            *seen.failures.entry(key).or_default() += 1;
        }
        let entries4 = memory.conntrack4.entries();
        let entries6 = memory.conntrack6.entries();
        seen.connections = entries4.iter().map(|(key, connection)| kept::line(key, connection)).collect();
        seen.connections.extend(entries6.iter().map(|(key, connection)| kept::line(key, connection)));
        seen.connections.sort();
        let flows4 = memory.conntrack4.flows();
        let flows6 = memory.conntrack6.flows();
        let lines4 = flows4.iter().flat_map(|(index, flows)| kept::flow_lines(*index, flows));
        let lines6 = flows6.iter().flat_map(|(index, flows)| kept::flow_lines(*index, flows));
        seen.flows = lines4.chain(lines6).collect();
        seen
    }

    /// The one reason under which the packet itself was counted, if it was one.
    #[must_use]
    pub fn reason(&self) -> Option<Reason> {
        let own = |reason: &&Reason| reason.outcome() != Outcome::Generated;
        let mut counted = Reason::ALL.iter().filter(own).filter(|reason| self.packets(**reason) > 0);
        let reason = counted.next()?;
        (counted.next().is_none() && self.packets(*reason) == 1).then_some(*reason)
    }

    /// Packets counted under a reason.
    #[must_use]
    pub fn packets(&self, reason: Reason) -> u64 {
        self.counts.get(reason.name()).map_or(0, |(packets, _)| *packets)
    }
}

fn add(amount: &mut Amount, bytes: usize) {
    amount.0 += 1;
    amount.1 += u64::try_from(bytes).unwrap_or(u64::MAX);
}

/// A refusal, by name.
#[must_use]
pub fn failure_key(helper: u8, code: i32) -> String {
    format!("{} answered {code}", common::packet::Helper::name(helper))
}
