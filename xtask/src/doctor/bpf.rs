//! What the kernel's BPF can do, asked by trying.

use aya::{
    maps::MapType,
    programs::{ProgramType, SchedClassifier, TcAttachType},
    sys::{BpfHelper, is_helper_supported, is_map_supported, is_program_supported},
};

use self::Without::{Else, Nothing};
use super::{Finding, State};

const AREA: &str = "bpf";

/// Helpers of the TC programs, and what they are for.
const HELPERS: [(BpfHelper, &str, &str); 13] = [
    (BpfHelper::BPF_FUNC_redirect_peer, "bpf_redirect_peer", "deliver to a pod without its node's stack"),
    (BpfHelper::BPF_FUNC_redirect_neigh, "bpf_redirect_neigh", "send to the underlay's next hop"),
    (BpfHelper::BPF_FUNC_redirect, "bpf_redirect", "send out of a device"),
    (BpfHelper::BPF_FUNC_fib_lookup, "bpf_fib_lookup", "ask the kernel's routes and path MTU"),
    (BpfHelper::BPF_FUNC_skb_adjust_room, "bpf_skb_adjust_room", "VXLAN with GSO kept"),
    (
        BpfHelper::BPF_FUNC_skb_change_proto,
        "bpf_skb_change_proto",
        "tunnels of the other family before Linux 6.3",
    ),
    (BpfHelper::BPF_FUNC_loop, "bpf_loop", "source ports, tried one after the other"),
    (BpfHelper::BPF_FUNC_skb_change_tail, "bpf_skb_change_tail", "ICMP errors"),
    (BpfHelper::BPF_FUNC_skb_change_type, "bpf_skb_change_type", "hand a decapsulated packet to the stack"),
    (BpfHelper::BPF_FUNC_skb_pull_data, "bpf_skb_pull_data", "read headers that are not linear"),
    (BpfHelper::BPF_FUNC_ktime_get_coarse_ns, "bpf_ktime_get_coarse_ns", "limit the rate of ICMP errors"),
    (BpfHelper::BPF_FUNC_csum_update, "bpf_csum_update", "checksums of what the NIC has summed up"),
    (BpfHelper::BPF_FUNC_csum_level, "bpf_csum_level", "checksums of what came in a tunnel"),
];

const MAPS: [(MapType, &str, &str); 6] = [
    (MapType::Hash, "hash map", "pods, peers"),
    (MapType::LpmTrie, "LPM trie map", "routes by longest prefix"),
    (MapType::PerCpuArray, "per-CPU array map", "counters"),
    (MapType::Array, "array map", "globals"),
    (MapType::LruHash, "LRU hash map", "conntrack"),
    (MapType::RingBuf, "ring buffer map", "the trace build's log"),
];

/// What the loader does without something.
#[derive(Clone, Copy)]
enum Without {
    /// It does not run.
    Nothing,
    /// Something else.
    Else(&'static str),
}

pub(super) fn findings() -> Vec<Finding> {
    let program = |kind, name: &'static str, without, purpose: &'static str| {
        finding(name, is_program_supported(kind), without, purpose)
    };
    let mut findings = vec![
        program(ProgramType::SchedClassifier, "TC programs", Nothing, "every hook of the dataplane"),
        finding("TCX", has_tcx(), Else("programs are filters of the clsact qdisc"), "attach by links"),
        program(
            ProgramType::Xdp,
            "XDP programs",
            Else("done at TC instead"),
            "decap before GRO on real NICs",
        ),
    ];
    findings.extend(HELPERS.into_iter().map(|(helper, name, purpose)| {
        finding(name, is_helper_supported(ProgramType::SchedClassifier, helper), Nothing, purpose)
    }));
    findings.extend(
        MAPS.into_iter().map(|(kind, name, purpose)| finding(name, is_map_supported(kind), Nothing, purpose)),
    );
    findings
}

/// Whether programs can be attached by TCX: the kernel is asked what is attached to the loopback device that way,
/// which one without TCX refuses to understand.
fn has_tcx() -> Result<bool, String> {
    match SchedClassifier::query_tcx("lo", TcAttachType::Ingress) {
        Ok(_) => Ok(true),
        Err(error) => {
            let text = chain(&error);
            if text.contains("Invalid argument") { Ok(false) } else { Err(text) }
        }
    }
}

fn finding<E: Into<Failure>>(
    name: &'static str,
    supported: Result<bool, E>,
    without: Without,
    purpose: &'static str,
) -> Finding {
    match supported {
        Ok(true) => Finding::new(AREA, name, State::Present).detail(purpose),
        Ok(false) => match without {
            Nothing => Finding::new(AREA, name, State::Missing)
                .detail(purpose)
                .cost("the loader cannot run on this kernel"),
            Else(instead) => Finding::new(AREA, name, State::Absent).detail(purpose).cost(instead),
        },
        Err(error) => {
            let Failure(text) = error.into();
            let cost =
                if text.contains("not permitted") { "only root can ask the kernel".into() } else { text };
            Finding::new(AREA, name, State::Unknown).detail(purpose).cost(cost)
        }
    }
}

/// Why a question could not be put to the kernel.
struct Failure(String);

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl From<aya::programs::ProgramError> for Failure {
    fn from(error: aya::programs::ProgramError) -> Self {
        Self(chain(&error))
    }
}

impl From<aya::sys::SyscallError> for Failure {
    fn from(error: aya::sys::SyscallError) -> Self {
        Self(chain(&error))
    }
}

/// An error with its sources: the errno is in the last of them.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_loader_needs_is_missing_and_the_rest_is_absent() {
        let state = |supported: Result<bool, String>, without| finding("x", supported, without, "y").state;
        assert_eq!(state(Ok(true), Nothing), State::Present);
        assert_eq!(state(Ok(false), Nothing), State::Missing);
        assert_eq!(state(Ok(false), Else("z")), State::Absent);
        assert_eq!(state(Err("bpf_prog_load: Operation not permitted".into()), Nothing), State::Unknown);
    }
}
