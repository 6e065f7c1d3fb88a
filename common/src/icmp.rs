//! ICMP errors, made out of the packet that they answer.

use network_types::icmp::Icmpv4Hdr;

use crate::{
    answer::{self, Answer},
    checksum,
    counters::Reason,
    family::{Family, Fields, Fragment, Ip, TTL},
    maps::Budget,
    packet::Packet,
    tables::Dataplane,
    verdict::Trouble,
    wire::ETH_LEN,
};

/// How much of the offending packet is quoted: any IP header with options or extensions, and the whole TCP header, by
/// which the source finds the socket (RFC 1812, section 4.3.2.3, and RFC 4443, section 2.4, allow more; a longer quote
/// costs a longer checksum).
pub const QUOTE: usize = checksum::TAIL;

/// Length of an ICMP error's own header.
const ICMP_LEN: usize = size_of::<Icmpv4Hdr>();

/// ICMP errors a second that one CPU sends at most, as Linux's `icmp_msgs_per_sec` (RFC 4443, section 2.4 (f)).
pub const PER_SECOND: u64 = 1000;
/// ICMP errors that one CPU sends at once after a pause.
pub const BURST: u64 = 100;

impl Budget {
    /// Takes one, if there is one. `now` is in nanoseconds.
    #[inline(always)]
    pub fn take(&mut self, now: u64) -> bool {
        const PER_TOKEN: u64 = 1_000_000_000 / PER_SECOND;
        let earned = now.saturating_sub(self.updated_ns) / PER_TOKEN;
        if earned > 0 {
            self.tokens = (self.tokens.saturating_add(earned)).min(BURST);
            self.updated_ns = now;
        }
        if self.tokens == 0 {
            return false;
        }
        self.tokens -= 1;
        true
    }
}

/// Takes an answer from this CPU's allowance, if there is one.
#[inline(always)]
pub(crate) fn allowance<D: Dataplane>(packet: &mut D) -> bool {
    packet.budget().is_some_and(|(budget, now)| budget.take(now))
}

/// Turns an echo request into the reply. Only of a whole one: of a fragment the rest is elsewhere.
#[inline(never)]
pub fn echo<F: Family, D: Dataplane>(packet: &mut D, ip: &mut Ip<F>) -> Answer {
    if ip.fragment != Fragment::No {
        packet.count(Reason::IcmpWithheld, 0);
        return Answer::Withheld;
    }
    F::readdress(packet, ETH_LEN, ip.dst, ip.src);
    // Not those that the request had left: that one has come all its way.
    F::set_hops(packet, ETH_LEN, TTL);
    if let Some(header) = packet.at_mut::<Icmpv4Hdr>(ip.payload()) {
        let old = [header.type_, header.code];
        header.type_ = F::ECHO_REPLY;
        header.check = checksum::update(header.check, old, [header.type_, header.code]);
    }
    (ip.src, ip.dst) = (ip.dst, ip.src);
    answer::turn(packet);
    Answer::Ready
}

/// Turns the packet, an IP packet behind its Ethernet header, into an ICMP error to its source, `from` that address.
///
/// The Ethernet addresses are swapped, which is right for an answer by the device that the packet came from. `ip` then
/// says what the new header says.
///
/// A function of its own in the program too: it is long and rarely run.
#[inline(never)]
pub fn error<F: Family, D: Dataplane>(
    packet: &mut D,
    ip: &mut Ip<F>,
    from: &F::Addr,
    trouble: Trouble,
) -> Answer {
    if !may_answer(packet, ip) || !allowance(packet) {
        packet.count(Reason::IcmpWithheld, 0);
        return Answer::Withheld;
    }
    let quoted = if ip.len < QUOTE { ip.len } else { QUOTE };
    if let Err(failure) = packet.quote(ETH_LEN + quoted, F::HEADER_LEN + ICMP_LEN) {
        packet.failed(failure);
        return Answer::Failed;
    }
    write(packet, ip, from, quoted, trouble);
    *ip = Ip {
        src: *from,
        dst: ip.src,
        id: 0,
        protocol: F::ICMP,
        tos: 0,
        len: F::HEADER_LEN + ICMP_LEN + quoted,
        payload: ETH_LEN + F::HEADER_LEN,
        fragment: Fragment::No,
        may_fragment: true,
    };
    packet.count(Reason::IcmpError, ETH_LEN + ip.len);
    Answer::Ready
}

/// RFC 1122, section 3.2.2, and RFC 4443, section 2.4 (e): never about an error, a later fragment or a multicast.
#[inline(always)]
fn may_answer<F: Family, P: Packet>(packet: &P, ip: &Ip<F>) -> bool {
    if ip.fragment == Fragment::Later || F::is_multicast(ip.src) || F::is_multicast(ip.dst) {
        return false;
    }
    ip.protocol != F::ICMP
        || packet.at::<u8>(ip.payload()).is_some_and(|icmp_type| !F::is_icmp_error(*icmp_type))
}

/// Writes the headers before the quote.
#[inline(always)]
fn write<F: Family, D: Dataplane>(
    packet: &mut D,
    ip: &Ip<F>,
    from: &F::Addr,
    quoted: usize,
    trouble: Trouble,
) {
    let (icmp_type, code, data) = F::icmp(trouble);
    let len = ICMP_LEN + quoted;
    let body = ETH_LEN + F::HEADER_LEN + ICMP_LEN;
    let sum = F::icmp_seed(*from, ip.src, len)
        + checksum::word([icmp_type, code])
        + checksum::sum(&data)
        + packet.sum_tail(body);
    if let Some(header) = packet.at_mut::<Icmpv4Hdr>(ETH_LEN + F::HEADER_LEN) {
        *header = Icmpv4Hdr { type_: icmp_type, code, check: checksum::finish(sum), data };
    }
    if let Some(header) = packet.at_mut::<F::Header>(ETH_LEN) {
        let fields = Fields { src: *from, dst: ip.src, protocol: F::ICMP, tos: 0, ttl: TTL, payload: len };
        F::write(header, &fields);
    }
    answer::turn(packet);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_allowance_is_a_burst_then_a_rate() {
        let mut budget = Budget::default();
        let mut now = 3_000_000_000;
        let burst = (0..1000).filter(|_| budget.take(now)).count();
        assert_eq!(burst, 100);
        let mut steady = 0;
        for _ in 0..5000 {
            now += 200_000;
            steady += usize::from(budget.take(now));
        }
        assert!((990..=1010).contains(&steady), "one second allowed {steady}");
    }
}
