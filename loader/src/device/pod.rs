//! A pod's veth pair: its host side here, its other side with addresses and routes in the pod's namespace.

use std::{
    net::IpAddr,
    os::fd::AsFd as _,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::{
    DeviceError, Netns, NetnsError, NetnsId, Owner, PodError, Sysctl,
    offloads::{self, UNWANTED_OF_POD},
};
use crate::{
    desired::Pod,
    hash::fnv1a_64,
    mac::Mac,
    netlink::{Address, Handle, Link, Listing, NetlinkError, Route, VethEnd},
};

const REMEDY: &str = "delete or rename it";
const INNER_REMEDY: &str = "delete it, or set the pod's `interface` to another name";

/// How long a pod's side may take to have a carrier, and how often it is looked at.
const CARRIER_PATIENCE: Duration = Duration::from_secs(2);
const CARRIER_PAUSE: Duration = Duration::from_millis(1);

/// How many addresses, and routes of each family, are looked at in a pod's namespace. A pod that may configure its network can have
/// millions, and they would all be listed at every look; one that has more gets ours written anew instead.
const MOST: usize = 2048;

/// What a pod's devices should be.
#[derive(Clone, Debug)]
pub struct PodSpec<'a> {
    /// Whose they are.
    pub owner: Owner<'a>,
    /// The pod.
    pub pod: &'a Pod,
    /// MAC address of the host side: the node's VTEP MAC.
    pub host_mac: Mac,
    /// MTU of both sides: the overlay's.
    pub mtu: u32,
    /// The gateway of each family.
    pub gateways: Vec<IpAddr>,
    /// Where the node's pods have their addresses.
    pub pod_cidrs: &'a [IpNet],
}

/// Name of a pod's host-side device: the same on every start, and short enough for any pod's name.
#[must_use]
pub fn host_device_name(pod: &str) -> String {
    let hash = fnv1a_64(pod.as_bytes()) & 0x0fff_ffff_ffff;
    format!("pl{hash:011x}")
}

/// Connects a pod and returns its host-side device, which if new is still down: whoever attaches the programs sets it up
/// afterwards, so that no packet passes by them. Also returns what is wrong with the pod's side but keeps it from nothing else:
/// offloads that can't be switched off.
pub fn ensure_pod(
    netlink: &mut Handle,
    own: NetnsId,
    spec: &PodSpec<'_>,
) -> Result<(Link, Option<DeviceError>), PodError> {
    let path = &spec.pod.netns;
    let netns = Netns::open(path).map_err(DeviceError::from)?;
    let netns = netns.ok_or_else(|| PodError::Waiting(path.clone()))?;
    if netns.id() == own {
        return Err(DeviceError::OwnNetns(path.clone()).into());
    }
    let mut inside = open_inside(&netns, path).map_err(DeviceError::from)?;

    let (host, inner) = ensure_pair(netlink, &mut inside, &netns, spec)?;
    ensure_host_side(netlink, &host, spec)?;
    let inner_side = netns.run(|| ensure_inner_side(&mut inside, &inner, spec));
    let problem = inner_side.map_err(DeviceError::from)??;
    Ok((host, problem))
}

/// Waits until a pod whose host side has just been set up can send; false if that takes too long.
///
/// Its own side was up first, without a carrier, and what it sends is dropped (`noop_qdisc`) until the kernel has taken note of
/// that, in a worker that waits for the lock of all network configuration. Asking for the link makes Linux do so at once since 6.8
/// (`linkwatch_sync_dev` in `rtnl_getlink`, commit facd15dfd691); before, it is asked until it has.
pub fn await_pod(pod: &Pod) -> Result<bool, DeviceError> {
    let Some(netns) = Netns::open(&pod.netns)? else { return Ok(false) };
    let mut inside = open_inside(&netns, &pod.netns)?;
    let asked = Instant::now();
    while !inside.link(&pod.interface)?.is_some_and(|link| link.running) {
        if asked.elapsed() > CARRIER_PATIENCE {
            return Ok(false);
        }
        thread::sleep(CARRIER_PAUSE);
    }
    Ok(true)
}

/// The host-side device that a pod has, whatever state it is in.
pub fn find_pod_device(
    netlink: &mut Handle,
    owner: Owner<'_>,
    pod: &str,
) -> Result<Option<Link>, DeviceError> {
    let found = netlink.link(&host_device_name(pod))?;
    Ok(found.filter(|link| link.alias.as_ref() == Some(&owner.pod_alias(pod))))
}

