//! `[node]`, `[[peer]]` and `[overlay]`.

use super::*;

#[test]
fn names() {
    let part_of_paths =
        "has other characters than letters, digits, '-', '_' and '.', and it is part of paths";
    says(NODE, "worker-0", "", &["2:8 node.name: empty; a node needs a name"]);
    says(NODE, "worker-0", "a/b", &[&format!("2:8 node.name: {part_of_paths}")]);
    says(NODE, "worker-0", "..", &["2:8 node.name: starts with a dot, and it is part of paths"]);
    says(NODE, "worker-0", "worker-0.example.org", &[]);
    says(NODE, "worker-0", &"x".repeat(254), &["2:8 node.name: longer than 253 characters"]);
    says(POD, "default/nginx", "de fault", &["11:8 pod[0].name: has spaces or control characters"]);
    let long = "x".repeat(240);
    says(
        POD,
        "default/nginx",
        &long,
        &["11:8 pod[0].name: too long; the names of a node and of a pod have 246 bytes together"],
    );
    says(
        PEER,
        "worker-1",
        "worker-0",
        &["7:8 peer[0].name: the node itself, see node.name (line 2); peers are the others"],
    );
}

#[test]
fn addresses() {
    let at = |message: &str| [format!("3:12 node.address[0]: {message}")];
    for (given, message) in [
        ("10.240.0", "\"10.240.0\" is not an IPv4 or IPv6 address"),
        ("10.240.0.20/24", "\"10.240.0.20/24\" is a prefix; give one address, without \"/\""),
        ("0.0.0.0", "0.0.0.0 is the unspecified address, which no host can be reached at"),
        ("224.0.0.1", "224.0.0.1 is a multicast address, which no host can be reached at"),
        ("255.255.255.255", "255.255.255.255 is the broadcast address, which no host can be reached at"),
        ("127.0.0.1", "127.0.0.1 is a loopback address, which no host can be reached at"),
        ("fe80::1", "fe80::1 is a link-local address, which no host can be reached at"),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1 is an IPv4-mapped address, which no host can be reached at"),
    ] {
        says(NODE, "10.240.0.20", given, &at(message).each_ref().map(String::as_str));
    }
    says(
        NODE,
        "\"10.240.0.20\"",
        "\"10.240.0.20\", \"10.240.0.30\"",
        &["3:27 node.address[1]: a second IPv4 address beside node.address[0] (line 3); a node has one"],
    );
    says(NODE, "\"10.240.0.20\"", "\"10.240.0.20\", \"fd00:240::20\"", &[]);
}

#[test]
fn peers_addresses() {
    says(
        PEER,
        "10.240.0.21",
        "fd00:240::21",
        &["8:11 peer[0].address: no address of a family that this node has too, see node.address (line 3)"],
    );
    says(
        PEER,
        "10.240.0.21",
        "10.240.0.20",
        &["8:12 peer[0].address[0]: the same address as node.address[0] (line 3)"],
    );
    says_with(
        &PEER.replace("worker-1", "worker-2").replace("200.1.", "200.2.").replace(":1:", ":2:"),
        &["16:12 peer[1].address[0]: the same address as peer[0].address[0] (line 8)"],
    );
}

#[test]
fn pod_cidrs() {
    let at = |message: &str| [format!("5:13 node.pod-cidr[0]: {message}")];
    for (given, message) in [
        ("10.200.0.5/24", "10.200.0.5/24 has host bits set; did you mean \"10.200.0.0/24\"?"),
        ("10.200.0.0", "\"10.200.0.0\" has no prefix length; for one address write 10.200.0.0/32"),
        ("10.200.0.0/33", "\"10.200.0.0/33\" is not a prefix such as 10.200.0.0/24 or fd00:10:200::/64"),
        ("10.200.0.0/31", "10.200.0.0/31 has no room for a gateway and a pod; /30 is the smallest that has"),
        (
            "0.0.0.0/0",
            "0.0.0.0/0 starts with the unspecified address; pods need addresses that hosts can have",
        ),
        ("ff00::/16", "ff00::/16 starts with a multicast address; pods need addresses that hosts can have"),
    ] {
        says(NODE, "10.200.0.0/24", given, &at(message).each_ref().map(String::as_str));
    }
    says(PEER, "10.200.1.0/24", "10.200.1.7/32", &[]);
}

#[test]
fn overlapping_cidrs() {
    says(
        PEER,
        "10.200.1.0/24",
        "10.200.0.128/25",
        &["9:13 peer[0].pod-cidr[0]: 10.200.0.128/25 overlaps 10.200.0.0/24 of node.pod-cidr[0] (line 5)"],
    );
    says(
        PEER,
        "10.200.1.0/24",
        "10.200.0.0/16",
        &["9:13 peer[0].pod-cidr[0]: 10.200.0.0/16 overlaps 10.200.0.0/24 of node.pod-cidr[0] (line 5)"],
    );
    says(
        PEER,
        "10.200.1.0/24",
        "10.200.0.0/24",
        &["9:13 peer[0].pod-cidr[0]: 10.200.0.0/24 overlaps 10.200.0.0/24 of node.pod-cidr[0] (line 5)"],
    );
    says(
        PEER,
        "fd00:10:200:1::/64",
        "10.200.1.0/25",
        &["9:30 peer[0].pod-cidr[1]: 10.200.1.0/25 overlaps 10.200.1.0/24 of peer[0].pod-cidr[0] (line 9)"],
    );
    says(
        PEER,
        "10.200.1.0/24",
        "10.240.0.0/16",
        &[
            "3:12 node.address[0]: 10.240.0.20 is an address of pods, 10.240.0.0/16 of peer[0].pod-cidr[0] (line 9)",
            "8:12 peer[0].address[0]: 10.240.0.21 is an address of pods, 10.240.0.0/16 of peer[0].pod-cidr[0] (line 9)",
        ],
    );
}

