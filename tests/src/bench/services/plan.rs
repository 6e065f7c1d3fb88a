//! Which services there are: two that are called, among many that nobody calls.

use std::net::{IpAddr, Ipv4Addr, SocketAddrV4};

use crate::bench::load::Called;

/// Where the backends of the called services listen, under both protocols.
pub const BACKEND_PORT: u16 = 8080;
/// The port of every cluster IP.
pub const PORT: u16 = 80;
/// Protocol of a service port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
}

impl Protocol {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Tcp, Self::Udp];

    /// As `iptables` and `nft` write it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

/// Where the backend of a called service is, seen from the node that is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// A pod of that node.
    Local,
    /// A pod of the other node.
    Remote,
}

impl Backend {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Local, Self::Remote];

    const fn number(self) -> u8 {
        match self {
            Self::Local => 1,
            Self::Remote => 2,
        }
    }

    /// The cluster IP of its service.
    #[must_use]
    pub const fn cluster_ip(self) -> Ipv4Addr {
        Ipv4Addr::new(10, 32, 255, self.number())
    }

    /// The node port of its service.
    #[must_use]
    pub const fn node_port(self) -> u16 {
        30_000 + self.number() as u16
    }

    /// Its address: the second pod of the first node, or the first of the second.
    #[must_use]
    pub const fn address(self) -> Ipv4Addr {
        match self {
            Self::Local => Ipv4Addr::new(10, 200, 0, 11),
            Self::Remote => Ipv4Addr::new(10, 200, 1, 10),
        }
    }

    /// How its service is called by the cluster IP.
    #[must_use]
    pub fn by_cluster_ip(self) -> Called {
        Called { frontend: (self.cluster_ip(), PORT).into(), port: BACKEND_PORT }
    }

    /// How its service is called by a node's address.
    #[must_use]
    pub fn by_node_port(self, node: IpAddr) -> Called {
        Called { frontend: (node, self.node_port()).into(), port: BACKEND_PORT }
    }
}

/// A service with one port number.
#[derive(Clone, Debug)]
pub struct Service {
    /// Name, as `namespace/name`.
    pub name: String,
    /// Cluster IP; the port is [`PORT`].
    pub cluster_ip: Ipv4Addr,
    /// Protocols of the port.
    pub protocols: &'static [Protocol],
    /// Node port, if it has one, under the same protocols.
    pub node_port: Option<u16>,
    /// Backends.
    pub backends: Vec<SocketAddrV4>,
}

/// `count` services, the called ones in the middle: a rule set that is walked is walked half way to them. A count below two
/// gives those two alone. They have one backend each, so that it is known which way packets go; the others have `backends`.
#[must_use]
pub fn services(count: u16, backends: u8) -> Vec<Service> {
    let others = count.saturating_sub(2);
    let mut services: Vec<Service> = (0..others).map(|number| uncalled(number, backends)).collect();
    let middle = services.len() / 2;
    services.splice(middle..middle, Backend::ALL.map(called));
    services
}

fn called(backend: Backend) -> Service {
    Service {
        name: format!("bench/called-{}", backend.number()),
        cluster_ip: backend.cluster_ip(),
        protocols: &Protocol::ALL,
        node_port: Some(backend.node_port()),
        backends: vec![SocketAddrV4::new(backend.address(), BACKEND_PORT)],
    }
}

/// Its backends are addresses in both nodes' pod CIDRs that no pod has.
fn uncalled(number: u16, backends: u8) -> Service {
    let [high, low] = number.to_be_bytes();
    let backend =
        |index: u8| SocketAddrV4::new(Ipv4Addr::new(10, 200, index % 2, 100 + index), 1024 + number);
    Service {
        name: format!("bench/other-{number}"),
        cluster_ip: Ipv4Addr::new(10, 32, high, low),
        protocols: &[Protocol::Tcp],
        node_port: None,
        backends: (0..backends).map(backend).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn there_are_as_many_as_asked_for_and_the_called_ones_are_in_the_middle() {
        let services = services(10_000, 2);
        assert_eq!(services.len(), 10_000);
        assert_eq!(services.iter().position(|service| service.node_port.is_some()), Some(4_999));
        assert_eq!(super::services(1, 2).len(), 2);
    }

    #[test]
    fn no_two_share_an_address_and_no_backend_is_named_twice() {
        let services = services(10_000, 2);
        let addresses: HashSet<_> = services.iter().map(|service| service.cluster_ip).collect();
        assert_eq!(addresses.len(), services.len());
        let mut backends: Vec<_> = services.iter().flat_map(|service| &service.backends).collect();
        let all = backends.len();
        backends.sort();
        backends.dedup();
        assert_eq!(backends.len(), all);
    }
}
