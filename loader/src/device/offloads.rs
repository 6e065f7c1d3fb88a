//! Offloads by which senders leave Podlane packets that it can't send on.

use super::{DeviceError, Ethtool};

/// Of a pod's own side of its veth, whose kernel segments what the device does not: no GSO packet may come out of it that is a tunnel's
/// already, since the kernel can't segment what is in two tunnels, and none of SCTP's, since `bpf_skb_adjust_room` refuses
/// those. Without an offload such packets come out segmented.
pub(super) const UNWANTED_OF_POD: &[&str] = &[
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "tx-gre-segmentation",
    "tx-gre-csum-segmentation",
    "tx-ipxip4-segmentation",
    "tx-ipxip6-segmentation",
    "tx-esp-segmentation",
    "tx-sctp-segmentation",
];

/// Of the gateway device. The program there gets a packet before it would be segmented for the device, so all that counts is what
/// senders make: SCTP bundles its packets if the device segments them or, by GSO, the kernel does (`sk_setup_caps`). TCP and UDP
/// don't ask for GSO.
pub(super) const UNWANTED_OF_GATEWAY: &[&str] = &["tx-sctp-segmentation", "tx-generic-segmentation"];

/// Switches off what is on. Returns what keeps it from being switched off: most packets need nothing of it, so that is no
/// failure.
pub(super) fn switch_off(device: &str, unwanted: &[&str]) -> Option<DeviceError> {
    let outcome = Ethtool::open().and_then(|ethtool| ethtool.switch_off(device, unwanted));
    outcome.err().map(|source| DeviceError::Offloads { device: device.to_owned(), source })
}
