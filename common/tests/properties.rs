//! What holds for every packet on every hook, whatever its bytes.

#[path = "properties/cluster.rs"]
mod cluster;
#[cfg(test)]
#[path = "properties/corpus.rs"]
mod corpus;
#[path = "properties/invariants.rs"]
mod invariants;
#[path = "properties/sent.rs"]
mod sent;

/// So many cases; what fails is for a person to put into the corpus.
fn cases(cases: u32) -> proptest::test_runner::Config {
    proptest::test_runner::Config { cases, failure_persistence: None, ..Default::default() }
}

mod any_bytes {
    //! Bytes that nobody has made a packet of, and packets that somebody has broken.

    use common::{counters::Hook, verdict::Action};
    use proptest::{prelude::*, sample::Index};

    use crate::{
        cases,
        cluster::Here,
        invariants::{decide, decide_with},
        sent::{Sent, sent},
    };

    fn hook() -> impl Strategy<Value = Hook> {
        proptest::sample::select(Hook::OF_PACKETS.to_vec())
    }

    fn here() -> impl Strategy<Value = Here> {
        let gso_size = prop_oneof![4 => Just(0), 1 => 1_u32..3000];
        (any::<bool>(), any::<bool>(), gso_size, 0_u64..2, any::<bool>()).prop_map(
            |(vlan, refuses, gso_size, tokens, serving)| Here {
                vlan,
                refuses: refuses.then_some(-12),
                gso_size,
                tokens,
                serving,
                ..Here::default()
            },
        )
    }

    proptest! {
        #![proptest_config(cases(4000))]

        /// PF-4, OP-2.
        #[test]
        fn noise_is_counted_once(
            hook in hook(),
            here in here(),
            ether_type in prop_oneof![Just([8, 0]), Just([0x86, 0xdd]), Just([8, 6]), any::<[u8; 2]>()],
            mut bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            if let Some(field) = bytes.get_mut(12..14) {
                field.copy_from_slice(&ether_type);
            }
            decide(hook, &here, &bytes)?;
        }

        /// PF-4, PF-11, OP-2.
        #[test]
        fn a_broken_packet_is_counted_once(
            hook in hook(),
            here in here(),
            packet in sent(),
            tunnelled in any::<bool>(),
            changes in proptest::collection::vec((any::<Index>(), any::<u8>()), 0..4),
            cut in proptest::option::weighted(0.3, any::<Index>()),
            tail in 0_usize..30,
        ) {
            let mut bytes = if tunnelled { packet.in_tunnel() } else { packet.frame() };
            for (at, byte) in &changes {
                let at = at.index(bytes.len());
                bytes[at] = *byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(bytes.len()));
            } else {
                bytes.extend(vec![0x5a; tail]);
            }
            decide(hook, &here, &bytes)?;
        }
    }

    proptest! {
        #![proptest_config(cases(2000))]

        /// NP-11: what can't be handed on is dropped or left as it is.
        #[test]
        fn without_metadata_nothing_is_taken_up(packet in sent(), tunnelled in any::<bool>(), serving in any::<bool>()) {
            let here = Here { serving, ..Here::default() };
            let bytes = if tunnelled { packet.in_tunnel() } else { packet.frame() };
            let (_, action) = decide_with(Hook::UplinkXdp, &here, &bytes, |memory| memory.claimable = false)?;
            prop_assert!(matches!(action, Action::Continue | Action::Drop), "{:?}", action);
        }
    }

    #[test]
    fn the_generator_reaches_every_path() {
        use std::collections::HashSet;

        use common::counters::Reason;
        use proptest::{strategy::ValueTree as _, test_runner::TestRunner};

        let mut runner = TestRunner::deterministic();
        let mut reached = HashSet::new();
        for _ in 0..6000 {
            let packet: Sent = sent().new_tree(&mut runner).unwrap().current();
            for hook in Hook::OF_PACKETS {
                for bytes in [packet.frame(), packet.in_tunnel()] {
                    for serving in [false, true] {
                        let here = Here { serving, ..Here::default() };
                        let (memory, _) = decide(hook, &here, &bytes).unwrap();
                        reached.extend(memory.counts.iter().map(|(reason, _)| *reason));
                    }
                }
            }
        }
        for reason in [
            Reason::ToPod,
            Reason::ToOverlay,
            Reason::ToDirect,
            Reason::ToHost,
            Reason::ToOutside,
            Reason::Foreign,
            Reason::ToFragment,
            Reason::Multicast,
            Reason::Spoofed,
            Reason::NoSuchPod,
            Reason::TtlExceeded,
            Reason::TooBig,
            Reason::NoRoute,
            Reason::Ecn,
            Reason::IcmpError,
            Reason::IcmpWithheld,
            Reason::Masqueraded,
            Reason::EchoReply,
            Reason::NoSuchService,
            Reason::FragmentUnknown,
        ] {
            assert!(reached.contains(&reason), "no packet came to {}", reason.name());
        }
    }
}

