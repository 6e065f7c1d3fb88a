//! Devices converge: made when missing, repaired when changed, left alone when somebody else's. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    fs,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    process::Command,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use ipnet::IpNet;
use loader::{
    desired::Pod,
    device::{self, DeviceError, Gateway, Owner, PodError, PodSpec},
    netlink::{Handle, Link, Route, VethEnd},
};
use support::{Netns, can_run, ethtool, in_new_netns};

mod support;

const OWNER: Owner<'static> = Owner { node: "test" };
const MAC: [u8; 6] = [0x0a, 0, 10, 240, 0, 20];

/// Runs `test` in a network namespace of its own.
fn alone(test: impl FnOnce(Handle) + Send) {
    if can_run() {
        in_new_netns(|| test(Handle::open().unwrap()));
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn gateway() -> Gateway<'static> {
    Gateway {
        owner: OWNER,
        name: "podlane0",
        mac: MAC,
        mtu: 1450,
        addresses: vec![ip("10.200.0.1"), ip("fd00:10:200::1")],
        destinations: vec![net("10.200.0.0/24"), net("10.200.1.0/24"), net("fd00:10:200:1::/64")],
    }
}

fn pod(netns: &Netns) -> Pod {
    Pod {
        name: "default/web".into(),
        netns: netns.path(),
        interface: "eth0".into(),
        addresses: vec![ip("10.200.0.4"), ip("fd00:10:200::4")],
        allowed_sources: Vec::new(),
    }
}

fn ensure_pod(netlink: &mut Handle, pod: &Pod) -> Result<Link, PodError> {
    let own = device::Netns::current().unwrap().id();
    let gateways = vec![ip("10.200.0.1"), ip("fd00:10:200::1")];
    let pod_cidrs = &[net("10.200.0.0/24"), net("fd00:10:200::/64")];
    let spec = PodSpec { owner: OWNER, pod, host_mac: MAC, mtu: 1450, gateways, pod_cidrs };
    let (link, problem) = device::ensure_pod(netlink, own, &spec)?;
    assert!(problem.is_none(), "{problem:?}");
    Ok(link)
}

/// Which features are on whose names begin so, as `ethtool -k` prints them.
fn on(device: &str, beginnings: &[&str]) -> Vec<String> {
    let listed = ethtool(&["-k", device]);
    let states = listed.lines().filter_map(|line| line.trim().split_once(": "));
    let on = states.filter(|(name, state)| {
        state.starts_with("on") && beginnings.iter().any(|beginning| name.starts_with(beginning))
    });
    on.map(|(name, _)| name.to_owned()).collect()
}

fn sysctl(path: &str) -> String {
    fs::read_to_string(format!("/proc/sys/net/{path}")).unwrap().trim().to_owned()
}

#[test]
fn the_gateway_is_made_and_a_second_time_nothing_is_done() {
    alone(|mut netlink| {
        let (first, problems) = device::ensure_gateway(&mut netlink, &gateway()).unwrap();
        assert!(problems.is_empty(), "{problems:?}");
        let made = netlink.link("podlane0").unwrap().unwrap();
        assert_eq!((made.mac, made.mtu, made.up), (Some(MAC), 1450, true));
        assert_eq!(made.alias.as_deref(), Some("podlane:test"));
        assert_eq!(netlink.addresses(&made).unwrap(), [net("10.200.0.1/32"), net("fd00:10:200::1/128")]);
        let route = |to, source| Route { destination: net(to), gateway: None, source: Some(ip(source)) };
        let wanted = [
            route("10.200.0.0/24", "10.200.0.1"),
            route("10.200.1.0/24", "10.200.0.1"),
            route("fd00:10:200:1::/64", "fd00:10:200::1"),
        ];
        assert_eq!(netlink.routes(&made).unwrap(), wanted);
        assert_eq!(sysctl("ipv4/conf/podlane0/forwarding"), "1");
        assert_eq!(sysctl("ipv6/conf/podlane0/forwarding"), "1");
        assert_eq!(sysctl("ipv4/conf/all/forwarding"), "0", "only Podlane's own device is changed");

        let (second, _) = device::ensure_gateway(&mut netlink, &gateway()).unwrap();
        assert_eq!((first.index, netlink.link("podlane0").unwrap()), (second.index, Some(made)));
    });
}

#[test]
fn the_gateway_is_repaired() {
    alone(|mut netlink| {
        let (link, _) = device::ensure_gateway(&mut netlink, &gateway()).unwrap();
        netlink.set_mtu(&link, 1300).unwrap();
        netlink.delete_address(&link, net("10.200.0.1/32")).unwrap();
        netlink.add_address(&link, net("192.0.2.1/32")).unwrap();
        let stray = Route { destination: net("198.51.100.0/24"), gateway: None, source: None };
        netlink.add_route(&link, stray).unwrap();

        let mut changed = gateway();
        changed.destinations.remove(1);
        device::ensure_gateway(&mut netlink, &changed).unwrap();
        assert_eq!(netlink.link("podlane0").unwrap().unwrap().mtu, 1450);
        let mut addresses = netlink.addresses(&link).unwrap();
        addresses.sort();
        assert_eq!(addresses, [net("10.200.0.1/32"), net("fd00:10:200::1/128")]);
        let routes: Vec<IpNet> =
            netlink.routes(&link).unwrap().iter().map(|route| route.destination).collect();
        assert_eq!(routes, [net("10.200.0.0/24"), net("fd00:10:200:1::/64")]);
    });
}

#[test]
fn a_gateway_that_a_dead_loader_did_not_mark_is_adopted() {
    alone(|mut netlink| {
        netlink.create_sink("podlane0", MAC, 1450).unwrap();
        let before = netlink.link("podlane0").unwrap().unwrap().index;
        let (after, _) = device::ensure_gateway(&mut netlink, &gateway()).unwrap();
        assert_eq!(before, after.index);
    });
}

#[test]
fn a_device_of_somebody_else_is_left_alone() {
    alone(|mut netlink| {
        netlink.create_sink("podlane0", [2, 0, 0, 0, 0, 9], 1400).unwrap();
        let before = netlink.link("podlane0").unwrap().unwrap();
        let error = device::ensure_gateway(&mut netlink, &gateway()).unwrap_err();
        assert!(matches!(error, DeviceError::Taken { .. }), "{error}");
        assert!(error.to_string().contains("node.gateway"), "{error}");
        assert_eq!(netlink.link("podlane0").unwrap().as_ref(), Some(&before));

        let other = Owner { node: "other" };
        netlink.set_alias(&before, &other.gateway_alias()).unwrap();
        let error = device::ensure_gateway(&mut netlink, &gateway()).unwrap_err().to_string();
        assert!(error.contains("its alias is `podlane:other`"), "{error}");
        assert!(device::remove_gateways(&mut netlink, OWNER, None).unwrap().is_empty());
    });
}

#[test]
fn a_route_of_somebody_else_is_reported_and_left_alone() {
    alone(|mut netlink| {
        netlink.create_sink("other", [2, 0, 0, 0, 0, 9], 1400).unwrap();
        let other = netlink.link("other").unwrap().unwrap();
        netlink.set_up(&other).unwrap();
        let theirs = Route { destination: net("10.200.1.0/24"), gateway: None, source: None };
        netlink.add_route(&other, theirs).unwrap();
        let (link, problems) = device::ensure_gateway(&mut netlink, &gateway()).unwrap();
        assert!(problems[0].to_string().contains("route to 10.200.1.0/24"), "{problems:?}");
        assert_eq!(netlink.routes(&link).unwrap().len(), 2);
        assert_eq!(netlink.routes(&other).unwrap(), [theirs]);
    });
}

#[test]
fn a_pod_is_connected_and_a_second_time_nothing_is_done() {
    alone(|mut netlink| {
        let netns = Netns::new();
        let pod = pod(&netns);
        let host = ensure_pod(&mut netlink, &pod).unwrap();
        assert!(!host.up, "no packet passes before the programs are attached");
        assert_eq!(sysctl(&format!("ipv6/conf/{}/disable_ipv6", host.name)), "1");
        let made = netlink.link(&host.name).unwrap().unwrap();
        assert_eq!((made.mac, made.mtu), (Some(MAC), 1450));
        assert_eq!(made.alias.as_deref(), Some("podlane:test:default/web"));

        netns.run(|| {
            let mut inside = Handle::open().unwrap();
            assert!(inside.link("lo").unwrap().unwrap().up);
            let eth0 = inside.link("eth0").unwrap().unwrap();
            assert_eq!((eth0.mac, eth0.mtu, eth0.up), (Some([0x0a, 0x58, 10, 200, 0, 4]), 1450, true));
            assert_eq!(inside.addresses(&eth0).unwrap(), [net("10.200.0.4/32"), net("fd00:10:200::4/128")]);
            let mut routes: Vec<String> =
                inside.routes(&eth0).unwrap().iter().map(ToString::to_string).collect();
            routes.sort();
            assert_eq!(
                routes,
                [
                    "0.0.0.0/0 via 10.200.0.1",
                    "10.200.0.1/32",
                    "::/0 via fd00:10:200::1",
                    "fd00:10:200::1/128"
                ]
            );
        });

        let again = ensure_pod(&mut netlink, &pod).unwrap();
        assert_eq!(again, made);
    });
}

#[test]
fn a_pod_hands_over_no_gso_packets_of_sctp_or_a_tunnel() {
    if !can_run() {
        return;
    }
    let unwanted = ["tx-udp_tnl-", "tx-gre-", "tx-ipxip", "tx-esp-", "tx-sctp-"];
    let wanted =
        ["tx-tcp-segmentation", "tx-tcp6-segmentation", "tx-udp-segmentation", "tx-checksum-ip-generic"];
    in_new_netns(|| {
        let mut netlink = Handle::open().unwrap();
        let netns = Netns::new();
        let pod = pod(&netns);
        let host = ensure_pod(&mut netlink, &pod).unwrap();
        let check = || {
            assert_eq!(on("eth0", &unwanted), [""; 0]);
            assert_eq!(on("eth0", &wanted).len(), wanted.len(), "{:?}", on("eth0", &wanted));
        };
        netns.run(check);
        assert!(
            on(&host.name, &unwanted).iter().any(|name| name == "tx-udp_tnl-segmentation"),
            "what pods are sent stays large"
        );

        netns.run(|| ethtool(&["-K", "eth0", "tx-sctp-segmentation", "on", "tx-gre-segmentation", "on"]));
        ensure_pod(&mut netlink, &pod).unwrap();
        netns.run(check);
    });
}

#[test]
fn the_node_sends_pods_no_gso_packets_of_sctp() {
    alone(|mut netlink| {
        let unwanted = ["tx-sctp-segmentation", "generic-segmentation-offload"];
        for _ in 0..2 {
            let (_, problems) = device::ensure_gateway(&mut netlink, &gateway()).unwrap();
            assert!(problems.is_empty(), "{problems:?}");
            assert_eq!(on("podlane0", &unwanted), [""; 0]);
            assert_eq!(on("podlane0", &["tx-tcp-segmentation", "tx-tcp6-segmentation"]).len(), 2);
            ethtool(&["-K", "podlane0", "tx-sctp-segmentation", "on", "gso", "on"]);
            assert_eq!(on("podlane0", &unwanted).len(), 2);
        }
    });
}

#[test]
fn a_pod_in_a_new_namespace_gets_a_new_device() {
    alone(|mut netlink| {
        let (old, new) = (Netns::new(), Netns::new());
        let first = ensure_pod(&mut netlink, &pod(&old)).unwrap();
        // The old namespace is still there, as that of a pod that takes its time to end.
        let second = ensure_pod(&mut netlink, &pod(&new)).unwrap();
        assert_ne!(first.index, second.index);
        assert!(old.run(|| Handle::open().unwrap().link("eth0").unwrap()).is_none());
        assert!(new.run(|| Handle::open().unwrap().link("eth0").unwrap()).is_some());
    });
}

#[test]
fn addresses_of_a_pod_follow_the_configuration() {
    alone(|mut netlink| {
        let netns = Netns::new();
        let mut pod = pod(&netns);
        ensure_pod(&mut netlink, &pod).unwrap();
        pod.addresses = vec![ip("10.200.0.7")];
        ensure_pod(&mut netlink, &pod).unwrap();
        netns.run(|| {
            let mut inside = Handle::open().unwrap();
            let eth0 = inside.link("eth0").unwrap().unwrap();
            assert_eq!(inside.addresses(&eth0).unwrap(), [net("10.200.0.7/32")]);
            assert_eq!(eth0.mac, Some([0x0a, 0x58, 10, 200, 0, 7]));
        });
    });
}

/// What a pod adds of its own stays, be it for `allowed-sources` or for nobody.
#[test]
fn only_addresses_that_podlane_gave_are_taken_away() {
    alone(|mut netlink| {
        let netns = Netns::new();
        let mut pod = pod(&netns);
        ensure_pod(&mut netlink, &pod).unwrap();
        let own = ["192.0.2.1/32", "203.0.113.7/24", "2001:db8::7/64"];
        netns.run(|| {
            let eth0 = Handle::open().unwrap().link("eth0").unwrap().unwrap();
            for address in own {
                ip_addr_add(address);
            }
            // As a loader that marked nothing gave it.
            ip_addr_add("10.200.0.9/32");
            assert_eq!(Handle::open().unwrap().addresses(&eth0).unwrap().len(), 6);
        });
        ensure_pod(&mut netlink, &pod).unwrap();
        let addresses = || {
            let mut inside = Handle::open().unwrap();
            let eth0 = inside.link("eth0").unwrap().unwrap();
            let mut addresses = inside.addresses(&eth0).unwrap();
            addresses.sort();
            addresses
        };
        let with = |given: &[&str]| {
            let mut all: Vec<IpNet> = own.iter().chain(given).map(|address| net(address)).collect();
            all.sort();
            all
        };
        assert_eq!(netns.run(addresses), with(&["10.200.0.4/32", "fd00:10:200::4/128"]));

        // As when the node's pod CIDRs have changed: these are in none any more.
        pod.addresses = vec![ip("10.77.0.4")];
        ensure_pod(&mut netlink, &pod).unwrap();
        assert_eq!(netns.run(addresses), with(&["10.77.0.4/32"]));
        pod.addresses = vec![ip("10.88.0.4")];
        ensure_pod(&mut netlink, &pod).unwrap();
        assert_eq!(netns.run(addresses), with(&["10.88.0.4/32"]));
    });
}

/// A pod that may configure its network is looked at as fast as any other, however much there is in its namespace and however
/// fast that changes, and has what it needs.
#[test]
fn a_pod_with_any_number_of_routes_and_addresses_is_connected() {
    alone(|mut netlink| {
        let netns = Netns::new();
        let pod = pod(&netns);
        ensure_pod(&mut netlink, &pod).unwrap();
        // In the kernel's order these come before ours, which are beyond the bound then.
        let own4 = |number: u32| Route {
            destination: IpNet::from(IpAddr::from(Ipv4Addr::from_bits(0x0a64_0000 + number))),
            gateway: None,
            source: None,
        };
        let own6 = |number: u32| Route {
            destination: IpNet::from(IpAddr::from(Ipv6Addr::from_bits(0xfc00 << 112 | u128::from(number)))),
            gateway: None,
            source: None,
        };
        let (eth0, everything) = netns.run(|| {
            let mut inside = Handle::open().unwrap();
            let (lo, eth0) = (inside.link("lo").unwrap().unwrap(), inside.link("eth0").unwrap().unwrap());
            for number in 0..20_000 {
                inside.add_route(&eth0, own4(number)).unwrap();
            }
            for number in 0..3_000 {
                inside.add_route(&eth0, own6(number)).unwrap();
                inside
                    .add_address(&lo, IpNet::from(IpAddr::from(Ipv4Addr::from_bits(0x7f02_0000 + number))))
                    .unwrap();
            }
            let listed = Handle::some_routes(&eth0, 100).unwrap();
            assert!(!listed.is_whole && listed.found.len() <= 200, "{}", listed.found.len());
            let everything = inside.routes(&eth0).unwrap();
            for gone in everything.iter().filter(|route| ours(route)) {
                inside.delete_route(&eth0, *gone).unwrap();
            }
            // With the last address of a device the kernel would take its routes away.
            ip_addr_add("192.0.2.1/32");
            inside.delete_address(&eth0, net("10.200.0.4/32")).unwrap();
            (eth0, everything)
        });
        assert_eq!(everything.len(), 23_004);

        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            // Every listing of addresses is of more than one moment.
            scope.spawn(|| {
                netns.run(|| {
                    let mut inside = Handle::open().unwrap();
                    let lo = inside.link("lo").unwrap().unwrap();
                    while !over.load(Ordering::Relaxed) {
                        inside.add_address(&lo, net("127.3.0.1/32")).unwrap();
                        inside.delete_address(&lo, net("127.3.0.1/32")).unwrap();
                    }
                });
            });
            // Also when nothing is missing: written anew, it is the same.
            let connected = [ensure_pod(&mut netlink, &pod), ensure_pod(&mut netlink, &pod)];
            over.store(true, Ordering::Relaxed);
            for connected in connected {
                connected.unwrap();
            }
        });
        netns.run(|| {
            let mut inside = Handle::open().unwrap();
            let addresses = inside.addresses(&eth0).unwrap();
            assert!(addresses.contains(&net("10.200.0.4/32")), "{addresses:?}");
            let mut now = inside.routes(&eth0).unwrap();
            let mut before = everything;
            now.sort();
            before.sort();
            assert!(now == before, "{} routes, {} before", now.len(), before.len());
        });
    });
}

