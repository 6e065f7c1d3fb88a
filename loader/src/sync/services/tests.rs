use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    rc::Rc,
};

use common::maps::{Selection, scope};

use super::*;
use crate::desired::services::{Candidates, Exposure, Owner, Protocol};

/// A map that outlives the loader.
#[derive(Clone)]
struct Pinned<K, V> {
    name: &'static str,
    capacity: u32,
    entries: Rc<RefCell<BTreeMap<K, V>>>,
    /// How many more entries it takes before it refuses one.
    refuses: Rc<Cell<Option<usize>>>,
}

impl<K: Ord + Copy, V: Copy> MapOps<K, V> for Pinned<K, V> {
    fn name(&self) -> &'static str {
        self.name
    }

    fn capacity(&self) -> u32 {
        self.capacity
    }

    fn list(&self) -> io::Result<BTreeMap<K, V>> {
        Ok(self.entries.borrow().clone())
    }

    fn insert(&mut self, key: &K, value: &V) -> io::Result<()> {
        let refuses = self.refuses.take();
        if refuses == Some(0) {
            return Err(io::Error::from_raw_os_error(libc::ENOMEM));
        }
        self.refuses.set(refuses.map(|takes| takes - 1));
        let mut entries = self.entries.borrow_mut();
        if entries.len() >= self.capacity as usize && !entries.contains_key(key) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        entries.insert(*key, *value);
        Ok(())
    }

    fn remove(&mut self, key: &K) -> io::Result<()> {
        self.entries.borrow_mut().remove(key);
        Ok(())
    }
}

fn pinned<K, V>(name: &'static str) -> Pinned<K, V> {
    Pinned { name, capacity: 64, entries: Rc::default(), refuses: Rc::default() }
}

/// The maps as the kernel has them: arrays as files that are mapped anew by each loader.
struct Kernel {
    arrays: [(std::fs::File, u32, usize); 4],
    frontends: Pinned<FrontendKey, Frontend>,
    source_ranges: Pinned<Prefix<20>, u32>,
}

impl Kernel {
    fn new(maglev: u32) -> Self {
        let array = |elements: u32, size: usize| {
            let file = tempfile::tempfile().unwrap();
            file.set_len(u64::from(elements) * u64::try_from(size.next_multiple_of(8)).unwrap()).unwrap();
            (file, elements, size)
        };
        Self {
            arrays: [array(16, 32), array(32, 32), array(maglev, 4), array(::common::interest::WORDS, 8)],
            frontends: pinned("frontends"),
            source_ranges: pinned("source_ranges"),
        }
    }

    /// What a loader that is started finds.
    fn loader(&self) -> Services {
        let [services, backends, maglev, interest] =
            self.arrays.each_ref().map(|(file, elements, size)| Shared::map(file, *elements, *size).unwrap());
        Services::adopt(ServiceMaps {
            services,
            backends,
            maglev,
            interest,
            frontends: Box::new(self.frontends.clone()),
            source_ranges: Box::new(self.source_ranges.clone()),
        })
        .unwrap()
    }

    /// Whom a frontend leads to, as a program finds it, and the generation of its service.
    fn call(&self, address: &str, port: u16) -> Option<(u32, Vec<(IpAddr, u32)>)> {
        let loader = self.loader();
        let key = |port: u16, protocol| FrontendKey {
            address: elements::wide(address.parse().unwrap()),
            port: port.to_be_bytes(),
            protocol,
            family: 4,
            scope: scope::CALLED,
        };
        let id = self.frontends.entries.borrow().get(&key(port, 6))?.service;
        let service = elements::read_service(&loader.room.maps.services, id);
        let mut backends = BTreeSet::new();
        if let Selection::Table { first, count } = Selection::unpack(service.inside) {
            for at in first..first + count {
                let id = u32::try_from(loader.room.maps.maglev.load(at, 0)).unwrap();
                let backend = elements::read_backend(&loader.room.maps.backends, id);
                assert_eq!(
                    (backend.group, backend.family),
                    (service.group, 4),
                    "a live backend of this service"
                );
                let [a, b, c, d, ..] = backend.address;
                backends.insert((IpAddr::from([a, b, c, d]), backend.generation));
            }
        }
        Some((service.generation, backends.into_iter().collect()))
    }

