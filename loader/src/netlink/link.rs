//! Links: found, made, changed, deleted.

use std::os::fd::{AsRawFd as _, BorrowedFd};

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use netlink_packet_route::{
    RouteNetlinkMessage,
    link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage, LinkXdp},
};

use super::{Handle, NetlinkError, socket::Refusal};
use crate::mac::Mac;

/// A link as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Interface index.
    pub index: u32,
    /// Name.
    pub name: String,
    /// Kind, as `veth`; none for hardware.
    pub kind: Option<String>,
    /// MAC address; none if the device has none of six bytes.
    pub mac: Option<Mac>,
    /// Largest packet, from its IP header on.
    pub mtu: u32,
    /// Administratively up.
    pub up: bool,
    /// Up, with a carrier, and ready for packets.
    pub running: bool,
    /// Free text that whoever made it put there.
    pub alias: Option<String>,
    /// Interface index of the other end of a veth pair, in that end's namespace.
    pub peer: Option<u32>,
    /// Interface index of the device that a VLAN device is on top of, if that is in the same namespace.
    pub below: Option<u32>,
    /// XDP programs that it runs.
    pub xdp: XdpPrograms,
}

/// Numbers of the XDP programs of a device, by where they run. Those in the driver and the generic one exclude each other.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct XdpPrograms {
    /// In the driver.
    pub native: Option<u32>,
    /// By the kernel's generic hook.
    pub generic: Option<u32>,
    /// On the device itself.
    pub offloaded: Option<u32>,
}

impl Link {
    /// Whether it is of this kind.
    #[must_use]
    pub fn is(&self, kind: &str) -> bool {
        self.kind.as_deref() == Some(kind)
    }

    /// Whether it is a device that discards what is sent to it.
    #[must_use]
    pub fn leads_nowhere(&self) -> bool {
        self.is("dummy") || self.is("ifb")
    }
}

/// One end of a veth pair to be made.
#[derive(Clone, Copy, Debug)]
pub struct VethEnd<'a> {
    /// Name.
    pub name: &'a str,
    /// MAC address.
    pub mac: Mac,
}

impl Handle {
    /// The link of that name, if there is one.
    pub fn link(&mut self, name: &str) -> Result<Option<Link>, NetlinkError> {
        let mut message = LinkMessage::default();
        message.attributes.push(LinkAttribute::IfName(name.to_owned()));
        self.get_link(message).map_err(|refusal| refusal.of("look up device", name))
    }

    /// The link with that index, if there is one.
    pub fn link_by_index(&mut self, index: u32) -> Result<Option<Link>, NetlinkError> {
        self.get_link(by_index(index)).map_err(|refusal| refusal.of("look up device", format!("#{index}")))
    }

    fn get_link(&mut self, message: LinkMessage) -> Result<Option<Link>, Refusal> {
        match self.request(RouteNetlinkMessage::GetLink(message), 0) {
            Ok(answers) => Ok(answers.iter().find_map(link_of)),
            Err(refusal) if refusal.is(libc::ENODEV) => Ok(None),
            Err(refusal) => Err(refusal),
        }
    }

    /// Every link of the namespace.
    pub fn links(&mut self) -> Result<Vec<Link>, NetlinkError> {
        let all = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.dump(&all).map_err(|refusal| refusal.of("list", "devices"))?;
        Ok(answers.iter().filter_map(link_of).collect())
    }

