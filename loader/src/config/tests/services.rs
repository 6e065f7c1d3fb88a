//! `[[service]]`, `[[pod.host-port]]`, `[masquerade]`, `[services]` and `[conntrack.timeout]`: what is said of wrong ones.

mod backends;
mod desired;
mod frontends;

use super::*;

/// A service without errors, from line 14 on: its name in line 15, its addresses up to line 16, its port up to line 21, its
/// backends in lines 22 and 23.
pub(super) const SERVICE: &str = r#"[[service]]
name = "kube-system/dns"
cluster-ip = ["10.32.0.10", "fd00:10:32::a"]
[[service.port]]
name = "dns"
protocol = "UDP"
port = 53
node-port = 30053
backend = [
  { ip = "10.200.0.4", port = 5353 },
  { ip = "fd00:10:200:1::4", port = 5353 },
]
"#;

/// Asserts what is said when `old` is replaced by `new` in [`SERVICE`].
#[track_caller]
pub(super) fn service_says(old: &str, new: &str, expected: &[&str]) {
    assert!(SERVICE.contains(old), "{old} is not in {SERVICE}");
    says_with(&SERVICE.replacen(old, new, 1), expected);
}

/// What a file without errors, with `more` behind it, is warned of.
#[track_caller]
pub(super) fn warnings(more: &str) -> Vec<String> {
    let config = parse("x.toml", &[NODE, PEER, POD, more].concat()).unwrap();
    config
        .warnings
        .warnings
        .iter()
        .map(|e| format!("{}:{} {}: {}", e.line, e.column, e.key, e.message))
        .collect()
}

#[test]
fn a_right_service() {
    says_with(SERVICE, &[]);
    assert_eq!(warnings(SERVICE), [""; 0]);
}

#[test]
fn keys() {
    service_says(
        "port = 53",
        "prot = 53",
        &["20:1 service[0].port[0].prot: unknown key; did you mean \"port\"?"],
    );
    service_says("name = \"kube-system/dns\"", "", &["14:1 service[0].name: missing"]);
    says_with(
        "[[service]]\nname = \"a\"\n",
        &["14:1 service[0].port: missing; give at least one [[service.port]]"],
    );
    service_says("port = 53\n", "\n", &["17:1 service[0].port[0].port: missing"]);
    service_says("ip = \"10.200.0.4\", ", "", &["23:3 service[0].port[0].backend[0].ip: missing"]);
    service_says(
        "cluster-ip",
        "weight = 1\ncluster-ip",
        &["16:1 service[0].weight: unknown key; \"weight\" belongs in [[service.port.backend]]"],
    );
}

#[test]
fn values() {
    for (old, new, expected) in [
        ("port = 53\n", "port = 0\n", "20:8 service[0].port[0].port: 0 is not from 1 to 65535"),
        ("30053", "0", "21:13 service[0].port[0].node-port: 0 is not from 1 to 65535"),
        ("port = 5353", "port = 0", "23:31 service[0].port[0].backend[0].port: 0 is not from 1 to 65535"),
        (
            "port = 5353",
            "weight = 1001",
            "23:33 service[0].port[0].backend[0].weight: 1001 is not from 0 to 1000",
        ),
        (
            "port = 5353",
            "state = \"redy\"",
            "23:32 service[0].port[0].backend[0].state: \"redy\" is not one of \"ready\", \
             \"serving-terminating\", \"not-ready\"; did you mean \"ready\"?",
        ),
        (
            "\"UDP\"",
            "\"udp\"",
            "19:12 service[0].port[0].protocol: \"udp\" is not one of \"TCP\", \"UDP\", \"SCTP\"; did you mean \"UDP\"?",
        ),
        (
            "cluster-ip",
            "affinity = { client-ip-seconds = 86401 }\ncluster-ip",
            "16:34 service[0].affinity.client-ip-seconds: 86401 is not from 0 to 86400",
        ),
        (
            "cluster-ip",
            "algorithm = \"maglef\"\ncluster-ip",
            "16:13 service[0].algorithm: \"maglef\" is not one of \"maglev\", \"random\"; did you mean \"maglev\"?",
        ),
        (
            "cluster-ip",
            "external-traffic-policy = \"local\"\ncluster-ip",
            "16:27 service[0].external-traffic-policy: \"local\" is not one of \"Cluster\", \"Local\"; did you mean \
             \"Local\"?",
        ),
    ] {
        service_says(old, new, &[expected]);
    }
}