    /// The prefixes of the first service's clients.
    fn clients(&self) -> Vec<String> {
        let entries = self.source_ranges.entries.borrow();
        let client = |Prefix { len, data }: &Prefix<20>| {
            assert_eq!(data[..4], [0; 4], "the first service's");
            format!("{}.{}.{}.{}/{}", data[4], data[5], data[6], data[7], len - u32::BITS)
        };
        entries.keys().map(client).collect()
    }

    fn addresses(&self, frontend: &str) -> Vec<String> {
        let (_, backends) = self.call(frontend, 80).unwrap();
        backends.into_iter().map(|(address, _)| address.to_string()).collect()
    }
}

fn endpoint(last: u8) -> Endpoint {
    Endpoint {
        address: [10, 200, 0, last].into(),
        port: 8080,
        node: None,
        weight: 1,
        state: State::Ready,
        placement: Placement::Local,
    }
}

fn port(name: &str, frontend: &str, endpoints: &[u8]) -> ServicePort {
    let candidates = if endpoints.is_empty() {
        Candidates::Reject
    } else {
        Candidates::Endpoints((0..endpoints.len()).collect())
    };
    ServicePort {
        owner: Owner::Service,
        service: name.to_owned(),
        port_name: None,
        family: Family::V4,
        protocol: Protocol::Tcp,
        port: 80,
        affinity_seconds: 0,
        random: false,
        endpoints: endpoints.iter().copied().map(endpoint).collect(),
        exposures: vec![Exposure {
            kind: Kind::ClusterIp,
            frontends: vec![(frontend.parse().unwrap(), 80)],
            inside: candidates.clone(),
            outside: candidates,
            source_ranges: Vec::new(),
            inside_local: false,
            outside_local: false,
            dsr: false,
        }],
    }
}

fn restricted(endpoints: &[u8], source_ranges: &[&str]) -> ServicePort {
    let mut port = port("a", "10.32.0.1", endpoints);
    port.exposures[0].source_ranges = source_ranges.iter().map(|range| range.parse().unwrap()).collect();
    port
}

fn wanted(ports: &[ServicePort]) -> Wanted<'_> {
    Wanted { ports, nodes: BTreeSet::new(), loopback: Vec::new() }
}

#[test]
fn a_service_is_found_by_its_frontend_and_its_address_is_its_own() {
    let kernel = Kernel::new(4096);
    let mut loader = kernel.loader();
    let synced = loader.sync(wanted(&[port("a", "10.32.0.1", &[1, 2, 3]), port("b", "10.32.0.2", &[])]));
    assert_eq!(synced, Synced { changed: 2, gone: 0, problems: Vec::new() });
    assert_eq!(kernel.addresses("10.32.0.1"), ["10.200.0.1", "10.200.0.2", "10.200.0.3"]);
    assert!(kernel.addresses("10.32.0.2").is_empty());
    let entries = kernel.frontends.entries.borrow();
    let addresses = entries.values().filter(|frontend| frontend.service == Frontend::ADDRESS).count();
    assert_eq!((entries.len(), addresses), (4, 2));
}

#[test]
fn only_what_differs_changes() {
    let kernel = Kernel::new(4096);
    let mut loader = kernel.loader();
    loader.sync(wanted(&[port("a", "10.32.0.1", &[1, 2]), port("b", "10.32.0.2", &[3])]));
    let before = (kernel.call("10.32.0.1", 80), kernel.call("10.32.0.2", 80));
    let synced = loader.sync(wanted(&[port("a", "10.32.0.1", &[1, 2]), port("b", "10.32.0.2", &[3, 4])]));
    assert_eq!(synced.changed, 1);
    assert_eq!(kernel.call("10.32.0.1", 80), before.0);
    let ((generation, backends), (before, stayed)) =
        (kernel.call("10.32.0.2", 80).unwrap(), before.1.unwrap());
    assert_eq!(generation, before, "its connections go on");
    assert_eq!((backends.len(), backends[0]), (2, stayed[0]), "so do those of the backend that stays");
    assert_eq!(
        loader.sync(wanted(&[port("a", "10.32.0.1", &[1, 2]), port("b", "10.32.0.2", &[3, 4])])).changed,
        0
    );
}