    /// Makes a device, down, that leads nowhere: a dummy or, where the kernel has none, an intermediate functional block
    /// (IFB), which discards what is sent to it just the same. See [`Link::leads_nowhere`].
    pub fn create_sink(&mut self, name: &str, mac: Mac, mtu: u32) -> Result<(), NetlinkError> {
        let mut create = |operation, kind| {
            let mut message = new_link(name, mac, mtu);
            message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]));
            self.create_link(operation, name, message)
        };
        match create("create dummy device", InfoKind::Dummy) {
            Err(error) if error.is(libc::EOPNOTSUPP) => create("create dummy or ifb device", InfoKind::Ifb),
            outcome => outcome,
        }
    }

    /// Makes a veth pair, both ends down, `inner` in the namespace `netns`.
    pub fn create_veth(
        &mut self,
        outer: VethEnd<'_>,
        inner: VethEnd<'_>,
        netns: BorrowedFd<'_>,
        mtu: u32,
    ) -> Result<(), NetlinkError> {
        let mut peer = new_link(inner.name, inner.mac, mtu);
        peer.attributes.push(LinkAttribute::NetNsFd(netns.as_raw_fd()));
        let mut message = new_link(outer.name, outer.mac, mtu);
        message.attributes.push(LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]));
        self.create_link("create veth pair", outer.name, message)
    }

    fn create_link(
        &mut self,
        operation: &'static str,
        name: &str,
        message: LinkMessage,
    ) -> Result<(), NetlinkError> {
        self.request(RouteNetlinkMessage::NewLink(message), NLM_F_CREATE | NLM_F_EXCL)
            .map(|_| ())
            .map_err(|refusal| refusal.of(operation, name))
    }

    /// Sets a link up.
    pub fn set_up(&mut self, link: &Link) -> Result<(), NetlinkError> {
        let mut message = by_index(link.index);
        message.header.flags = LinkFlags::Up;
        message.header.change_mask = LinkFlags::Up;
        self.set_link("set up", link, message)
    }

    /// Changes a link's MTU.
    pub fn set_mtu(&mut self, link: &Link, mtu: u32) -> Result<(), NetlinkError> {
        let mut message = by_index(link.index);
        message.attributes.push(LinkAttribute::Mtu(mtu));
        self.set_link("set the MTU of", link, message)
    }

    /// Changes a link's MAC address. The kernel forgets the link's neighbours with it.
    pub fn set_mac(&mut self, link: &Link, mac: Mac) -> Result<(), NetlinkError> {
        let mut message = by_index(link.index);
        message.attributes.push(LinkAttribute::Address(mac.to_vec()));
        self.set_link("set the MAC address of", link, message)
    }

    /// Changes a link's alias.
    pub fn set_alias(&mut self, link: &Link, alias: &str) -> Result<(), NetlinkError> {
        let mut message = by_index(link.index);
        message.attributes.push(LinkAttribute::IfAlias(alias.to_owned()));
        self.set_link("set the alias of", link, message)
    }

    fn set_link(
        &mut self,
        operation: &'static str,
        link: &Link,
        message: LinkMessage,
    ) -> Result<(), NetlinkError> {
        self.request(RouteNetlinkMessage::SetLink(message), 0)
            .map(|_| ())
            .map_err(|refusal| refusal.of(operation, &link.name))
    }

    /// Deletes a link; one that is gone already is as good.
    pub fn delete_link(&mut self, link: &Link) -> Result<(), NetlinkError> {
        match self.request(RouteNetlinkMessage::DelLink(by_index(link.index)), 0) {
            Ok(_) => Ok(()),
            Err(refusal) if refusal.is(libc::ENODEV) => Ok(()),
            Err(refusal) => Err(refusal.of("delete device", &link.name)),
        }
    }
}

fn by_index(index: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.header.index = index;
    message
}

fn new_link(name: &str, mac: Mac, mtu: u32) -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes = vec![
        LinkAttribute::IfName(name.to_owned()),
        LinkAttribute::Address(mac.to_vec()),
        LinkAttribute::Mtu(mtu),
    ];
    message
}

/// What an answer or a piece of news says about a link.
pub(super) fn link_of(message: &RouteNetlinkMessage) -> Option<Link> {
    let (RouteNetlinkMessage::NewLink(message) | RouteNetlinkMessage::DelLink(message)) = message else {
        return None;
    };
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        kind: None,
        mac: None,
        mtu: 0,
        up: message.header.flags.contains(LinkFlags::Up),
        running: message.header.flags.contains(LinkFlags::Running),
        alias: None,
        peer: None,
        below: None,
        xdp: XdpPrograms::default(),
    };
    let mut is_elsewhere = false;
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Address(mac) => link.mac = Mac::try_from(mac.as_slice()).ok(),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
            LinkAttribute::Link(peer) => link.peer = Some(*peer),
            LinkAttribute::LinkNetNsId(_) => is_elsewhere = true,
            LinkAttribute::Xdp(xdp) => link.xdp = xdp_of(xdp),
            LinkAttribute::LinkInfo(info) => {
                link.kind = info.iter().find_map(|info| match info {
                    LinkInfo::Kind(kind) => Some(kind.to_string()),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    link.below = link.peer.filter(|_| link.is("vlan") && !is_elsewhere);
    Some(link)
}

fn xdp_of(attributes: &[LinkXdp]) -> XdpPrograms {
    let mut programs = XdpPrograms::default();
    for attribute in attributes {
        match attribute {
            LinkXdp::DrvProgId(id) => programs.native = Some(*id),
            LinkXdp::SkbProgId(id) => programs.generic = Some(*id),
            LinkXdp::HwProgId(id) => programs.offloaded = Some(*id),
            _ => {}
        }
    }
    programs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_vlan_is_on_top_of_counts_in_its_own_namespace() {
        let below = |kind, elsewhere: &[LinkAttribute]| {
            let mut message = new_link("eth0.100", [2, 0, 0, 0, 0, 1], 1500);
            message.attributes.push(LinkAttribute::Link(7));
            message.attributes.extend_from_slice(elsewhere);
            message.attributes.push(LinkAttribute::LinkInfo(vec![LinkInfo::Kind(kind)]));
            link_of(&RouteNetlinkMessage::NewLink(message)).unwrap().below
        };
        assert_eq!(below(InfoKind::Vlan, &[]), Some(7));
        assert_eq!(below(InfoKind::Vlan, &[LinkAttribute::LinkNetNsId(0)]), None);
        assert_eq!(below(InfoKind::Veth, &[]), None);
    }
}
