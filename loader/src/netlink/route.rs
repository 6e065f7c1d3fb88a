//! Routes of the main table.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteScope, RouteType},
};

use super::{Handle, Link, Listing, NetlinkError, address::family};

const FAMILIES: [AddressFamily; 2] = [AddressFamily::Inet, AddressFamily::Inet6];

/// A route through one device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where to.
    pub destination: IpNet,
    /// Next hop; none if the destination is on the link itself.
    pub gateway: Option<IpAddr>,
    /// Source address that the node prefers for it.
    pub source: Option<IpAddr>,
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.destination)?;
        if let Some(gateway) = self.gateway {
            write!(f, " via {gateway}")?;
        }
        Ok(())
    }
}

impl Handle {
    /// The routes through `link` in the main table that somebody chose; not those that the kernel adds by itself.
    pub fn routes(&mut self, link: &Link) -> Result<Vec<Route>, NetlinkError> {
        let mut routes = Vec::new();
        for family in FAMILIES {
            let answers =
                self.dump(&all(family)).map_err(|refusal| refusal.of("list routes of", &link.name))?;
            routes.extend(routes_of(&answers, link));
        }
        Ok(routes)
    }

    /// As [`routes`](Self::routes), in the calling thread's namespace and of the first `limit` routes of each family in it alone.
    pub fn some_routes(link: &Link, limit: usize) -> Result<Listing<Route>, NetlinkError> {
        let mut routes = Listing { found: Vec::new(), is_whole: true };
        for family in FAMILIES {
            let answers = Self::dump_some(all(family), limit)
                .map_err(|refusal| refusal.of("list routes of", &link.name))?;
            routes.found.extend(routes_of(&answers.found, link));
            routes.is_whole &= answers.is_whole;
        }
        Ok(routes)
    }

    /// Adds a route; refused if there is one to the same destination already, whoever's it is.
    pub fn add_route(&mut self, link: &Link, route: Route) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRoute(route_message(link.index, route));
        self.request(message, NLM_F_CREATE | NLM_F_EXCL)
            .map(|_| ())
            .map_err(|refusal| refusal.of("add route", format!("{route} dev {}", link.name)))
    }

    /// Adds a route, in the place of one to the same destination that is as preferable; one that is there stays.
    pub fn replace_route(&mut self, link: &Link, route: Route) -> Result<(), NetlinkError> {
        let message = RouteNetlinkMessage::NewRoute(route_message(link.index, route));
        match self.request(message, NLM_F_CREATE | NLM_F_REPLACE) {
            Ok(_) => Ok(()),
            // It is there, and another one before it.
            Err(refusal) if refusal.is(libc::EEXIST) => Ok(()),
            Err(refusal) => Err(refusal.of("replace route", format!("{route} dev {}", link.name))),
        }
    }

    /// Deletes a route; one that is gone already is as good.
    pub fn delete_route(&mut self, link: &Link, route: Route) -> Result<(), NetlinkError> {
        let mut message = route_message(link.index, route);
        // Whoever added it, in whichever scope.
        message.header.protocol = RouteProtocol::Unspec;
        message.header.scope = RouteScope::NoWhere;
        match self.request(RouteNetlinkMessage::DelRoute(message), 0) {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.is(libc::ESRCH) => Ok(()),
            Err(refusal) => Err(refusal.of("delete route", format!("{route} dev {}", link.name))),
        }
    }
}

fn all(family: AddressFamily) -> RouteNetlinkMessage {
    let mut message = RouteMessage::default();
    message.header.address_family = family;
    RouteNetlinkMessage::GetRoute(message)
}

fn routes_of(answers: &[RouteNetlinkMessage], link: &Link) -> impl Iterator<Item = Route> {
    answers.iter().filter_map(|answer| match answer {
        RouteNetlinkMessage::NewRoute(message) => route_of(message, link.index),
        _ => None,
    })
}

fn route_message(index: u32, route: Route) -> RouteMessage {
    let Route { destination, gateway, source } = route;
    let mut message = RouteMessage::default();
    message.header.address_family = family(destination.addr());
    message.header.destination_prefix_length = destination.prefix_len();
    message.header.table = RouteHeader::RT_TABLE_MAIN;
    message.header.protocol = RouteProtocol::Static;
    message.header.kind = RouteType::Unicast;
    // IPv4 wants to be told that the destination is on the link; IPv6 has no scopes of routes.
    message.header.scope = if gateway.is_none() && destination.addr().is_ipv4() {
        RouteScope::Link
    } else {
        RouteScope::Universe
    };
    message.attributes.push(RouteAttribute::Oif(index));
    if destination.prefix_len() > 0 {
        message.attributes.push(RouteAttribute::Destination(destination.network().into()));
    }
    message.attributes.extend(gateway.map(|gateway| RouteAttribute::Gateway(gateway.into())));
    message.attributes.extend(source.map(|source| RouteAttribute::PrefSource(source.into())));
    message
}

fn route_of(message: &RouteMessage, index: u32) -> Option<Route> {
    let RouteHeader { address_family, destination_prefix_length, table, protocol, kind, .. } = message.header;
    let unspecified = match address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    if table != RouteHeader::RT_TABLE_MAIN || kind != RouteType::Unicast || protocol == RouteProtocol::Kernel
    {
        return None;
    }
    let (mut destination, mut gateway, mut source, mut through) = (unspecified, None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => destination = ip(address)?,
            RouteAttribute::Gateway(address) => gateway = ip(address),
            RouteAttribute::PrefSource(address) => source = ip(address),
            RouteAttribute::Oif(oif) => through = Some(*oif),
            _ => {}
        }
    }
    let destination = IpNet::new(destination, destination_prefix_length).ok()?;
    (through == Some(index)).then_some(Route { destination, gateway, source })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some((*address).into()),
        RouteAddress::Inet6(address) => Some((*address).into()),
        _ => None,
    }
}
