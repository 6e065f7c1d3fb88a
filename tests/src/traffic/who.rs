//! Servers that say who they are and whom they see, and clients that ask: by HTTP over TCP, and by datagrams.
//!
//! An answer over TCP is an HTTP response; `X-Client` is the address that the server saw. A datagram is answered by the
//! server's name and the client's address, and by the datagram itself behind them.

mod client;
mod server;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};

pub use self::{client::Session, server::Server};
use crate::{config::Protocol, netns::Netns, wait};

/// How long something that must not come is waited for.
const SILENCE: Duration = Duration::from_millis(400);

/// What an answer says.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seen {
    /// Name of the server that answered.
    pub server: String,
    /// Address that it was asked from, as it saw it.
    pub client: SocketAddr,
}

/// Asks once, on a connection or a socket of its own.
pub fn ask(from: &Netns, protocol: Protocol, to: SocketAddr) -> Result<Seen> {
    Session::open(from, protocol, to)?.ask()
}

/// Asks on new connections until every one of these servers has answered, and nobody else.
pub fn everyone(from: &Netns, protocol: Protocol, to: SocketAddr, servers: &[&str]) -> Result<()> {
    let mut seen = std::collections::BTreeMap::new();
    // With as few backends as tests have, one that is not met in so many tries is not in the table.
    for _ in 0..30 * servers.len().max(1) {
        let Seen { server, .. } = ask(from, protocol, to)?;
        ensure!(
            servers.contains(&server.as_str()),
            "{to}: answered by {server}, which is none of {servers:?}"
        );
        *seen.entry(server).or_insert(0) += 1;
        if seen.len() == servers.len() {
            return Ok(());
        }
    }
    bail!("{to}: of {servers:?} only these answered: {seen:?}")
}

/// Asks, and must be told at once that nobody is there.
pub fn refused(from: &Netns, protocol: Protocol, to: SocketAddr) -> Result<()> {
    let error = match Session::open(from, protocol, to).and_then(|mut session| session.ask()) {
        Ok(seen) => bail!("{to}: answered by {}, not refused", seen.server),
        Err(error) => error,
    };
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    ensure!(
        kind == Some(io::ErrorKind::ConnectionRefused),
        "{protocol:?} to {to}: not refused but {error:#}"
    );
    Ok(())
}

/// Asks, and must hear nothing at all: neither an answer nor an error.
pub fn silent(from: &Netns, protocol: Protocol, to: SocketAddr) -> Result<()> {
    let error = unanswered(from, protocol, to)?;
    let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
    let quiet = matches!(kind, Some(io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock));
    ensure!(quiet, "{protocol:?} to {to}: not silence but {error:#}");
    Ok(())
}

/// Asks, and must not be answered. What it hears instead is the value.
pub fn unanswered(from: &Netns, protocol: Protocol, to: SocketAddr) -> Result<anyhow::Error> {
    let silence = wait::scaled(SILENCE);
    let asked = Session::open_within(silence, from, protocol, to).and_then(|mut session| {
        session.patience(silence)?;
        session.ask()
    });
    match asked {
        Ok(seen) => bail!("{to}: answered by {}", seen.server),
        Err(error) => Ok(error),
    }
}

/// The first address of the family, with a port.
pub fn at(addresses: &[IpAddr], ipv4: bool, port: u16) -> Result<SocketAddr> {
    let address = addresses.iter().find(|address| address.is_ipv4() == ipv4);
    Ok(SocketAddr::new(*address.context("no address of the family")?, port))
}
