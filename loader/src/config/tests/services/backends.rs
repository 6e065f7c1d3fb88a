//! `[[service.port.backend]]`.

use super::*;

/// [`SERVICE`] with the first backend of these keys.
#[track_caller]
fn backend_says(keys: &str, expected: &[&str]) {
    service_says("ip = \"10.200.0.4\", port = 5353", keys, expected);
}

#[test]
fn places() {
    for (keys, expected) in [
        ("ip = \"10.200.0.4\", node = \"worker-0\"", None),
        ("ip = \"10.200.0.9\", node = \"worker-0\"", None),
        ("ip = \"10.240.0.20\", node = \"worker-0\"", None),
        ("ip = \"10.240.0.21\", node = \"worker-1\"", None),
        (
            "ip = \"10.200.0.4\", node = \"worker-1\"",
            Some("23:31 #.node: 10.200.0.4 is an address of worker-0, not of worker-1"),
        ),
        (
            "ip = \"10.200.0.4\", node = \"worker-2\"",
            Some("23:31 #.node: \"worker-2\" is neither this node nor a peer; did you mean \"worker-"),
        ),
        (
            "ip = \"192.0.2.1\", node = \"worker-0\"",
            Some("23:10 #.ip: 192.0.2.1 is neither a pod's address of worker-0, nor its own"),
        ),
        (
            "ip = \"10.200.0.1\"",
            Some("23:10 #.ip: 10.200.0.1 is the gateway's, the first address of node.pod-cidr[0] (line 5)"),
        ),
        (
            "ip = \"10.200.0.0\"",
            Some("23:10 #.ip: 10.200.0.0 is the network's own address of node.pod-cidr[0] (line 5)"),
        ),
        (
            "ip = \"10.32.0.10\"",
            Some("23:10 #.ip: 10.32.0.10 is the address of a service; give those that answer for it"),
        ),
        (
            "ip = \"127.0.0.1\"",
            Some("23:10 #.ip: 127.0.0.1 is a loopback address, which no host can be reached at"),
        ),
    ] {
        let text = [NODE, PEER, POD, &SERVICE.replace("ip = \"10.200.0.4\", port = 5353", keys)].concat();
        let found = said(&text);
        match expected.map(|it| it.replace('#', "service[0].port[0].backend[0]")) {
            None => assert_eq!(found, [""; 0], "{keys}"),
            Some(expected) => {
                assert!(found.len() == 1 && found[0].starts_with(&expected), "{keys}: {found:#?}");
            }
        }
    }
}

#[test]
fn outside_of_the_cluster_is_warned_of() {
    let service = SERVICE.replace("10.200.0.4", "192.0.2.1");
    assert_eq!(
        warnings(&service),
        [
            "23:10 service[0].port[0].backend[0].ip: 192.0.2.1 is in no pod CIDR and no node's address: reached as outside \
          of the cluster, from this node's address"
        ]
    );
}

#[test]
fn in_a_service_cidr() {
    let node = NODE.replace("pod-cidr", "service-cidr = [\"10.32.0.0/16\"]\npod-cidr");
    let service = SERVICE.replace("10.200.0.4", "10.32.9.9");
    assert_eq!(
        said(&[&node, PEER, POD, &service].concat()),
        [
            "24:10 service[0].port[0].backend[0].ip: 10.32.9.9 is in node.service-cidr[0] (line 5), which has addresses of \
          services"
        ]
    );
}

#[test]
fn families() {
    service_says(
        ", \"fd00:10:32::a\"",
        "",
        &[
            "24:10 service[0].port[0].backend[1].ip: fd00:10:200:1::4 is never called: the service has no IPv6 address",
        ],
    );
    // A family without backends is one that rejects.
    service_says("  { ip = \"fd00:10:200:1::4\", port = 5353 },\n", "", &[]);
    // With node ports alone the backends say which families there are.
    service_says("cluster-ip = [\"10.32.0.10\", \"fd00:10:32::a\"]", "", &[]);
}

#[test]
fn duplicates() {
    backend_says(
        "ip = \"fd00:10:200:1::4\", port = 5353",
        &[
            "24:10 service[0].port[0].backend[1].ip: the same address and port as service[0].port[0].backend[0].ip (line 23)",
        ],
    );
    // The service's port is the one of a backend that gives none.
    let twice = "ip = \"10.200.0.4\", port = 53 },\n  { ip = \"10.200.0.4\"";
    backend_says(
        twice,
        &[
            "24:10 service[0].port[0].backend[1].ip: the same address and port as service[0].port[0].backend[0].ip (line 23)",
        ],
    );
    backend_says("ip = \"10.200.0.4\", port = 52 },\n  { ip = \"10.200.0.4\"", &[]);
}

#[test]
fn sctp_keeps_its_ports() {
    let why = "not 53: of SCTP only addresses are translated, so its ports are the same on both sides";
    let sctp = SERVICE.replace("UDP", "SCTP");
    says_with(
        &sctp,
        &[
            &format!("21:13 service[0].port[0].node-port: {why}"),
            &format!("23:31 service[0].port[0].backend[0].port: {why}"),
            &format!("24:37 service[0].port[0].backend[1].port: {why}"),
        ],
    );
    says_with(&sctp.replace("5353", "53").replace("30053", "53"), &[]);
    let pod = "[[pod]]\nname = \"a\"\nnetns = \"/a\"\nip = [\"10.200.0.9\"]\n\
               host-port = [{ protocol = \"SCTP\", port = 53, host-port = 54 }]\n";
    says_with(pod, &[&format!("18:58 pod[1].host-port[0].host-port: {why}")]);
}

#[test]
fn as_many_as_the_largest_table_has_room_for() {
    let backends = |count: u16, more: &str| {
        let one = |n| format!("{{ ip = \"10.200.{}.4\", port = {}{more} }},", n % 2, 1000 + n);
        (0..count).map(one).collect::<Vec<_>>().concat()
    };
    let service = |backends: &str| {
        SERVICE.replace("  { ip = \"10.200.0.4\", port = 5353 },\n", backends).replace("kube-system", "a")
    };
    says_with(&service(&backends(1023, "")), &[]);
    says_with(
        &service(&backends(1024, "")),
        &["17:1 service[0].port[0]: 1024 IPv4 backends; a port of a service has 1023 at most"],
    );
    let random =
        |backends: &str| service(backends).replace("cluster-ip", "algorithm = \"random\"\ncluster-ip");
    says_with(&random(&backends(1023, ", weight = 1000")), &[]);
    let heavy = backends(100, ", weight = 997") + "{ ip = \"10.200.1.5\", weight = 1 },";
    says_with(
        &random(&heavy),
        &[
            "18:1 service[0].port[0]: the weights of its IPv4 backends add up to 99701 in lowest terms, and 65521 is the \
           most that a table has; give smaller ones, or algorithm = \"maglev\"",
        ],
    );
}
