//! Which kinds of network devices the kernel makes, asked by making one in a namespace that nobody else sees.

use std::process::Command;

use super::{Finding, State};
use crate::{command, project};

const AREA: &str = "devices";

/// A use for a device: the kinds that serve it, the preferred one first, and whether the loader depends on it.
struct Use {
    kinds: &'static [&'static str],
    /// What `ip link add` wants to know beyond the kind.
    arguments: &'static [&'static str],
    needed: bool,
    purpose: &'static str,
}

const USES: [Use; 4] = [
    Use {
        kinds: &["veth"],
        arguments: &["peer", "name", "probe1"],
        needed: true,
        purpose: "a pod's pair of devices",
    },
    Use { kinds: &["dummy", "ifb"], arguments: &[], needed: true, purpose: "the gateway device podlane0" },
    Use {
        kinds: &["vxlan"],
        arguments: &["id", "1", "dstport", "8472"],
        needed: false,
        purpose: "tests against kernel VTEPs",
    },
    Use {
        kinds: &["bridge"],
        arguments: &[],
        needed: false,
        purpose: "benchmarks against the kernel's path",
    },
];

pub(super) fn findings() -> Vec<Finding> {
    USES.iter().map(probe).collect()
}

/// Tries the kinds until the kernel makes one.
fn probe(Use { kinds, arguments, needed, purpose }: &Use) -> Finding {
    let mut failure = (State::Unknown, "`ip` is not installed".to_owned());
    for kind in *kinds {
        match make(kind, arguments) {
            Ok(()) => return Finding::new(AREA, *kind, State::Present).detail(*purpose),
            Err(error) => {
                let last = error.lines().last().unwrap_or_default().to_owned();
                failure = (judge(&error, *needed), last);
            }
        }
    }
    let (state, error) = failure;
    Finding::new(AREA, kinds.join(" or "), state).detail(*purpose).cost(error)
}

/// Makes one in a new network namespace, which goes away with the command.
fn make(kind: &str, arguments: &[&str]) -> Result<(), String> {
    let ip = project::find_program("ip").ok_or("`ip` is not installed")?;
    let mut unshare = Command::new("unshare");
    unshare.arg("--net");
    if !command::is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.arg("--").arg(ip).args(["link", "add", "name", "probe0", "type", kind]).args(arguments);
    command::output(&mut unshare).map(drop).map_err(|error| format!("{error:#}"))
}

/// What a failed `ip link add` means: a kind that the kernel does not know, or a namespace that could not be made.
fn judge(error: &str, needed: bool) -> State {
    let no_answer = ["unshare: ", "not permitted", "not installed"].iter().any(|text| error.contains(text));
    match (no_answer, needed) {
        (true, _) => State::Unknown,
        (false, true) => State::Missing,
        (false, false) => State::Absent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn not_being_allowed_to_ask_is_no_answer() {
        assert_eq!(judge("unshare: unshare failed: Operation not permitted", true), State::Unknown);
        assert_eq!(judge("Error: Unknown device type.", true), State::Missing);
        assert_eq!(judge("Error: Unknown device type.", false), State::Absent);
    }
}