#[test]
fn timeouts_and_echo() {
    for key in ["tcp-syn", "tcp-established", "tcp-closing", "udp", "udp-stream", "icmp", "sctp", "other"] {
        let column = key.len() + 4;
        says_with(
            &format!("[conntrack.timeout]\n{key} = 0\n"),
            &[&format!("15:{column} conntrack.timeout.{key}: 0 is not from 1 to 2592000")],
        );
    }
    says_with(
        "[conntrack]\nudp = 4\n",
        &["15:1 conntrack.udp: unknown key; \"udp\" belongs in [conntrack.timeout]"],
    );
    says_with("[services]\necho = 1\n", &["15:8 services.echo: expected true or false, found an integer"]);
}

#[test]
fn masquerade() {
    says_with("[masquerade]\nenabled = true\n", &[]);
    let not = "is not a range of ports such as 61000-65535";
    for bad in ["65000", "0-5", "9-8", "1-65536", "a-b"] {
        says_with(
            &format!("[masquerade]\nports = \"{bad}\"\n"),
            &[&format!("15:9 masquerade.ports: \"{bad}\" {not}")],
        );
    }
    says_with(
        "[masquerade]\nexclude = [\"10.0.0.0/8\", \"10.0.0.0/8\"]\n",
        &["15:26 masquerade.exclude[1]: the same prefix as masquerade.exclude[0] (line 15)"],
    );
    says_with(
        "[masquerade]\nports = \"8000-9000\"\n",
        &["15:9 masquerade.ports: 8472 is VXLAN's own port, overlay.port"],
    );
    says_with(
        "[overlay]\nport = 62000\n[masquerade]\nenabled = true\nexclude = [\"::/0\"]\n",
        &["15:8 overlay.port: 62000 is among the ports to masquerade with, 61000-65535"],
    );
    let node = NODE.replace("uplink = [\"eth0\"]\n", "");
    assert_eq!(
        said(&[&node, "[overlay]\nmtu = 1450\n[masquerade]\nenabled = true\n"].concat()),
        [
            "1:1 node.uplink: missing; answers to what is masqueraded, masquerade.enabled (line 8), come in by an uplink"
        ]
    );
    assert_eq!(
        warnings("[masquerade]\nenabled = true\n"),
        [
            "15:11 masquerade.enabled: not of IPv6: the node has no IPv6 address to masquerade with, see node.address (line 3)"
        ]
    );
}

#[test]
fn service_cidrs() {
    let with = |cidr: &str| NODE.replace("pod-cidr", &format!("service-cidr = [\"{cidr}\"]\npod-cidr"));
    assert_eq!(said(&with("10.32.0.0/16")), [""; 0]);
    for (cidr, expected) in [
        (
            "10.200.0.0/16",
            "6:13 node.pod-cidr[0]: 10.200.0.0/24 overlaps 10.200.0.0/16 of node.service-cidr[0] (line 5)",
        ),
        (
            "10.240.0.0/24",
            "3:12 node.address[0]: 10.240.0.20 is an address of services, 10.240.0.0/24 of node.service-cidr[0] (line 5)",
        ),
        ("127.0.0.0/8", "5:17 node.service-cidr[0]: 127.0.0.0/8 has host bits set"),
    ] {
        let found = said(&with(cidr));
        if cidr.starts_with("127") {
            assert_eq!(found.len(), 1, "{found:?}");
        } else {
            assert!(found.contains(&expected.to_owned()), "{found:#?}");
        }
    }
}

#[test]
fn capacities_of_services() {
    for (key, need) in [("services", 3), ("frontends", 5), ("backends", 2), ("maglev", 2)] {
        let column = key.len() + 4;
        let short = need - 1;
        says_with(
            &format!("[maps]\n{key} = {short}\n{SERVICE}"),
            &[&format!(
                "15:{column} maps.{key}: this file needs {need} entries where the maps have {short}; set maps.{key} = \
                 {need} or more"
            )],
        );
        says_with(&format!("[maps]\n{key} = {need}\n{SERVICE}"), &[]);
    }
}
