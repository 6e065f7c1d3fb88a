//! Every rule of the file, by what it says of a file that breaks it.

use std::{fs, path::Path};

use super::*;
use crate::mac;

/// A file without errors, in the parts that a test may replace.
const NODE: &str = r#"[node]
name = "worker-0"
address = ["10.240.0.20"]
uplink = ["eth0"]
pod-cidr = ["10.200.0.0/24", "fd00:10:200::/64"]
"#;
const PEER: &str = r#"[[peer]]
name = "worker-1"
address = ["10.240.0.21"]
pod-cidr = ["10.200.1.0/24", "fd00:10:200:1::/64"]
"#;
const POD: &str = r#"[[pod]]
name = "default/nginx"
netns = "/run/netns/nginx"
ip = ["10.200.0.4", "fd00:10:200::4"]
"#;

/// What is said of `text`: `line:column key: message`, each.
fn said(text: &str) -> Vec<String> {
    let errors = parse("x.toml", text).map_or_else(|invalid| invalid.errors, |_| Vec::new());
    errors.iter().map(|e| format!("{}:{} {}: {}", e.line, e.column, e.key, e.message)).collect()
}

/// Asserts what is said when `old` is replaced by `new` in `part`, which follows the other parts.
#[track_caller]
fn says(part: &str, old: &str, new: &str, expected: &[&str]) {
    assert!(part.contains(old), "{old} is not in {part}");
    let text = [NODE, PEER, POD]
        .map(|known| if known == part { part.replacen(old, new, 1) } else { known.to_owned() });
    assert_eq!(said(&text.concat()), expected, "for {new}");
}

/// Asserts what is said of the file with `more` behind it, from line 14 on.
#[track_caller]
fn says_with(more: &str, expected: &[&str]) {
    assert_eq!(said(&[NODE, PEER, POD, more].concat()), expected, "for {more}");
}

#[test]
fn a_right_file_says_nothing() {
    assert_eq!(said(&[NODE, PEER, POD].concat()), [""; 0]);
    assert_eq!(said(NODE), [""; 0]);
}

#[test]
fn defaults_are_filled_in() {
    let desired = parse("x.toml", &[NODE, PEER, POD].concat()).unwrap().desired;
    assert_eq!(mac::show(desired.node.mac), "0a:00:0a:f0:00:14");
    assert_eq!(desired.node.gateway_device, "podlane0");
    assert_eq!(desired.node.gateway4.unwrap().to_string(), "10.200.0.1");
    assert_eq!(desired.node.gateway6.unwrap().to_string(), "fd00:10:200::1");
    assert_eq!((desired.overlay.vni, desired.overlay.port, desired.overlay.mtu), (1, 8472, None));
    assert_eq!(mac::show(desired.peers[0].vtep_mac), "0a:00:0a:f0:00:15");
    assert!(!desired.peers[0].direct);
    assert_eq!(desired.pods[0].interface, "eth0");
    assert_eq!(desired.capacities, crate::desired::Capacities::default());
}

#[test]
fn what_is_given_is_taken() {
    let more = r#"
[overlay]
mode = "direct"
vni = 0xff_ffff
port = 4789
mtu = 1400
[maps]
pods = 10
peers = 20
routes = 30
sources = 40
[xdp]
mode = "auto"
[masquerade]
enabled = false
exclude = ["10.240.0.0/24"]
ports = "61000-65535"
[[peer]]
name = "worker-0a"
address = ["fd00:240::21", "10.240.0.22"]
vtep-mac = "d2:d8:a1:85:9e:38"
pod-cidr = ["10.200.2.0/24"]
route = "overlay"
[[pod]]
name = "default/a"
netns = "/run/netns/a"
interface = "net1"
ip = ["10.200.0.5"]
allowed-sources = ["192.0.2.0/24"]
"#;
    let node = NODE.replace("[node]", "[node]\nvtep-mac = \"02:00:00:00:00:01\"\ngateway = \"gw0\"");
    let desired = parse("x.toml", &[&node, PEER, POD, more].concat()).unwrap().desired;
    assert_eq!(mac::show(desired.node.mac), "02:00:00:00:00:01");
    assert_eq!(desired.node.gateway_device, "gw0");
    assert_eq!(
        (desired.overlay.vni, desired.overlay.port, desired.overlay.mtu),
        (0xff_ffff, 4789, Some(1400))
    );
    let names: Vec<_> = desired.peers.iter().map(|peer| (peer.name.as_str(), peer.direct)).collect();
    assert_eq!(
        names,
        [("worker-0a", false), ("worker-1", true)],
        "sorted, and the mode is for those without a route"
    );
    assert_eq!(
        desired.peers[0].underlay.to_string(),
        "10.240.0.22",
        "the first of a family that the node has"
    );
    assert_eq!(mac::show(desired.peers[0].vtep_mac), "d2:d8:a1:85:9e:38");
    let names: Vec<_> = desired.pods.iter().map(|pod| (pod.name.as_str(), pod.interface.as_str())).collect();
    assert_eq!(names, [("default/a", "net1"), ("default/nginx", "eth0")]);
    assert_eq!(desired.pods[0].allowed_sources[0].to_string(), "192.0.2.0/24");
    let sizes = desired.capacities;
    assert_eq!((sizes.pods, sizes.peers, sizes.routes, sizes.sources), (10, 20, 30, 40));
}

