//! Who calls what, by which dataplane, among how many services.

use clap::ValueEnum;
use serde::Serialize;

use super::plan::Backend;

/// Who translates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Dataplane {
    /// Bridge, VXLAN device, and kube-proxy's rules in iptables mode.
    Iptables,
    /// The same with nftables mode.
    Nftables,
    /// Podlane.
    Podlane,
    /// Podlane with XDP in the uplinks' driver.
    PodlaneXdp,
    /// Podlane that resolves services for sockets.
    PodlaneSockets,
}

impl Dataplane {
    /// Those that differ on every path.
    pub const USUAL: [Self; 3] = [Self::Iptables, Self::Nftables, Self::Podlane];

    /// Those that differ where node ports are called.
    pub const NODE_PORTS: [Self; 4] = [Self::Iptables, Self::Nftables, Self::Podlane, Self::PodlaneXdp];

    /// Those that differ where a pod calls a service.
    pub const CALLED_BY_PODS: [Self; 4] =
        [Self::Iptables, Self::Nftables, Self::Podlane, Self::PodlaneSockets];

    /// For tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
            Self::Podlane => "Podlane",
            Self::PodlaneXdp => "Podlane at XDP",
            Self::PodlaneSockets => "Podlane, sockets",
        }
    }

    /// For names of namespaces.
    #[must_use]
    pub const fn label(self) -> &'static str {
        match self {
            Self::Iptables => "iptables",
            Self::Nftables => "nftables",
            Self::Podlane => "podlane",
            Self::PodlaneXdp => "podlane-xdp",
            Self::PodlaneSockets => "podlane-sock",
        }
    }

    /// What it is compared with.
    #[must_use]
    pub const fn against(self) -> &'static [Self] {
        match self {
            Self::Iptables | Self::Nftables => &[],
            Self::Podlane => &[Self::Iptables, Self::Nftables],
            Self::PodlaneXdp | Self::PodlaneSockets => &[Self::Iptables, Self::Nftables, Self::Podlane],
        }
    }

    /// The program that loads its rules.
    #[must_use]
    pub const fn tool(self) -> Option<&'static str> {
        match self {
            Self::Iptables => Some("iptables-restore"),
            Self::Nftables => Some("nft"),
            Self::Podlane | Self::PodlaneXdp | Self::PodlaneSockets => None,
        }
    }
}

/// Who calls, and where the backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Scenario {
    /// A pod calls a pod of its node by its own address.
    PodLocal,
    /// A pod calls a pod of the other node by its own address.
    PodRemote,
    /// A pod calls a cluster IP; the backend is on its node.
    ClusterIpLocal,
    /// A pod calls a cluster IP; the backend is on the other node.
    ClusterIpRemote,
    /// A client outside the cluster calls a node port; the backend is on that node.
    NodePortLocal,
    /// A client outside the cluster calls a node port; the backend is on the other node.
    NodePortRemote,
}

impl Scenario {
    /// Every one.
    pub const ALL: [Self; 6] = [
        Self::PodLocal,
        Self::PodRemote,
        Self::ClusterIpLocal,
        Self::ClusterIpRemote,
        Self::NodePortLocal,
        Self::NodePortRemote,
    ];
    /// Those that leave the node that is called.
    pub const REMOTE: [Self; 3] = [Self::PodRemote, Self::ClusterIpRemote, Self::NodePortRemote];
    /// Those of pods.
    pub const PODS: [Self; 4] =
        [Self::PodLocal, Self::PodRemote, Self::ClusterIpLocal, Self::ClusterIpRemote];
    /// Those from outside.
    pub const NODE_PORTS: [Self; 2] = [Self::NodePortLocal, Self::NodePortRemote];

    /// For tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::PodLocal => "pod to pod, same node",
            Self::PodRemote => "pod to pod, other node",
            Self::ClusterIpLocal => "pod to ClusterIP, local backend",
            Self::ClusterIpRemote => "pod to ClusterIP, remote backend",
            Self::NodePortLocal => "outside to NodePort, local backend",
            Self::NodePortRemote => "outside to NodePort, remote backend",
        }
    }

    /// Where the backend is, seen from the node that is called.
    #[must_use]
    pub const fn backend(self) -> Backend {
        match self {
            Self::PodLocal | Self::ClusterIpLocal | Self::NodePortLocal => Backend::Local,
            Self::PodRemote | Self::ClusterIpRemote | Self::NodePortRemote => Backend::Remote,
        }
    }
}

/// A dataplane with a number of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Side {
    /// Who translates.
    pub dataplane: Dataplane,
    /// How many services there are.
    pub services: u16,
}