#[test]
fn connections_of_what_goes_are_stale_even_if_it_comes_back() {
    let kernel = Kernel::new(4096);
    let mut loader = kernel.loader();
    loader.sync(wanted(&[port("a", "10.32.0.1", &[1, 2])]));
    let (service, backends) = kernel.call("10.32.0.1", 80).unwrap();
    assert_eq!(loader.sync(wanted(&[port("a", "10.32.0.1", &[2])])).gone, 1);
    assert_eq!(loader.sync(wanted(&[port("a", "10.32.0.1", &[1, 2])])).gone, 0);
    let (same, again) = kernel.call("10.32.0.1", 80).unwrap();
    assert_eq!((same, again[1]), (service, backends[1]));
    // A free element is taken that the connections of the first one don't know.
    let old = elements::read_backend(&loader.room.maps.backends, 0).generation;
    assert_eq!(old, backends[0].1 + 1);
    loader.sync(wanted(&[]));
    assert_eq!(kernel.call("10.32.0.1", 80), None);
    assert!(kernel.frontends.entries.borrow().is_empty());
    assert_eq!(elements::read_service(&loader.room.maps.services, 0).generation, service + 1);
}

#[test]
fn a_frontend_that_changes_hands_is_never_nobodys() {
    let kernel = Kernel::new(4096);
    let mut loader = kernel.loader();
    loader.sync(wanted(&[port("a", "10.32.0.1", &[1]), port("b", "10.32.0.2", &[2])]));
    loader.sync(wanted(&[port("a", "10.32.0.2", &[1]), port("b", "10.32.0.1", &[2])]));
    assert_eq!(kernel.addresses("10.32.0.1"), ["10.200.0.2"]);
    assert_eq!(kernel.addresses("10.32.0.2"), ["10.200.0.1"]);
    assert_eq!(kernel.frontends.entries.borrow().len(), 4);
}

#[test]
fn a_loader_that_is_started_again_changes_nothing() {
    let kernel = Kernel::new(4096);
    let ports = [port("a", "10.32.0.1", &[1, 2, 3]), port("b", "10.32.0.2", &[1, 2])];
    kernel.loader().sync(wanted(&ports));
    let before = (kernel.call("10.32.0.1", 80), kernel.call("10.32.0.2", 80));
    let mut loader = kernel.loader();
    assert!(loader.sync(wanted(&ports)).problems.is_empty());
    assert_eq!((kernel.call("10.32.0.1", 80), kernel.call("10.32.0.2", 80)), before);
    let elements =
        loader.ports.iter().map(|port| port.tables.iter().map(|table| table.range.count).sum::<u32>());
    assert_eq!(4096 - loader.room.ranges.free(), u64::from(elements.sum::<u32>()), "tables were taken over");
}

#[test]
fn what_was_asked_for_while_no_loader_ran_is_made_up_for() {
    let kernel = Kernel::new(4096);
    kernel.loader().sync(wanted(&[port("a", "10.32.0.1", &[1, 2]), port("b", "10.32.0.2", &[3])]));
    let (service, backends) = kernel.call("10.32.0.1", 80).unwrap();
    let mut loader = kernel.loader();
    loader.sync(wanted(&[port("a", "10.32.0.1", &[2, 4])]));
    let (same, now) = kernel.call("10.32.0.1", 80).unwrap();
    assert_eq!((same, now[0]), (service, backends[1]));
    assert_eq!(kernel.call("10.32.0.2", 80), None);
    assert_eq!(kernel.frontends.entries.borrow().len(), 2);
    let in_use = (0..32).filter(|id| elements::read_backend(&loader.room.maps.backends, *id).family != 0);
    assert_eq!(in_use.count(), 2);
}

