//! `loader services`: where services are called, and who answers how much.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::grid::{
    Column::{Number, Text},
    Grid,
};

/// The services of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServicesReport {
    /// Name of the node.
    pub node: String,
    /// One for each port of a service and family.
    pub services: Vec<ServiceRow>,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServiceRow {
    /// Name of the service, or of the pod whose host port it is.
    pub service: String,
    /// Name of the port.
    pub port_name: Option<String>,
    /// Name of the protocol.
    pub protocol: String,
    /// The port.
    pub port: u16,
    /// How a backend is chosen: `maglev` or `random`.
    pub algorithm: &'static str,
    /// For how long a client keeps its backend; 0: not at all.
    pub affinity_seconds: u32,
    /// Where it is called, by kind.
    pub frontends: Vec<FrontendRow>,
    /// Who answers.
    pub backends: Vec<BackendRow>,
}

/// The frontends of one kind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FrontendRow {
    /// The kind, as Kubernetes has it.
    pub kind: String,
    /// Addresses and ports.
    pub addresses: Vec<(IpAddr, u16)>,
    /// Whom pods and the node itself get: `Cluster` or `Local`.
    pub internal_policy: &'static str,
    /// Whom everybody else gets.
    pub external_policy: &'static str,
}

/// Who answers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct BackendRow {
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// `ready`, `serving-terminating` or `not-ready`.
    pub state: &'static str,
    /// Where it is: `local`, `host`, `remote` or `external`.
    pub placement: &'static str,
    /// Connections that there are.
    pub connections: u64,
    /// Connections that there have been.
    pub connections_ever: u64,
    /// Packets, to it and from it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
}

impl ServicesReport {
    /// As tables.
    #[must_use]
    pub fn table(&self) -> String {
        if self.services.is_empty() {
            return "no such service\n".to_owned();
        }
        let mut frontends = Grid::new(&[
            Text("SERVICE"),
            Text("PORT"),
            Text("TYPE"),
            Text("FRONTEND"),
            Text("INTERNAL"),
            Text("EXTERNAL"),
            Text("ALGORITHM"),
            Text("AFFINITY"),
        ]);
        let mut backends = Grid::new(&[
            Text("SERVICE"),
            Text("PORT"),
            Text("BACKEND"),
            Text("STATE"),
            Text("PLACE"),
            Number("CONNECTIONS"),
            Number("PACKETS"),
            Number("BYTES"),
        ]);
        for service in &self.services {
            let port = format!("{}/{}", service.port, service.protocol);
            let affinity = match service.affinity_seconds {
                0 => "-".to_owned(),
                seconds => format!("{seconds}s"),
            };
            for frontend in &service.frontends {
                for (address, frontend_port) in &frontend.addresses {
                    frontends.row([
                        service.service.as_str(),
                        &port,
                        &frontend.kind,
                        &SocketAddr::new(*address, *frontend_port).to_string(),
                        frontend.internal_policy,
                        frontend.external_policy,
                        service.algorithm,
                        &affinity,
                    ]);
                }
            }
            for BackendRow {
                address,
                port: backend_port,
                state,
                placement,
                connections,
                packets,
                bytes,
                ..
            } in &service.backends
            {
                backends.row([
                    service.service.as_str(),
                    &port,
                    &SocketAddr::new(*address, *backend_port).to_string(),
                    state,
                    placement,
                    &connections.to_string(),
                    &packets.to_string(),
                    &bytes.to_string(),
                ]);
            }
        }
        frontends.show() + "\n" + &backends.show()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frontends_then_backends() {
        let report = ServicesReport {
            node: "worker-0".to_owned(),
            services: vec![ServiceRow {
                service: "default/web".to_owned(),
                port_name: None,
                protocol: "TCP".to_owned(),
                port: 80,
                algorithm: "maglev",
                affinity_seconds: 10,
                frontends: vec![FrontendRow {
                    kind: "ClusterIP".to_owned(),
                    addresses: vec![("fd00::1".parse().unwrap(), 80)],
                    internal_policy: "Cluster",
                    external_policy: "Local",
                }],
                backends: vec![BackendRow {
                    address: "fd00::2".parse().unwrap(),
                    port: 8080,
                    state: "ready",
                    placement: "local",
                    connections: 1,
                    connections_ever: 7,
                    packets: 20,
                    bytes: 3000,
                }],
            }],
        };
        assert_eq!(
            report.table(),
            "SERVICE       PORT     TYPE        FRONTEND       INTERNAL   EXTERNAL   ALGORITHM   AFFINITY\n\
             default/web   80/TCP   ClusterIP   [fd00::1]:80   Cluster    Local      maglev      10s\n\
             \n\
             SERVICE       PORT     BACKEND          STATE   PLACE   CONNECTIONS   PACKETS   BYTES\n\
             default/web   80/TCP   [fd00::2]:8080   ready   local             1        20    3000\n"
        );
        let none = ServicesReport { services: Vec::new(), ..report };
        assert_eq!(none.table(), "no such service\n");
    }
}
