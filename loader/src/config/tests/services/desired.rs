//! What right services ask for.

use super::*;
use crate::desired::{
    Desired,
    services::{Candidates, Family, Kind, Owner, Placement, Protocol, ServicePort, State},
};

fn desired(more: &str) -> Desired {
    parse("x.toml", &[NODE, PEER, POD, more].concat()).unwrap().desired
}

/// Kinds with their frontends, in words.
fn frontends(port: &ServicePort) -> Vec<String> {
    let show = |(ip, port): &(std::net::IpAddr, u16)| format!(" {}", std::net::SocketAddr::new(*ip, *port));
    let exposures = port.exposures.iter();
    exposures
        .map(|it| it.kind.name().to_owned() + &it.frontends.iter().map(show).collect::<String>())
        .collect()
}

#[test]
fn a_service_port_per_family() {
    let desired = desired(SERVICE);
    let [v4, v6] = desired.services.as_slice() else { panic!("{:?}", desired.services) };
    let key = |family| (Owner::Service, "kube-system/dns", Protocol::Udp, 53, family);
    assert_eq!((v4.key(), v6.key()), (key(Family::V4), key(Family::V6)));
    assert_eq!(v4.port_name.as_deref(), Some("dns"));
    assert_eq!(frontends(v4), ["ClusterIP 10.32.0.10:53", "NodePort 10.240.0.20:30053"]);
    assert_eq!(frontends(v6), ["ClusterIP [fd00:10:32::a]:53"], "the node has no IPv6 address");
    assert_eq!((v4.endpoints.len(), v6.endpoints.len()), (1, 1));
    let endpoint = &v4.endpoints[0];
    assert_eq!((endpoint.address.to_string().as_str(), endpoint.port), ("10.200.0.4", 5353));
    assert_eq!((endpoint.placement, endpoint.node.as_deref()), (Placement::Local, Some("worker-0")));
    assert_eq!((endpoint.weight, endpoint.state), (1, State::Ready));
    assert_eq!(
        (v6.endpoints[0].placement, v6.endpoints[0].node.as_deref()),
        (Placement::Remote, Some("worker-1"))
    );
    assert_eq!(v4.exposures[0].inside, Candidates::Endpoints(vec![0]));
    let addresses: Vec<_> = desired.service_addresses().into_iter().map(|ip| ip.to_string()).collect();
    assert_eq!(addresses, ["10.32.0.10", "fd00:10:32::a"]);
    assert!(desired.echo && desired.health_checks.is_empty());
}

#[test]
fn every_kind_of_frontend() {
    let service = SERVICE.replace(
        "cluster-ip",
        "external-ip = [\"10.240.0.20\", \"198.51.100.7\"]\nload-balancer-ip = [\"203.0.113.1\"]\n\
         source-ranges = [\"10.240.0.0/25\", \"10.240.0.128/25\", \"10.240.0.7/32\", \"192.0.2.0/24\"]\n\
         external-traffic-policy = \"Local\"\nhealth-check-node-port = 31000\ncluster-ip",
    );
    let desired = desired(&service);
    let v4 = &desired.services[0];
    assert_eq!(
        frontends(v4),
        [
            "ClusterIP 10.32.0.10:53",
            "ExternalIP 10.240.0.20:53 198.51.100.7:53",
            "LoadBalancer 203.0.113.1:53",
            "NodePort 10.240.0.20:30053"
        ]
    );
    let local: Vec<_> = v4.exposures.iter().map(|it| (it.inside_local, it.outside_local)).collect();
    assert_eq!(local, [(false, false), (false, true), (false, true), (false, true)]);
    let ranges: Vec<_> = v4.exposures.iter().map(|it| it.source_ranges.len()).collect();
    assert_eq!(ranges, [0, 0, 3, 0], "of the load balancer only");
    let ranges: Vec<_> = v4.exposures[2].source_ranges.iter().map(ToString::to_string).collect();
    assert_eq!(
        ranges,
        ["10.200.0.1/32", "10.240.0.0/24", "192.0.2.0/24"],
        "merged, and the node as it calls"
    );
    let check = &desired.health_checks[0];
    assert_eq!((check.service.as_str(), check.port, check.local_endpoints), ("kube-system/dns", 31000, 1));
    let addresses: Vec<_> = desired.service_addresses().into_iter().map(|ip| ip.to_string()).collect();
    assert_eq!(addresses, ["10.32.0.10", "198.51.100.7", "203.0.113.1", "fd00:10:32::a"], "none of a node's");
}

/// What other nodes are called with is answered by this node's endpoints alone.
#[test]
fn direct_server_return() {
    let service = SERVICE
        .replace("cluster-ip", "forwarding-mode = \"dsr\"\nexternal-ip = [\"198.51.100.7\"]\ncluster-ip");
    let handed_on = |it: &Desired| {
        let v4 = &it.services[0];
        let dsr: Vec<_> = v4.exposures.iter().map(|it| (it.kind.name(), it.dsr)).collect();
        (dsr, frontends(v4).pop().unwrap(), v4.exposures.last().unwrap().outside.clone())
    };
    let (dsr, others, outside) = handed_on(&desired(&service));
    assert_eq!(dsr, [("ClusterIP", false), ("ExternalIP", true), ("NodePort", true), ("DSR", false)]);
    assert_eq!(others, "DSR 10.240.0.21:30053 198.51.100.7:53");
    assert_eq!(outside, Candidates::Endpoints(vec![0]), "the one that is here");
    assert!(warnings(&service).is_empty());

    let local = service.replace("external-ip", "external-traffic-policy = \"Local\"\nexternal-ip");
    assert!(handed_on(&desired(&local)).0.iter().all(|(kind, dsr)| *kind != "DSR" && !dsr));
    assert!(warnings(&local)[0].contains("no node has anybody to hand on"), "{:?}", warnings(&local));
}

