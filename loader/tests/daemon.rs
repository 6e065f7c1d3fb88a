//! A running loader: what it makes, what it survives, what it refuses, what it leaves. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    net::IpAddr,
    os::unix::{net::UnixDatagram, process::CommandExt as _},
};

use aya::{
    Ebpf,
    maps::{
        Map, MapData, MapInfo,
        lpm_trie::{Key, LpmTrie},
    },
    programs::{LinkOrder, ProgramInfo, SchedClassifier, TcAttachType, tc::TcAttachOptions},
};
use common::maps::Route;
use loader::{bpf, desired::TcMode, device::host_device_name, netlink::Handle, run};
use nix::sys::{
    resource::{Resource, getrlimit, setrlimit},
    signal::Signal,
};
use node::{Node, deadline, wait_until};
use support::{Netns, can_run, ethtool, in_new_netns};

#[path = "support/node.rs"]
mod node;
#[path = "daemon/reload.rs"]
mod reload;
mod support;

const PEER: &str = "[[peer]]\nname = \"b\"\naddress = [\"10.240.0.21\"]\npod-cidr = [\"10.200.1.0/24\"]\n";

/// Runs `test` with a node in a network namespace of its own.
fn with_node(test: impl FnOnce(Node) + Send) {
    if can_run() {
        in_new_netns(|| test(Node::new()));
    }
}

fn device(pod: &str) -> String {
    host_device_name(&format!("default/{pod}"))
}

/// Whether the map has the device that the pod has now, and that is up.
fn is_reachable(node: &Node, pod: &str, last: u8) -> bool {
    let link = Handle::open().unwrap().link(&device(pod)).unwrap();
    link.is_some_and(|link| {
        link.up && node.endpoint(last).is_some_and(|endpoint| endpoint.ifindex == link.index)
    })
}

#[test]
fn a_pod_is_connected_now_or_as_soon_as_it_is_there() {
    with_node(|mut node| {
        let (web, late) = (Netns::new(), Netns::new());
        node.provide("web", &web);
        node.configure(&[("web", 4), ("late", 5)], PEER);
        node.start();
        assert!(is_reachable(&node, "web", 4));
        let state = node.state();
        assert_eq!(state.pods.len(), 1);
        assert_eq!(state.waiting[0].name, "default/late");
        assert_eq!((state.mtu, state.pid, state.peers.len()), (1450, node.pid(), 1));
        assert_eq!(node.attached().len(), 4);

        node.provide("late", &late);
        wait_until("the late pod is reachable", || is_reachable(&node, "late", 5));
        wait_until("the state says so", || node.state().waiting.is_empty());
    });
}

#[test]
fn a_pod_that_goes_and_comes_back_is_reached_on_its_new_device() {
    with_node(|mut node| {
        let first = Netns::new();
        node.provide("web", &first);
        node.configure(&[("web", 4)], "");
        node.start();
        let before = node.endpoint(4).unwrap();
        drop(first);
        wait_until("the old device is gone", || node.endpoint(4).is_none());
        let second = Netns::new();
        node.provide("web", &second);
        wait_until("the new device is reachable", || is_reachable(&node, "web", 4));
        let after = node.endpoint(4).unwrap();
        assert_ne!(before.ifindex, after.ifindex);
        assert_eq!(before.slot, after.slot, "its counters go on");
        assert_eq!(node.attached().len(), 4);
    });
}

#[test]
fn a_pod_lives_on_when_only_the_file_of_its_namespace_is_gone() {
    with_node(|mut node| {
        let web = Netns::new();
        node.provide("web", &web);
        node.configure(&[("web", 4)], "");
        node.start();
        let endpoint = node.endpoint(4);
        node.stop(Signal::SIGTERM);
        fs::remove_file(node.pod_path("web")).unwrap();
        node.start();
        assert!(is_reachable(&node, "web", 4));
        assert_eq!(node.endpoint(4), endpoint);
        let state = node.state();
        assert!(state.waiting.is_empty() && state.problems[0].contains("stays as it is"), "{state:?}");
        drop(web);
        wait_until("it is waited for", || node.state().waiting.len() == 1 && node.endpoint(4).is_none());
    });
}

