//! Which connections a verb is about.

use std::net::IpAddr;

use common::maps::{Connection, Tuple, connection_flag};
use ipnet::IpNet;

use super::{
    expiry::State,
    table::{Address, Entry},
};

/// What a connection has to be; of what is not said, anything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Its source is in this prefix.
    pub source: Option<IpNet>,
    /// Its destination, as it was called, is in this prefix.
    pub destination: Option<IpNet>,
    /// It goes to that port, as it was called or translated.
    pub port: Option<u16>,
    /// IP protocol number.
    pub protocol: Option<u8>,
    /// It is with one of these services, by index.
    pub services: Option<Vec<u32>>,
    /// It is with that backend.
    pub backend: Option<(IpAddr, Option<u16>)>,
    /// It has got so far.
    pub state: Option<State>,
}

impl Filter {
    /// Whether a connection is meant: `forward` is the direction that began it.
    #[must_use]
    pub fn is_for<A: Address>(&self, forward: &Entry<A>, state: State) -> bool {
        let Entry { key, connection } = forward;
        let becomes = &connection.becomes;
        let port = |tuple: &Tuple<A>| u16::from_be_bytes(tuple.dst_port);
        let is_within = |net: &Option<IpNet>, address: A| {
            net.is_none_or(|net| net.contains(&Into::<IpAddr>::into(address)))
        };
        let is_backend = |(address, wanted): (IpAddr, Option<u16>)| {
            connection.service != Connection::<A>::NO_SERVICE
                && address == becomes.dst.into()
                && wanted.is_none_or(|wanted| wanted == port(becomes))
        };
        is_within(&self.source, key.src)
            && is_within(&self.destination, key.dst)
            && self.port.is_none_or(|wanted| wanted == port(key) || wanted == port(becomes))
            && self.protocol.is_none_or(|protocol| protocol == key.protocol)
            && self.services.as_ref().is_none_or(|services| services.contains(&connection.service))
            && self.backend.is_none_or(is_backend)
            && self.state.is_none_or(|wanted| wanted == state)
    }
}

/// The entry of the direction that began the connection of which `reply` is left alone.
#[must_use]
pub fn forward_of<A: Address>(reply: &Entry<A>) -> Entry<A> {
    let mut connection = reply.connection;
    connection.becomes = reply.key.reverse();
    connection.flags &= !connection_flag::REPLY;
    Entry { key: reply.connection.becomes.reverse(), connection }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry() -> Entry<[u8; 4]> {
        let tuple = |dst: [u8; 4], port: u16| Tuple {
            src: [10, 200, 0, 4],
            dst,
            src_port: 40000_u16.to_be_bytes(),
            dst_port: port.to_be_bytes(),
            protocol: 6,
            reserved: [0; 3],
        };
        let connection =
            Connection { becomes: tuple([10, 200, 1, 5], 8080), service: 3, ..Connection::default() };
        Entry { key: tuple([10, 32, 0, 10], 80), connection }
    }

    #[test]
    fn each_criterion_counts() {
        let entry = entry();
        let is_for = |filter: Filter| filter.is_for(&entry, State::Established);
        let net = |net: &str| Some(net.parse().unwrap());
        assert!(is_for(Filter::default()));
        for (right, wrong) in [
            (
                Filter { source: net("10.200.0.0/24"), ..Filter::default() },
                Filter { source: net("10.200.1.0/24"), ..Filter::default() },
            ),
            (
                Filter { destination: net("10.32.0.10/32"), ..Filter::default() },
                Filter { destination: net("fd00::/8"), ..Filter::default() },
            ),
            (
                Filter { port: Some(8080), ..Filter::default() },
                Filter { port: Some(40000), ..Filter::default() },
            ),
            (
                Filter { protocol: Some(6), ..Filter::default() },
                Filter { protocol: Some(17), ..Filter::default() },
            ),
            (
                Filter { services: Some(vec![3]), ..Filter::default() },
                Filter { services: Some(vec![]), ..Filter::default() },
            ),
            (
                Filter { backend: Some(([10, 200, 1, 5].into(), Some(8080))), ..Filter::default() },
                Filter { backend: Some(([10, 200, 1, 5].into(), Some(80))), ..Filter::default() },
            ),
            (
                Filter { state: Some(State::Established), ..Filter::default() },
                Filter { state: Some(State::Syn), ..Filter::default() },
            ),
        ] {
            assert!(is_for(right.clone()), "{right:?}");
            assert!(!is_for(wrong.clone()), "{wrong:?}");
        }
    }

    #[test]
    fn what_is_left_alone_tells_of_the_other() {
        let forward = entry();
        let mut connection = forward.connection;
        connection.becomes = forward.key.reverse();
        connection.flags = connection_flag::REPLY;
        let reply = Entry { key: forward.partner(), connection };
        let found = forward_of(&reply);
        assert_eq!((found.key, found.connection), (forward.key, forward.connection));
    }
}
