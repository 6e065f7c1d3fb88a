//! The end-to-end tests that are run on other kernels by `cargo xtask test`: in emulation the whole suite takes far too
//! long, so these are the ones that make the most use of what kernels differ in.

/// (Test binary, test, what it is here for).
const TESTS: [(&str, &str, &str); 5] = [
    (
        "tests::same_node",
        "pods_of_a_node_talk",
        "attachment to veths, redirects into a peer, ARP and NDP answers",
    ),
    (
        "tests::overlay",
        "pods_of_two_nodes_talk",
        "VXLAN headers put on and taken off, with GSO and fragments",
    ),
    (
        "tests::services",
        "everybody_inside_calls_local_and_remote_backends",
        "translation, connections, host sockets",
    ),
    ("tests::masquerade", "pods_leave_under_their_nodes_address", "ports, echo, both families"),
    ("tests::recovery", "a_killed_loader_loses_nothing", "pins and links that are taken over"),
];

/// The names of the tests of a test binary; none for most.
pub(super) fn tests(binary: &str) -> Vec<&'static str> {
    TESTS.iter().filter(|(of, ..)| *of == binary).map(|(_, test, _)| *test).collect()
}

#[cfg(test)]
mod tests_ {
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
        assert_eq!(tests("tests::overlay").len(), 1);
    }
}