/// Whether a pod's route is one that Podlane has made.
fn ours(route: &Route) -> bool {
    route.gateway.is_some() || [ip("10.200.0.1"), ip("fd00:10:200::1")].contains(&route.destination.addr())
}

/// Adds an address to the pod's `eth0` as somebody in it would, without any mark.
fn ip_addr_add(address: &str) {
    let output = Command::new("ip").args(["addr", "add", address, "dev", "eth0", "nodad"]).output().unwrap();
    assert!(output.status.success(), "{address}: {output:?}");
}

#[test]
fn what_keeps_a_pod_from_being_connected_is_told() {
    alone(|mut netlink| {
        let netns = Netns::new();

        let directory = tempfile::tempdir().unwrap();
        let missing = Pod { netns: directory.path().join("missing"), ..pod(&netns) };
        assert!(matches!(ensure_pod(&mut netlink, &missing), Err(PodError::Waiting(_))));
        fs::write(&missing.netns, "").unwrap();
        let waiting = ensure_pod(&mut netlink, &missing);
        assert!(matches!(waiting, Err(PodError::Waiting(_))), "not mounted on yet: {waiting:?}");

        let own = Pod { netns: "/proc/thread-self/ns/net".into(), ..pod(&netns) };
        let error = ensure_pod(&mut netlink, &own).unwrap_err().to_string();
        assert!(error.contains("the node's own network namespace"), "{error}");

        netns.run(|| {
            let mut inside = Handle::open().unwrap();
            inside.create_sink("eth0", [2, 0, 0, 0, 0, 9], 1500).unwrap();
        });
        let error = ensure_pod(&mut netlink, &pod(&netns)).unwrap_err().to_string();
        assert!(error.contains("eth0") && error.contains("not Podlane's"), "{error}");
        assert!(netlink.links().unwrap().iter().all(|link| !link.is("veth")));
    });
}

#[test]
fn only_devices_of_pods_that_are_gone_are_removed() {
    alone(|mut netlink| {
        let (one, two, foreign) = (Netns::new(), Netns::new(), Netns::new());
        let kept = ensure_pod(&mut netlink, &pod(&one)).unwrap();
        let other = Pod { name: "default/gone".into(), ..pod(&two) };
        let gone = ensure_pod(&mut netlink, &other).unwrap();
        let inner = VethEnd { name: "eth0", mac: [2, 0, 0, 0, 0, 2] };
        let outer = VethEnd { name: "theirs", mac: [2, 0, 0, 0, 0, 1] };
        let file = fs::File::open(foreign.path()).unwrap();
        netlink.create_veth(outer, inner, std::os::fd::AsFd::as_fd(&file), 1500).unwrap();

        let removed = device::remove_strangers(&mut netlink, OWNER, &["default/web"]).unwrap();
        assert_eq!(removed, [gone.name]);
        assert!(netlink.link(&kept.name).unwrap().is_some() && netlink.link("theirs").unwrap().is_some());
    });
}