#[test]
fn an_uplink_that_merges_datagrams_of_tunnels_is_told_of() {
    with_node(|mut node| {
        node.configure(&[], "");
        node.start();
        assert!(node.state().problems.is_empty(), "{:?}", node.state().problems);
        for feature in ["rx-udp-gro-forwarding", "rx-gro-list"] {
            ethtool(&["-K", "up0", feature, "on"]);
            let remedy = format!("`ethtool -K up0 {feature} off`");
            wait_until("it is told of", || {
                node.state().problems.iter().any(|problem| problem.contains(&remedy))
            });
            ethtool(&["-K", "up0", feature, "off"]);
            wait_until("it is well again", || node.state().problems.is_empty());
        }
    });
}

#[test]
fn a_restart_keeps_links_and_entries_and_replaces_programs() {
    with_node(|mut node| {
        let web = Netns::new();
        node.provide("web", &web);
        node.configure(&[("web", 4)], PEER);
        node.start();
        let devices = [
            ("from_uplink", "up0".to_owned()),
            ("from_host", "podlane0".to_owned()),
            ("from_pod", device("web")),
        ];
        let ids = |node: &Node| devices.each_ref().map(|(program, device)| node.attachment(program, device));
        let (before, endpoint) = (ids(&node), node.endpoint(4).unwrap());

        assert!(node.stop(Signal::SIGTERM).success());
        assert_eq!(ids(&node), before, "the dataplane stays");
        node.start();
        let after = ids(&node);
        for (before, after) in before.iter().zip(&after) {
            assert_eq!(before.0, after.0, "same link, where there are links");
            assert_ne!(before.1, after.1, "new program");
        }
        assert_eq!(node.endpoint(4), Some(endpoint));
        assert!(!node.log().contains("entries written"), "nothing differs:\n{}", node.log());

        node.stop(Signal::SIGKILL);
        fs::remove_file(node.paths.state()).unwrap();
        node.start();
        assert_eq!(ids(&node).map(|ids| ids.0), after.map(|ids| ids.0));
        assert_eq!(node.endpoint(4), Some(endpoint), "slots are found again in the maps");
    });
}

#[test]
fn a_link_of_a_device_that_is_gone_is_replaced() {
    with_node(|mut node| {
        let (old, new) = (Netns::new(), Netns::new());
        node.provide("web", &old);
        node.configure(&[("web", 4)], "");
        node.start();
        node.stop(Signal::SIGKILL);
        // While nobody looks, the pod and the uplink are made anew.
        node.provide("web", &new);
        let uplink = node.link("up0").unwrap();
        node.netlink.delete_link(&uplink).unwrap();
        node.add_uplink();
        node.start();
        assert!(is_reachable(&node, "web", 4));
        let mut expected: Vec<String> = Vec::new();
        for (program, device) in [
            ("from_host", "podlane0".to_owned()),
            ("from_uplink", "up0".to_owned()),
            ("from_pod", device("web")),
            ("to_pod", device("web")),
        ] {
            expected.push(format!("{program}_{}", node.link(&device).unwrap().index));
        }
        expected.sort();
        assert_eq!(node.attached(), expected);
    });
}

#[test]
fn a_second_loader_is_told_the_pid_of_the_first() {
    with_node(|mut node| {
        node.configure(&[], "");
        node.start();
        let (code, said) = node.refused(&[]);
        assert_eq!(code, 1, "{said}");
        assert!(said.contains(&format!("pid {}", node.pid())), "{said}");
        let refused = run::cleanup(&node.paths).unwrap_err().to_string();
        assert!(refused.contains(&format!("pid {}", node.pid())), "{refused}");
    });
}

#[test]
fn as_many_files_may_be_open_as_the_process_may_allow_itself() {
    with_node(|node| {
        let path = node.directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(deadline())).unwrap();
        node.configure(&[], "");
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        let mut loader = node.command();
        // SAFETY: between fork and exec only `setrlimit` is called, which is a system call and nothing else.
        unsafe { loader.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_NOFILE, 300, hard)?)) };
        let mut child = loader.env("NOTIFY_SOCKET", &path).spawn().unwrap();
        let ready = manager.recv(&mut [0; 32]);
        let limits = fs::read_to_string(format!("/proc/{}/limits", child.id()));
        let _ = child.kill();
        child.wait().unwrap();
        ready.unwrap();
        let limits = limits.unwrap();
        let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let [soft, hard, ..] = files.split_whitespace().collect::<Vec<_>>()[..] else { panic!("{files}") };
        assert_eq!(soft, hard);
        assert_ne!(soft, "300", "nothing to be raised");
    });
}

