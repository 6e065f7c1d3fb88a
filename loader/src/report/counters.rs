//! `loader counters`: what became of the packets.

use common::counters::{Hook, HookCounters, Outcome, Reason};
use serde::Serialize;

use super::grid::{
    Column::{Number, Text},
    Grid,
};

/// What became of every packet that a hook has seen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CountersReport {
    /// Name of the node.
    pub node: String,
    /// One for each reason at each hook, also those that are zero.
    pub counters: Vec<CounterRow>,
    /// One for each hook.
    pub sums: Vec<HookSum>,
    /// The helpers that refused, the most frequent first.
    pub helper_errors: Vec<HelperErrorRow>,
}

/// One reason at one hook.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CounterRow {
    /// Name of the hook.
    pub hook: &'static str,
    /// Name of the reason.
    pub reason: &'static str,
    /// What it means for the packet.
    pub outcome: &'static str,
    /// Packets, a GSO packet being one.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// The reason, for a person.
    pub description: &'static str,
}

/// Packets of one hook: received = forwarded + passed + dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct HookSum {
    /// Name of the hook.
    pub hook: &'static str,
    /// Seen by the hook.
    pub received: u64,
    /// Sent on or turned round by Podlane.
    pub forwarded: u64,
    /// Left to the node's own stack.
    pub passed: u64,
    /// Discarded.
    pub dropped: u64,
}

/// A helper that refused, where, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct HelperErrorRow {
    /// Name of the hook.
    pub hook: String,
    /// Name of the helper.
    pub helper: String,
    /// Name of what it answered.
    pub error: String,
    /// What it answered.
    pub code: i32,
    /// How often.
    pub count: u64,
}

/// Name of what becomes of a packet.
const fn outcome(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Forwarded => "forwarded",
        Outcome::Passed => "passed",
        Outcome::Dropped => "dropped",
        Outcome::Generated => "generated",
    }
}

impl CountersReport {
    /// Of the counters of each hook.
    #[must_use]
    pub fn new(node: &str, hooks: &[(Hook, HookCounters)], mut helper_errors: Vec<HelperErrorRow>) -> Self {
        let row = |hook: Hook, counters: &HookCounters, reason: Reason| {
            let counter = counters.get(reason);
            CounterRow {
                hook: hook.name(),
                reason: reason.name(),
                outcome: outcome(reason.outcome()),
                packets: counter.packets,
                bytes: counter.bytes,
                description: reason.describe(),
            }
        };
        let rows = |(hook, counters): &(Hook, HookCounters)| {
            Reason::ALL.iter().map(|reason| row(*hook, counters, *reason)).collect::<Vec<_>>()
        };
        let sum = |(hook, counters): &(Hook, HookCounters)| {
            let of = |outcome| {
                let reasons = Reason::ALL.iter().filter(|reason| reason.outcome() == outcome);
                reasons.map(|reason| counters.get(*reason).packets).sum::<u64>()
            };
            let (forwarded, passed, dropped) =
                (of(Outcome::Forwarded), of(Outcome::Passed), of(Outcome::Dropped));
            HookSum { hook: hook.name(), received: forwarded + passed + dropped, forwarded, passed, dropped }
        };
        helper_errors.sort_by(|a, b| b.count.cmp(&a.count).then_with(|| a.helper.cmp(&b.helper)));
        Self {
            node: node.to_owned(),
            counters: hooks.iter().flat_map(rows).collect(),
            sums: hooks.iter().map(sum).collect(),
            helper_errors,
        }
    }

