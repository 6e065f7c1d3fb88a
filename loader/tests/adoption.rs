//! What a start finds pinned, and what it makes of it. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, os::unix::fs::symlink, path::Path, process};

use aya::maps::MapInfo;
use common::{maps::name, node::Node};
use loader::{
    bpf::{self, BpfError, Programs},
    desired::Capacities,
    paths::NodePaths,
};
use support::can_run;

#[expect(dead_code, reason = "other suites use the rest")]
mod support;

/// Pins of a node that go with the test.
struct Pins(NodePaths);

impl Pins {
    fn new(test: &str) -> Self {
        Self(NodePaths::new(Path::new("/sys/fs/bpf"), &format!("plL-{}-{test}", process::id())))
    }

    fn load(&self, capacities: Capacities) -> Result<Programs, BpfError> {
        bpf::load(bpf::Request { object: bpf::OBJECT, node: Node::default(), capacities, paths: &self.0 })
    }

    fn id(&self, map: &str) -> u32 {
        MapInfo::from_pin(self.0.map(map)).unwrap().id()
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        let _ = bpf::remove_pins(&self.0);
    }
}

/// Only a pin that is not there means that there is no map: one that can't be opened now may be opened later, and then it has every
/// connection.
#[test]
fn a_pin_that_cannot_be_opened_is_an_error_and_stays() {
    if !can_run() {
        return;
    }
    let pins = Pins::new("unopened");
    drop(pins.load(Capacities::default()).unwrap());
    let (pin, aside) = (pins.0.map(name::CONNTRACK4), pins.0.map("aside"));
    let (connections, services) = (pins.id(name::CONNTRACK4), pins.id(name::SERVICES));
    fs::rename(&pin, &aside).unwrap();
    // A link to itself can't be opened by anybody.
    symlink(&pin, &pin).unwrap();
    let said = pins.load(Capacities::default()).map(drop).unwrap_err().to_string();
    assert!(said.contains(&pin.display().to_string()) && said.contains("symbolic link"), "{said}");
    assert!(pin.is_symlink(), "it is left alone");

    fs::rename(&aside, &pin).unwrap();
    drop(pins.load(Capacities::default()).unwrap());
    assert_eq!((pins.id(name::CONNTRACK4), pins.id(name::SERVICES)), (connections, services));
}
