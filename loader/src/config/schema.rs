//! The tables of the file and their keys: what the reader knows, and what `docs/config.md` must describe.

/// A table of the file.
#[derive(Debug)]
pub(super) struct Table {
    /// The key that it stands under, in the table around it; empty for the file itself.
    pub(super) name: &'static str,
    /// As it is written at its head.
    pub(super) heading: &'static str,
    /// What may stand in it.
    pub(super) keys: &'static [&'static str],
}

/// The file itself.
pub(super) const ROOT: Table = Table {
    name: "",
    heading: "",
    keys: &[
        NODE.name,
        OVERLAY.name,
        MASQUERADE.name,
        SERVICES.name,
        CONNTRACK.name,
        MAPS.name,
        TC.name,
        XDP.name,
        SOCKETS.name,
        PEER.name,
        POD.name,
        SERVICE.name,
    ],
};
/// This node.
pub(super) const NODE: Table = Table {
    name: "node",
    heading: "[node]",
    keys: &[
        "name",
        "address",
        "uplink",
        "pod-cidr",
        "vtep-mac",
        "gateway",
        "service-cidr",
        "node-port-address",
    ],
};
/// The tunnel.
pub(super) const OVERLAY: Table =
    Table { name: "overlay", heading: "[overlay]", keys: &["mode", "vni", "port", "mtu"] };
/// Masquerading of what pods send out of the cluster.
pub(super) const MASQUERADE: Table =
    Table { name: "masquerade", heading: "[masquerade]", keys: &["enabled", "exclude", "ports"] };
/// What all services have in common.
pub(super) const SERVICES: Table = Table { name: "services", heading: "[services]", keys: &["echo"] };
/// Connections that are translated.
pub(super) const CONNTRACK: Table =
    Table { name: "conntrack", heading: "[conntrack]", keys: &[TIMEOUT.name] };
/// When they are forgotten.
pub(super) const TIMEOUT: Table = Table {
    name: "timeout",
    heading: "[conntrack.timeout]",
    keys: &["tcp-syn", "tcp-established", "tcp-closing", "udp", "udp-stream", "icmp", "sctp", "other"],
};
/// Sizes of the maps.
pub(super) const MAPS: Table = Table {
    name: "maps",
    heading: "[maps]",
    keys: &[
        "pods",
        "peers",
        "routes",
        "sources",
        "services",
        "frontends",
        "backends",
        "maglev",
        "source-ranges",
        "conntrack",
        "affinity",
        "fragments",
        "sockets",
        "flows",
    ],
};
/// The hooks at traffic control.
pub(super) const TC: Table = Table { name: "tc", heading: "[tc]", keys: &["mode"] };
/// The XDP hook of the uplinks.
pub(super) const XDP: Table = Table { name: "xdp", heading: "[xdp]", keys: &["mode"] };
/// Services for sockets.
pub(super) const SOCKETS: Table = Table { name: "sockets", heading: "[sockets]", keys: &["mode", "cgroup"] };
/// Another node, once each.
pub(super) const PEER: Table =
    Table { name: "peer", heading: "[[peer]]", keys: &["name", "address", "vtep-mac", "pod-cidr", "route"] };
/// A pod, once each.
pub(super) const POD: Table = Table {
    name: "pod",
    heading: "[[pod]]",
    keys: &["name", "netns", "interface", "ip", "allowed-sources", HOST_PORT.name],
};
/// A port of the node that stands for one of a pod's, once each.
pub(super) const HOST_PORT: Table = Table {
    name: "host-port",
    heading: "[[pod.host-port]]",
    keys: &["port", "host-port", "protocol", "host-ip"],
};
/// A service, once each.
pub(super) const SERVICE: Table = Table {
    name: "service",
    heading: "[[service]]",
    keys: &[
        "name",
        "cluster-ip",
        "external-ip",
        "load-balancer-ip",
        "source-ranges",
        AFFINITY.name,
        "external-traffic-policy",
        "internal-traffic-policy",
        "algorithm",
        "forwarding-mode",
        "health-check-node-port",
        SERVICE_PORT.name,
    ],
};
/// Whether a client keeps its backend.
pub(super) const AFFINITY: Table =
    Table { name: "affinity", heading: "[service.affinity]", keys: &["client-ip-seconds"] };
/// A port of a service, once each.
pub(super) const SERVICE_PORT: Table = Table {
    name: "port",
    heading: "[[service.port]]",
    keys: &["name", "protocol", "port", "node-port", BACKEND.name],
};
/// Who answers for it, once each.
pub(super) const BACKEND: Table = Table {
    name: "backend",
    heading: "[[service.port.backend]]",
    keys: &["ip", "port", "node", "weight", "state"],
};

/// Every table with keys of its own.
pub(super) const ALL: [&Table; 17] = [
    &NODE,
    &OVERLAY,
    &MASQUERADE,
    &SERVICES,
    &CONNTRACK,
    &TIMEOUT,
    &MAPS,
    &TC,
    &XDP,
    &SOCKETS,
    &PEER,
    &POD,
    &HOST_PORT,
    &SERVICE,
    &AFFINITY,
    &SERVICE_PORT,
    &BACKEND,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_documented() {
        let docs = include_str!("../../../docs/config.md");
        for Table { heading, keys, .. } in ALL {
            let title = format!("## `{heading}`\n");
            let section = docs.split(&title).nth(1).unwrap_or_else(|| panic!("no {title} in docs/config.md"));
            let section = section.split("\n## ").next().unwrap_or_default();
            for key in *keys {
                assert!(
                    section.lines().any(|line| line.starts_with(&format!("| `{key}` |"))),
                    "docs/config.md has no row for {key} under {heading}"
                );
            }
        }
    }
}