/// Deletes the host-side devices, and with them the pods' own, of pods other than those named. Returns which.
pub fn remove_strangers(
    netlink: &mut Handle,
    owner: Owner<'_>,
    keep: &[&str],
) -> Result<Vec<String>, DeviceError> {
    let keep: Vec<String> = keep.iter().map(|pod| owner.pod_alias(pod)).collect();
    let ours = |link: &Link| owner.has_pod_device(link);
    let kept = |link: &Link| link.alias.as_ref().is_some_and(|alias| keep.contains(alias));
    let mut removed = Vec::new();
    for link in netlink.links()?.into_iter().filter(|link| ours(link) && !kept(link)) {
        netlink.delete_link(&link)?;
        removed.push(link.name);
    }
    Ok(removed)
}

fn open_inside(netns: &Netns, path: &Path) -> Result<Handle, NetnsError> {
    let opened = netns.run(Handle::open)?;
    opened.map_err(|error| NetnsError::new("open a netlink socket in", path, error))
}

/// Finds the pair, or makes it; a host side whose other end is not in this namespace belonged to an earlier life of the
/// pod and goes.
fn ensure_pair(
    netlink: &mut Handle,
    inside: &mut Handle,
    netns: &Netns,
    spec: &PodSpec<'_>,
) -> Result<(Link, Link), DeviceError> {
    let name = host_device_name(&spec.pod.name);
    let interface = spec.pod.interface.as_str();
    let found = netlink.link(&name)?;
    let inner = inside.link(interface)?;
    if let Some(host) = &found {
        check_owner(host, spec)?;
        match inner {
            Some(inner) if are_pair(host, &inner) => return Ok((host.clone(), inner)),
            _ => {
                log::info!("pod {}: device {name} led to an earlier namespace; replacing it", spec.pod.name);
                netlink.delete_link(host)?;
            }
        }
    }
    if let Some(inner) = inside.link(interface)? {
        return Err(DeviceError::Taken {
            name: format!("{interface} in {}", spec.pod.netns.display()),
            why: format!("its kind is {}", inner.kind.as_deref().unwrap_or("hardware")),
            remedy: INNER_REMEDY,
        });
    }
    log::info!("pod {}: making device {name}, {interface} in {}", spec.pod.name, spec.pod.netns.display());
    netlink.create_veth(
        VethEnd { name: &name, mac: spec.host_mac },
        VethEnd { name: interface, mac: spec.pod.mac() },
        netns.as_fd(),
        spec.mtu,
    )?;
    match (netlink.link(&name)?, inside.link(interface)?) {
        (Some(host), Some(inner)) => Ok((host, inner)),
        _ => Err(DeviceError::Vanished(name)),
    }
}

/// Two ends know each other by index; both have to, since an index alone may be any device's in some namespace.
fn are_pair(host: &Link, inner: &Link) -> bool {
    inner.is("veth") && host.peer == Some(inner.index) && inner.peer == Some(host.index)
}

/// A device is ours if it says so, or if a loader died between making and marking it.
fn check_owner(host: &Link, spec: &PodSpec<'_>) -> Result<(), DeviceError> {
    let alias = spec.owner.pod_alias(&spec.pod.name);
    let taken = |why| Err(DeviceError::Taken { name: host.name.clone(), why, remedy: REMEDY });
    match &host.alias {
        _ if !host.is("veth") => taken(format!("its kind is {}", host.kind.as_deref().unwrap_or("hardware"))),
        Some(found) if *found == alias => Ok(()),
        Some(found) => taken(format!("its alias is `{found}`")),
        None if host.mac == Some(spec.host_mac) => Ok(()),
        None => taken(format!("it has no alias `{alias}`")),
    }
}

fn ensure_host_side(netlink: &mut Handle, host: &Link, spec: &PodSpec<'_>) -> Result<(), DeviceError> {
    let alias = spec.owner.pod_alias(&spec.pod.name);
    if host.alias.as_ref() != Some(&alias) {
        netlink.set_alias(host, &alias)?;
    }
    ensure_link(netlink, host, spec.host_mac, spec.mtu)?;
    // The node has no business on this link: no link-local address, no answers to the pod's neighbour discovery.
    Sysctl { family: "ipv6", device: &host.name, key: "disable_ipv6" }.set_if_there("1")?;
    Ok(())
}

