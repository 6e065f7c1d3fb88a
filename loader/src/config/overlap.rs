//! Prefixes that must not overlap: every packet for a pod or a service has one place to go, and none that goes to a node is
//! for either.

use ipnet::IpNet;

use super::{
    diagnostic::{At, Errors, Place},
    file::File,
};

/// What a prefix stands for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    PodCidr,
    ServiceCidr,
    Underlay,
}

/// Reports every pod or service CIDR that overlaps another one, and every underlay address inside one.
pub(super) fn check(errors: &Errors<'_>, file: &File) {
    let mut claims = claims(file);
    // Prefixes nest or are disjoint: in this order, what contains a prefix stands before it, and so does all else that
    // it contains.
    claims.sort_by_key(|(net, what, place)| (net.network(), net.prefix_len(), *what, place.span.start));

    let mut around: Vec<(IpNet, What, &Place)> = Vec::new();
    for (net, what, place) in claims {
        while around.pop_if(|(outer, ..)| !outer.contains(&net)).is_some() {}
        if let Some(outer) = around.last() {
            report(errors, (net, what, place), *outer);
        }
        if what != What::Underlay {
            around.push((net, what, place));
        }
    }
}

fn report(
    errors: &Errors<'_>,
    (net, what, place): (IpNet, What, &Place),
    (outer, outer_what, outer_place): (IpNet, What, &Place),
) {
    // Named at the one that stands later in the file: the reader has read the other by then.
    let message = |net: IpNet, outer: IpNet, other: &Place| match what {
        What::PodCidr | What::ServiceCidr => format!("{net} overlaps {outer} of {}", errors.refer(other)),
        What::Underlay => {
            let whose = if outer_what == What::PodCidr { "pods" } else { "services" };
            format!("{} is an address of {whose}, {outer} of {}", net.addr(), errors.refer(other))
        }
    };
    if what == What::Underlay || outer_place.span.start < place.span.start {
        errors.wrong(place, message(net, outer, outer_place));
    } else {
        errors.wrong(outer_place, message(outer, net, place));
    }
}

fn claims(file: &File) -> Vec<(IpNet, What, &Place)> {
    let node = file.node.iter().map(|node| (&node.pod_cidrs, &node.addresses));
    let peers = file.peers.iter().map(|peer| (&peer.pod_cidrs, &peer.addresses));
    let service_cidrs = file.node.iter().flat_map(|node| &node.service_cidrs.items);
    let service_cidrs = service_cidrs.map(|At { value, place }| (*value, What::ServiceCidr, place));
    let others = file.node.iter().flat_map(|node| &node.other_addresses().items);
    let others = others
        .filter(|other| !file.node.iter().any(|node| node.addresses.values().any(|own| *own == other.value)));
    let others = others.map(|At { value, place }| (IpNet::from(*value), What::Underlay, place));
    node.chain(peers)
        .flat_map(|(cidrs, addresses)| {
            let cidrs = cidrs.items.iter().map(|At { value, place }| (*value, What::PodCidr, place));
            let addresses = addresses.items.iter();
            cidrs.chain(addresses.map(|At { value, place }| (IpNet::from(*value), What::Underlay, place)))
        })
        .chain(service_cidrs)
        .chain(others)
        .collect()
}
