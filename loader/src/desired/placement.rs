//! Which node an address belongs to.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use ipnet::IpNet;

use super::services::Placement;

/// All nodes' addresses and those of their pods.
#[derive(Clone, Debug, Default)]
pub struct Cluster<'a> {
    nodes: HashMap<IpAddr, Owner<'a>>,
    /// By the network address: pod CIDRs don't overlap.
    pods: BTreeMap<IpAddr, (IpNet, Owner<'a>)>,
}

#[derive(Clone, Copy, Debug)]
struct Owner<'a> {
    name: &'a str,
    own: bool,
}

impl<'a> Cluster<'a> {
    /// Adds a node; `own` if it is this one.
    pub fn add(
        &mut self,
        name: &'a str,
        own: bool,
        addresses: impl Iterator<Item = IpAddr>,
        pod_cidrs: impl Iterator<Item = IpNet>,
    ) {
        let owner = Owner { name, own };
        self.nodes.extend(addresses.map(|address| (address, owner)));
        self.pods.extend(pod_cidrs.map(|cidr| (cidr.network(), (cidr, owner))));
    }

    /// Where an address is, and the name of the node if it is one of the cluster's.
    #[must_use]
    pub fn place(&self, address: IpAddr) -> (Placement, Option<&'a str>) {
        if let Some(Owner { name, own }) = self.nodes.get(&address) {
            return (if *own { Placement::Host } else { Placement::Remote }, Some(name));
        }
        match self.pods.range(..=address).next_back() {
            Some((_, (cidr, Owner { name, own }))) if cidr.contains(&address) => {
                (if *own { Placement::Local } else { Placement::Remote }, Some(name))
            }
            _ => (Placement::External, None),
        }
    }

    /// Whether an address is one of a pod, of any node.
    #[must_use]
    pub fn is_pod(&self, address: IpAddr) -> bool {
        !self.nodes.contains_key(&address) && self.place(address).1.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_address_and_by_pod_cidr() {
        let ip = |text: &str| text.parse::<IpAddr>().unwrap();
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let mut cluster = Cluster::default();
        let cidrs = [net("10.200.0.0/24"), net("fd00:10:200::/64")];
        cluster.add("a", true, [ip("10.240.0.20"), ip("fd00:240::20")].into_iter(), cidrs.into_iter());
        let cidrs = [net("10.200.1.0/25"), net("fd00:10:200:1::/64")];
        cluster.add("b", false, [ip("10.240.0.21")].into_iter(), cidrs.into_iter());
        for (address, expected) in [
            ("10.200.0.0", (Placement::Local, Some("a"))),
            ("10.200.0.255", (Placement::Local, Some("a"))),
            ("10.200.1.127", (Placement::Remote, Some("b"))),
            ("10.200.1.128", (Placement::External, None)),
            ("10.199.255.255", (Placement::External, None)),
            ("10.240.0.20", (Placement::Host, Some("a"))),
            ("fd00:240::20", (Placement::Host, Some("a"))),
            ("10.240.0.21", (Placement::Remote, Some("b"))),
            ("10.240.0.22", (Placement::External, None)),
            ("fd00:10:200::5", (Placement::Local, Some("a"))),
            ("fd00:10:200:1:ffff::", (Placement::Remote, Some("b"))),
            ("fd00:10:200:2::", (Placement::External, None)),
            ("::ffff:10.200.0.5", (Placement::External, None)),
            ("0.0.0.0", (Placement::External, None)),
        ] {
            assert_eq!(cluster.place(ip(address)), expected, "{address}");
        }
        assert!(cluster.is_pod(ip("10.200.1.1")) && !cluster.is_pod(ip("10.240.0.21")));
        assert!(!cluster.is_pod(ip("192.0.2.1")));
    }
}