/// Runs in the pod's namespace, because of the sysctl, the offloads and the sockets that lists are taken by.
fn ensure_inner_side(
    inside: &mut Handle,
    inner: &Link,
    spec: &PodSpec<'_>,
) -> Result<Option<DeviceError>, DeviceError> {
    let interface = spec.pod.interface.as_str();
    if let Some(loopback) = inside.link("lo")?.filter(|loopback| !loopback.up) {
        inside.set_up(&loopback)?;
    }
    ensure_link(inside, inner, spec.pod.mac(), spec.mtu)?;
    if spec.pod.addresses.iter().any(IpAddr::is_ipv6) {
        Sysctl { family: "ipv6", device: interface, key: "disable_ipv6" }.set("0")?;
    }
    ensure_addresses(inside, inner, spec)?;
    let problem = offloads::switch_off(interface, UNWANTED_OF_POD);
    if !inner.up {
        inside.set_up(inner)?;
    }
    ensure_routes(inside, inner, &routes(spec))?;
    Ok(problem)
}

fn ensure_link(netlink: &mut Handle, link: &Link, mac: Mac, mtu: u32) -> Result<(), NetlinkError> {
    if link.mac != Some(mac) {
        netlink.set_mac(link, mac)?;
    }
    if link.mtu != mtu {
        netlink.set_mtu(link, mtu)?;
    }
    Ok(())
}

/// The gateway on the link, and everything else behind it, for each family that the pod has an address of.
fn routes(spec: &PodSpec<'_>) -> Vec<Route> {
    let has =
        |gateway: &&IpAddr| spec.pod.addresses.iter().any(|address| address.is_ipv4() == gateway.is_ipv4());
    let everything = |gateway: &IpAddr| match gateway {
        IpAddr::V4(_) => IpNet::V4(Ipv4Net::default()),
        IpAddr::V6(_) => IpNet::V6(Ipv6Net::default()),
    };
    let of = |gateway: &IpAddr| {
        [
            Route { destination: IpNet::from(*gateway), gateway: None, source: None },
            Route { destination: everything(gateway), gateway: Some(*gateway), source: None },
        ]
    };
    spec.gateways.iter().filter(has).flat_map(of).collect()
}

/// Adds the pod's addresses, each as a host prefix, and removes those that it had before: what bears our mark, and what is of a
/// pod CIDR, as a loader that set no marks may have given it. The pod's other addresses are the pod's own.
fn ensure_addresses(inside: &mut Handle, inner: &Link, spec: &PodSpec<'_>) -> Result<(), NetlinkError> {
    let current = Handle::some_addresses(inner, MOST)?;
    let wanted: Vec<IpNet> = spec.pod.addresses.iter().copied().map(IpNet::from).collect();
    for address in wanted.iter().filter(|address| !current.iter().any(|current| current.net == **address)) {
        inside.add_address(inner, *address)?;
    }
    let given = |address: &&Address| {
        address.is_ours || spec.pod_cidrs.iter().any(|cidr| cidr.contains(&address.net.addr()))
    };
    for Address { net, .. } in current.iter().filter(given).filter(|address| !wanted.contains(&address.net)) {
        log::info!("pod {}: removing address {net} from {}", spec.pod.name, inner.name);
        inside.delete_address(inner, *net)?;
    }
    Ok(())
}

/// Adds what is missing, in order; replaces what leads elsewhere; leaves the pod's other routes to the pod.
fn ensure_routes(inside: &mut Handle, inner: &Link, wanted: &[Route]) -> Result<(), NetlinkError> {
    let Listing { found: current, is_whole } = Handle::some_routes(inner, MOST)?;
    for route in wanted.iter().filter(|route| !current.contains(route)) {
        if !is_whole {
            inside.replace_route(inner, *route)?;
            continue;
        }
        if let Some(old) = current.iter().find(|old| old.destination == route.destination) {
            inside.delete_route(inner, *old)?;
        }
        inside.add_route(inner, *route)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn device_names_are_stable_and_fit() {
        let name = host_device_name("default/nginx");
        assert_eq!(name, host_device_name("default/nginx"));
        assert_ne!(name, host_device_name("default/nginx2"));
        assert_eq!(name.len(), 13, "at most 15");
    }
}
