use super::*;

const SEEN: u32 = connection_flag::SEEN;
const ESTABLISHED: u32 = SEEN | connection_flag::ESTABLISHED;
const FIN: u32 = ESTABLISHED | connection_flag::FIN;
const RST: u32 = SEEN | connection_flag::RST;
const ANYTHING: [u32; 7] = [0, SEEN, ESTABLISHED, FIN, RST, FIN | RST, ESTABLISHED | RST];

fn pair(protocol: u8, forward: u32, reply: u32) -> Pair {
    let half = |flags| Some(Half { flags, seen: 1000 });
    Pair { protocol, forward: half(forward), reply: half(reply) }
}

/// The first tick at which a connection that was last seen at 1000 is over.
fn end(pair: &Pair, circumstances: Circumstances) -> u32 {
    let timeouts = Timeouts::default();
    (1000..30_000).find(|now| pair.is_over(*now, &timeouts, circumstances)).unwrap() - 1000
}

/// Ticks that are more than so many seconds.
fn ticks(seconds: u32) -> u32 {
    u32::try_from(u64::from(seconds) * 1_000_000_000 / TICK_NS).unwrap() + 1
}

#[test]
fn tcp_goes_through_its_states() {
    for (forward, reply, state) in [
        (SEEN, 0, State::Syn),
        (SEEN, SEEN, State::Syn),
        (ESTABLISHED, SEEN, State::Established),
        (ESTABLISHED, ESTABLISHED, State::Established),
        (ESTABLISHED, 0, State::Syn),
        (FIN, ESTABLISHED, State::Established),
        (ESTABLISHED, FIN, State::Established),
        (FIN, FIN, State::Closing),
        (SEEN, RST, State::Closing),
        (RST, ESTABLISHED, State::Closing),
    ] {
        assert_eq!(pair(6, forward, reply).state(), state, "{forward:#x} {reply:#x}");
    }
}

#[test]
fn each_state_has_its_time() {
    let defaults = Circumstances::default();
    for (protocol, forward, reply, seconds) in [
        (6, SEEN, 0, 60),
        (6, ESTABLISHED, SEEN, 8000),
        (6, FIN, FIN, 10),
        (17, SEEN, 0, 30),
        (17, SEEN, SEEN, 180),
        (1, SEEN, SEEN, 30),
        (58, SEEN, 0, 30),
        (132, SEEN, SEEN, 600),
        (47, SEEN, SEEN, 600),
    ] {
        assert_eq!(end(&pair(protocol, forward, reply), defaults), ticks(seconds), "{protocol} {forward:#x}");
    }
}

#[test]
fn the_direction_that_was_seen_last_decides() {
    let mut pair = pair(17, SEEN, SEEN);
    pair.forward = Some(Half { flags: SEEN, seen: 5000 });
    assert_eq!(end(&pair, Circumstances::default()), 4000 + ticks(180));
}

/// Its answers go another way.
#[test]
fn a_connection_that_is_handed_on_is_judged_by_what_goes_this_way() {
    const ON: u32 = connection_flag::HANDED_ON;
    for (forward, state) in [
        (ON | SEEN, State::Syn),
        (ON | ESTABLISHED, State::Established),
        (ON | FIN, State::Closing),
        (ON | RST, State::Closing),
    ] {
        assert_eq!(pair(6, forward, ON).state(), state, "{forward:#x}");
    }
    assert_eq!(pair(17, ON | SEEN, ON).state(), State::Unanswered);
}

#[test]
fn half_a_connection_is_judged_by_what_is_there() {
    let mut orphan = pair(6, 0, ESTABLISHED);
    orphan.forward = None;
    assert_eq!(orphan.state(), State::Established);
    orphan = pair(17, SEEN, 0);
    orphan.reply = None;
    assert_eq!(end(&orphan, Circumstances::default()), ticks(180));
}

#[test]
fn what_is_of_no_use_any_more_goes_early_but_not_at_once() {
    let stale = Circumstances { is_stale: true, ..Circumstances::default() };
    assert_eq!(end(&pair(6, ESTABLISHED, ESTABLISHED), stale), ticks(10));
}

