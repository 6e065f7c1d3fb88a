//! What the process may do, and how to get what is missing.

use std::{fs, io};

use thiserror::Error;

/// A capability that Podlane needs, see `capabilities(7)`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Capability {
    /// BPF maps and programs.
    Bpf,
    /// Network devices, addresses, routes, and programs on devices.
    NetAdmin,
    /// The network namespaces of pods.
    SysAdmin,
}

impl Capability {
    /// What `run` and `cleanup` need.
    pub const ALL: &[Self] = &[Self::Bpf, Self::NetAdmin, Self::SysAdmin];
    /// What reading pinned maps needs.
    pub const READ: &[Self] = &[Self::Bpf];

    const fn name(self) -> &'static str {
        match self {
            Self::Bpf => "CAP_BPF",
            Self::NetAdmin => "CAP_NET_ADMIN",
            Self::SysAdmin => "CAP_SYS_ADMIN",
        }
    }

    /// The bits of the effective set of which one suffices: the kernel takes `CAP_SYS_ADMIN` for `CAP_BPF` too.
    const fn bits(self) -> u64 {
        const NET_ADMIN: u32 = 12;
        const SYS_ADMIN: u32 = 21;
        const BPF: u32 = 39;
        match self {
            Self::Bpf => 1 << BPF | 1 << SYS_ADMIN,
            Self::NetAdmin => 1 << NET_ADMIN,
            Self::SysAdmin => 1 << SYS_ADMIN,
        }
    }
}

/// The process may not do what it is asked to.
#[derive(Debug, Error)]
pub enum PrivilegeError {
    /// Capabilities are missing.
    #[error("`loader {verb}` needs {needs} (missing: {missing}): run it with sudo")]
    Missing {
        /// What was asked for.
        verb: &'static str,
        /// All that it needs.
        needs: String,
        /// What of it the process hasn't got.
        missing: String,
    },
    /// The process can't tell.
    #[error("read /proc/self/status: {0}; is /proc mounted?")]
    Unreadable(#[from] io::Error),
}

/// Checks that the process may do what the verb does, before the kernel says so less clearly.
pub fn require(verb: &'static str, needed: &[Capability]) -> Result<(), PrivilegeError> {
    let missing = missing(&fs::read_to_string("/proc/self/status")?, needed);
    if missing.is_empty() {
        return Ok(());
    }
    Err(PrivilegeError::Missing { verb, needs: names(needed), missing: names(&missing) })
}

/// What is missing of `needed` to a process with this `/proc/<pid>/status`.
fn missing(status: &str, needed: &[Capability]) -> Vec<Capability> {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|set| u64::from_str_radix(set.trim(), 16).ok())
        .unwrap_or_default();
    needed.iter().copied().filter(|capability| effective & capability.bits() == 0).collect()
}

fn names(capabilities: &[Capability]) -> String {
    match capabilities {
        [] => String::new(),
        [only] => only.name().to_owned(),
        [rest @ .., last] => {
            let rest: Vec<_> = rest.iter().map(|capability| capability.name()).collect();
            format!("{} and {}", rest.join(", "), last.name())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_is_missing() {
        use Capability::{Bpf, NetAdmin, SysAdmin};
        let status = |set: &str| format!("Name:\tloader\nCapPrm:\t000001ffffffffff\nCapEff:\t{set}\n");
        for (set, expected) in [
            ("000001ffffffffff", &[] as &[_]),
            ("0000000000000000", &[Bpf, NetAdmin, SysAdmin]),
            ("0000008000001000", &[SysAdmin]),
            ("0000000000200000", &[NetAdmin]),
            ("nonsense", &[Bpf, NetAdmin, SysAdmin]),
        ] {
            assert_eq!(missing(&status(set), Capability::ALL), expected, "{set}");
        }
        assert_eq!(missing(&status("0000008000000000"), Capability::READ), []);
        assert_eq!(missing("", Capability::READ), [Bpf]);
    }

    #[test]
    fn says_what_to_do() {
        let error = PrivilegeError::Missing {
            verb: "run",
            needs: names(Capability::ALL),
            missing: names(&[Capability::Bpf]),
        };
        let expected = "`loader run` needs CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN (missing: CAP_BPF): run it with sudo";
        assert_eq!(error.to_string(), expected);
    }
}
