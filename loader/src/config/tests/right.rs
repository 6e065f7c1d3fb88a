//! Files without errors: what they ask for.

use std::{fs, path::Path};

use super::*;
use crate::{
    desired::{SocketMode, TcMode, XdpMode},
    mac,
};

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
    assert_eq!(desired.tc, TcMode::Auto);
    assert_eq!(desired.xdp, XdpMode::Auto);
    assert_eq!(desired.sockets.mode, SocketMode::Off);
    assert_eq!(desired.sockets.cgroup, Path::new("/sys/fs/cgroup"));
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
sockets = 50
flows = 60
[tc]
mode = "clsact"

[xdp]
mode = "generic"
[sockets]
mode = "tcp"
cgroup = "/sys/fs/cgroup/unified"
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
    assert_eq!((sizes.sockets, sizes.flows), (50, 60));
    assert_eq!(desired.tc, TcMode::Clsact);
    assert_eq!(desired.xdp, XdpMode::Generic);
    assert_eq!(desired.sockets.mode, SocketMode::Tcp);
    assert_eq!(desired.sockets.cgroup, Path::new("/sys/fs/cgroup/unified"));
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
    assert!(seen >= 6);
}
