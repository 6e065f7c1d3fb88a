//! ICMP errors, made out of the packet that they answer.

use network_types::icmp::Icmpv4Hdr;

use crate::{
    checksum,
    counters::Reason,
    family::{Family, Fragment, Ip},
    maps::Budget,
    packet::{Failed, Packet},
    tables::Dataplane,
    wire::{ETH_LEN, Eth},
};

/// What went wrong, for the source to know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// Larger than the path takes.
    TooBig {
        /// What it takes, in bytes from the IP header on.
        mtu: u32,
    },
    /// Nobody has that address.
    HostUnreachable,
    /// No hop left.
    TimeExceeded,
}

/// How much of the offending packet is quoted: any IP header with options or extensions, and the whole TCP header, by
/// which the source finds the socket (RFC 1812, section 4.3.2.3, and RFC 4443, section 2.4, allow more; a longer quote
/// costs a longer checksum).
pub const QUOTE: usize = 128;

/// Length of an ICMP error's own header.
const ICMP_LEN: usize = size_of::<Icmpv4Hdr>();

/// ICMP errors a second that one CPU sends at most, as Linux's `icmp_msgs_per_sec` (RFC 4443, section 2.4 (f)).
const PER_SECOND: u64 = 1000;
/// ICMP errors that one CPU sends at once after a pause.
const BURST: u64 = 100;

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

/// Turns the packet, an IP packet behind its Ethernet header, into an ICMP error to its source, `from` that address.
///
/// The Ethernet addresses are swapped, which is right for an answer by the device that the packet came from. Counts the
/// error, sent or withheld.
///
/// Returns what the new IP header says; nothing if no error may be sent for this packet, or not now.
///
/// # Errors
///
/// Those of the helpers; the packet is then only good for being dropped.
#[inline(always)]
pub fn answer<F: Family, D: Dataplane>(
    packet: &mut D,
    ip: &Ip<F>,
    from: F::Addr,
    error: Error,
) -> Result<Option<Ip<F>>, Failed> {
    if !may_answer(packet, ip) || !packet.budget().is_some_and(|(budget, now)| budget.take(now)) {
        packet.count(Reason::IcmpWithheld, 0);
        return Ok(None);
    }
    let quoted = if ip.len < QUOTE { ip.len } else { QUOTE };
    packet.quote(ETH_LEN + quoted, F::HEADER_LEN + ICMP_LEN)?;
    write::<F, D>(packet, ip, from, quoted, error);
    let len = F::HEADER_LEN + ICMP_LEN + quoted;
    packet.count(Reason::IcmpError, ETH_LEN + len);
    Ok(Some(Ip {
        src: from,
        dst: ip.src,
        protocol: F::ICMP,
        tos: 0,
        len,
        payload: ETH_LEN + F::HEADER_LEN,
        fragment: Fragment::No,
        may_fragment: true,
    }))
}

/// RFC 1122, section 3.2.2, and RFC 4443, section 2.4 (e): never about an error, a later fragment or a multicast.
#[inline(always)]
fn may_answer<F: Family, P: Packet>(packet: &P, ip: &Ip<F>) -> bool {
    if ip.fragment == Fragment::Later || F::is_multicast(&ip.src) || F::is_multicast(&ip.dst) {
        return false;
    }
    ip.protocol != F::ICMP || packet.at::<u8>(ip.payload).is_some_and(|icmp_type| !F::is_icmp_error(*icmp_type))
}

/// Writes the headers before the quote.
#[inline(always)]
fn write<F: Family, P: Packet>(packet: &mut P, ip: &Ip<F>, from: F::Addr, quoted: usize, error: Error) {
    let (icmp_type, code, data) = F::icmp(error);
    let len = ICMP_LEN + quoted;
    let body = ETH_LEN + F::HEADER_LEN + ICMP_LEN;
    let sum = F::icmp_seed(&from, &ip.src, len)
        + u32::from(u16::from_be_bytes([icmp_type, code]))
        + checksum::sum(&data)
        + checksum::sum_tail::<P, { QUOTE / 2 }>(packet, body);
    if let Some(header) = packet.at_mut::<Icmpv4Hdr>(ETH_LEN + F::HEADER_LEN) {
        *header = Icmpv4Hdr { type_: icmp_type, code, check: checksum::finish(sum), data };
    }
    if let Some(header) = packet.at_mut::<F::Header>(ETH_LEN) {
        *header = F::header(from, ip.src, F::ICMP, 0, len);
    }
    if let Some(eth) = packet.at_mut::<Eth>(0) {
        *eth = Eth { dst: eth.src, src: eth.dst, ether_type: F::ETHER_TYPE };
    }
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