#[test]
fn equal_files_give_equal_states() {
    let other = PEER
        .replace("worker-1", "worker-2")
        .replace(".21", ".22")
        .replace("200.1.", "200.2.")
        .replace(":1:", ":2:");
    let one = parse("x.toml", &[NODE, PEER, &other].concat()).unwrap().desired;
    let two = parse("x.toml", &[NODE, &other, PEER].concat()).unwrap().desired;
    assert_eq!(one, two);
}

#[test]
fn unknown_keys() {
    says(NODE, "pod-cidr", "pod-cdir", &["5:1 node.pod-cdir: unknown key; did you mean \"pod-cidr\"?"]);
    says(NODE, "uplink =", "vni = 2\nuplink =", &["4:1 node.vni: unknown key; \"vni\" belongs in [overlay]"]);
    says(
        POD,
        "ip =",
        "colour = 2\nip =",
        &["13:1 pod[0].colour: unknown key; known here: name, netns, interface, ip, allowed-sources"],
    );
    says(NODE, "uplink", "uplinks", &["4:1 node.uplinks: unknown key; did you mean \"uplink\"?"]);
    says(NODE, "[node]", "[nod]", &["1:2 nod: unknown key; did you mean \"node\"?"]);
    says_with("[overlai]\n", &["14:2 overlai: unknown key; did you mean \"overlay\"?"]);
    says_with("[[peers]]\n", &["14:3 peers: unknown key; did you mean \"peer\"?"]);
}

#[test]
fn missing_keys() {
    assert_eq!(said(""), ["1:1 node: missing; give a table [node]"]);
    assert_eq!(
        said("[node]\n"),
        [
            "1:1 node.address: missing",
            "1:1 node.name: missing",
            "1:1 node.pod-cidr: missing",
            "1:1 node.uplink: missing; without an uplink to derive the MTU from, overlay.mtu is needed"
        ]
    );
    says(
        NODE,
        "uplink = [\"eth0\"]\n",
        "",
        &["1:1 node.uplink: missing; peer[0] (line 5) is reached by an uplink"],
    );
    says(PEER, "name = \"worker-1\"\n", "", &["6:1 peer[0].name: missing"]);
    says(PEER, "address = [\"10.240.0.21\"]\n", "", &["6:1 peer[0].address: missing"]);
    says(PEER, "pod-cidr", "#", &["6:1 peer[0].pod-cidr: missing"]);
    says(POD, "netns = \"/run/netns/nginx\"\n", "", &["10:1 pod[0].netns: missing"]);
    says(POD, "ip =", "#", &["10:1 pod[0].ip: missing"]);
    says(
        POD,
        "ip = [\"10.200.0.4\", \"fd00:10:200::4\"]",
        "ip = []",
        &["13:6 pod[0].ip: empty; give at least one"],
    );
}

#[test]
fn wrong_types() {
    says(
        NODE,
        "[\"eth0\"]",
        "\"eth0\"",
        &["4:10 node.uplink: expected a list, found a string; put it in [ ]"],
    );
    says(NODE, "\"worker-0\"", "7", &["2:8 node.name: expected a string, found an integer"]);
    says(NODE, "[\"eth0\"]", "[\"eth0\", 1]", &["4:19 node.uplink[1]: expected a string, found an integer"]);
    says(PEER, "[[peer]]", "[peer]", &["6:1 peer: expected [[peer]], once each, found a table"]);
    says(NODE, "[node]", "[[node]]", &["1:1 node: expected one table [node], found a list"]);
    says_with(
        "[overlay]\nvni = \"1\"",
        &["15:7 overlay.vni: expected an integer from 0 to 16777215, found a string"],
    );
    says_with(
        "[masquerade]\nenabled = 1",
        &["15:11 masquerade.enabled: expected true or false, found an integer"],
    );
}

