//! The end-to-end tests that are run on other kernels by `cargo xtask test`: in emulation the whole suite takes far too
//! long, so these are the ones that make the most use of what kernels differ in.

/// (Test binary, test, what it is here for).
const TESTS: [(&str, &str, &str); 8] = [
    (
        "tests::clsact",
        "filters_carry_every_kind_of_traffic",
        "attachment without TCX, which is what 6.1 has to do for every node",
    ),
    (
        "tests::interop",
        "through_a_router",
        "redirects, VXLAN on and off, GSO, fragments: with a node of the kernel's own",
    ),
    (
        "tests::masquerade",
        "pods_leave_under_their_nodes_address",
        "translation with ports and ICMP, both families",
    ),
    (
        "tests::node_ports",
        "packets_of_both_families_go_from_tunnel_to_tunnel",
        "a packet that changes its family twice, which helpers do by flags of 6.3 or without",
    ),
    ("tests::overlay", "pods_talk_over_ipv6", "both families in tunnels over IPv6"),
    ("tests::recovery", "cleanup_leaves_nothing", "attachment, pins and devices, and all of it gone again"),
    (
        "tests::sockets",
        "applications_are_told_whom_they_called",
        "programs on a cgroup, and services behind them",
    ),
    (
        "tests::xdp",
        "an_outside_client_calls_node_ports",
        "XDP of drivers, and what it leaves to traffic control",
    ),
];

/// The names of the tests of a test binary; none for most.
pub(super) fn tests(binary: &str) -> Vec<String> {
    TESTS.iter().filter(|(of, ..)| *of == binary).map(|(_, test, _)| (*test).to_owned()).collect()
}

#[cfg(test)]
mod unit {
    use std::fs;

    use super::*;
    use crate::project;

    #[test]
    fn every_test_exists() {
        for (binary, test, _) in TESTS {
            let file = binary.strip_prefix("tests::").unwrap();
            let path = project::root().join("tests/tests").join(file).with_extension("rs");
            let source = fs::read_to_string(&path).unwrap();
            assert!(source.contains(&format!("fn {test}(")), "{test} is not in {}", path.display());
        }
        assert_eq!(tests("tests::interop"), ["through_a_router"]);
        assert!(tests("tests::flips").is_empty());
    }
}
