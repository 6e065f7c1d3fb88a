//! Addresses and ports at which services are called.

use super::*;

#[test]
fn addresses() {
    for (address, expected) in [
        (
            "10.200.1.9",
            "10.200.1.9 is in a pod CIDR of worker-1; services need addresses that no pod can have",
        ),
        (
            "10.200.0.1",
            "10.200.0.1 is in a pod CIDR of worker-0; services need addresses that no pod can have",
        ),
        (
            "10.240.0.21",
            "10.240.0.21 is an address of worker-1; a service needs one of its own, or a node-port",
        ),
        ("169.254.1.1", "169.254.1.1 is a link-local address, which no host can be reached at"),
    ] {
        service_says("10.32.0.10", address, &[&format!("16:15 service[0].cluster-ip[0]: {expected}")]);
    }
    // Any node's address may be external.
    service_says("cluster-ip", "external-ip = [\"10.240.0.20\", \"10.240.0.21\"]\ncluster-ip", &[]);
}

#[test]
fn within_one_service_each_is_given_once() {
    service_says(
        "cluster-ip",
        "external-ip = [\"10.32.0.10\"]\ncluster-ip",
        &[
            "16:16 service[0].external-ip[0]: 10.32.0.10:53/UDP is at service[0].cluster-ip[0] (line 17) already",
        ],
    );
    let port = "[[service.port]]\nprotocol = \"UDP\"\nport = 53\n";
    says_with(
        &format!("{SERVICE}{port}"),
        &["28:8 service[0].port[1].port: the same protocol and port as service[0].port[0].port (line 20)"],
    );
    says_with(&format!("{SERVICE}{}", port.replace("UDP", "TCP")), &[]);
    let port = port.replace("53", "54");
    says_with(
        &format!("{SERVICE}{port}node-port = 30053\n"),
        &[
            "29:13 service[0].port[1].node-port: 10.240.0.20:30053/UDP is at service[0].port[0].node-port (line 21) already",
        ],
    );
    says_with(
        &format!("{SERVICE}{port}name = \"dns\"\n"),
        &["29:8 service[0].port[1].name: the same name as service[0].port[0].name (line 18)"],
    );
}

#[test]
fn of_two_services_the_first_by_name_has_it() {
    let other = SERVICE.replace("kube-system/dns", "a/dns").replace("5353", "5300");
    assert_eq!(
        warnings(&format!("{SERVICE}{other}")),
        [
            "16:15 service[0].cluster-ip[0]: 10.32.0.10:53/UDP is \"a/dns\"'s, by service[1].cluster-ip[0] (line 28), as \
             its name sorts first; \"kube-system/dns\" is not reached there",
            "16:29 service[0].cluster-ip[1]: [fd00:10:32::a]:53/UDP is \"a/dns\"'s, by service[1].cluster-ip[1] (line 28), \
             as its name sorts first; \"kube-system/dns\" is not reached there",
            "21:13 service[0].port[0].node-port: 10.240.0.20:30053/UDP is \"a/dns\"'s, by \
             service[1].port[0].node-port (line 33), as its name sorts first; \"kube-system/dns\" is not reached there",
        ]
    );
    says_with(
        &format!("{SERVICE}{SERVICE}"),
        &["27:8 service[1].name: the same name as service[0].name (line 15)"],
    );
}

#[test]
fn ports_of_the_node_itself() {
    service_says(
        "30053",
        "61000",
        &[
            "21:13 service[0].port[0].node-port: 61000 is among the ports to masquerade with, 61000-65535, by default",
        ],
    );
    service_says(
        "30053",
        "8472",
        &["21:13 service[0].port[0].node-port: 8472 is VXLAN's own port, overlay.port"],
    );
    says_with(
        &format!("[masquerade]\nports = \"30000-32000\"\n{SERVICE}"),
        &["23:13 service[0].port[0].node-port: 30053 is among the ports to masquerade with, 30000-32000, \
           masquerade.ports (line 15)"],
    );
    says_with(&format!("[masquerade]\nports = \"30000-30052\"\n{SERVICE}"), &[]);
}

#[test]
fn a_service_that_nobody_can_call() {
    let service = SERVICE.replace("cluster-ip = [\"10.32.0.10\", \"fd00:10:32::a\"]\n", "");
    assert_eq!(
        warnings(&service.replace("node-port = 30053\n", "")),
        ["14:1 service[0]: no address and no node port: nobody can call it"]
    );
    assert_eq!(warnings(&service), [""; 0]);
}