#[test]
fn a_table_that_is_nearly_full_forgets_what_was_never_answered() {
    let pressed = Circumstances { is_pressed: true, ..Circumstances::default() };
    assert_eq!(end(&pair(6, SEEN, 0), pressed), ticks(PRESSED));
    assert_eq!(end(&pair(17, SEEN, 0), pressed), ticks(PRESSED));
    assert_eq!(end(&pair(6, ESTABLISHED, ESTABLISHED), pressed), ticks(8000), "live flows are never cut");
    assert_eq!(end(&pair(17, SEEN, SEEN), pressed), ticks(180));
}

/// An answer's direction is marked as that.
fn marked(pair: &Pair) -> [Half; 2] {
    let [forward, reply] = [pair.forward.unwrap(), pair.reply.unwrap()];
    [forward, Half { flags: reply.flags | connection_flag::REPLY, ..reply }]
}

/// Whatever is over, one of its directions says so.
#[test]
fn what_may_be_over_is_looked_at() {
    let timeouts = Timeouts::default();
    for protocol in [1, 6, 17, 47, 58, 132] {
        for (forward, reply) in ANYTHING.iter().flat_map(|a| ANYTHING.iter().map(move |b| (*a, *b))) {
            for bits in 0..8 {
                let circumstances = Circumstances { is_stale: bits & 1 != 0, is_pressed: bits & 2 != 0 };
                let handed_on = if bits & 4 != 0 { connection_flag::HANDED_ON } else { 0 };
                let pair = pair(protocol, forward | handed_on, reply | handed_on);
                let now = 1000 + end(&pair, circumstances);
                let says = |half| may_be_over(protocol, half, now, &timeouts, circumstances);
                assert!(marked(&pair).into_iter().any(says), "{pair:?} {circumstances:?}");
            }
        }
    }
}

/// They may be hundreds of thousands.
#[test]
fn what_is_merely_idle_is_not_looked_at() {
    let timeouts = Timeouts::default();
    for (pair, seconds) in [(pair(6, ESTABLISHED, ESTABLISHED), 8000), (pair(17, SEEN, SEEN), 180)] {
        for now in 1000..1000 + ticks(seconds) {
            let says = |half| may_be_over(pair.protocol, half, now, &timeouts, Circumstances::default());
            assert!(!marked(&pair).into_iter().any(says), "{pair:?} at {now}");
        }
    }
}

/// A jiffy is 10 ms at most (`CONFIG_HZ` of 100).
#[test]
fn what_is_remembered_of_a_flow_outlives_no_connection() {
    assert!(u64::from(UNNOTED) * 1_000_000_000 >= common::flow_cache::FRESH * 10_000_000 + TICK_NS);
    let timeouts = Timeouts { udp: 1, udp_stream: 1, tcp_established: 1, ..Timeouts::default() };
    for pair in [pair(17, SEEN, 0), pair(17, SEEN, SEEN), pair(6, ESTABLISHED, ESTABLISHED)] {
        let over = |now| pair.is_over(now, &timeouts, Circumstances::default());
        assert!(!over(1000 + ticks(UNNOTED) - 1) && over(1000 + ticks(UNNOTED)), "{pair:?}");
    }
}

/// Whatever the flags and the circumstances, a connection lives for as long after its last packet as anything may be silent,
/// it is over for good once it is over, and a direction that is alive keeps the other.
#[test]
fn no_live_flow_is_ever_cut() {
    let timeouts = Timeouts::default();
    for protocol in [1, 6, 17, 47, 58, 132] {
        for (forward, reply) in ANYTHING.iter().flat_map(|a| ANYTHING.iter().map(move |b| (*a, *b))) {
            for bits in 0..4 {
                let circumstances = Circumstances { is_stale: bits & 1 != 0, is_pressed: bits & 2 != 0 };
                for (seen_forward, seen_reply) in [(1000, 1000), (1000, 20_000), (20_000, 1000)] {
                    let pair = Pair {
                        protocol,
                        forward: Some(Half { flags: forward, seen: seen_forward }),
                        reply: Some(Half { flags: reply, seen: seen_reply }),
                    };
                    let over = |now| pair.is_over(now, &timeouts, circumstances);
                    let last = seen_forward.max(seen_reply);
                    let alive = (last - 999..30_000)
                        .take_while(|now| !is_silent(last, *now, shortest(protocol, &timeouts)));
                    assert!(alive.into_iter().all(|now| !over(now)), "{pair:?} {circumstances:?}");
                    let end = (last..last + 9000).find(|now| over(*now)).unwrap();
                    assert!((end..end + 50).all(over), "{pair:?}");
                }
            }
        }
    }
}