#[test]
fn text_that_is_no_toml() {
    says(NODE, "name = \"worker-0\"", "name = \"a\"\nname = \"b\"", &["3:1 : duplicate key \"name\""]);
    says_with("[overlay]\nvni =\n", &["15:6 : no value"]);
    says_with("[node]\n", &["14:2 : duplicate key \"node\""]);
    let found = said(&NODE.replace("\"worker-0\"", "\"worker-0"));
    assert!(found.iter().any(|line| line.starts_with("2:")), "{found:?}");
}

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
fn later_features_are_refused() {
    for mode in ["native", "generic"] {
        says_with(
            &format!("[xdp]\nmode = \"{mode}\"\n"),
            &[
                "15:8 xdp.mode: not supported by this release, which works at TC only; write \"auto\" or \"off\"",
            ],
        );
    }
    for mode in ["auto", "off"] {
        says_with(&format!("[xdp]\nmode = \"{mode}\"\n"), &[]);
    }
    says_with(
        "[masquerade]\nenabled = true\n",
        &[
            "15:11 masquerade.enabled: not supported by this release; write false and masquerade by other means",
        ],
    );
    says_with(
        "[masquerade]\nports = \"65000\"\n",
        &[
            "14:1 masquerade.enabled: missing",
            "15:9 masquerade.ports: \"65000\" is not a range of ports such as 61000-65535",
        ],
    );
    let service = "services are not supported by this release; take this [[service]] out";
    says_with(
        "[[service]]\nname = \"dns\"\n[[service]]\n",
        &[&format!("14:1 service[0]: {service}"), &format!("16:1 service[1]: {service}")],
    );
}

#[test]
fn capacities() {
    says_with("[maps]\npods = 0\n", &["15:8 maps.pods: 0 is not from 1 to 1048576"]);
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

#[test]
fn every_error_is_reported() {
    let text = r#"[node]
nmae = "worker-0"
address = ["10.240.0.20", "10.240.0"]
uplink = "eth0"
pod-cidr = ["10.200.0.1/24"]
[overlay]
vni = 99999999
vni = 2
[xdp]
mode = "native"
[[peer]]
name = "worker-1"
address = ["10.240.0.20"]
pod-cidr = ["10.200.1.0/24"]
rout = "direct"
"#;
    assert_eq!(
        said(text),
        [
            "2:1 node.nmae: unknown key; did you mean \"name\"?",
            "3:27 node.address[1]: \"10.240.0\" is not an IPv4 or IPv6 address",
            "4:10 node.uplink: expected a list, found a string; put it in [ ]",
            "5:13 node.pod-cidr[0]: 10.200.0.1/24 has host bits set; did you mean \"10.200.0.0/24\"?",
            "7:7 overlay.vni: 99999999 is not from 0 to 16777215",
            "8:1 : duplicate key \"vni\"",
            "10:8 xdp.mode: not supported by this release, which works at TC only; write \"auto\" or \"off\"",
            "13:12 peer[0].address[0]: the same address as node.address[0] (line 3)",
            "15:1 peer[0].rout: unknown key; did you mean \"route\"?",
        ]
    );
}

/// Whatever people type, and wherever an editor has cut it off: an answer, and places that exist.
#[test]
fn no_text_is_too_bad() {
    let whole = [NODE, PEER, POD, "[overlay]\nmtu = 1400 # ä\n"].concat();
    let lines = |text: &str| text.lines().count().max(1) + 1;
    let answered = |text: &str| {
        if let Err(Invalid { errors, .. }) = parse("x.toml", text) {
            assert!(!errors.is_empty(), "{text}");
            let places =
                errors.iter().all(|error| (1..=lines(text)).contains(&error.line) && error.column > 0);
            assert!(places, "{text}\n{errors:?}");
        }
    };
    for (at, letter) in whole.char_indices() {
        let (before, rest) = whole.split_at(at);
        let after = &rest[letter.len_utf8()..];
        answered(before);
        answered(rest);
        for other in ["", "\"", "[", "]", "=", "\n", "\r\n", "\t", "é", "\0", "#", "{", "9"] {
            answered(&[before, other, after].concat());
        }
    }
    assert_eq!(said(&whole.replace('\n', "\r\n")), [""; 0]);
    assert_eq!(said(&format!("\u{feff}{whole}")), [""; 0]);
}

#[test]
fn a_file_that_is_not_there() {
    let error = load(Path::new("/nowhere/x.toml")).unwrap_err().to_string();
    assert!(error.starts_with("cannot read the configuration /nowhere/x.toml: No such file"), "{error}");
}

#[test]
fn examples_are_right() {
    let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let mut seen = 0;
    for entry in fs::read_dir(examples).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "toml") {
            seen += 1;
            if let Err(error) = load(&path) {
                panic!("{error}");
            }
        }
    }
    assert!(seen >= 4);
}
