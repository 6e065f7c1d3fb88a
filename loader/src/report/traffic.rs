//! `loader pods` and `loader peers`: who there is, and what they send and receive.

use std::{net::IpAddr, path::PathBuf};

use common::maps::Traffic;
use ipnet::IpNet;
use serde::Serialize;

use super::grid::{
    Column::{Number, Text},
    Grid, list,
};
use crate::state::WaitingPod;

/// The pods of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PodsReport {
    /// Name of the node.
    pub node: String,
    /// The pods that are connected.
    pub pods: Vec<PodRow>,
    /// The pods that are configured but not connected, and why.
    pub waiting: Vec<WaitingPod>,
}

/// One pod.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PodRow {
    /// Name.
    pub name: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
    /// Name of the host-side device.
    pub device: String,
    /// Interface index of the host-side device.
    pub ifindex: u32,
    /// File of its network namespace.
    pub netns: PathBuf,
    /// Name of its own device, there.
    pub interface: String,
    /// MAC of its own device.
    pub mac: String,
    /// Its traffic: received by the pod, sent by the pod.
    #[serde(flatten)]
    pub traffic: TrafficRow,
}

/// The peers of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeersReport {
    /// Name of the node.
    pub node: String,
    /// The peers.
    pub peers: Vec<PeerRow>,
}

/// One peer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PeerRow {
    /// Name.
    pub name: String,
    /// Underlay address at which it is reached.
    pub underlay: IpAddr,
    /// How it is reached: `overlay` or `direct`.
    pub route: &'static str,
    /// Where its pods are.
    pub pod_cidrs: Vec<IpNet>,
    /// MAC of its VTEP.
    pub vtep_mac: String,
    /// Its traffic: received from it, sent to it.
    #[serde(flatten)]
    pub traffic: TrafficRow,
}

/// Packets and bytes in both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TrafficRow {
    /// Packets received.
    pub rx_packets: u64,
    /// Bytes received.
    pub rx_bytes: u64,
    /// Packets sent.
    pub tx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
}

impl TrafficRow {
    /// The sum over the CPUs.
    #[must_use]
    pub fn sum<'a>(cpus: impl IntoIterator<Item = &'a Traffic>) -> Self {
        cpus.into_iter().fold(Self::default(), |sum, cpu| Self {
            rx_packets: sum.rx_packets + cpu.rx_packets,
            rx_bytes: sum.rx_bytes + cpu.rx_bytes,
            tx_packets: sum.tx_packets + cpu.tx_packets,
            tx_bytes: sum.tx_bytes + cpu.tx_bytes,
        })
    }

    fn cells(self) -> [String; 4] {
        let Self { rx_packets, rx_bytes, tx_packets, tx_bytes } = self;
        [rx_packets, rx_bytes, tx_packets, tx_bytes].map(|number| number.to_string())
    }
}

impl PodsReport {
    /// As a table.
    #[must_use]
    pub fn table(&self) -> String {
        let mut grid = Grid::new(&[
            Text("NAME"),
            Text("ADDRESSES"),
            Text("DEVICE"),
            Text("NETNS"),
            Number("RX PACKETS"),
            Number("RX BYTES"),
            Number("TX PACKETS"),
            Number("TX BYTES"),
        ]);
        for PodRow { name, addresses, device, netns, traffic, .. } in &self.pods {
            let named = [name.clone(), list(addresses), device.clone(), netns.display().to_string()];
            grid.row(named.into_iter().chain(traffic.cells()));
        }
        let mut text = if self.pods.is_empty() { "no pods\n".to_owned() } else { grid.show() };
        if !self.waiting.is_empty() {
            let mut grid = Grid::new(&[Text("NOT CONNECTED"), Text("NETNS"), Text("WHY")]);
            for WaitingPod { name, netns, reason } in &self.waiting {
                grid.row([name.as_str(), &netns.display().to_string(), reason]);
            }
            text += "\n";
            text += &grid.show();
        }
        text
    }
}

impl PeersReport {
    /// As a table.
    #[must_use]
    pub fn table(&self) -> String {
        if self.peers.is_empty() {
            return "no peers\n".to_owned();
        }
        let mut grid = Grid::new(&[
            Text("NAME"),
            Text("UNDERLAY"),
            Text("ROUTE"),
            Text("POD CIDRS"),
            Text("VTEP MAC"),
            Number("RX PACKETS"),
            Number("RX BYTES"),
            Number("TX PACKETS"),
            Number("TX BYTES"),
        ]);
        for PeerRow { name, underlay, route, pod_cidrs, vtep_mac, traffic } in &self.peers {
            let named =
                [name.clone(), underlay.to_string(), (*route).to_owned(), list(pod_cidrs), vtep_mac.clone()];
            grid.row(named.into_iter().chain(traffic.cells()));
        }
        grid.show()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRAFFIC: Traffic = Traffic { rx_packets: 1, rx_bytes: 100, tx_packets: 2, tx_bytes: 200 };

    #[test]
    fn traffic_is_summed_over_cpus() {
        let sum = TrafficRow { rx_packets: 2, rx_bytes: 200, tx_packets: 4, tx_bytes: 400 };
        assert_eq!(TrafficRow::sum(&[TRAFFIC, TRAFFIC]), sum);
    }

    #[test]
    fn pods() {
        let mut report = PodsReport {
            node: "worker-0".to_owned(),
            pods: vec![PodRow {
                name: "default/nginx".to_owned(),
                addresses: vec!["10.200.0.4".parse().unwrap(), "fd00:10:200::4".parse().unwrap()],
                device: "pl0123456789a".to_owned(),
                ifindex: 7,
                netns: "/run/netns/nginx".into(),
                interface: "eth0".to_owned(),
                mac: "0a:58:0a:c8:00:04".to_owned(),
                traffic: TrafficRow::sum(&[TRAFFIC]),
            }],
            waiting: Vec::new(),
        };
        assert_eq!(
            report.table(),
            "NAME            ADDRESSES                    DEVICE          NETNS              RX PACKETS   RX BYTES   TX PACKETS   TX BYTES\n\
             default/nginx   10.200.0.4, fd00:10:200::4   pl0123456789a   /run/netns/nginx            1        100            2        200\n"
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(
            (&json["pods"][0]["rx_bytes"], &json["pods"][0]["name"]),
            (&100.into(), &"default/nginx".into())
        );

        report.pods.clear();
        report.waiting.push(WaitingPod {
            name: "default/late".to_owned(),
            netns: "/run/netns/late".into(),
            reason: "no such namespace".to_owned(),
        });
        assert_eq!(
            report.table(),
            "no pods\n\nNOT CONNECTED   NETNS             WHY\ndefault/late    /run/netns/late   no such namespace\n"
        );
    }

    #[test]
    fn peers() {
        let mut report = PeersReport {
            node: "worker-0".to_owned(),
            peers: vec![PeerRow {
                name: "worker-1".to_owned(),
                underlay: "10.240.0.21".parse().unwrap(),
                route: "overlay",
                pod_cidrs: vec!["10.200.1.0/24".parse().unwrap()],
                vtep_mac: "0a:00:0a:f0:00:15".to_owned(),
                traffic: TrafficRow::sum(&[TRAFFIC]),
            }],
        };
        let table = report.table();
        let row: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            row,
            [
                "worker-1",
                "10.240.0.21",
                "overlay",
                "10.200.1.0/24",
                "0a:00:0a:f0:00:15",
                "1",
                "100",
                "2",
                "200"
            ]
        );
        report.peers.clear();
        assert_eq!(report.table(), "no peers\n");
    }
}
