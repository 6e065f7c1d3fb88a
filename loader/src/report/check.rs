//! `loader check`: what a configuration asks for.

use std::net::SocketAddr;

use serde::Serialize;

use super::grid::{Column::Text, Grid, facts, list};
use crate::{
    config::{Config, Warnings},
    desired::{
        Desired, Overlay, Peer, Pod, ServicePort,
        services::{Candidates, Exposure},
    },
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
        let mut counts = "no errors".to_owned();
        if !self.warnings.warnings.is_empty() {
            counts += ", ";
            counts += &self.warnings.count();
        }
        let head = format!("{}{}: {counts}\n", self.warnings, self.file);
        let Desired { peers, pods, services, .. } = &self.desired;
        let parts = [self.facts(), of_peers(peers), of_pods(pods), of_services(services)];
        parts.into_iter().filter(|part| !part.is_empty()).fold(head, |text, part| text + "\n" + &part)
    }

    fn facts(&self) -> String {
        let Desired { node, overlay, masquerade, .. } = &self.desired;
        let Overlay { vni, port, mtu } = overlay;
        let mtu = mtu.map_or_else(
            || format!("that of the uplinks, less {}", self.desired.overhead()),
            |mtu| mtu.to_string(),
        );
        let ports = format!("ports {}-{}", masquerade.ports.start(), masquerade.ports.end());
        let masquerade = match masquerade.exclude.as_slice() {
            _ if !masquerade.enabled => "off".to_owned(),
            [] => ports,
            exclude => format!("{ports}, except to {}", list(exclude)),
        };
        facts([
            ("node", node.name.clone()),
            ("underlay", format!("{} on {}", list(node.underlays()), list(&node.uplinks))),
            ("vtep mac", mac::show(node.mac)),
            ("pod cidrs", list(&node.pod_cidrs)),
            ("gateway", format!("{} on {}", list(node.gateways()), node.gateway_device)),
            ("overlay", format!("vxlan vni {vni} port {port}")),
            ("mtu", mtu),
            ("service cidrs", list(&node.service_cidrs)),
            ("masquerade", masquerade),
        ])
    }
}

fn of_peers(peers: &[Peer]) -> String {
    let mut grid =
        Grid::new(&[Text("PEER"), Text("UNDERLAY"), Text("ROUTE"), Text("POD CIDRS"), Text("VTEP MAC")]);
    for Peer { name, underlay, vtep_mac, pod_cidrs, direct, .. } in peers {
        let route = if *direct { "direct" } else { "overlay" };
        grid.row([name.as_str(), &underlay.to_string(), route, &list(pod_cidrs), &mac::show(*vtep_mac)]);
    }
    if peers.is_empty() { String::new() } else { grid.show() }
}

fn of_pods(pods: &[Pod]) -> String {
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
    if pods.is_empty() { String::new() } else { grid.show() }
}

/// One line for each kind of frontend.
fn of_services(services: &[ServicePort]) -> String {
    let mut grid = Grid::new(&[
        Text("SERVICE"),
        Text("PORT"),
        Text("KIND"),
        Text("FRONTENDS"),
        Text("PODS GET"),
        Text("OUTSIDE GETS"),
    ]);
    for port in services {
        let name = port.port_name.as_ref().map(|name| format!(" {name}")).unwrap_or_default();
        let number = format!("{}/{}{name}", port.port, port.protocol.name());
        for Exposure { kind, frontends, inside, outside, .. } in &port.exposures {
            let frontends = list(frontends.iter().map(|(address, port)| SocketAddr::new(*address, *port)));
            let [inside, outside] = [inside, outside].map(|candidates| who(candidates, port.endpoints.len()));
            grid.row([port.service.as_str(), &number, kind.name(), &frontends, &inside, &outside]);
        }
    }
    if services.is_empty() { String::new() } else { grid.show() }
}

/// `2 of 3 backends`.
fn who(candidates: &Candidates, all: usize) -> String {
    match candidates {
        Candidates::Reject => "a rejection".to_owned(),
        Candidates::Drop => "nothing".to_owned(),
        Candidates::Endpoints(some) => format!("{} of {all}", some.len()),
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
             node            worker-0\n\
             underlay        10.240.0.20 on eth0\n\
             vtep mac        0a:00:0a:f0:00:14\n\
             pod cidrs       10.200.0.0/24\n\
             gateway         10.200.0.1 on podlane0\n\
             overlay         vxlan vni 1 port 8472\n\
             mtu             that of the uplinks, less 50\n\
             service cidrs   -\n\
             masquerade      off\n\
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

    #[test]
    fn services_are_listed_with_who_answers() {
        let example = include_str!("../../../examples/kubernetes.toml");
        let report = CheckReport::new("kubernetes.toml", config::parse("kubernetes.toml", example).unwrap());
        let table = report.table();
        assert!(table.contains("kubernetes.toml: no errors, 2 warnings\n"), "{table}");
        assert!(
            table.contains(": warning: service[2].port[0].backend[0].ip: 192.0.2.50 is in no pod CIDR"),
            "{table}"
        );
        for line in [
            "masquerade      ports 61000-65535, except to 10.240.0.0/24, fd00:10:240::/64",
            "default/shop                    443/TCP https   LoadBalancer   203.0.113.20:443             2 of 3     1 of 3",
            "kube-system/node-local-metrics   9100/TCP   ClusterIP",
        ] {
            let words: Vec<_> = line.split_whitespace().collect();
            let found = table.lines().any(|it| it.split_whitespace().collect::<Vec<_>>().starts_with(&words));
            assert!(found, "{line} is not in\n{table}");
        }
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["warnings"].as_array().unwrap().len(), 2);
        assert_eq!(json["services"][0]["protocol"], "TCP");
    }
}