#[test]
fn a_service_for_which_a_loader_that_is_started_has_no_room_stays_as_it_was_until_there_is() {
    let clients = ["192.0.2.0/24"];
    let kernel = Kernel::new(700);
    kernel.loader().sync(wanted(&[restricted(&[1, 2], &clients), port("b", "10.32.0.2", &[3, 4])]));
    let before = kernel.call("10.32.0.1", 80);
    let mut loader = kernel.loader();
    let new = [restricted(&[1, 5], &clients)];
    // What the other one has left is free from the second time on, and not enough then for as many.
    let many = [restricted(&[1, 5, 6, 7, 8, 9, 10, 11, 12, 13], &clients)];
    for (asked, free, missing) in [(&new, 198, 251), (&many, 449, 1021)] {
        let synced = loader.sync(wanted(asked));
        assert_eq!(
            synced.problems,
            [format!(
                "service a, port 80/TCP (IPv4): map maglev has room for {free} of {missing} new entries: raise `maglev` in [maps]; it stays as it was"
            )]
        );
        assert_eq!((synced.changed, loader.is_new()), (0, false));
        assert_eq!(kernel.call("10.32.0.1", 80), before);
        assert_eq!(kernel.call("10.32.0.2", 80), None);
        assert_eq!(kernel.frontends.entries.borrow().len(), 2, "the frontend and its address");
        assert_eq!(kernel.clients(), clients);
        let of_other = port("b", "10.32.0.2", &[3, 4]);
        assert_eq!(loader.lingering_bits(), &bits(&of_other).collect());
    }

    std::thread::sleep(ranges::QUARANTINE);
    let synced = loader.sync(wanted(&new));
    assert_eq!(synced, Synced { changed: 1, gone: 1, problems: Vec::new() });
    let (before, after) = (before.unwrap(), kernel.call("10.32.0.1", 80).unwrap());
    assert_eq!((after.0, after.1[0]), (before.0, before.1[0]), "its connections go on");
    assert_eq!(kernel.addresses("10.32.0.1"), ["10.200.0.1", "10.200.0.5"]);
    assert_eq!(kernel.clients(), clients);
    assert_eq!(700 - loader.room.ranges.free(), 251);
    let [gone, stays] = [2, 1]
        .map(|last| endpoint_bit(endpoint(last).address, 8080, 6))
        .map(|bit| loader.lingering_bits().contains(&bit));
    assert_eq!((gone, stays), (true, false));
    loader.sync(wanted(&[]));
    assert!(bits(&new[0]).all(|bit| loader.lingering_bits().contains(&bit)), "each was wanted once");
}

#[test]
fn a_service_that_is_no_longer_asked_for_is_not_spared_any_longer() {
    let kernel = Kernel::new(300);
    kernel.loader().sync(wanted(&[port("a", "10.32.0.1", &[1, 2])]));
    let mut loader = kernel.loader();
    assert_eq!(loader.sync(wanted(&[port("a", "10.32.0.1", &[1, 3])])).problems.len(), 1);
    assert_eq!(kernel.addresses("10.32.0.1"), ["10.200.0.1", "10.200.0.2"]);
    assert_eq!(loader.sync(wanted(&[])), Synced { changed: 0, gone: 2, problems: Vec::new() });
    assert!(kernel.frontends.entries.borrow().is_empty());
    assert_eq!(
        (loader.room.ranges.free(), loader.room.backends.free(), loader.room.services.free()),
        (300, 32, 16)
    );
    assert!(bits(&port("a", "10.32.0.1", &[1, 2])).all(|bit| loader.lingering_bits().contains(&bit)));
}

#[test]
fn a_service_without_room_keeps_what_it_has_and_others_change() {
    let kernel = Kernel::new(300);
    let mut loader = kernel.loader();
    loader.sync(wanted(&[port("a", "10.32.0.1", &[1, 2]), port("b", "10.32.0.2", &[3])]));
    let synced = loader.sync(wanted(&[
        port("a", "10.32.0.1", &[1, 2]),
        port("b", "10.32.0.2", &[3, 4]),
        port("c", "10.32.0.3", &[5]),
    ]));
    assert_eq!(
        synced.problems,
        [
            "service b, port 80/TCP (IPv4): map maglev has room for 48 of 251 new entries: raise `maglev` in [maps]; it stays as it was"
        ]
    );
    assert_eq!(kernel.addresses("10.32.0.2"), ["10.200.0.3"]);
    assert_eq!(kernel.addresses("10.32.0.3"), ["10.200.0.5"]);
    let free = (loader.room.backends.free(), loader.room.ranges.free());
    loader.sync(wanted(&[
        port("a", "10.32.0.1", &[1, 2]),
        port("b", "10.32.0.2", &[3, 4]),
        port("c", "10.32.0.3", &[5]),
    ]));
    assert_eq!((loader.room.backends.free(), loader.room.ranges.free()), free, "nothing leaks");
}