#[test]
fn source_ranges() {
    service_says(
        "cluster-ip",
        "source-ranges = [\"192.0.2.0/24\"]\ncluster-ip",
        &[
            "16:17 service[0].source-ranges: only addresses of load-balancer-ip have source ranges, and there are none",
        ],
    );
    let with = |ranges: &str| {
        format!(
            "load-balancer-ip = [\"203.0.113.1\", \"2001:db8::1\"]\nsource-ranges = [{ranges}]\ncluster-ip"
        )
    };
    service_says(
        "cluster-ip",
        &with("\"192.0.2.0/24\""),
        &[
            "16:36 service[0].load-balancer-ip[1]: no IPv6 prefix in service[0].source-ranges (line 17), so nobody could call \
           it; to let everyone in, add \"::/0\"",
        ],
    );
    service_says("cluster-ip", &with("\"192.0.2.0/24\", \"192.0.0.0/16\", \"::/0\", \"192.0.2.0/24\""), &[]);
    service_says(
        "cluster-ip",
        &with("\"192.0.2.1/24\", \"::/0\""),
        &[
            "17:18 service[0].source-ranges[0]: 192.0.2.1/24 has host bits set; did you mean \"192.0.2.0/24\"?",
        ],
    );
}

#[test]
fn health_checks() {
    let with =
        |more: &str| SERVICE.replace("cluster-ip", &format!("health-check-node-port = {more}\ncluster-ip"));
    says_with(
        &with("31000"),
        &[
            "16:26 service[0].health-check-node-port: of use with external-traffic-policy = \"Local\" only: otherwise every \
           node has endpoints",
        ],
    );
    let local = "31000\nexternal-traffic-policy = \"Local\"";
    says_with(&with(local), &[]);
    let tcp = with(&local.replace("31000", "30053")).replace("UDP", "TCP");
    says_with(&tcp, &["16:26 service[0].health-check-node-port: 30053 is a node port too"]);
    let other = with(local).replace("kube-system/dns", "b").replace("30053", "30054").replace("32", "33");
    says_with(
        &format!("{}{other}", with(local)),
        &[
            "30:26 service[1].health-check-node-port: the same port as service[0].health-check-node-port (line 16)",
        ],
    );
}

/// A pod with these host ports, from line 14 on.
fn pod(host_ports: &str) -> String {
    format!("[[pod]]\nname = \"a\"\nnetns = \"/a\"\nip = [\"10.200.0.9\"]\nhost-port = [{host_ports}]\n")
}

#[test]
fn host_ports() {
    says_with(&pod("{ port = 80, host-port = 8080 }"), &[]);
    says_with(&pod("{ port = 80 }"), &["18:14 pod[1].host-port[0].host-port: missing"]);
    says_with(
        &pod("{ port = 80, host-port = 80 }, { port = 81, host-port = 80 }"),
        &[
            "18:70 pod[1].host-port[1].host-port: the same protocol and host port as pod[1].host-port[0].host-port (line 18)",
        ],
    );
    says_with(
        &pod("{ port = 80, host-port = 80, host-ip = [\"fd00::1\"] }"),
        &["18:54 pod[1].host-port[0].host-ip[0]: of a family in which the pod has no address"],
    );
    says_with(
        &pod("{ port = 80, host-port = 61000 }"),
        &[
            "18:39 pod[1].host-port[0].host-port: 61000 is among the ports to masquerade with, 61000-65535, by default",
        ],
    );
    let service = SERVICE.replace("UDP", "TCP");
    assert_eq!(
        warnings(&format!("{service}{}", pod("{ port = 80, host-port = 30053 }"))),
        ["30:39 pod[1].host-port[0].host-port: 10.240.0.20:30053/TCP is \"kube-system/dns\"'s, by \
          service[0].port[0].node-port (line 21), as its name sorts first; \"a\" is not reached there"]
    );
}

#[test]
fn node_port_addresses() {
    let with = |list: &str| NODE.replace("pod-cidr", &format!("node-port-address = [{list}]\npod-cidr"));
    let of = |list: &str| said(&[&with(list), PEER].concat());
    assert_eq!(of("\"192.0.2.1\""), [""; 0]);
    assert_eq!(of("\"10.240.0.20\", \"192.0.2.1\""), [""; 0]);
    assert_eq!(of(""), ["5:21 node.node-port-address: empty; give at least one"]);
    assert_eq!(
        of("\"10.240.0.21\""),
        ["5:22 node.node-port-address[0]: 10.240.0.21 is a peer's, peer[0].address[0] (line 9)"]
    );
    assert_eq!(
        of("\"10.200.0.9\""),
        [
            "5:22 node.node-port-address[0]: 10.200.0.9 is an address of pods, 10.200.0.0/24 of node.pod-cidr[0] (line 6)"
        ]
    );
}
