//! The MTU of the pods: what the uplinks take, less what the tunnel adds.

use ipnet::IpNet;
use thiserror::Error;

use super::Desired;

/// What VXLAN adds to a packet of the tunnel in an IPv4 underlay: inner Ethernet, VXLAN, UDP and IPv4 header.
pub const OVERHEAD4: u32 = 14 + 8 + 8 + 20;
/// As [`OVERHEAD4`], in an IPv6 underlay.
pub const OVERHEAD6: u32 = 14 + 8 + 8 + 40;
/// Smallest MTU that IPv6 works with (RFC 8200, section 5).
pub const MIN_MTU6: u32 = 1280;
/// Smallest datagram that every IPv4 host takes (RFC 791), so the smallest MTU that is of use.
pub const MIN_MTU4: u32 = 576;

/// Largest MTU: what VXLAN adds has to fit into an IP packet too.
pub const MAX_MTU: u32 = 65535 - OVERHEAD6;

/// Why there is no MTU for the overlay.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum MtuError {
    /// Nothing to derive it from.
    #[error("no uplink to derive the overlay's MTU from; set overlay.mtu")]
    NoUplink,
    /// What the uplinks leave is less than a pod needs.
    #[error(
        "an uplink MTU of {uplink} less {overhead} for VXLAN leaves {left}, and {family} pods need at least {least}; \
         raise the MTU of the uplink"
    )]
    UplinkTooSmall {
        /// Smallest MTU of the uplinks.
        uplink: u32,
        /// What VXLAN adds.
        overhead: u32,
        /// What is left.
        left: u32,
        /// Smallest MTU that does.
        least: u32,
        /// Family that needs it.
        family: &'static str,
    },
    /// What is configured does not fit into the uplinks.
    #[error(
        "overlay.mtu is {configured}, but an uplink MTU of {uplink} less {overhead} for VXLAN leaves {left}; lower \
         overlay.mtu or raise the MTU of the uplink"
    )]
    DoesNotFit {
        /// As configured.
        configured: u32,
        /// Smallest MTU of the uplinks.
        uplink: u32,
        /// What VXLAN adds.
        overhead: u32,
        /// What is left.
        left: u32,
    },
}

impl Desired {
    /// What VXLAN adds to a packet: that of IPv6 as soon as one peer is reached over it.
    #[must_use]
    pub fn overhead(&self) -> u32 {
        if self.peers.iter().any(|peer| peer.underlay.is_ipv6()) { OVERHEAD6 } else { OVERHEAD4 }
    }

    /// Smallest MTU that the pods' address families work with.
    #[must_use]
    pub fn least_mtu(&self) -> u32 {
        if self.has_ipv6_pods() { MIN_MTU6 } else { MIN_MTU4 }
    }

    /// Whether any pods have IPv6 addresses, ours or a peer's: the kernel routes none through a device below
    /// [`MIN_MTU6`].
    #[must_use]
    pub fn has_ipv6_pods(&self) -> bool {
        let peers = self.peers.iter().flat_map(|peer| &peer.pod_cidrs);
        self.node.pod_cidrs.iter().chain(peers).any(|cidr| matches!(cidr, IpNet::V6(_)))
    }

    /// MTU of the pods and of the gateway device, given those of the uplinks.
    pub fn overlay_mtu(&self, uplink_mtus: &[u32]) -> Result<u32, MtuError> {
        let Some(uplink) = uplink_mtus.iter().copied().min() else {
            return self.overlay.mtu.ok_or(MtuError::NoUplink);
        };
        let overhead = self.overhead();
        let left = uplink.saturating_sub(overhead);
        let tunnelled = self.peers.iter().any(|peer| !peer.direct);
        match self.overlay.mtu {
            Some(configured) if tunnelled && configured > left => {
                Err(MtuError::DoesNotFit { configured, uplink, overhead, left })
            }
            Some(configured) => Ok(configured),
            None if left < self.least_mtu() => {
                let family = if self.has_ipv6_pods() { "IPv6" } else { "IPv4" };
                Err(MtuError::UplinkTooSmall { uplink, overhead, left, least: self.least_mtu(), family })
            }
            None => Ok(left),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Node, Overlay, Peer},
        *,
    };
    use crate::mac::Mac;

    fn desired(mtu: Option<u32>, underlays: &[(&str, bool)], ipv6_cidr: Option<&str>) -> Desired {
        let peer = |(underlay, direct): &(&str, bool)| Peer {
            name: (*underlay).to_owned(),
            addresses: vec![underlay.parse().unwrap()],
            underlay: underlay.parse().unwrap(),
            vtep_mac: Mac::default(),
            pod_cidrs: Vec::new(),
            direct: *direct,
        };
        Desired {
            node: Node {
                pod_cidrs: ipv6_cidr.iter().map(|cidr| cidr.parse().unwrap()).collect(),
                ..Node::default()
            },
            overlay: Overlay { mtu, ..Overlay::default() },
            peers: underlays.iter().map(peer).collect(),
            ..Desired::default()
        }
    }

    #[test]
    fn mtu_is_what_the_smallest_uplink_leaves() {
        let over4 = [("10.240.0.21", false)];
        let over6 = [("10.240.0.21", false), ("fd00::21", false)];
        assert_eq!(desired(None, &[], None).overlay_mtu(&[1500]), Ok(1450));
        assert_eq!(desired(None, &over4, None).overlay_mtu(&[9000, 1500]), Ok(1450));
        assert_eq!(desired(None, &over6, None).overlay_mtu(&[1500]), Ok(1430));
        assert_eq!(desired(None, &over6, Some("fd00:10:200::/64")).overlay_mtu(&[1350]), Ok(1280));
    }

    #[test]
    fn a_configured_mtu_has_to_fit_where_it_is_tunnelled() {
        let tunnelled = [("10.240.0.21", false)];
        assert_eq!(desired(Some(1400), &tunnelled, None).overlay_mtu(&[1500]), Ok(1400));
        assert_eq!(desired(Some(1500), &[("10.240.0.21", true)], None).overlay_mtu(&[1500]), Ok(1500));
        assert_eq!(desired(Some(1500), &[], None).overlay_mtu(&[]), Ok(1500));
        let error = desired(Some(1451), &tunnelled, None).overlay_mtu(&[1500]).unwrap_err();
        assert_eq!(error, MtuError::DoesNotFit { configured: 1451, uplink: 1500, overhead: 50, left: 1450 });
    }

    #[test]
    fn an_uplink_too_small_is_an_error() {
        assert_eq!(desired(None, &[], None).overlay_mtu(&[]), Err(MtuError::NoUplink));
        let error =
            desired(None, &[("fd00::21", false)], Some("fd00:10:200::/64")).overlay_mtu(&[1349]).unwrap_err();
        assert!(
            error
                .to_string()
                .starts_with("an uplink MTU of 1349 less 70 for VXLAN leaves 1279, and IPv6 pods"),
            "{error}"
        );
        assert_eq!(desired(None, &[], None).overlay_mtu(&[626]), Ok(576));
        assert!(desired(None, &[], None).overlay_mtu(&[625]).is_err());
        assert!(desired(None, &[], None).overlay_mtu(&[10]).is_err());
    }
}
