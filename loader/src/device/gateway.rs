//! The gateway device: carries the pods' gateway addresses, and everything that the node itself sends to pods.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use ipnet::IpNet;

use super::{
    DeviceError, Owner, Sysctl,
    offloads::{self, UNWANTED_OF_GATEWAY},
};
use crate::{
    mac::Mac,
    netlink::{Handle, Link, Route},
};

const REMEDY: &str = "delete or rename it, or set node.gateway to another name";

/// What the gateway device should be.
#[derive(Clone, Debug)]
pub struct Gateway<'a> {
    /// Whose it is.
    pub owner: Owner<'a>,
    /// Name.
    pub name: &'a str,
    /// MAC address: the node's VTEP MAC.
    pub mac: Mac,
    /// MTU: the overlay's.
    pub mtu: u32,
    /// The pods' gateway addresses.
    pub addresses: Vec<IpAddr>,
    /// Every pod CIDR of the cluster, and where services are called.
    pub destinations: Vec<IpNet>,
}

/// Brings the gateway device to what it should be. Also returns what is wrong with it but keeps nothing else from
/// working: offloads that can't be switched off, routes that can't be added.
pub fn ensure_gateway(
    netlink: &mut Handle,
    gateway: &Gateway<'_>,
) -> Result<(Link, Vec<DeviceError>), DeviceError> {
    let link = find_or_create(netlink, gateway)?;

    let alias = gateway.owner.gateway_alias();
    if link.alias.as_ref() != Some(&alias) {
        netlink.set_alias(&link, &alias)?;
    }
    if link.mtu != gateway.mtu {
        netlink.set_mtu(&link, gateway.mtu)?;
    }
    sysctls(gateway)?;
    let mut problems = Vec::from_iter(offloads::switch_off(gateway.name, UNWANTED_OF_GATEWAY));
    ensure_addresses(netlink, &link, &gateway.addresses)?;
    if !link.up {
        netlink.set_up(&link)?;
    }
    problems.extend(ensure_routes(netlink, &link, &gateway.routes())?);
    Ok((link, problems))
}

/// Whether the gateway device can be made, or is there already: an error if its name is somebody else's.
pub fn check_gateway(netlink: &mut Handle, gateway: &Gateway<'_>) -> Result<(), DeviceError> {
    netlink.link(gateway.name)?.map_or(Ok(()), |link| check_owner(&link, gateway))
}

/// Deletes the node's gateway devices but the one called `keep`, and with each its addresses and routes. Returns which.
pub fn remove_gateways(
    netlink: &mut Handle,
    owner: Owner<'_>,
    keep: Option<&str>,
) -> Result<Vec<String>, DeviceError> {
    let alias = owner.gateway_alias();
    let ours = |link: &Link| link.leads_nowhere() && link.alias.as_ref() == Some(&alias);
    let mut removed = Vec::new();
    for link in netlink.links()?.into_iter().filter(|link| ours(link) && Some(link.name.as_str()) != keep) {
        netlink.delete_link(&link)?;
        removed.push(link.name);
    }
    Ok(removed)
}

impl Gateway<'_> {
    /// With a gateway address as the source, replies find their way back through the tunnel.
    fn routes(&self) -> Vec<Route> {
        let source = |to: &IpNet| {
            self.addresses.iter().copied().find(|address| address.is_ipv4() == to.addr().is_ipv4())
        };
        let route = |to: &IpNet| Route { destination: to.trunc(), gateway: None, source: source(to) };
        self.destinations.iter().map(route).collect()
    }
}

fn find_or_create(netlink: &mut Handle, gateway: &Gateway<'_>) -> Result<Link, DeviceError> {
    let Some(link) = netlink.link(gateway.name)? else { return create(netlink, gateway) };
    check_owner(&link, gateway)?;
    if link.mac == Some(gateway.mac) {
        return Ok(link);
    }
    // Not every kind of device takes another address later.
    log::info!("gateway device {} gets another MAC address", gateway.name);
    netlink.delete_link(&link)?;
    create(netlink, gateway)
}

fn create(netlink: &mut Handle, gateway: &Gateway<'_>) -> Result<Link, DeviceError> {
    log::info!("making gateway device {}", gateway.name);
    netlink.create_sink(gateway.name, gateway.mac, gateway.mtu)?;
    netlink.link(gateway.name)?.ok_or_else(|| DeviceError::Vanished(gateway.name.to_owned()))
}

/// A device is ours if it says so, or if a loader died between making and marking it.
fn check_owner(link: &Link, gateway: &Gateway<'_>) -> Result<(), DeviceError> {
    let taken = |why| Err(DeviceError::Taken { name: link.name.clone(), why, remedy: REMEDY });
    if !link.leads_nowhere() {
        return taken(format!("its kind is {}", link.kind.as_deref().unwrap_or("hardware")));
    }
    match &link.alias {
        Some(alias) if *alias == gateway.owner.gateway_alias() => Ok(()),
        Some(alias) => taken(format!("its alias is `{alias}`")),
        None if link.mac == Some(gateway.mac) => Ok(()),
        None => taken(format!("it has no alias `{}`", gateway.owner.gateway_alias())),
    }
}

fn sysctls(gateway: &Gateway<'_>) -> Result<(), DeviceError> {
    let device = gateway.name;
    let has6 = gateway.addresses.iter().any(IpAddr::is_ipv6);
    // The programs ask for a route as if the packet had come in here, which is refused without forwarding.
    Sysctl { family: "ipv4", device, key: "forwarding" }.set("1")?;
    Sysctl { family: "ipv6", device, key: "accept_ra" }.set_if_there("0")?;
    Sysctl { family: "ipv6", device, key: "forwarding" }.set_if_there("1")?;
    if has6 {
        Sysctl { family: "ipv6", device, key: "disable_ipv6" }.set("0")?;
    }
    Ok(())
}

/// Gives `link` these addresses, each as a host prefix, and no others.
fn ensure_addresses(netlink: &mut Handle, link: &Link, wanted: &[IpAddr]) -> Result<(), DeviceError> {
    let current = netlink.addresses(link)?;
    let wanted: Vec<IpNet> = wanted.iter().copied().map(IpNet::from).collect();
    for address in wanted.iter().filter(|address| !current.contains(address)) {
        netlink.add_address(link, *address)?;
    }
    for address in current.iter().filter(|address| !wanted.contains(address)) {
        log::info!("removing address {address} from {}", link.name);
        netlink.delete_address(link, *address)?;
    }
    Ok(())
}

/// Gives `link` these routes and no others.
fn ensure_routes(
    netlink: &mut Handle,
    link: &Link,
    wanted: &[Route],
) -> Result<Vec<DeviceError>, DeviceError> {
    let current = netlink.routes(link)?;
    let known: BTreeMap<IpNet, Route> = current.iter().map(|route| (route.destination, *route)).collect();
    let destinations: BTreeSet<IpNet> = wanted.iter().map(|route| route.destination).collect();
    let mut problems = Vec::new();
    for route in wanted {
        match known.get(&route.destination) {
            Some(old) if old == route => continue,
            Some(old) => netlink.delete_route(link, *old)?,
            None => {}
        }
        match netlink.add_route(link, *route) {
            Err(error) if error.is(libc::EEXIST) => problems.push(DeviceError::RouteTaken(route.destination)),
            outcome => outcome?,
        }
    }
    for route in current.iter().filter(|old| !destinations.contains(&old.destination)) {
        log::info!("removing route to {route} from {}", link.name);
        netlink.delete_route(link, *route)?;
    }
    Ok(problems)
}
