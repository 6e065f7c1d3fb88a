//! `loader conntrack`: connections and what they are translated to.

use std::net::{IpAddr, SocketAddr};

use serde::Serialize;

use super::grid::{
    Column::{Number, Text},
    Grid, count,
};
use crate::conntrack::State;

/// Connections of a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionsReport {
    /// Name of the node.
    pub node: String,
    /// The connections, sorted.
    pub connections: Vec<ConnectionRow>,
}

/// A connection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ConnectionRow {
    /// Name of the protocol, or its number.
    pub protocol: String,
    /// How far it has got.
    pub state: State,
    /// As whoever began it sees it.
    pub original: TupleRow,
    /// What its packets become.
    pub translated: TupleRow,
    /// Name and port of the service that was called.
    pub service: Option<String>,
    /// It goes under the node's address.
    pub masqueraded: bool,
    /// It came from outside, and is here so that its answers are not masqueraded.
    pub inbound: bool,
    /// For how long it has been silent.
    pub idle_seconds: u64,
    /// Packets of whoever began it.
    pub packets: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Packets of the other side.
    pub reply_packets: u64,
    /// Their bytes.
    pub reply_bytes: u64,
}

/// From where to where.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct TupleRow {
    /// Source address.
    pub source: IpAddr,
    /// Source port, or the identifier of an ICMP echo.
    pub source_port: u16,
    /// Destination address.
    pub destination: IpAddr,
    /// Destination port.
    pub destination_port: u16,
}

/// What was flushed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct FlushReport {
    /// Name of the node.
    pub node: String,
    /// How many connections were forgotten.
    pub connections: u64,
}

impl TupleRow {
    fn ends(&self) -> [String; 2] {
        [
            SocketAddr::new(self.source, self.source_port).to_string(),
            SocketAddr::new(self.destination, self.destination_port).to_string(),
        ]
    }
}

impl ConnectionsReport {
    /// As a table.
    #[must_use]
    pub fn table(&self) -> String {
        let mut grid = Grid::new(&[
            Text("PROTO"),
            Text("STATE"),
            Number("IDLE"),
            Text("SOURCE"),
            Text("DESTINATION"),
            Text("NEW SOURCE"),
            Text("NEW DESTINATION"),
            Text("SERVICE"),
            Number("PACKETS"),
            Number("BYTES"),
            Number("REPLY PACKETS"),
            Number("REPLY BYTES"),
        ]);
        for row in &self.connections {
            let ([source, destination], [new_source, new_destination]) =
                (row.original.ends(), row.translated.ends());
            let same = |new: String, old: &str| if new == old { "=".to_owned() } else { new };
            let state = serde_json::to_value(row.state).ok();
            let state = state.as_ref().and_then(|state| state.as_str()).unwrap_or_default().to_owned();
            grid.row([
                row.protocol.clone(),
                state,
                format!("{}s", row.idle_seconds),
                source.clone(),
                destination.clone(),
                same(new_source, &source),
                same(new_destination, &destination),
                row.service.clone().unwrap_or_else(|| "-".to_owned()),
                row.packets.to_string(),
                row.bytes.to_string(),
                row.reply_packets.to_string(),
                row.reply_bytes.to_string(),
            ]);
        }
        let sum = count(self.connections.len(), "connection") + "\n";
        if self.connections.is_empty() { sum } else { grid.show() + "\n" + &sum }
    }
}

impl FlushReport {
    /// As a line.
    #[must_use]
    pub fn table(&self) -> String {
        let connections = usize::try_from(self.connections).unwrap_or(usize::MAX);
        format!("{} flushed\n", count(connections, "connection"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_stays_the_same_is_not_said_twice() {
        let tuple = |destination: [u8; 4], destination_port| TupleRow {
            source: [10, 200, 0, 4].into(),
            source_port: 40000,
            destination: destination.into(),
            destination_port,
        };
        let row = ConnectionRow {
            protocol: "tcp".to_owned(),
            state: State::Established,
            original: tuple([10, 32, 0, 10], 80),
            translated: tuple([10, 200, 1, 5], 8080),
            service: Some("default/web:80".to_owned()),
            masqueraded: false,
            inbound: false,
            idle_seconds: 3,
            packets: 4,
            bytes: 500,
            reply_packets: 6,
            reply_bytes: 700,
        };
        let report = ConnectionsReport { node: "worker-0".to_owned(), connections: vec![row] };
        let table = report.table();
        let words: Vec<_> = table.lines().nth(1).unwrap().split_whitespace().collect();
        assert_eq!(
            words,
            [
                "tcp",
                "established",
                "3s",
                "10.200.0.4:40000",
                "10.32.0.10:80",
                "=",
                "10.200.1.5:8080",
                "default/web:80",
                "4",
                "500",
                "6",
                "700"
            ]
        );
        assert!(table.ends_with("\n1 connection\n"));
        let flushed = FlushReport { node: "worker-0".to_owned(), connections: 2 };
        assert_eq!(flushed.table(), "2 connections flushed\n");
    }
}
