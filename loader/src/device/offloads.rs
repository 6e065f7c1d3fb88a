//! Offloads by which Podlane gets packets that it can't send on whole: switched off on its own devices, told of on uplinks.

use std::io;

use super::{DeviceError, Ethtool};

/// Of an uplink: by either one the kernel merges UDP datagrams that no socket of its own takes (`udp_gro_receive`), so those of VXLAN with
/// an outer checksum too. What is then in one packet is decapsulated as one, and only the first inner packet is seen.
const MERGING_DATAGRAMS: &[&str] = &["rx-udp-gro-forwarding", "rx-gro-list"];

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

/// The feature that is on, if one is, by which an uplink merges packets of tunnels.
#[must_use]
pub fn merging_datagrams(uplink: &str) -> Option<&'static str> {
    let features = Ethtool::open().and_then(|ethtool| ethtool.features(uplink));
    let unknown = |error: &io::Error| log::debug!("ethtool {uplink}: {error}");
    features.inspect_err(unknown).ok()?.first_on(MERGING_DATAGRAMS)
}