mod valid_packets {
    //! Packets that are right going in.

    use common::{
        counters::{Hook, Reason},
        verdict::Action,
    };
    use proptest::prelude::*;

    use crate::{
        cases,
        cluster::{Here, mac},
        invariants::{checksums_hold, decide, hops_taken},
        sent::{Place, Sent, sent},
    };

    proptest! {
        #![proptest_config(cases(3000))]

        /// OV-1, OV-9: what one node puts into a tunnel, the other takes out as it was: two hops less, other MACs.
        #[test]
        fn a_tunnel_gives_back_what_was_put_in(packet in sent(), over_v6 in any::<bool>()) {
            let packet = Sent { from: Place::Pod, to: Place::PeerPod, ttl: packet.ttl.max(3), ..packet };
            let near = Here { over_v6, ..Here::default() };
            let frame = packet.frame();
            let (there, action) = decide(Hook::FromPod, &near, &frame)?;
            match there.counts[there.counts.len() - 1].0 {
                Reason::ToOverlay => {}
                Reason::TooBig | Reason::ToFragment => {
                    prop_assert!(packet.body.len() > 1300);
                    return Ok(());
                }
                // Neighbour discovery is between neighbours.
                reason => {
                    prop_assert_eq!(reason, Reason::NeighbourIgnored);
                    prop_assert!((133..=137).contains(&packet.kind) && packet.v6);
                    return Ok(());
                }
            }
            prop_assert_eq!(action, Action::Device { ifindex: 5 });
            let far = Here { node: 1, over_v6, ..Here::default() };
            let (arrived, action) = decide(Hook::FromUplink, &far, &there.bytes)?;
            prop_assert_eq!(action, Action::Pod { ifindex: 110 });
            prop_assert_eq!(&arrived.bytes[..12], &[[0x0a, 0x58, 1, 0, 0, 10], mac(1)].concat()[..]);
            prop_assert_eq!(&arrived.bytes[12..], &hops_taken(&frame, 2)[12..]);
        }

        /// PF-1, PF-2, OV-8: every checksum holds in whatever is sent on or answered.
        #[test]
        fn checksums_hold_afterwards(
            packet in sent(),
            tunnelled in any::<bool>(),
            over_v6 in any::<bool>(),
            serving in any::<bool>(),
        ) {
            let here = Here { over_v6, serving, ..Here::default() };
            for hook in Hook::OF_PACKETS {
                let frame = if tunnelled { packet.in_tunnel() } else { packet.frame() };
                let (memory, action) = decide(hook, &here, &frame)?;
                if action != Action::Drop {
                    prop_assert!(checksums_hold(&memory.bytes), "{:02x?}", memory.bytes);
                }
            }
        }

        /// PF-2, IC-1: never an ICMP error about an error, a later fragment or a packet to a group; the sender's own address gets it.
        #[test]
        fn errors_are_answered_to_nobody(packet in sent(), tunnelled in any::<bool>(), serving in any::<bool>()) {
            for hook in [Hook::FromPod, Hook::FromHost, Hook::FromUplink] {
                let frame = if tunnelled { packet.in_tunnel() } else { packet.frame() };
                let here = Here { serving, ..Here::default() };
                let (memory, action) = decide(hook, &here, &frame)?;
                let answered = memory.counts.iter().any(|(reason, _)| *reason == Reason::IcmpError);
                if answered && action != Action::Drop {
                    prop_assert!(!packet.is_icmp_error(), "{packet:?}");
                    prop_assert!(!packet.is_later_fragment(), "{packet:?}");
                    prop_assert!(packet.from != Place::Group && packet.to != Place::Group, "{packet:?}");
                    let quoted = if tunnelled { packet.out_of_tunnel() } else { packet.ip() };
                    let quoted = &quoted[..quoted.len().min(common::icmp::QUOTE)];
                    prop_assert!(memory.bytes.ends_with(quoted), "{:02x?}", memory.bytes);
                }
            }
        }
    }
}
