//! `loader check`: what a configuration asks for.

use serde::Serialize;

use super::grid::{Column::Text, Grid, facts, list};
use crate::{
    config::{Config, Warnings},
    desired::{Desired, Overlay, Peer, Pod},
    mac,
};

/// A configuration without errors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckReport {
    /// The file.
    pub file: String,
    /// True; a configuration with errors has none of this.
    pub ok: bool,
    /// What is most likely not meant.
    #[serde(flatten)]
    pub warnings: Warnings,
    /// What it asks for.
    #[serde(flatten)]
    pub desired: Desired,
}

impl CheckReport {
    /// Of what `file` asks for.
    #[must_use]
    pub fn new(file: &str, config: Config) -> Self {
        let Config { desired, warnings } = config;
        Self { file: file.to_owned(), ok: true, warnings, desired }
    }

    /// As tables.
    #[must_use]
    pub fn table(&self) -> String {
        let Desired { node, overlay, peers, pods, .. } = &self.desired;
        let Overlay { vni, port, mtu } = overlay;
        let mtu = mtu.map_or_else(
            || format!("that of the uplinks, less {}", self.desired.overhead()),
            |mtu| mtu.to_string(),
        );
        let mut counts = "no errors".to_owned();
        if !self.warnings.warnings.is_empty() {
            counts += ", ";
            counts += &self.warnings.count();
        }
        let mut text = format!("{}{}: {counts}\n\n", self.warnings, self.file);
        text += &facts([
            ("node", node.name.clone()),
            ("underlay", format!("{} on {}", list(node.underlays()), list(&node.uplinks))),
            ("vtep mac", mac::show(node.mac)),
            ("pod cidrs", list(&node.pod_cidrs)),
            ("gateway", format!("{} on {}", list(node.gateways()), node.gateway_device)),
            ("overlay", format!("vxlan vni {vni} port {port}")),
            ("mtu", mtu),
        ]);
        if !peers.is_empty() {
            let mut grid = Grid::new(&[
                Text("PEER"),
                Text("UNDERLAY"),
                Text("ROUTE"),
                Text("POD CIDRS"),
                Text("VTEP MAC"),
            ]);
            for Peer { name, underlay, vtep_mac, pod_cidrs, direct, .. } in peers {
                let route = if *direct { "direct" } else { "overlay" };
                grid.row([
                    name.as_str(),
                    &underlay.to_string(),
                    route,
                    &list(pod_cidrs),
                    &mac::show(*vtep_mac),
                ]);
            }
            text += "\n";
            text += &grid.show();
        }
        if !pods.is_empty() {
            let mut grid = Grid::new(&[
                Text("POD"),
                Text("ADDRESSES"),
                Text("NETNS"),
                Text("INTERFACE"),
                Text("ALLOWED SOURCES"),
            ]);
            for Pod { name, netns, interface, addresses, allowed_sources } in pods {
                let netns = netns.display().to_string();
                grid.row([name.as_str(), &list(addresses), &netns, interface, &list(allowed_sources)]);
            }
            text += "\n";
            text += &grid.show();
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    const EXAMPLE: &str = include_str!("../../../examples/direct.toml");

    #[test]
    fn says_what_is_asked_for() {
        let report = CheckReport::new("direct.toml", config::parse("direct.toml", EXAMPLE).unwrap());
        assert_eq!(
            report.table(),
            "direct.toml: no errors\n\
             \n\
             node        worker-0\n\
             underlay    10.240.0.20 on eth0\n\
             vtep mac    0a:00:0a:f0:00:14\n\
             pod cidrs   10.200.0.0/24\n\
             gateway     10.200.0.1 on podlane0\n\
             overlay     vxlan vni 1 port 8472\n\
             mtu         that of the uplinks, less 50\n\
             \n\
             PEER       UNDERLAY      ROUTE     POD CIDRS       VTEP MAC\n\
             worker-1   10.240.0.21   direct    10.200.1.0/24   0a:00:0a:f0:00:15\n\
             worker-2   10.240.8.22   overlay   10.200.2.0/24   0a:00:0a:f0:08:16\n\
             \n\
             POD             ADDRESSES    NETNS              INTERFACE   ALLOWED SOURCES\n\
             default/nginx   10.200.0.4   /run/netns/nginx   eth0        -\n"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!((&json["ok"], &json["node"]["mac"]), (&true.into(), &"0a:00:0a:f0:00:14".into()));
    }
}
