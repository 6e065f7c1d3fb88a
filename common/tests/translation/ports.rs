//! Source ports of masqueraded connections.

use std::collections::{HashMap, HashSet};

use common::{counters::Reason, maps::Tuple};
use proptest::prelude::*;

use crate::{
    cases,
    cluster::{pod, underlay},
    message::{Message, Upper},
    world::{Called, Party, World, ip},
};

proptest! {
    #![proptest_config(cases(300))]

    /// SN-1, SN-2: no two connections to one place have one port, none has a socket's, a port in the range is kept if it is
    /// free, and none is refused while half of the range is.
    #[test]
    fn no_port_is_given_twice(
        v6 in any::<bool>(),
        calls in proptest::collection::vec((0_usize..2, 60_960_u16..61_100, any::<u32>()), 1..200),
        sockets in proptest::collection::hash_set(61_000_u16..61_128, 0..20),
    ) {
        let mut world = World::new(v6);
        let mut node = *world.memory.node;
        (node.ports_first, node.ports_last) = (61_000, 61_127);
        world.memory.node = Box::leak(Box::new(node));
        let outside = Called::Outside.place(v6);
        for port in &sockets {
            world.memory.sockets.insert(answers(v6, outside.1, *port));
        }
        let mut given = HashMap::new();
        let mut taken: HashSet<u16> = sockets.clone();
        for (nth, port, random) in calls {
            world.memory.services.random = random;
            let client = Party::Backend(nth);
            let upper = Upper::Udp { checksum: true };
            let sent = Message { src: (client.address(v6), port), dst: outside, upper, payload: vec![0; 4] };
            let fate = world.say(client, &sent);
            let Some(passed) = fate.message() else {
                prop_assert_eq!(fate.reason, Reason::PortsExhausted);
                prop_assert!(taken.len() > 64, "refused with {} of 128 taken", taken.len());
                continue;
            };
            prop_assert_eq!(passed.src.0, ip(&underlay(v6, 0)));
            let mapped = passed.src.1;
            if let Some(before) = given.get(&sent.src) {
                prop_assert_eq!(mapped, *before, "a connection changed its port");
                continue;
            }
            prop_assert!((61_000..=61_127).contains(&mapped));
            prop_assert!(port < 61_000 || mapped == port || taken.contains(&port), "{} became {}", port, mapped);
            prop_assert!(taken.insert(mapped), "{} is another's", mapped);
            given.insert(sent.src, mapped);
        }
    }
}

/// The tuple of the answers that a socket of the node waits for, as the tables have it.
fn answers(v6: bool, from: u16, to: u16) -> Vec<u8> {
    let src = pod(v6, 200, 1);
    let dst = underlay(v6, 0);
    let (src_port, dst_port) = (from.to_be_bytes(), to.to_be_bytes());
    if v6 {
        let word = |bytes: Vec<u8>| <[u8; 16]>::try_from(bytes).unwrap();
        let tuple =
            Tuple { src: word(src), dst: word(dst), src_port, dst_port, protocol: 17, reserved: [0; 3] };
        bytemuck::bytes_of(&tuple).to_vec()
    } else {
        let word = |bytes: Vec<u8>| <[u8; 4]>::try_from(bytes).unwrap();
        let tuple =
            Tuple { src: word(src), dst: word(dst), src_port, dst_port, protocol: 17, reserved: [0; 3] };
        bytemuck::bytes_of(&tuple).to_vec()
    }
}
