//! MAC addresses: parsed, printed, and derived from IP addresses where none is configured.
//!
//! Derived ones are locally administered unicast, and the same on every node: each side of a tunnel can work out the
//! other's without being told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use thiserror::Error;

use crate::hash::fnv1a_32;

/// A MAC address, as on the wire.
pub type Mac = [u8; 6];

/// Why a text is not the MAC address of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum MacError {
    /// Not six pairs of hexadecimal digits with colons between them.
    #[error("not a MAC address, which is six pairs of hexadecimal digits with colons between them")]
    Syntax,
    /// The group bit is set.
    #[error("a multicast MAC address, which no device can have")]
    Multicast,
    /// All zeros.
    #[error("the zero MAC address, which no device can have")]
    Zero,
}

/// Reads `0a:00:0a:f0:00:14`; the address of a device, so neither multicast nor zero.
pub fn parse(text: &str) -> Result<Mac, MacError> {
    let mut mac = Mac::default();
    let mut pairs = text.split(':');
    for byte in &mut mac {
        let pair = pairs.next().ok_or(MacError::Syntax)?;
        if pair.len() != 2 || !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(MacError::Syntax);
        }
        *byte = u8::from_str_radix(pair, 16).map_err(|_| MacError::Syntax)?;
    }
    match pairs.next() {
        Some(_) => Err(MacError::Syntax),
        None if mac == Mac::default() => Err(MacError::Zero),
        None if mac[0] & 1 == 1 => Err(MacError::Multicast),
        None => Ok(mac),
    }
}

/// Prints `0a:00:0a:f0:00:14`.
#[must_use]
pub fn show(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Serialises a MAC address as it is printed, for `#[serde(serialize_with)]`.
pub fn serialize<S: serde::Serializer>(mac: &Mac, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&show(*mac))
}

/// The VTEP MAC of a node, ours or a peer's, that has these underlay addresses: of its first IPv4 address, else of its
/// first address. Zero without any.
#[must_use]
pub fn of_vtep(addresses: &[IpAddr]) -> Mac {
    derived(addresses, [0x0a, 0x00], [0x0a, 0x01])
}

/// The MAC of a pod's own end of its veth pair: of its first IPv4 address, else of its first address. Zero without any.
#[must_use]
pub fn of_pod(addresses: &[IpAddr]) -> Mac {
    derived(addresses, [0x0a, 0x58], [0x0a, 0x59])
}

fn derived(addresses: &[IpAddr], ipv4: [u8; 2], ipv6: [u8; 2]) -> Mac {
    let join = |[a, b]: [u8; 2], [c, d, e, f]: [u8; 4]| [a, b, c, d, e, f];
    let first4 = addresses.iter().find_map(|address| match address {
        IpAddr::V4(address) => Some(*address),
        IpAddr::V6(_) => None,
    });
    let hashed = |address: &Ipv6Addr| fnv1a_32(&address.octets()).to_be_bytes();
    match (first4.as_ref().map(Ipv4Addr::octets), addresses.first()) {
        (Some(octets), _) => join(ipv4, octets),
        (None, Some(IpAddr::V6(address))) => join(ipv6, hashed(address)),
        (None, _) => Mac::default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn parses_and_shows() {
        assert_eq!(parse("0a:00:0A:f0:00:14"), Ok([0x0a, 0, 0x0a, 0xf0, 0, 0x14]));
        assert_eq!(show([0x0a, 0, 0x0a, 0xf0, 0, 0x14]), "0a:00:0a:f0:00:14");
        for bad in [
            "",
            "0a:00:0a:f0:00",
            "0a:00:0a:f0:00:14:15",
            "0a:00:0a:f0:00:1",
            "0a-00-0a-f0-00-14",
            "+a:00:0a:f0:00:14",
        ] {
            assert_eq!(parse(bad), Err(MacError::Syntax), "{bad}");
        }
        assert_eq!(parse("01:00:5e:00:00:01"), Err(MacError::Multicast));
        assert_eq!(parse("00:00:00:00:00:00"), Err(MacError::Zero));
    }

    #[test]
    fn derives_from_ipv4_where_there_is_one() {
        let both = addresses(&["fd00::1", "10.240.0.20"]);
        assert_eq!(show(of_vtep(&both)), "0a:00:0a:f0:00:14");
        assert_eq!(show(of_pod(&both)), "0a:58:0a:f0:00:14");
    }

    #[test]
    fn derives_from_ipv6_by_hash() {
        let only6 = addresses(&["fd00::1"]);
        assert_eq!(of_vtep(&only6)[..2], [0x0a, 0x01]);
        assert_eq!(of_pod(&only6)[..2], [0x0a, 0x59]);
        assert_eq!(of_vtep(&only6)[2..], of_pod(&only6)[2..]);
        assert_ne!(of_vtep(&only6), of_vtep(&addresses(&["fd00::2"])));
        assert_eq!(of_vtep(&[]), Mac::default());
    }
}
