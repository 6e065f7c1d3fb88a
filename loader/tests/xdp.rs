//! XDP on an uplink whose driver has none of its own. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;

use loader::{
    inspect,
    netlink::XdpPrograms,
    xdp::{Choice, Mode},
};
use nix::sys::signal::Signal;
use node::{Node, wait_until};
use support::{can_run, in_new_netns};

#[expect(dead_code, reason = "other suites use the rest")]
#[path = "support/node.rs"]
mod node;
#[expect(dead_code, reason = "other suites use the rest")]
mod support;

/// Runs `test` with a node in a network namespace of its own, whose uplink is one of the devices that discard what they are
/// sent.
fn with_node(test: impl FnOnce(Node) + Send) {
    if can_run() {
        in_new_netns(|| test(Node::new()));
    }
}

/// How a refusal by the uplink's driver begins.
fn refused(node: &mut Node) -> String {
    format!("driver {} refused native XDP on up0: ", node.link("up0").unwrap().kind.unwrap())
}

fn running(node: &mut Node) -> XdpPrograms {
    node.link("up0").unwrap().xdp
}

fn choice(node: &Node) -> Choice {
    node.state().xdp[0].choice.clone()
}

fn mode(mode: &str) -> String {
    format!("[xdp]\nmode = \"{mode}\"")
}

#[test]
fn what_the_driver_refuses_is_generic_if_native_is_asked_for() {
    with_node(|mut node| {
        node.configure(&[], &mode("native"));
        node.start();
        let Choice { mode, why } = choice(&node);
        assert_eq!(mode, Mode::Generic);
        assert!(why.starts_with(&refused(&mut node)) && why.ends_with("; it has no native XDP"), "{why}");
        assert!(node.log().contains(&format!("uplink up0: XDP generic: {why}")), "{}", node.log());
        assert!(node.state().problems.is_empty(), "{:?}", node.state().problems);
        let (link, program) = node.attachment("uplink_xdp", "up0");
        assert_eq!(running(&mut node), XdpPrograms { generic: Some(program), ..XdpPrograms::default() });
        let status = inspect::status(&node.paths).unwrap();
        assert_eq!(status.facts.unwrap().xdp[0].choice, choice(&node));

        // What is known is not tried again: the link stays, whoever asks.
        node.stop(Signal::SIGKILL);
        node.start();
        let (same, program) = node.attachment("uplink_xdp", "up0");
        assert_eq!(same, link);
        assert_eq!(running(&mut node).generic, Some(program));
        assert_eq!(choice(&node), Choice { mode, why });
    });
}

#[test]
fn what_the_driver_refuses_is_off_if_the_choice_is_ours() {
    with_node(|mut node| {
        node.configure(&[], &mode("auto"));
        node.start();
        let Choice { mode, why } = choice(&node);
        assert_eq!(mode, Mode::Off);
        assert!(why.starts_with(&refused(&mut node)) && why.contains("generic XDP does not pay"), "{why}");
        assert_eq!(running(&mut node), XdpPrograms::default());
        assert_eq!(node.attached().iter().filter(|link| link.starts_with("uplink_xdp")).count(), 0);
        assert!(!node.paths.program("uplink_xdp").exists(), "programs that expect XDP are replaced");
        assert!(node.state().problems.is_empty(), "{:?}", node.state().problems);
    });
}

#[test]
fn another_mtu_is_another_try() {
    with_node(|mut node| {
        node.configure(&[], &format!("{}\n[overlay]\nmtu = 1400", mode("native")));
        node.start();
        let (before, _) = node.attachment("uplink_xdp", "up0");
        let uplink = node.link("up0").unwrap();
        node.netlink.set_mtu(&uplink, 9000).unwrap();
        wait_until("the state tells of the MTU", || choice(&node).why.contains("its MTU is 9000"));
        assert!(choice(&node).why.contains("takes 3498 at most"), "{:?}", choice(&node));
        assert_ne!(node.attachment("uplink_xdp", "up0").0, before);
    });
}

#[test]
fn a_link_that_is_taken_away_is_made_again() {
    with_node(|mut node| {
        node.configure(&[], &mode("generic"));
        node.start();
        let index = node.link("up0").unwrap().index;
        let (before, _) = node.attachment("uplink_xdp", "up0");
        fs::remove_file(node.paths.link("uplink_xdp", index)).unwrap();
        // The kernel has no news of it. The loader may still be looking at news of what it did itself, and then it is there
        // again before anybody sees that it was gone.
        node.signal(Signal::SIGHUP);
        wait_until("there is another link", || {
            node.attached().contains(&format!("uplink_xdp_{index}"))
                && node.attachment("uplink_xdp", "up0").0 != before
        });
        let (_, program) = node.attachment("uplink_xdp", "up0");
        assert_eq!(running(&mut node).generic, Some(program));
        // It is written down last.
        let expected = Choice { mode: Mode::Generic, why: "as configured".to_owned() };
        wait_until("the state says so", || choice(&node) == expected);
    });
}