#[test]
fn source_ranges_follow_their_service() {
    let kernel = Kernel::new(300);
    let mut loader = kernel.loader();
    let mut port = restricted(&[1], &["192.0.2.0/24", "198.51.100.0/24"]);
    loader.sync(wanted(&[port.clone()]));
    assert_eq!(kernel.source_ranges.entries.borrow().len(), 2);
    port.exposures[0].source_ranges.pop();
    loader.sync(wanted(&[port.clone()]));
    assert_eq!(kernel.source_ranges.entries.borrow().len(), 1);
    port.exposures[0].source_ranges.clear();
    loader.sync(wanted(&[port]));
    assert!(kernel.source_ranges.entries.borrow().is_empty());
    assert_eq!(elements::read_service(&loader.room.maps.services, 0).flags, 0);
}

#[test]
fn where_clients_fit_in_but_once_those_that_are_withdrawn_make_room() {
    let mut kernel = Kernel::new(1024);
    kernel.source_ranges.capacity = 2;
    let mut loader = kernel.loader();
    loader.sync(wanted(&[restricted(&[1, 2], &["192.0.2.0/24", "198.51.100.0/24"])]));
    let synced = loader.sync(wanted(&[restricted(&[1, 3], &["192.0.2.0/24", "203.0.113.0/24"])]));
    assert_eq!(synced, Synced { changed: 1, gone: 1, problems: Vec::new() });
    assert_eq!(kernel.addresses("10.32.0.1"), ["10.200.0.1", "10.200.0.3"]);
    assert_eq!(kernel.clients(), ["192.0.2.0/24", "203.0.113.0/24"]);

    let more = ["192.0.2.0/24", "203.0.113.0/25", "203.0.113.128/25"];
    let synced = loader.sync(wanted(&[restricted(&[4], &more)]));
    assert_eq!(
        synced.problems,
        [
            "service a, port 80/TCP (IPv4): map source_ranges has room for 1 of 2 new entries: raise `source-ranges` in [maps]; \
             it stays as it was"
        ]
    );
    assert_eq!(kernel.addresses("10.32.0.1"), ["10.200.0.1", "10.200.0.3"]);
    assert_eq!(kernel.clients(), ["192.0.2.0/24", "203.0.113.0/24"]);
}

#[test]
fn a_service_whose_clients_are_not_taken_keeps_what_it_has_until_they_are() {
    let mut kernel = Kernel::new(1024);
    kernel.source_ranges.capacity = 3;
    let mut loader = kernel.loader();
    loader.sync(wanted(&[restricted(&[1, 2], &["192.0.2.0/24", "198.51.100.0/24"])]));
    let before = kernel.call("10.32.0.1", 80);
    let free = |loader: &Services| {
        (loader.room.groups.free(), loader.room.backends.free(), loader.room.ranges.free())
    };
    let free_before = free(&loader);

    // One of them goes for the new two, of which the second is refused.
    kernel.source_ranges.refuses.set(Some(1));
    let other = [restricted(&[1, 3], &["192.0.2.0/24", "203.0.113.0/25", "203.0.113.128/25"])];
    let synced = loader.sync(wanted(&other));
    assert_eq!((synced.changed, synced.gone), (0, 0));
    assert_eq!(
        synced.problems,
        [
            "service a, port 80/TCP (IPv4): map source_ranges: Cannot allocate memory (os error 12); it stays as it was"
        ]
    );
    assert_eq!(kernel.call("10.32.0.1", 80), before);
    assert_eq!(free(&loader), free_before, "nothing leaks");
    assert_eq!(kernel.clients(), ["192.0.2.0/24", "198.51.100.0/24"]);

    assert!(loader.sync(wanted(&other)).problems.is_empty());
    assert_eq!(kernel.addresses("10.32.0.1"), ["10.200.0.1", "10.200.0.3"]);
    assert_eq!(kernel.clients(), ["192.0.2.0/24", "203.0.113.0/25", "203.0.113.128/25"]);
}

