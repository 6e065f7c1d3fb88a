//! What the programs have counted.

use std::collections::BTreeMap;

use anyhow::Result;
use aya::{
    Ebpf,
    maps::{PerCpuArray, PerCpuHashMap},
};
use common::{
    counters::{Hook, HookCounters, Reason},
    maps::{HelperError, Traffic, name},
};

use super::{
    maps::{bytes, map},
    seen::{Amount, Seen, failure_key},
};
/// What the maps say since the programs were loaded.
#[derive(Default)]
pub struct Totals {
    counts: BTreeMap<&'static str, Amount>,
    accounts: BTreeMap<String, Amount>,
    failures: BTreeMap<String, u64>,
}

impl Totals {
    /// As they are now; of failures, those at that hook.
    pub fn read(ebpf: &Ebpf, hook: Hook) -> Result<Self> {
        let mut totals = Self::default();
        let counters: PerCpuArray<_, HookCounters> = map(ebpf, name::COUNTERS)?;
        for cpu in counters.get(&(hook as u32), 0)?.iter() {
            for reason in Reason::ALL {
                let counter = cpu.get(*reason);
                add(&mut totals.counts, (counter.packets, counter.bytes), || reason.name());
            }
        }
        for (owner, name) in [("Pod", name::POD_TRAFFIC), ("Peer", name::PEER_TRAFFIC)] {
            let traffic: Vec<Vec<Traffic>> = bytes(ebpf, name)?.values()?;
            for (slot, cpus) in traffic.iter().enumerate() {
                for cpu in cpus {
                    for (direction, amount) in
                        [("Rx", (cpu.rx_packets, cpu.rx_bytes)), ("Tx", (cpu.tx_packets, cpu.tx_bytes))]
                    {
                        add(&mut totals.accounts, amount, || format!("{owner}{direction}({slot})"));
                    }
                }
            }
        }
        let errors: PerCpuHashMap<_, HelperError, u64> = map(ebpf, name::ERRORS)?;
        for entry in &errors {
            let (HelperError { hook: at, helper, code, .. }, counts) = entry?;
            if at == hook as u8 {
                totals.failures.insert(failure_key(helper, code), counts.iter().sum());
            }
        }
        Ok(totals)
    }

    /// What was added; nothing that was not.
    pub fn since(mut self, before: &Self) -> Seen {
        for (reason, amount) in &mut self.counts {
            subtract(amount, before.counts.get(reason));
        }
        for (account, amount) in &mut self.accounts {
            subtract(amount, before.accounts.get(account));
        }
        for (failure, count) in &mut self.failures {
            *count -= before.failures.get(failure).copied().unwrap_or(0);
        }
        self.counts.retain(|_, amount| *amount != (0, 0));
        self.accounts.retain(|_, amount| *amount != (0, 0));
        self.failures.retain(|_, count| *count != 0);
        let Self { counts, accounts, failures } = self;
        Seen { counts, accounts, failures, ..Seen::default() }
    }
}

/// Adds what there is. Of nothing not even the name is made: almost all is nothing, and a test runs thousands of packets.
fn add<K: Ord>(totals: &mut BTreeMap<K, Amount>, amount: Amount, key: impl Fn() -> K) {
    if amount != (0, 0) {
        let total = totals.entry(key()).or_default();
        total.0 += amount.0;
        total.1 += amount.1;
    }
}

fn subtract(amount: &mut Amount, before: Option<&Amount>) {
    if let Some(before) = before {
        amount.0 -= before.0;
        amount.1 -= before.1;
    }
}
