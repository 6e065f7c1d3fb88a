//! Frontends that become another service's, or nobody's, while connections to them go on.

use common::{
    counters::Reason,
    maps::{Frontend, FrontendKey, Selection, scope},
    node::feature,
};

use crate::{
    cluster::serving::{NODE_PORT, backend, service},
    message::{Message, Upper, flag},
    world::{Called, Party, World},
};

/// A service whose only backend is number [`OTHERS`].
const OTHER: u32 = 50;
const OTHERS: usize = 1;
const UDP: Upper = Upper::Udp { checksum: true };

/// A client outside that calls the node port, whose service has backend 0 alone.
fn world(v6: bool) -> (World, impl Fn(Upper) -> Message) {
    let mut world = World::new(v6);
    let services = &mut world.memory.services;
    for (first, nth, id) in [(5000, 0, service(v6)), (6000, OTHERS, OTHER)] {
        let choice = Selection::Table { first, count: 1 }.pack();
        let mut service = services.services[&service(v6)];
        (service.inside, service.outside) = (choice, choice);
        services.services.insert(id, service);
        services.maglev.insert(first, backend(v6, nth));
    }
    let message = move |upper| Message {
        src: (Party::Outside.address(v6), 40_000),
        dst: Called::NodePort.place(v6),
        upper,
        payload: vec![1, 2, 3],
    };
    (world, message)
}

/// Gives the node port to a service, or takes it away.
fn move_to(world: &mut World, service: Option<u32>) {
    let frontends = &mut world.memory.services.frontends;
    frontends.retain(|key, _| service.is_some() || key.port != NODE_PORT.to_be_bytes());
    for (key, frontend) in frontends {
        if let Some(service) = service.filter(|_| key.port == NODE_PORT.to_be_bytes()) {
            *frontend = Frontend { service };
        }
    }
}

/// Whom a message from outside comes to.
fn reached(world: &mut World, message: &Message) -> Party {
    Party::of(world.say(Party::Outside, message).message().unwrap().dst.0)
}

/// SV-4, SV-5: a node port becomes another service's: datagrams follow it at once, and so does a SYN, though its tuple is known; an open
/// TCP connection goes on.
#[test]
fn udp_follows_and_tcp_goes_on() {
    for v6 in [false, true] {
        let (mut world, message) = world(v6);
        let (open, go_on) = (message(Upper::Tcp(flag::SYN)), message(Upper::Tcp(flag::ACK)));
        for message in [&message(UDP), &open, &go_on] {
            assert_eq!(reached(&mut world, message), Party::Backend(0));
        }
        move_to(&mut world, Some(OTHER));
        assert_eq!(reached(&mut world, &message(UDP)), Party::Backend(OTHERS));
        assert_eq!(reached(&mut world, &go_on), Party::Backend(0));
        assert_eq!(reached(&mut world, &open), Party::Backend(OTHERS));
    }
}

/// NP-9: a node port becomes nobody's, and what keeps sending to it comes to the node as it is.
#[test]
fn what_is_nobodys_any_more_is_left_to_the_node() {
    for v6 in [false, true] {
        let (mut world, message) = world(v6);
        let (datagram, go_on) = (message(UDP), message(Upper::Tcp(flag::ACK)));
        for message in [&datagram, &message(Upper::Tcp(flag::SYN))] {
            assert_eq!(reached(&mut world, message), Party::Backend(0));
        }
        move_to(&mut world, None);
        let fate = world.say(Party::Outside, &datagram);
        assert_eq!((fate.reason, fate.message().unwrap()), (Reason::Foreign, datagram));
        assert_eq!(reached(&mut world, &go_on), Party::Backend(0));
    }
}

/// Of a client whom the called node has handed on, the frontend is one of the other scope.
#[test]
fn who_is_handed_on_keeps_one_connection() {
    for v6 in [false, true] {
        let (mut world, message) = world(v6);
        let mut node = *world.memory.node;
        node.features |= feature::DSR;
        world.memory.node = Box::leak(Box::new(node));
        let services = &mut world.memory.services;
        let frontends = std::mem::take(&mut services.frontends).into_iter();
        services.frontends = frontends
            .map(|(key, frontend)| (FrontendKey { scope: scope::HANDED_ON, ..key }, frontend))
            .collect();
        let datagram = message(UDP);
        for packets in 1..=3 {
            let fate = world.hand_on(&datagram);
            assert_eq!(Party::of(fate.message().unwrap().dst.0), Party::Backend(0));
            assert_eq!(world.packets(&datagram), packets, "it is another one for each packet");
        }
    }
}
