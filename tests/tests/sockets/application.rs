//! Applications: what they send, and what they are told.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
};

use anyhow::{Context as _, Result};
use testbed::{netns::Netns, wait};

/// A TCP connection of an application.
pub(super) struct Tcp(pub(super) TcpStream);

impl Tcp {
    pub(super) fn connect(from: &Netns, to: SocketAddr) -> Result<Self> {
        let stream = from.enter(|| Ok(TcpStream::connect_timeout(&to, wait::patience())?))?;
        stream.set_read_timeout(Some(wait::patience()))?;
        Ok(Self(stream))
    }

    /// Who answers, and whom it saw.
    pub(super) fn ask(&mut self) -> Result<(String, SocketAddr)> {
        self.0.write_all(b"POST /0 HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n").context("send")?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            let mut byte = [0];
            self.0.read_exact(&mut byte).context("read the answer")?;
            head.push(char::from(byte[0]));
        }
        let header = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).context("a header");
        Ok((header("Server: ")?.to_owned(), header("X-Client: ")?.parse()?))
    }
}

/// A UDP socket of an application, of the family of whom it is to talk to.
pub(super) fn udp(from: &Netns, to: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let socket = from.enter(|| Ok(UdpSocket::bind((any, 0))?))?;
    socket.set_read_timeout(Some(wait::patience()))?;
    Ok(socket)
}

/// What is answered to a datagram of it: the server's name, and whom the socket is told that it comes from.
pub(super) fn hear(socket: &UdpSocket) -> Result<(String, SocketAddr)> {
    let mut buffer = [0; 2048];
    let (length, from) = socket.recv_from(&mut buffer).context("no answer")?;
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    Ok((text.split(' ').next().unwrap_or_default().to_owned(), from))
}

pub(super) fn ask(socket: &UdpSocket, to: SocketAddr) -> Result<(String, SocketAddr)> {
    socket.send_to(b"question", to).context("send")?;
    hear(socket)
}

pub(super) fn mapped(address: SocketAddr) -> SocketAddr {
    match address.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), address.port()),
        IpAddr::V6(_) => address,
    }
}
