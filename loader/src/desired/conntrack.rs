//! When connections are forgotten.

use serde::Serialize;

/// Seconds without a packet after which a connection is forgotten, by what it is and how far it got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Timeouts {
    /// TCP, not answered or not yet established.
    pub tcp_syn: u32,
    /// TCP, established.
    pub tcp_established: u32,
    /// TCP, closed or reset.
    pub tcp_closing: u32,
    /// UDP, not answered.
    pub udp: u32,
    /// UDP, answered.
    pub udp_stream: u32,
    /// ICMP echo.
    pub icmp: u32,
    /// SCTP.
    pub sctp: u32,
    /// Any other protocol.
    pub other: u32,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tcp_syn: 60,
            tcp_established: 8000,
            tcp_closing: 10,
            udp: 30,
            udp_stream: 180,
            icmp: 30,
            sctp: 600,
            other: 600,
        }
    }
}