#[test]
fn who_lost_a_frontend_does_not_have_it() {
    let other = SERVICE
        .replace("kube-system/dns", "a/dns")
        .replace("\", \"fd00:10:32::a", "")
        .replace("  { ip = \"fd00:10:200:1::4\", port = 5353 },\n", "");
    let desired = desired(&format!("{SERVICE}{other}"));
    let all: Vec<_> = desired.services.iter().map(|it| (it.service.as_str(), frontends(it))).collect();
    assert_eq!(
        all,
        [
            ("a/dns", vec!["ClusterIP 10.32.0.10:53".to_owned(), "NodePort 10.240.0.20:30053".to_owned()]),
            ("kube-system/dns", vec!["ClusterIP [fd00:10:32::a]:53".to_owned()]),
        ]
    );
}

#[test]
fn host_ports() {
    let node = NODE.replace("pod-cidr", "node-port-address = [\"192.0.2.1\", \"2001:db8::1\"]\npod-cidr");
    let pod = format!(
        "{POD}host-port = [{{ port = 8080, host-port = 80 }}, {{ port = 53, host-port = 53, protocol = \
                       \"UDP\", host-ip = [\"10.240.0.20\"] }}]\n"
    );
    let desired = parse("x.toml", &[&node, PEER, &pod].concat()).unwrap().desired;
    let all: Vec<_> =
        desired.services.iter().map(|it| (it.key(), frontends(it), it.endpoints[0].port)).collect();
    let key = |protocol, port, family| (Owner::Pod, "default/nginx", protocol, port, family);
    assert_eq!(
        all,
        [
            (key(Protocol::Tcp, 80, Family::V4), vec!["HostPort 192.0.2.1:80".to_owned()], 8080),
            (key(Protocol::Tcp, 80, Family::V6), vec!["HostPort [2001:db8::1]:80".to_owned()], 8080),
            (key(Protocol::Udp, 53, Family::V4), vec!["HostPort 10.240.0.20:53".to_owned()], 53),
        ]
    );
    assert!(desired.service_addresses().is_empty());
}

#[test]
fn settings() {
    let service = SERVICE
        .replace("cluster-ip", "affinity = { client-ip-seconds = 10800 }\nalgorithm = \"random\"\ncluster-ip")
        .replace("\"10.200.0.4\",", "\"10.200.0.4\", weight = 0, state = \"not-ready\",");
    let given = desired(&format!(
        "[services]\necho = false\n[conntrack.timeout]\nudp = 5\nsctp = 2592000\n[masquerade]\nenabled = true\n\
         ports = \"50000-50001\"\nexclude = [\"10.240.0.0/24\", \"10.200.1.0/25\", \"10.240.0.21/32\", \"10.0.0.0/8\"]\n\
         [maps]\nservices = 9\nfrontends = 9\nbackends = 9\nmaglev = 999\nsource-ranges = 9\nconntrack = 9\naffinity = 9\n\
         fragments = 9\n{service}"
    ));
    assert!(!given.echo && given.masquerade.enabled);
    assert_eq!(
        (given.timeouts.udp, given.timeouts.sctp, given.timeouts.tcp_established),
        (5, 2_592_000, 8000)
    );
    assert_eq!(given.masquerade.ports, 50000..=50001);
    let exclude: Vec<_> = given.masquerade.exclude.iter().map(ToString::to_string).collect();
    assert_eq!(
        exclude,
        ["10.0.0.0/8", "10.240.0.0/24"],
        "what is routed to pods and nodes stays routed there"
    );
    let sizes = given.capacities;
    assert_eq!([sizes.services, sizes.frontends, sizes.backends, sizes.source_ranges], [9; 4]);
    assert_eq!([sizes.conntrack, sizes.affinity, sizes.fragments, sizes.maglev], [9, 9, 9, 999]);
    let v4 = &given.services[0];
    assert_eq!((v4.affinity_seconds, v4.random, v4.endpoints[0].weight), (10800, true, 0));
    assert_eq!(v4.exposures[0].inside, Candidates::Reject);
    assert_eq!(v4.exposures[0].kind, Kind::ClusterIp);

    let default = desired("");
    assert!(default.echo && !default.masquerade.enabled && default.masquerade.ports == (61000..=65535));
    assert_eq!(default.node.loopback4.unwrap().to_string(), "10.200.0.0");
    assert_eq!(default.node.loopback6.unwrap().to_string(), "fd00:10:200::");
}

#[test]
fn the_order_in_the_file_does_not_matter() {
    let other =
        SERVICE.replace("kube-system/dns", "a/web").replace("10.32.0.10", "10.32.0.11").replace("UDP", "TCP");
    assert_eq!(
        desired(&format!("{SERVICE}{other}")).services,
        desired(&format!("{other}{SERVICE}")).services
    );
}
