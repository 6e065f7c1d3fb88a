//! Which packets to the node's own address may need translation.

use common::{
    family::{Family, V4, V6},
    nat,
    wire::ETH_LEN,
};

use crate::{
    cluster::{
        serving::{BACKEND_PORT, NODE_PORT},
        underlay,
    },
    message::{Message, Upper, flag},
    world::{Party, World, ip},
};

/// SN-5: with node ports, the node's own clients are none of theirs: their packets pay for bits and are not looked up.
#[test]
fn only_some_ports_are_of_interest() {
    of_interest::<V4>();
    of_interest::<V6>();
}

fn of_interest<F: Family>() {
    let World { memory, .. } = &mut World::new(F::IS_V6);
    let mut node = *memory.node;
    // Ports were given out that are not any more: their answers come still.
    node.answers_first = node.ports_first - 1000;
    let (first, last) = (node.answers_first, node.answers_last);
    memory.node = Box::leak(Box::new(node));
    let mut concerns = |(from, src_port): (Party, u16), port, upper| {
        let (src, dst) = (from.address(F::IS_V6), ip(&underlay(F::IS_V6, 0)));
        let message = Message { src: (src, src_port), dst: (dst, port), upper, payload: vec![0; 4] };
        memory.bytes = [&[0; ETH_LEN][..], &message.packet(64, 0)].concat();
        let ip = F::parse(memory, ETH_LEN).unwrap();
        nat::concerns(memory, &ip)
    };
    let client = (Party::Outside, 40_000);
    for upper in [Upper::Tcp(flag::SYN), Upper::Tcp(flag::ACK), Upper::Udp { checksum: true }] {
        for port in [22, NODE_PORT - 1, NODE_PORT + 1, first - 1] {
            assert!(!concerns(client, port, upper), "{upper:?} to port {port}");
        }
        for port in [NODE_PORT, first, last] {
            assert!(concerns(client, port, upper), "{upper:?} to port {port}");
        }
        assert!(concerns((Party::Backend(3), BACKEND_PORT), 22, upper), "a backend answers the node");
    }
    // They may be answers to a masqueraded pod, and have no port that would tell.
    assert!(concerns(client, 7, Upper::Echo) && concerns(client, 22, Upper::Sctp));
}