    /// As a table; of the reasons that have occurred, or of `all`.
    #[must_use]
    pub fn table(&self, all: bool) -> String {
        let mut grid = Grid::new(&[
            Text("HOOK"),
            Text("REASON"),
            Text("OUTCOME"),
            Number("PACKETS"),
            Number("BYTES"),
            Text("DESCRIPTION"),
        ]);
        let shown: Vec<_> = self.counters.iter().filter(|row| all || row.packets > 0).collect();
        for CounterRow { hook, reason, outcome, packets, bytes, description } in &shown {
            grid.row([*hook, reason, outcome, &packets.to_string(), &bytes.to_string(), description]);
        }
        let mut text =
            if shown.is_empty() { "no packet has been seen yet\n".to_owned() } else { grid.show() };

        let mut sums = Grid::new(&[
            Text("SUM"),
            Number("RECEIVED"),
            Number("FORWARDED"),
            Number("PASSED"),
            Number("DROPPED"),
        ]);
        for HookSum { hook, received, forwarded, passed, dropped } in &self.sums {
            let numbers = [received, forwarded, passed, dropped].map(ToString::to_string);
            sums.row(std::iter::once((*hook).to_owned()).chain(numbers));
        }
        text += "\n";
        text += &sums.show();

        if !self.helper_errors.is_empty() {
            let mut errors = Grid::new(&[Text("HELPER FAILED"), Text("AT"), Text("ERROR"), Number("COUNT")]);
            for HelperErrorRow { hook, helper, error, code: _, count } in &self.helper_errors {
                errors.row([helper, hook, error, &count.to_string()]);
            }
            text += "\n";
            text += &errors.show();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use common::counters::Counter;

    use super::*;

    fn report() -> CountersReport {
        let from_pod = HookCounters {
            to_pod: Counter { packets: 7, bytes: 700 },
            spoofed: Counter { packets: 2, bytes: 120 },
            to_host: Counter { packets: 1, bytes: 60 },
            icmp_error: Counter { packets: 4, bytes: 400 },
            ..HookCounters::default()
        };
        let error = |helper: &str, count| HelperErrorRow {
            hook: "from_pod".to_owned(),
            helper: helper.to_owned(),
            error: "ENOMEM".to_owned(),
            code: -12,
            count,
        };
        let errors = vec![error("bpf_fib_lookup", 1), error("bpf_skb_adjust_room", 3)];
        CountersReport::new(
            "worker-0",
            &[(Hook::FromPod, from_pod), (Hook::ToPod, HookCounters::default())],
            errors,
        )
    }

    #[test]
    fn sums_are_what_was_received() {
        let sums = report().sums;
        let from_pod = HookSum { hook: "from_pod", received: 10, forwarded: 7, passed: 1, dropped: 2 };
        assert_eq!(sums, [from_pod, HookSum { hook: "to_pod", ..HookSum::default() }]);
    }

    #[test]
    fn the_table_leaves_out_what_has_not_occurred() {
        let table = report().table(false);
        let lines: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(lines[0], ["HOOK", "REASON", "OUTCOME", "PACKETS", "BYTES", "DESCRIPTION"]);
        assert_eq!(lines[1][..5], ["from_pod", "to_pod", "forwarded", "7", "700"]);
        assert_eq!(lines[2][..5], ["from_pod", "to_host", "passed", "1", "60"]);
        assert_eq!(lines[3][..5], ["from_pod", "spoofed", "dropped", "2", "120"]);
        assert_eq!(lines[4][..5], ["from_pod", "icmp_error", "generated", "4", "400"]);
        assert_eq!(lines[6], ["SUM", "RECEIVED", "FORWARDED", "PASSED", "DROPPED"]);
        assert_eq!(lines[7], ["from_pod", "10", "7", "1", "2"]);
        assert_eq!(lines[11], ["bpf_skb_adjust_room", "from_pod", "ENOMEM", "3"]);
        assert_eq!(lines[12], ["bpf_fib_lookup", "from_pod", "ENOMEM", "1"]);
        assert_eq!(lines.len(), 13);
    }

    #[test]
    fn all_of_it_on_request_and_in_json() {
        let report = report();
        let rows = 2 * Reason::ALL.len();
        assert_eq!(report.table(true).lines().take_while(|line| !line.is_empty()).count(), rows + 1);
        assert_eq!(serde_json::to_value(&report).unwrap()["counters"].as_array().unwrap().len(), rows);
    }

    #[test]
    fn an_idle_node() {
        let report = CountersReport::new("worker-0", &[(Hook::FromPod, HookCounters::default())], Vec::new());
        assert!(report.table(false).starts_with("no packet has been seen yet\n\nSUM"));
    }
}
