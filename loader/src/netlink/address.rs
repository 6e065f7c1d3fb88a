//! Addresses of a link.

use std::net::IpAddr;

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressMessage, AddressProtocol, AddressScope},
};

use super::{Handle, Link, NetlinkError};

/// Who has added an address, as the kernel remembers it since Linux 5.18 (`IFA_PROTO`): a number that iproute2 knows nobody by.
const OURS: AddressProtocol = AddressProtocol::Other(0x50);

/// An address of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// It, and the prefix that is on the link.
    pub net: IpNet,
    /// Whether [`Handle::add_address`] has marked it.
    pub is_ours: bool,
}

impl Handle {
    /// The addresses of a link that are not link-local: those that somebody chose.
    pub fn addresses(&mut self, link: &Link) -> Result<Vec<IpNet>, NetlinkError> {
        let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers = self.dump(&all).map_err(|refusal| refusal.of("list addresses of", &link.name))?;
        let addresses = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(message) => address_of(&message, link.index),
            _ => None,
        });
        Ok(addresses.map(|address| address.net).collect())
    }

    /// As [`addresses`](Self::addresses), in the calling thread's namespace and of the first `limit` addresses in it alone.
    pub fn some_addresses(link: &Link, limit: usize) -> Result<Vec<Address>, NetlinkError> {
        let all = RouteNetlinkMessage::GetAddress(AddressMessage::default());
        let answers =
            Self::dump_some(all, limit).map_err(|refusal| refusal.of("list addresses of", &link.name))?;
        let addresses = answers.found.iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewAddress(message) => address_of(message, link.index),
            _ => None,
        });
        Ok(addresses.collect())
    }

    /// Adds an address, usable at once: no duplicate address detection, since nobody else can have it. One that is there stays.
    pub fn add_address(&mut self, link: &Link, address: IpNet) -> Result<(), NetlinkError> {
        let mut message = address_message(link, address);
        message.attributes.push(AddressAttribute::Protocol(OURS));
        if address.addr().is_ipv6() {
            message.attributes.push(AddressAttribute::Flags(AddressFlags::Nodad));
        }
        self.request(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_REPLACE)
            .map(|_| ())
            .map_err(|refusal| refusal.of("add address", format!("{address} to {}", link.name)))
    }

    /// Removes an address; one that is gone already is as good.
    pub fn delete_address(&mut self, link: &Link, address: IpNet) -> Result<(), NetlinkError> {
        match self.request(RouteNetlinkMessage::DelAddress(address_message(link, address)), 0) {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.is(libc::EADDRNOTAVAIL) => Ok(()),
            Err(refusal) => Err(refusal.of("delete address", format!("{address} from {}", link.name))),
        }
    }
}

fn address_message(link: &Link, address: IpNet) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.index = link.index;
    message.header.prefix_len = address.prefix_len();
    message.header.family = family(address.addr());
    // IPv4 tells the near end of a point-to-point link from its far end; here they are the same.
    message.attributes =
        vec![AddressAttribute::Local(address.addr()), AddressAttribute::Address(address.addr())];
    message
}

fn address_of(message: &AddressMessage, index: u32) -> Option<Address> {
    if message.header.index != index || message.header.scope == AddressScope::Link {
        return None;
    }
    let local = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Local(address) => Some(*address),
        _ => None,
    });
    let address = message.attributes.iter().find_map(|attribute| match attribute {
        AddressAttribute::Address(address) => Some(*address),
        _ => None,
    });
    let net = IpNet::new(local.or(address)?, message.header.prefix_len).ok()?;
    Some(Address { net, is_ours: message.attributes.contains(&AddressAttribute::Protocol(OURS)) })
}

/// The family of an address, as netlink has it.
pub(super) fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}
