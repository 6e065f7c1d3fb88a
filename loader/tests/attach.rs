//! Programs on devices that change under the loader's hands. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{path::Path, process};

use aya::programs::{SchedClassifier, TcAttachType};
use common::{counters::Hook, node::Node};
use loader::{
    bpf::{self, TcWay},
    desired::{Capacities, TcMode},
    netlink::{Handle, Link},
    paths::NodePaths,
};
use support::{can_run, in_new_netns};

#[expect(dead_code, reason = "other suites use the rest")]
mod support;

/// A device that was made again between a look and the next step has the name that was seen, and another index.
#[test]
fn a_device_that_has_taken_anothers_name_gets_no_link_by_its_number() {
    if !can_run() {
        return;
    }
    if let Err(reason) = bpf::tc_way(TcMode::Tcx) {
        println!("skipped: {reason}");
        return;
    }
    in_new_netns(|| {
        let paths = NodePaths::new(Path::new("/sys/fs/bpf"), &format!("plL-{}-attach", process::id()));
        let (node, capacities) = (Node::default(), Capacities::default());
        let request = bpf::Request { object: bpf::OBJECT, node, capacities, paths: &paths };
        let mut netlink = Handle::open().unwrap();
        let there = netlink.link("lo").unwrap().unwrap();
        let seen = Link { index: there.index + 1000, ..there.clone() };
        let mut programs = bpf::load(request).unwrap();
        let mut attach = |device: &Link| {
            let outcome = programs.ensure_attached(&mut netlink, Hook::ToPod, device, TcWay::Tcx);
            let (_, attached) = SchedClassifier::query_tcx("lo", TcAttachType::Egress).unwrap();
            let pins = [&seen, &there].map(|of| paths.link(Hook::ToPod.name(), of.index).exists());
            (outcome.map_err(|error| error.to_string()), attached.len(), pins)
        };
        let (refused, attached) = (attach(&seen), attach(&there));
        let (removed, errors) = bpf::remove_pins(&paths);
        assert_eq!((refused.1, refused.2), (0, [false, false]));
        assert!(refused.0.unwrap_err().contains("No such device"), "it is tried again");
        assert_eq!(attached, (Ok(()), 1, [false, true]));
        assert!(removed > 0 && errors.is_empty(), "{errors:?}");
    });
}
