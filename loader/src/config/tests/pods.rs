//! `[[pod]]`.

use super::*;

#[test]
fn duplicates() {
    let more = PEER.replace(".21", ".22").replace("200.1.", "200.2.").replace(":1:", ":2:");
    says_with(&more, &["15:8 peer[1].name: the same name as peer[0].name (line 7)"]);
    says_with(
        &POD.replace("nginx", "other"),
        &[
            "17:7 pod[1].ip[0]: the same address as pod[0].ip[0] (line 13)",
            "17:21 pod[1].ip[1]: the same address as pod[0].ip[1] (line 13)",
        ],
    );
    let more = POD.replace("0.4", "0.5").replace("::4", "::5").replace("default/nginx", "default/other");
    says_with(&more, &["16:9 pod[1].netns: the same namespace and interface as pod[0].netns (line 12)"]);
    says_with(&more.replace("ip =", "interface = \"eth1\"\nip ="), &[]);
    says(
        NODE,
        "[\"eth0\"]",
        "[\"eth0\", \"eth0\"]",
        &["4:19 node.uplink[1]: the same device as node.uplink[0] (line 4)"],
    );
    says(
        POD,
        "ip =",
        "allowed-sources = [\"192.0.2.0/24\", \"192.0.2.0/24\"]\nip =",
        &["13:36 pod[0].allowed-sources[1]: the same prefix as pod[0].allowed-sources[0] (line 13)"],
    );
}

#[test]
fn pods_addresses() {
    for (given, message) in [
        ("10.201.0.4", "10.201.0.4 is outside the node's pods, node.pod-cidr (line 5)"),
        ("10.200.0.1", "10.200.0.1 is the gateway's, the first address of node.pod-cidr[0] (line 5)"),
        ("10.200.0.0", "10.200.0.0 is the network's own address of node.pod-cidr[0] (line 5)"),
        ("10.200.0.255", "10.200.0.255 is the broadcast address of node.pod-cidr[0] (line 5)"),
    ] {
        says(POD, "10.200.0.4", given, &[&format!("13:7 pod[0].ip[0]: {message}")]);
    }
    for (given, message) in [
        ("fd00:10:200::1", "fd00:10:200::1 is the gateway's, the first address of node.pod-cidr[1] (line 5)"),
        ("fd00:10:200::", "fd00:10:200:: is the network's own address of node.pod-cidr[1] (line 5)"),
    ] {
        says(POD, "fd00:10:200::4", given, &[&format!("13:21 pod[0].ip[1]: {message}")]);
    }
    // Of a second CIDR of the family the first address is any pod's.
    let node = NODE.replace("10.200.0.0/24", "10.200.9.0/24\", \"10.200.0.0/24");
    assert_eq!(said(&[&node, PEER, &POD.replace("10.200.0.4", "10.200.0.1")].concat()), [""; 0]);
}

#[test]
fn devices() {
    let limit = "\"eth0-is-too-long\" is longer than 15 characters, the kernel's limit";
    says(NODE, "eth0", "eth0-is-too-long", &[&format!("4:11 node.uplink[0]: {limit}")]);
    for bad in ["a/b", "a b", "a:b"] {
        let message = format!("\"{bad}\" has a space, '/', ':' or '%', which no device name can have");
        says(NODE, "eth0", bad, &[&format!("4:11 node.uplink[0]: {message}")]);
    }
    says(
        NODE,
        "eth0",
        "podlane0",
        &["4:11 node.uplink[0]: \"podlane0\" is the gateway device, which the loader makes"],
    );
    says(
        POD,
        "ip =",
        "interface = \"lo\"\nip =",
        &["13:13 pod[0].interface: every network namespace has its \"lo\" already; give another name"],
    );
    says(
        POD,
        "/run/netns/nginx",
        "nginx",
        &["12:9 pod[0].netns: \"nginx\" is not an absolute path such as /run/netns/nginx"],
    );
}
