//! What became of the packets.

use anyhow::Context as _;
use aya::maps::PerCpuValues;
use common::{
    counters::{Counter, Hook, HookCounters, Reason},
    maps::{HelperError, name},
    packet::Helper,
};
use nix::errno::Errno;

use super::pinned;
use crate::{
    paths::NodePaths,
    report::{CountersReport, HelperErrorRow},
};

/// The counters of a node, summed over its CPUs.
pub fn counters(paths: &NodePaths) -> anyhow::Result<CountersReport> {
    let array = pinned::per_cpu_array::<HookCounters>(paths, name::COUNTERS)?;
    let hook = |hook: Hook| {
        let values = pinned::values(&array, hook as u32, name::COUNTERS)?;
        Ok((hook, sum(&values)))
    };
    let hooks = Hook::ALL.into_iter().map(hook).collect::<anyhow::Result<Vec<_>>>()?;
    Ok(CountersReport::new(paths.node(), &hooks, helper_errors(paths)?))
}

fn sum(cpus: &PerCpuValues<HookCounters>) -> HookCounters {
    let mut sums = [Counter::default(); HookCounters::COUNT];
    for cpu in cpus.iter() {
        for (sum, reason) in sums.iter_mut().zip(Reason::ALL) {
            let counter = cpu.get(*reason);
            sum.packets += counter.packets;
            sum.bytes += counter.bytes;
        }
    }
    bytemuck::cast(sums)
}

fn helper_errors(paths: &NodePaths) -> anyhow::Result<Vec<HelperErrorRow>> {
    let errors = pinned::per_cpu_hash::<HelperError, u64>(paths, name::ERRORS)?;
    errors
        .iter()
        .map(|entry| {
            let (error, cpus) = entry.with_context(|| format!("read map {}", name::ERRORS))?;
            Ok(row(error, cpus.iter().sum()))
        })
        .collect()
}

fn row(error: HelperError, count: u64) -> HelperErrorRow {
    let HelperError { hook, helper, code, .. } = error;
    let hook = Hook::ALL.into_iter().find(|known| *known as u8 == hook).map_or("unknown", Hook::name);
    HelperErrorRow {
        hook: hook.to_owned(),
        helper: Helper::name(helper).to_owned(),
        error: answer(code),
        code,
        count,
    }
}

/// Name of what a helper answered: an errno, or what `bpf_fib_lookup` found.
fn answer(code: i32) -> String {
    const FIB: [&str; 10] = [
        "SUCCESS",
        "BLACKHOLE",
        "UNREACHABLE",
        "PROHIBIT",
        "NOT_FWDED",
        "FWD_DISABLED",
        "UNSUPP_LWT",
        "NO_NEIGH",
        "FRAG_NEEDED",
        "NO_SRC_ADDR",
    ];
    if code < 0 {
        return match Errno::from_raw(code.saturating_neg()) {
            Errno::UnknownErrno => format!("errno {}", code.unsigned_abs()),
            errno => format!("{errno:?}"),
        };
    }
    let fib = usize::try_from(code).ok().and_then(|code| FIB.get(code));
    fib.map_or_else(|| code.to_string(), |name| format!("BPF_FIB_LKUP_RET_{name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_have_names() {
        assert_eq!(answer(-12), "ENOMEM");
        assert_eq!(answer(-4095), "errno 4095");
        assert_eq!(answer(5), "BPF_FIB_LKUP_RET_FWD_DISABLED");
        assert_eq!(answer(99), "99");
    }

    #[test]
    fn rows_have_names() {
        let error = HelperError { hook: Hook::FromUplink as u8, helper: 4, reserved: [0; 2], code: 4 };
        let row = row(error, 3);
        assert_eq!((row.hook.as_str(), row.helper.as_str(), row.count), ("from_uplink", "bpf_fib_lookup", 3));
        assert_eq!(super::row(HelperError { hook: 77, ..error }, 3).hook, "unknown");
    }

    #[test]
    fn cpus_are_summed() {
        let cpu =
            |packets| HookCounters { spoofed: Counter { packets, bytes: 60 }, ..HookCounters::default() };
        let cpus = vec![cpu(1); aya::util::nr_cpus().unwrap()];
        let count = u64::try_from(cpus.len()).unwrap();
        let sum = sum(&PerCpuValues::try_from(cpus).unwrap());
        assert_eq!(sum.spoofed, Counter { packets: count, bytes: 60 * count });
    }
}
