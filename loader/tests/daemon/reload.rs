//! The configuration changes below a running loader: applied, refused, or kept until the node is ready for it.

use std::fs;

use aya::maps::MapInfo;
use nix::sys::signal::Signal;

use crate::{
    PEER, device, is_reachable,
    node::{Node, wait_until},
    support::Netns,
    with_node,
};

#[test]
fn a_bad_file_is_refused_whole_and_a_good_one_applied() {
    with_node(|mut node| {
        let (web, more) = (Netns::new(), Netns::new());
        node.provide("web", &web);
        node.provide("more", &more);
        node.configure(&[("web", 4)], PEER);
        node.start();
        let before = (node.endpoint(4), node.attached());

        node.configure(&[("web", 4), ("more", 5)], "bogus = 1");
        node.wait_for_log("not reloaded");
        wait_until("the refusal is on record", || node.state().last_reload.is_some());
        let reload = node.state().last_reload.unwrap();
        assert!(!reload.ok && reload.error.unwrap().contains("bogus"));
        assert_eq!((node.endpoint(4), node.attached()), before);

        node.configure(&[("more", 5)], PEER);
        wait_until("the new pod is reachable", || is_reachable(&node, "more", 5));
        wait_until("the old one is gone", || {
            node.endpoint(4).is_none() && node.link(&device("web")).is_none()
        });
        wait_until("the reload is on record", || node.state().last_reload.is_some_and(|reload| reload.ok));

        node.signal(Signal::SIGHUP);
        node.wait_for_log("SIGHUP");
    });
}

/// What was in the way goes, and nobody writes the file again or sends a signal.
#[test]
fn a_file_that_the_node_was_not_ready_for_is_applied_as_soon_as_it_is() {
    with_node(|mut node| {
        node.configure(&[], PEER);
        node.start();
        // Enough for a peer, and nothing else can refuse it once the uplink takes it.
        node.configure(&[], &format!("[overlay]\nmtu = 1500\n{PEER}"));
        node.wait_for_log("not reloaded");
        wait_until("the refusal is on record", || node.state().last_reload.is_some_and(|reload| !reload.ok));
        let uplink = node.link("up0").unwrap();
        // Not yet enough: another reason, which is told too.
        node.netlink.set_mtu(&uplink, 1520).unwrap();
        node.wait_for_log("still not reloaded");
        wait_until("that is on record, too", || {
            let error = node.state().last_reload.and_then(|reload| reload.error);
            error.is_some_and(|error| error.contains("an uplink MTU of 1520"))
        });
        assert_eq!(node.link("podlane0").unwrap().mtu, 1470);

        node.netlink.set_mtu(&uplink, 1550).unwrap();
        wait_until("the MTU is that of the file", || {
            node.link("podlane0").is_some_and(|link| link.mtu == 1500)
        });
        wait_until("that is on record", || node.state().last_reload.is_some_and(|reload| reload.ok));
        assert_eq!(node.log().matches("] still not reloaded").count(), 1, "{}", node.log());
    });
}

#[test]
fn a_node_port_that_waits_for_the_loopback_device_changes_nothing_until_it_is_up() {
    with_node(|mut node| {
        node.configure(&[], "");
        node.start();
        let gateway = node.link("podlane0").unwrap();
        let service = "[[service]]\nname = \"default/web\"\ncluster-ip = [\"10.32.0.1\"]\n\
                       [[service.port]]\nport = 80\nnode-port = 30080\nbackend = [{ ip = \"10.200.0.4\" }]\n";
        node.configure(&[], &format!("gateway = \"other0\"\n{service}"));
        node.wait_for_log("device lo is down");
        wait_until("the refusal is on record", || node.state().last_reload.is_some_and(|reload| !reload.ok));
        assert_eq!(node.link("podlane0"), Some(gateway), "the old one stays");
        assert!(node.link("other0").is_none());

        let loopback = node.link("lo").unwrap();
        node.netlink.set_up(&loopback).unwrap();
        wait_until("the gateway is the other one", || {
            node.link("other0").is_some() && node.link("podlane0").is_none()
        });
        wait_until("that is on record", || node.state().last_reload.is_some_and(|reload| reload.ok));
        wait_until("the node port is programmed", || {
            node.attached().contains(&format!("from_host_{}", loopback.index))
        });
    });
}

