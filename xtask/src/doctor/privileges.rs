//! What this process may do.

use std::fs;

use super::{Finding, State};

const AREA: &str = "privileges";

/// The capabilities that the loader uses: number, name, for what.
const CAPABILITIES: [(u32, &str, &str); 4] = [
    (12, "CAP_NET_ADMIN", "make devices and routes, attach programs"),
    (21, "CAP_SYS_ADMIN", "enter pods' network namespaces, mount bpffs"),
    (38, "CAP_PERFMON", "load programs that compare packet pointers"),
    (39, "CAP_BPF", "create maps and load programs"),
];

pub(super) fn findings() -> Vec<Finding> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let effective = effective(&status);
    let finding = |(number, name, purpose): (u32, &'static str, &'static str)| {
        let state = match effective {
            Some(set) if set & (1 << number) != 0 => State::Present,
            Some(_) => State::Absent,
            None => State::Unknown,
        };
        // Not `Missing`: the machine has it, this user does not.
        Finding::new(AREA, name, state)
            .detail(purpose)
            .cost("`sudo loader run`; cargo xtask calls sudo itself")
    };
    CAPABILITIES.into_iter().map(finding).collect()
}

/// The effective capabilities in `/proc/<pid>/status`.
fn effective(status: &str) -> Option<u64> {
    let set = status.lines().find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_effective_set_is_read() {
        assert_eq!(effective("CapPrm:\t0000\nCapEff:\t000001ffffffffff\n"), Some(0x1ff_ffff_ffff));
        assert_eq!(effective("CapPrm:\t0000\n"), None);
    }
}
