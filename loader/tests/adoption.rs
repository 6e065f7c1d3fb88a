//! What a start finds pinned, and what it makes of it. Needs root.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, os::unix::fs::symlink, path::Path, process, thread};

use aya::maps::{HashMap, Map, MapData, MapInfo};
use common::{
    maps::{Connection, Tuple, name},
    node::Node,
};
use loader::{
    bpf::{self, BpfError, Programs},
    desired::Capacities,
    paths::NodePaths,
};
use nix::{
    mount::{MsFlags, mount, umount},
    sched::{CloneFlags, unshare},
};
use support::can_run;

#[expect(dead_code, reason = "other suites use the rest")]
mod support;

type Connections = HashMap<MapData, Tuple<[u8; 4]>, Connection<[u8; 4]>>;

/// Lets a connection of this number begin.
fn begin(connections: &mut Connections, number: u8) {
    let connection = Connection { becomes: tuple(100 + number), ..Connection::default() };
    connections.insert(tuple(number), connection, 0).unwrap();
}

/// Which connections there are, by number. What each of them has is looked at, too.
fn begun(connections: &Connections) -> Vec<u8> {
    let mut numbers: Vec<u8> = connections
        .iter()
        .map(|entry| {
            let (key, connection) = entry.unwrap();
            assert_eq!(connection.becomes, tuple(100 + key.src[3]));
            key.src[3]
        })
        .collect();
    numbers.sort_unstable();
    numbers
}

fn tuple(number: u8) -> Tuple<[u8; 4]> {
    Tuple { src: [10, 0, 0, number], ..Tuple::default() }
}

/// Pins of a node that go with the test.
struct Pins(NodePaths);

impl Pins {
    fn new(test: &str) -> Self {
        Self::at(Path::new("/sys/fs/bpf"), test)
    }

    fn at(bpffs: &Path, test: &str) -> Self {
        Self(NodePaths::new(bpffs, &format!("plL-{}-{test}", process::id())))
    }

    fn load(&self, capacities: Capacities) -> Result<Programs, BpfError> {
        bpf::load(bpf::Request { object: bpf::OBJECT, node: Node::default(), capacities, paths: &self.0 })
    }

    fn id(&self, map: &str) -> u32 {
        MapInfo::from_pin(self.0.map(map)).unwrap().id()
    }

    fn connections(&self, pin: &str) -> Connections {
        let map = Map::from_map_data(MapData::from_pin(self.0.map(pin)).unwrap()).unwrap();
        map.try_into().unwrap()
    }

