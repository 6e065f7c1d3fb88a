//! The tables of the file and their keys: what the reader knows, and what `docs/config.md` must describe.

/// A table of the file.
#[derive(Debug)]
pub(super) struct Table {
    /// Its name; empty for the file itself.
    pub(super) name: &'static str,
    /// What may stand in it.
    pub(super) keys: &'static [&'static str],
}

/// The file itself.
pub(super) const ROOT: Table = Table {
    name: "",
    keys: &[NODE.name, OVERLAY.name, MAPS.name, XDP.name, MASQUERADE.name, PEER.name, POD.name, SERVICE],
};
/// This node.
pub(super) const NODE: Table =
    Table { name: "node", keys: &["name", "address", "uplink", "pod-cidr", "vtep-mac", "gateway"] };
/// The tunnel.
pub(super) const OVERLAY: Table = Table { name: "overlay", keys: &["mode", "vni", "port", "mtu"] };
/// Sizes of the maps.
pub(super) const MAPS: Table = Table { name: "maps", keys: &["pods", "peers", "routes", "sources"] };
/// The XDP hook of the uplinks.
pub(super) const XDP: Table = Table { name: "xdp", keys: &["mode"] };
/// Masquerading of what pods send out of the cluster.
pub(super) const MASQUERADE: Table = Table { name: "masquerade", keys: &["enabled", "exclude", "ports"] };
/// Another node, once each.
pub(super) const PEER: Table =
    Table { name: "peer", keys: &["name", "address", "vtep-mac", "pod-cidr", "route"] };
/// A pod, once each.
pub(super) const POD: Table =
    Table { name: "pod", keys: &["name", "netns", "interface", "ip", "allowed-sources"] };
/// A service, once each; not read in this release, so its keys aren't known.
pub(super) const SERVICE: &str = "service";

/// Every table with keys of its own.
pub(super) const ALL: [&Table; 7] = [&NODE, &OVERLAY, &MAPS, &XDP, &MASQUERADE, &PEER, &POD];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_documented() {
        let docs = include_str!("../../../docs/config.md");
        for table in ALL {
            let heading =
                docs.lines().find(|line| line.starts_with('#') && line.contains(&format!("{}]", table.name)));
            assert!(heading.is_some(), "docs/config.md has no heading for [{}]", table.name);
            let section = docs.split(heading.unwrap_or_default()).nth(1).unwrap_or_default();
            let section = section.split("\n## ").next().unwrap_or_default();
            for key in table.keys {
                assert!(
                    section.lines().any(|line| line.starts_with(&format!("| `{key}` |"))),
                    "docs/config.md has no row for {key} under [{}]",
                    table.name
                );
            }
        }
    }
}