/// Routes that were filled by a loader which says nothing of their revision are what programs of the build before may still
/// read: they stay as they are.
#[test]
fn routes_of_the_build_before_are_not_written_to() {
    with_node(|mut node| {
        let routes = |node: &Node| {
            let map = Map::from_map_data(MapData::from_pin(node.paths.map("routes4")).unwrap()).unwrap();
            let map: LpmTrie<MapData, [u8; 4], Route> = map.try_into().unwrap();
            map
        };
        let entries = |map: &LpmTrie<MapData, [u8; 4], Route>| {
            let entry = |entry: Result<(Key<[u8; 4]>, Route), _>| {
                entry.map(|(key, route)| ((key.data(), key.prefix_len()), route))
            };
            map.iter().map(entry).collect::<Result<BTreeMap<_, _>, _>>().unwrap()
        };
        node.configure(&[], PEER);
        node.start();
        node.stop(Signal::SIGKILL);
        fs::remove_file(node.paths.revisions()).unwrap();
        let mut old = routes(&node);
        // Of the build before: it goes, and what the new peer has comes, in the new map alone.
        old.insert(&Key::new(24, [10, 200, 77, 0]), Route::default(), 0).unwrap();
        let before = entries(&old);
        node.configure(&[], &PEER.replace("10.200.1.0", "10.200.2.0"));
        node.start();
        assert_eq!(entries(&old), before, "the old map is as it was");
        let new = entries(&routes(&node));
        assert!(new.contains_key(&([10, 200, 2, 0], 24)), "{new:?}");
        assert!(
            !new.contains_key(&([10, 200, 1, 0], 24)) && !new.contains_key(&([10, 200, 77, 0], 24)),
            "{new:?}"
        );

        let id = |node: &Node| MapInfo::from_pin(node.paths.map("routes4")).unwrap().id();
        let before = id(&node);
        node.stop(Signal::SIGKILL);
        node.start();
        assert_eq!(id(&node), before, "the next start knows them");
    });
}

#[test]
fn what_was_attached_is_so_again_when_its_pins_were_taken_away() {
    with_node(|mut node| {
        let web = Netns::new();
        node.provide("web", &web);
        node.configure(&[("web", 4)], "[xdp]\nmode = \"generic\"");
        node.start();
        let (before, endpoint) = (node.attached(), node.endpoint(4));
        let uplink = node.link("up0").unwrap();
        assert!(before.contains(&format!("uplink_xdp_{}", uplink.index)), "{before:?}");
        fs::remove_dir_all(node.paths.pins()).unwrap();
        node.signal(Signal::SIGHUP);
        // The kernel takes XDP off its device when it finds the time, and takes no other before.
        wait_until("everything is attached", || node.attached() == before);
        assert_eq!(node.endpoint(4), endpoint);
        wait_until("all is well", || node.state().problems.is_empty());
    });
}

#[test]
fn an_uplink_may_go_and_come_back_and_the_gateway_is_made_again() {
    with_node(|mut node| {
        node.configure(&[], PEER);
        node.start();
        let uplink = node.link("up0").unwrap();
        node.netlink.delete_link(&uplink).unwrap();
        node.wait_for_log("uplink up0 does not exist");
        let uplink = node.add_uplink();
        wait_until("it is attached again", || {
            node.attached().contains(&format!("from_uplink_{}", uplink.index))
        });

        let gateway = node.link("podlane0").unwrap();
        node.netlink.delete_link(&gateway).unwrap();
        wait_until("the gateway is back", || {
            node.link("podlane0").is_some_and(|link| {
                link.index != gateway.index && node.attached().contains(&format!("from_host_{}", link.index))
            })
        });
        let gateway = node.link("podlane0").unwrap();
        wait_until("with its routes", || node.netlink.routes(&gateway).unwrap().len() == 3);
    });
}