#[test]
fn macs() {
    let syntax = "not a MAC address, which is six pairs of hexadecimal digits with colons between them";
    says(
        NODE,
        "uplink",
        "vtep-mac = \"0a-00\"\nuplink",
        &[&format!("4:12 node.vtep-mac: \"0a-00\" is {syntax}")],
    );
    says(
        PEER,
        "address",
        "vtep-mac = \"01:00:5e:00:00:01\"\naddress",
        &[
            "8:12 peer[0].vtep-mac: \"01:00:5e:00:00:01\" is a multicast MAC address, which no device can have",
        ],
    );
}

#[test]
fn overlay() {
    for (given, message) in [
        ("vni = 16777216", "15:7 overlay.vni: 16777216 is not from 0 to 16777215"),
        ("vni = -1", "15:7 overlay.vni: -1 is not from 0 to 16777215"),
        ("port = 0", "15:8 overlay.port: 0 is not from 1 to 65535"),
        ("port = 65536", "15:8 overlay.port: 65536 is not from 1 to 65535"),
        ("mtu = 1279", "15:7 overlay.mtu: 1279 is less than 1280, which IPv6 pods need at least"),
        ("mtu = 65466", "15:7 overlay.mtu: 65466 is not from 1 to 65465"),
        (
            "mode = \"vxlam\"",
            "15:8 overlay.mode: \"vxlam\" is not one of \"vxlan\", \"direct\"; did you mean \"vxlan\"?",
        ),
    ] {
        says_with(&format!("[overlay]\n{given}\n"), &[message]);
    }
    says_with("[overlay]\nvni = 0\nport = 65535\nmtu = 1280", &[]);
    let ipv4 = NODE.replace(", \"fd00:10:200::/64\"", "");
    assert_eq!(said(&[&ipv4, "[overlay]\nmtu = 576\n"].concat()), [""; 0]);
    assert_eq!(
        said(&[&ipv4, "[overlay]\nmtu = 575\n"].concat()),
        ["7:7 overlay.mtu: 575 is less than 576, which IPv4 pods need at least",]
    );
    assert_eq!(
        said(&[&ipv4, PEER, "[overlay]\nmtu = 1279\n"].concat()),
        ["11:7 overlay.mtu: 1279 is less than 1280, which IPv6 pods need at least"],
    );
    assert_eq!(
        said(&[&ipv4, PEER, "route = \"tunnel\"\n"].concat()),
        ["10:9 peer[0].route: \"tunnel\" is not one of \"overlay\", \"direct\"",]
    );
}

#[test]
fn an_uplink_can_be_left_out_without_peers() {
    let node = NODE.replace("uplink = [\"eth0\"]\n", "");
    assert_eq!(said(&[&node, "[overlay]\nmtu = 1450\n"].concat()), [""; 0]);
}

#[test]
fn how_programs_are_attached_is_one_of_three() {
    for mode in ["auto", "tcx", "clsact"] {
        says_with(&format!("[tc]\nmode = \"{mode}\"\n"), &[]);
    }
    says_with(
        "[tc]\nmode = \"tc\"\n",
        &["15:8 tc.mode: \"tc\" is not one of \"auto\", \"tcx\", \"clsact\"; did you mean \"tcx\"?"],
    );
    says_with("[tc]\nmode = 1\n", &["15:8 tc.mode: expected a string, found an integer"]);
}

#[test]
fn how_xdp_is_used_is_one_of_four() {
    for mode in ["auto", "native", "generic", "off"] {
        says_with(&format!("[xdp]\nmode = \"{mode}\"\n"), &[]);
    }
    says_with(
        "[xdp]\nmode = \"driver\"\n",
        &["15:8 xdp.mode: \"driver\" is not one of \"auto\", \"native\", \"generic\", \"off\""],
    );
    says_with("[xdp]\nmode = true\n", &["15:8 xdp.mode: expected a string, found a boolean"]);
    says_with("[xdp]\nmod = \"off\"\n", &["15:1 xdp.mod: unknown key; did you mean \"mode\"?"]);
}

#[test]
fn sockets_are_one_of_three() {
    for mode in ["off", "tcp", "on"] {
        says_with(&format!("[sockets]\nmode = \"{mode}\"\n"), &[]);
    }
    says_with(
        "[sockets]\nmode = \"tpc\"\n",
        &["15:8 sockets.mode: \"tpc\" is not one of \"off\", \"tcp\", \"on\"; did you mean \"tcp\"?"],
    );
    says_with("[sockets]\nmode = true\n", &["15:8 sockets.mode: expected a string, found a boolean"]);
    says_with(
        "[sockets]\ncgruop = \"/a\"\n",
        &["15:1 sockets.cgruop: unknown key; did you mean \"cgroup\"?"],
    );
    says_with(
        "[sockets]\ncgroup = \"unified\"\n",
        &["15:10 sockets.cgroup: \"unified\" is not an absolute path such as /sys/fs/cgroup"],
    );
    says_with("[maps]\nsockets = 0\n", &["15:11 maps.sockets: 0 is not from 1 to 67108864"]);
}
