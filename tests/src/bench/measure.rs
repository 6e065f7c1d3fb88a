//! What is measured of a path.

use anyhow::Result;
use clap::ValueEnum;
use serde::Serialize;

use super::{
    cores::Cores,
    load::{self, Path, Window},
};

/// A measure; more is better for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// Bulk TCP, bytes per second.
    TcpStream,
    /// Request and response on one TCP connection.
    TcpRoundTrips,
    /// A TCP connection for each request.
    TcpConnections,
    /// Request and response over UDP.
    UdpRoundTrips,
    /// Small datagrams received.
    UdpPackets,
}

impl Measure {
    /// Every one.
    pub const ALL: [Self; 5] =
        [Self::TcpStream, Self::TcpRoundTrips, Self::TcpConnections, Self::UdpRoundTrips, Self::UdpPackets];

    /// For tables.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::TcpStream => "TCP stream",
            Self::TcpRoundTrips => "TCP RR",
            Self::TcpConnections => "TCP CRR",
            Self::UdpRoundTrips => "UDP RR",
            Self::UdpPackets => "UDP packets",
        }
    }

    /// A value as it is read best.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Self::TcpStream => format!("{:.1} Gbit/s", value * 8.0 / 1e9),
            _ => format!("{:.1} k/s", value / 1e3),
        }
    }

    /// Measures a path once.
    pub fn take(self, path: Path<'_>, window: Window, cores: Cores) -> Result<f64> {
        match self {
            Self::TcpStream => load::stream(path, window, cores),
            Self::TcpRoundTrips => load::tcp_round_trips(path, window, cores),
            Self::TcpConnections => load::connections(path, window, cores),
            Self::UdpRoundTrips => load::udp_round_trips(path, window, cores),
            Self::UdpPackets => load::packets(path, window, cores),
        }
    }
}
