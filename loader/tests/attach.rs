//! Programs on devices that change under the loader's hands. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    path::Path,
    process,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
};

use aya::{
    Ebpf,
    programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions},
};
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

/// Somebody else's programs come and go on a device while the loader looks at what is attached there: one that is gone when its turn
/// comes is nothing to the loader.
#[test]
fn programs_of_others_that_go_meanwhile_are_no_errors() {
    if !can_run() {
        return;
    }
    if let Err(reason) = bpf::tc_way(TcMode::Tcx) {
        println!("skipped: {reason}");
        return;
    }
    in_new_netns(|| {
        let paths = NodePaths::new(Path::new("/sys/fs/bpf"), &format!("plL-{}-others", process::id()));
        let (node, capacities) = (Node::default(), Capacities::default());
        let request = bpf::Request { object: bpf::OBJECT, node, capacities, paths: &paths };
        let mut netlink = Handle::open().unwrap();
        let device = netlink.link("lo").unwrap().unwrap();
        let mut programs = bpf::load(request).unwrap();
        let (over, rounds) = (AtomicBool::new(false), AtomicU32::new(0));
        let outcomes: Vec<Result<(), String>> = thread::scope(|scope| {
            let others = scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    // A program of its own each time: loaded, attached and gone, with its number.
                    let mut foreign = Ebpf::load(bpf::OBJECT).unwrap();
                    let program: &mut SchedClassifier =
                        foreign.program_mut("to_pod").unwrap().try_into().unwrap();
                    program.load().unwrap();
                    let order = TcAttachOptions::TcxOrder(LinkOrder::default());
                    program.attach_with_options("lo", TcAttachType::Egress, order).unwrap();
                    drop(foreign);
                    rounds.fetch_add(1, Ordering::Relaxed);
                }
            });
            let mut outcomes = Vec::new();
            while rounds.load(Ordering::Relaxed) < 20 && !others.is_finished() {
                let outcome = programs.ensure_attached(&mut netlink, Hook::ToPod, &device, TcWay::Tcx);
                outcomes.push(outcome.map_err(|error| error.to_string()));
            }
            over.store(true, Ordering::Relaxed);
            outcomes
        });
        let (_, errors) = bpf::remove_pins(&paths);
        assert!(errors.is_empty(), "{errors:?}");
        let failed: Vec<_> = outcomes.iter().filter(|outcome| outcome.is_err()).collect();
        assert!(failed.is_empty(), "{} of {}: {:?}", failed.len(), outcomes.len(), failed[0]);
    });
}