#[test]
fn programs_of_others_stay_and_keep_their_place() {
    with_node(|mut node| {
        // With filters: `clsact::filters_of_others_run_first_and_stay`.
        if let Err(reason) = bpf::tc_way(TcMode::Tcx) {
            println!("SKIPPED: programs_of_others_stay_and_keep_their_place: {reason}");
            return;
        }
        let mut foreign = Ebpf::load(bpf::OBJECT).unwrap();
        let program: &mut SchedClassifier = foreign.program_mut("from_uplink").unwrap().try_into().unwrap();
        program.load().unwrap();
        let order = TcAttachOptions::TcxOrder(LinkOrder::default());
        program.attach_with_options("up0", TcAttachType::Ingress, order).unwrap();
        let theirs = program.info().unwrap().id();
        let attached = || {
            let (_, programs) = SchedClassifier::query_tcx("up0", TcAttachType::Ingress).unwrap();
            programs.iter().map(ProgramInfo::id).collect::<Vec<_>>()
        };
        node.configure(&[], "");
        node.start();
        assert_eq!(attached(), [theirs, node.attachment("from_uplink", "up0").1]);
        node.stop(Signal::SIGTERM);
        node.start();
        assert_eq!(attached(), [theirs, node.attachment("from_uplink", "up0").1]);
        node.stop(Signal::SIGTERM);
        run::cleanup(&node.paths).unwrap();
        wait_until("only theirs is left", || attached() == [theirs]);
    });
}

#[test]
fn cleanup_leaves_nothing_even_after_a_crash() {
    with_node(|mut node| {
        let web = Netns::new();
        node.provide("web", &web);
        node.configure(&[("web", 4)], PEER);
        node.start();
        node.stop(Signal::SIGKILL);
        fs::remove_file(node.paths.state()).unwrap();
        for _ in 0..2 {
            run::cleanup(&node.paths).unwrap();
            assert!(!node.paths.pins().exists() && !node.paths.run().exists());
            let names: Vec<String> =
                node.netlink.links().unwrap().into_iter().map(|link| link.name).collect();
            assert!(names.iter().all(|name| name == "lo" || name == "up0"), "{names:?}");
        }
    });
}

#[test]
fn what_keeps_a_node_from_starting_is_told() {
    with_node(|mut node| {
        node.configure(&[], "");
        node.netlink.create_sink("podlane0", [2, 0, 0, 0, 0, 9], 1400).unwrap();
        let (code, said) = node.refused(&[]);
        assert_eq!(code, 1);
        assert!(said.contains("device podlane0 exists and is not Podlane's"), "{said}");
        let theirs = node.link("podlane0").unwrap();
        node.netlink.delete_link(&theirs).unwrap();

        let object = node.config();
        let (code, said) = node.refused(&["--object", object.to_str().unwrap()]);
        assert_eq!(code, 1);
        assert!(said.contains("the BPF object is damaged"), "{said}");

        let uplink = node.link("up0").unwrap();
        node.netlink.delete_link(&uplink).unwrap();
        let (code, said) = node.refused(&[]);
        assert_eq!(code, 1);
        assert!(said.contains("none of the uplinks (up0) exists"), "{said}");

        fs::write(node.config(), "nonsense").unwrap();
        assert_eq!(node.refused(&[]).0, 2);
    });
}

#[test]
fn a_node_needs_no_uplink_if_it_is_told_its_mtu() {
    with_node(|mut node| {
        node.configure(&[], "[overlay]\nmtu = 1400");
        let with_uplink = fs::read_to_string(node.config()).unwrap();
        fs::write(node.config(), with_uplink.replace("uplink = [\"up0\"]\n", "")).unwrap();
        node.start();
        assert_eq!(node.link("podlane0").unwrap().mtu, 1400);
        assert_eq!(node.attached().len(), 1, "the gateway's alone");
    });
}

#[test]
fn the_service_manager_is_told() {
    with_node(|node| {
        let path = node.directory.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        manager.set_read_timeout(Some(deadline())).unwrap();
        node.configure(&[], "");
        let mut command = node.command();
        let mut child = command.env("NOTIFY_SOCKET", &path).spawn().unwrap();
        let mut buffer = [0; 32];
        let length = manager.recv(&mut buffer);
        let _ = child.kill();
        child.wait().unwrap();
        assert_eq!(&buffer[..length.unwrap()], b"READY=1");
    });
}

#[test]
fn a_pods_own_addresses_are_what_the_maps_say() {
    with_node(|mut node| {
        let web = Netns::new();
        node.provide("web", &web);
        node.configure(&[("web", 4)], "");
        node.start();
        let inner = web.run(|| {
            let mut inside = Handle::open().unwrap();
            let eth0 = inside.link("eth0").unwrap().unwrap();
            (eth0.mac.unwrap(), inside.addresses(&eth0).unwrap())
        });
        assert_eq!(inner.0, node.endpoint(4).unwrap().mac);
        assert!(inner.1.iter().any(|net| net.addr() == IpAddr::from([10, 200, 0, 4])));
    });
}