/// No news tells that this is out of the way: it is tried again every now and then, and until then nothing is touched.
#[test]
fn a_gateway_device_waits_for_its_name_and_the_old_one_stays() {
    with_node(|mut node| {
        node.configure(&[], "");
        node.start();
        let gateway = node.link("podlane0").unwrap();
        node.netlink.create_sink("theirs", [2, 0, 0, 0, 0, 9], 1400).unwrap();
        let theirs = node.link("theirs").unwrap();
        node.configure(&[], "gateway = \"theirs\"");
        node.wait_for_log("not reloaded");
        wait_until("the refusal is on record", || node.state().last_reload.is_some_and(|reload| !reload.ok));
        assert_eq!(node.link("podlane0"), Some(gateway));
        assert_eq!(node.link("theirs").as_ref(), Some(&theirs));

        node.netlink.delete_link(&theirs).unwrap();
        wait_until("the name is the gateway's", || {
            node.link("theirs").is_some() && node.link("podlane0").is_none()
        });
        wait_until("that is on record", || node.state().last_reload.is_some_and(|reload| reload.ok));
    });
}

#[test]
fn other_facts_of_the_node_are_other_programs_in_the_same_links() {
    with_node(|mut node| {
        let web = Netns::new();
        node.provide("web", &web);
        node.configure(&[("web", 4)], "");
        node.start();
        let before = node.attachment("from_pod", &device("web"));
        node.configure(&[("web", 4)], "[overlay]\nvni = 7");
        wait_until("the program is another", || node.attachment("from_pod", &device("web")).1 != before.1);
        assert_eq!(node.attachment("from_pod", &device("web")).0, before.0);

        node.configure(&[("web", 4)], "vtep-mac = \"0a:00:00:00:00:99\"");
        let mac = Some([0x0a, 0, 0, 0, 0, 0x99]);
        wait_until("the gateway has the address", || {
            node.link("podlane0").is_some_and(|link| link.mac == mac)
        });
        wait_until("the pod's device too", || node.link(&device("web")).is_some_and(|link| link.mac == mac));
        wait_until("the new gateway is attached", || {
            let gateway = node.link("podlane0").unwrap();
            node.attached().contains(&format!("from_host_{}", gateway.index))
        });
        assert!(is_reachable(&node, "web", 4));
    });
}

#[test]
fn a_map_that_is_too_small_is_refused_and_nothing_is_lost() {
    with_node(|mut node| {
        let web = Netns::new();
        node.provide("web", &web);
        node.configure(&[("web", 4)], PEER);
        node.start();
        let endpoint = node.endpoint(4);
        node.configure(&[("web", 4)], &format!("[maps]\nroutes = 2\n{PEER}"));
        node.wait_for_log("not reloaded");
        assert!(node.log().contains("routes"), "{}", node.log());
        wait_until("the old state is back", || node.endpoint(4) == endpoint && is_reachable(&node, "web", 4));
    });
}

#[test]
fn a_map_of_another_size_takes_the_place_of_the_old_one() {
    with_node(|mut node| {
        let web = Netns::new();
        node.provide("web", &web);
        node.configure(&[("web", 4)], "");
        node.start();
        let (link, _) = node.attachment("from_pod", &device("web"));
        let size = |node: &Node, map| MapInfo::from_pin(node.paths.map(map)).unwrap().max_entries();
        let counters = MapInfo::from_pin(node.paths.map("counters")).unwrap().id();
        assert_ne!(size(&node, "pods4"), 77);

        node.configure(&[("web", 4)], "[maps]\npods = 77");
        wait_until("the new map is pinned", || size(&node, "pods4") == 77);
        wait_until("and filled", || is_reachable(&node, "web", 4));
        assert_eq!(node.attachment("from_pod", &device("web")).0, link);
        assert_eq!(MapInfo::from_pin(node.paths.map("counters")).unwrap().id(), counters, "others stay");

        node.stop(Signal::SIGKILL);
        node.configure(&[("web", 4)], "[maps]\npods = 78");
        node.start();
        assert_eq!(size(&node, "pods4"), 78);
        assert!(is_reachable(&node, "web", 4));
        let left = fs::read_dir(node.paths.maps()).unwrap().count();
        assert_eq!(left, common::maps::name::ALL.len(), "no pin of a half-done start");
    });
}