    /// Names of what is pinned among the maps besides them.
    fn besides(&self) -> Vec<String> {
        let names = fs::read_dir(self.0.maps()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|found| !name::ALL.contains(&found.as_str())).collect()
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

/// OP-1: a start is killed when some devices run its programs, which use another table than the rest: connections that have begun
/// there are known after the next start, be it with the same size, with that of the pinned table or with a third one.
#[test]
fn connections_of_a_start_that_was_killed_are_not_forgotten() {
    if !can_run() {
        return;
    }
    let size = |conntrack| Capacities { conntrack, ..Capacities::default() };
    for (case, next) in [("same", size(1000)), ("back", size(500)), ("third", size(2000))] {
        let pins = Pins::new(case);
        drop(pins.load(size(500)).unwrap());
        let mut pinned = pins.connections(name::CONNTRACK4);
        begin(&mut pinned, 1);
        // The one that is killed.
        drop(pins.load(size(1000)).unwrap());
        let mut killed = pins.connections("conntrack4_next");
        begin(&mut killed, 2);
        assert_eq!((begun(&pinned), begun(&killed)), (vec![1], vec![1, 2]), "{case}");

        let mut programs = pins.load(next).unwrap();
        // What is attached goes on while this one prepares itself.
        begin(&mut pinned, 3);
        begin(&mut killed, 4);
        programs.catch_up().unwrap();
        begin(&mut killed, 5);
        // Killed as well; and the one after it gets through.
        drop(programs);
        pins.load(next).unwrap().commit().unwrap();
        let table = pins.connections(name::CONNTRACK4);
        assert_eq!(begun(&table), [1, 2, 3, 4, 5], "{case}");
        let info = MapInfo::from_pin(pins.0.map(name::CONNTRACK4)).unwrap();
        assert_eq!(info.max_entries(), next.conntrack, "{case}");
        assert_eq!(pins.besides(), Vec::<String>::new(), "{case}");
    }
}

/// OP-1: routes mean something else than those of the first loaders, whose programs may still be attached: they get maps of their own,
/// unless it is known that the pinned ones were filled by a loader like this one.
#[test]
fn maps_whose_entries_mean_something_else_are_made_anew() {
    if !can_run() {
        return;
    }
    let pins = Pins::new("revisions");
    let ids = || [name::ROUTES4, name::ROUTES6, name::PODS4, name::CONNTRACK4].map(|map| pins.id(map));
    let start = || pins.load(Capacities::default()).unwrap();
    start().commit().unwrap();
    let first = ids();
    start().commit().unwrap();
    assert_eq!(ids(), first, "they are this loader's");

    // As the first loaders have left it.
    fs::remove_file(pins.0.revisions()).unwrap();
    drop(start());
    assert_eq!(ids(), first, "nothing has taken their places yet");
    start().commit().unwrap();
    let [routes4, routes6, pods4, connections] = ids();
    assert!(routes4 != first[0] && routes6 != first[1], "routes are made anew");
    assert_eq!([pods4, connections], [first[2], first[3]], "and nothing else");
    assert_eq!(pins.besides(), Vec::<String>::new());

    // With programs of another loader, which has not said anything about its maps.
    let (pinned, other) = (pins.0.program("from_host"), pins.0.program("from_pod"));
    fs::remove_file(&pinned).unwrap();
    fs::rename(other, pinned).unwrap();
    start().commit().unwrap();
    assert!(pins.id(name::ROUTES4) != routes4 && pins.id(name::ROUTES6) != routes6);
    assert_eq!(pins.id(name::PODS4), pods4);
}

/// OP-1: what is remembered of flows and ways has had other layouts: a pinned map with another one is not taken for it.
#[test]
fn a_map_of_another_layout_is_made_anew() {
    if !can_run() {
        return;
    }
    let pins = Pins::new("layouts");
    let start = || pins.load(Capacities::default()).unwrap().commit().unwrap();
    let layouts = || {
        [name::FLOWS4, name::HOPS].map(|map| {
            let info = MapInfo::from_pin(pins.0.map(map)).unwrap();
            (info.key_size(), info.value_size(), info.max_entries())
        })
    };
    start();
    let before = layouts();
    // Both are arrays, of values of different lengths.
    assert_ne!(before[0].1, before[1].1);
    fs::rename(pins.0.map(name::HOPS), pins.0.map(name::FLOWS4)).unwrap();
    start();
    assert_eq!(layouts(), before);
    assert_eq!(pins.besides(), Vec::<String>::new());
}

/// Pins that are taken away while the loader runs are made again, with the same maps.
#[test]
fn pins_that_were_taken_away_are_made_again() {
    if !can_run() {
        return;
    }
    let pins = Pins::new("taken");
    let mut programs = pins.load(Capacities::default()).unwrap();
    programs.commit().unwrap();
    begin(&mut pins.connections(name::CONNTRACK4), 1);
    let ids = || name::ALL.map(|map| pins.id(map));
    let before = ids();
    fs::remove_dir_all(pins.0.pins()).unwrap();
    programs.ensure_pinned().unwrap();
    programs.commit().unwrap();
    assert_eq!(ids(), before);
    assert!(
        pins.0.program("from_pod").exists() && pins.0.revisions().is_symlink() && pins.0.links().exists()
    );
    assert_eq!(begun(&pins.connections(name::CONNTRACK4)), [1]);
    // One alone, too; and what is there stays as it is.
    fs::remove_file(pins.0.map(name::PODS4)).unwrap();
    programs.ensure_pinned().unwrap();
    assert_eq!(ids(), before);
}

/// So they are when all of the BPF file system has been taken away.
#[test]
fn a_bpf_file_system_that_was_unmounted_is_mounted_again() {
    if !can_run() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let bpffs = directory.path();
    let test = || {
        // What is mounted here is seen by nobody else, and goes with the thread.
        unshare(CloneFlags::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>).unwrap();
        bpf::check_environment(bpffs).unwrap();
        let pins = Pins::at(bpffs, "unmounted");
        let mut programs = pins.load(Capacities::default()).unwrap();
        programs.commit().unwrap();
        let before = pins.id(name::CONNTRACK4);
        umount(bpffs).unwrap();
        assert!(!pins.0.pins().exists());
        programs.ensure_pinned().unwrap();
        assert_eq!(pins.id(name::CONNTRACK4), before);
        assert_eq!(pins.besides(), Vec::<String>::new());
    };
    thread::scope(|scope| scope.spawn(test).join()).unwrap();
}
