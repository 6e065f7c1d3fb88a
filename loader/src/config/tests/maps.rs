//! `[maps]`.

use super::*;

#[test]
fn capacities() {
    says_with("[maps]\npods = 0\n", &["15:8 maps.pods: 0 is not from 1 to 1048576"]);
    says_with("[maps]\nflows = 0\n", &["15:9 maps.flows: 0 is not from 1 to 1048576"]);
    let pod = |n: u16, ip: &str| format!("[[pod]]\nname = \"{n}\"\nnetns = \"/{n}\"\nip = [\"{ip}\"]\n");
    let pods = [5, 6, 7].map(|n| pod(n, &format!("10.200.0.{n}"))).concat();
    says_with(&format!("[maps]\npods = 4\n{pods}"), &[]);
    says_with(
        &format!("[maps]\npods = 3\n{pods}"),
        &["15:8 maps.pods: this file needs 4 entries where the maps have 3; set maps.pods = 4 or more"],
    );
    // The node's address, gateway and CIDR, the peer's address and CIDR.
    says_with("[maps]\nroutes = 5\n", &[]);
    says_with(
        "[maps]\nroutes = 4\n",
        &["15:10 maps.routes: this file needs 5 entries where the maps have 4; set maps.routes = 5 or more"],
    );
    let other = PEER
        .replace("worker-1", "worker-2")
        .replace(".21", ".22")
        .replace("200.1.", "200.2.")
        .replace(":1:", ":2:");
    says_with(
        &format!("[maps]\npeers = 1\n{other}"),
        &["15:9 maps.peers: this file needs 2 entries where the maps have 1; set maps.peers = 2 or more"],
    );
    says_with(
        "[maps]\nsources = 1\n[[pod]]\nname = \"a\"\nnetns = \"/a\"\nip = [\"10.200.0.9\"]\n\
               allowed-sources = [\"192.0.2.0/24\", \"198.51.100.0/24\", \"2001:db8::/64\"]\n",
        &[
            "15:11 maps.sources: this file needs 2 entries where the maps have 1; set maps.sources = 2 or more",
        ],
    );
    // With the default sizes, too.
    let many = (0..1025).map(|n| pod(n, &format!("fd00:10:200::f:{n:x}"))).collect::<Vec<_>>().concat();
    says_with(
        &many,
        &["10:1 pod[0]: this file needs 1026 entries where the maps have 1024; set maps.pods = 1026 or more"],
    );
}