#[test]
fn a_frontend_that_is_not_taken_keeps_no_other_out() {
    let kernel = Kernel::new(1024);
    let mut loader = kernel.loader();
    let mut port = port("a", "10.32.0.1", &[1]);
    loader.sync(wanted(&[port.clone()]));
    port.exposures[0].frontends.extend(["10.32.0.2", "10.32.0.3"].map(|it| (it.parse().unwrap(), 80)));
    port.endpoints[0] = endpoint(2);
    kernel.frontends.refuses.set(Some(0));
    let synced = loader.sync(wanted(&[port.clone()]));
    assert_eq!(synced.problems, ["service a, port 80/TCP (IPv4): Cannot allocate memory (os error 12)"]);
    assert_eq!(kernel.addresses("10.32.0.1"), ["10.200.0.2"]);
    assert_eq!(kernel.call("10.32.0.2", 80), None);
    assert_eq!(kernel.addresses("10.32.0.3"), ["10.200.0.2"]);
    assert!(loader.sync(wanted(&[port])).problems.is_empty());
    assert_eq!(kernel.addresses("10.32.0.2"), ["10.200.0.2"]);
}

#[test]
fn bits_linger_for_the_connections_of_what_is_gone() {
    let kernel = Kernel::new(300);
    let mut loader = kernel.loader();
    loader.sync(wanted(&[port("a", "10.32.0.1", &[1])]));
    loader.sync(wanted(&[]));
    let backend = endpoint_bit([10, 200, 0, 1].into(), 8080, 6);
    let called = [10, 32, 0, 1].into();
    let frontend = [address_bit(called), endpoint_bit(called, 80, 6)];
    assert_eq!(loader.lingering_bits(), &HashSet::from([backend, frontend[0], frontend[1]]));
    loader.clear_bits([backend]);
    assert_eq!(loader.lingering_bits(), &HashSet::from(frontend));
    assert_eq!(
        kernel.loader().lingering_bits(),
        loader.lingering_bits(),
        "a loader that is started finds them"
    );
}

#[test]
fn a_nodes_address_is_never_services_alone() {
    let kernel = Kernel::new(300);
    let mut loader = kernel.loader();
    let ports = [port("a", "10.240.0.20", &[1])];
    let nodes = BTreeSet::from([IpAddr::from([10, 240, 0, 20])]);
    loader.sync(Wanted { ports: &ports, nodes, loopback: Vec::new() });
    assert_eq!(kernel.frontends.entries.borrow().len(), 1);
    loader.sync(wanted(&ports));
    assert_eq!(kernel.frontends.entries.borrow().len(), 2);
}

/// Of many services the one that changes is taken for changed, and no other; a loader that starts anew takes all of them up.
#[test]
fn one_service_among_many_changes_alone() {
    let kernel = Kernel {
        arrays: {
            let array = |elements: u32, size: usize| {
                let file = tempfile::tempfile().unwrap();
                file.set_len(u64::from(elements) * u64::try_from(size.next_multiple_of(8)).unwrap()).unwrap();
                (file, elements, size)
            };
            [array(2048, 32), array(10_000, 32), array(1_000_000, 4), array(::common::interest::WORDS, 8)]
        },
        frontends: Pinned { capacity: 65536, ..pinned("frontends") },
        source_ranges: pinned("source_ranges"),
    };
    let mut ports: Vec<ServicePort> = (0..500_u32)
        .map(|number| {
            let [_, _, a, b] = number.to_be_bytes();
            let mut port =
                port(&format!("s{number:05}"), &format!("10.32.{a}.{b}"), &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
            port.endpoints.iter_mut().zip(0..).for_each(|(endpoint, last)| {
                endpoint.address = [10, a, b, last].into();
                endpoint.node = Some("worker-1".to_owned());
            });
            port
        })
        .collect();
    let mut loader = kernel.loader();
    assert!(loader.sync(wanted(&ports)).problems.is_empty());
    for round in 0..5 {
        ports[250].endpoints[0].address = [10, 250, round, 1].into();
        assert_eq!(loader.sync(wanted(&ports)).changed, 1);
    }
    assert_eq!(kernel.loader().sync(wanted(&ports)).changed, 500);
}
