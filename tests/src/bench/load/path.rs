//! Where traffic goes from and to.

use std::net::{IpAddr, SocketAddr, TcpListener, UdpSocket};

use anyhow::{Context as _, Result};

use crate::{netns::Netns, sockopt};

/// What a receiver that is not on its core may have waiting.
const BUFFER: i32 = 16 * 1024 * 1024;

/// From a namespace to an address in another, directly or by a service.
#[derive(Clone, Copy, Debug)]
pub struct Path<'a> {
    /// Where clients and senders are.
    pub from: &'a Netns,
    /// Where servers and receivers are.
    pub to: &'a Netns,
    /// Their address.
    pub address: IpAddr,
    /// The service that is called instead of them.
    pub by: Option<Called>,
}

/// A service with one backend.
#[derive(Clone, Copy, Debug)]
pub struct Called {
    /// Where clients call it.
    pub frontend: SocketAddr,
    /// The port that its backend listens on, under both protocols.
    pub port: u16,
}

impl<'a> Path<'a> {
    /// To the servers' own address, on any port.
    #[must_use]
    pub const fn direct(from: &'a Netns, to: &'a Netns, address: IpAddr) -> Self {
        Self { from, to, address, by: None }
    }

    /// A server, and where clients call it.
    pub(super) fn listen(&self) -> Result<(TcpListener, SocketAddr)> {
        let bind = self.server();
        let listener = self.to.enter(|| {
            TcpListener::bind(bind).with_context(|| format!("listen on {bind} in {}", self.to.name()))
        })?;
        let address = listener.local_addr().context("the listener's address")?;
        Ok((listener, self.called(address)))
    }

    /// A UDP server, and where clients call it.
    pub(super) fn receive(&self) -> Result<(UdpSocket, SocketAddr)> {
        let bind = self.server();
        let socket = self.to.enter(|| {
            UdpSocket::bind(bind).with_context(|| format!("bind to {bind} in {}", self.to.name()))
        })?;
        sockopt::set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER)?;
        let address = socket.local_addr().context("a UDP server's address")?;
        Ok((socket, self.called(address)))
    }

    fn server(&self) -> SocketAddr {
        SocketAddr::new(self.address, self.by.map_or(0, |by| by.port))
    }

    fn called(&self, server: SocketAddr) -> SocketAddr {
        self.by.map_or(server, |by| by.frontend)
    }
}
