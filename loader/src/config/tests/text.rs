//! What is no table, key or value that is known, or no TOML.

use std::path::Path;

use super::*;

#[test]
fn unknown_keys() {
    says(NODE, "pod-cidr", "pod-cdir", &["5:1 node.pod-cdir: unknown key; did you mean \"pod-cidr\"?"]);
    says(NODE, "uplink =", "vni = 2\nuplink =", &["4:1 node.vni: unknown key; \"vni\" belongs in [overlay]"]);
    says(
        POD,
        "ip =",
        "colour = 2\nip =",
        &[
            "13:1 pod[0].colour: unknown key; known here: name, netns, interface, ip, allowed-sources, host-port",
        ],
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
mode = "nativ"
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
            "10:8 xdp.mode: \"nativ\" is not one of \"auto\", \"native\", \"generic\", \"off\"; did you mean \"native\"?",
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
