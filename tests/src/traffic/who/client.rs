//! The clients.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, socket};

use super::{
    super::{mismatch, pattern, tcp, udp},
    Seen,
    server::SEED,
};
use crate::{config::Protocol, netns::Netns, sockopt, wait};

/// A connection, or a socket that keeps its port: every question of it is of one tuple.
#[derive(Debug)]
pub struct Session {
    socket: Socket,
    to: SocketAddr,
    asked: u64,
    /// [`tcp::late_syns`].
    late: u32,
}

#[derive(Debug)]
enum Socket {
    Tcp(BufReader<TcpStream>),
    Udp(UdpSocket),
}

impl Session {
    /// Connects.
    pub fn open(from: &Netns, protocol: Protocol, to: SocketAddr) -> Result<Self> {
        Self::open_within(wait::patience(), from, protocol, to)
    }

    /// As [`open`](Self::open), with a deadline of its own.
    pub fn open_within(patience: Duration, from: &Netns, protocol: Protocol, to: SocketAddr) -> Result<Self> {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        Self::open_from(patience, from, SocketAddr::new(any, 0), protocol, to)
    }

    /// As [`open`](Self::open), from a port of the caller's choice.
    pub fn open_port(from: &Netns, port: u16, protocol: Protocol, to: SocketAddr) -> Result<Self> {
        let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
        Self::open_from(wait::patience(), from, SocketAddr::new(any, port), protocol, to)
    }

    fn open_from(
        patience: Duration,
        from: &Netns,
        source: SocketAddr,
        protocol: Protocol,
        to: SocketAddr,
    ) -> Result<Self> {
        let (socket, late) = match protocol {
            Protocol::Udp => {
                let socket = from.enter(|| Ok(UdpSocket::bind(source)?))?;
                socket.connect(to).with_context(|| format!("connect a UDP socket to {to}"))?;
                sockopt::set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, 1 << 20)?;
                // An IPv6 router fragments nothing: there the path's MTU is for the socket to learn.
                if to.is_ipv4() {
                    udp::never_set_dont_fragment(&socket, true)?;
                }
                (Socket::Udp(socket), 0)
            }
            Protocol::Tcp => {
                let stream = from.enter(|| tcp(source, to, patience))?;
                let late = tcp::late_syns(&stream)?;
                stream.set_nodelay(true).context("set TCP_NODELAY")?;
                stream.set_write_timeout(Some(wait::patience())).context("set a write timeout")?;
                (Socket::Tcp(BufReader::new(stream)), late)
            }
            Protocol::Sctp => anyhow::bail!("SCTP is in `traffic::sctp`"),
        };
        let session = Self { socket, to, asked: 0, late };
        session.patience(wait::patience())?;
        Ok(session)
    }

    /// Waits so long for an answer from now on.
    pub fn patience(&self, patience: Duration) -> Result<()> {
        match &self.socket {
            Socket::Tcp(reader) => reader.get_ref().set_read_timeout(Some(patience)),
            Socket::Udp(socket) => socket.set_read_timeout(Some(patience)),
        }
        .context("set a read timeout")
    }

    /// The client's own address as it knows it.
    pub fn own_address(&self) -> Result<SocketAddr> {
        match &self.socket {
            Socket::Tcp(reader) => reader.get_ref().local_addr(),
            Socket::Udp(socket) => socket.local_addr(),
        }
        .context("the socket's own address")
    }

    /// Segments of its own that never arrived ([`tcp::lost`]); a datagram that is lost is never answered.
    pub fn lost(&self) -> Result<u32> {
        match &self.socket {
            Socket::Tcp(reader) => tcp::lost(reader.get_ref(), self.late),
            Socket::Udp(_) => Ok(0),
        }
    }

    /// Asks, with a small body.
    pub fn ask(&mut self) -> Result<Seen> {
        self.exchange(16, 16)
    }

    /// Asks on a connection that is to be reset: the socket itself is told, which silence would not do.
    ///
    /// # Errors
    ///
    /// An answer, silence, or another error.
    pub fn must_be_reset(&mut self) -> Result<()> {
        self.must_hear(io::ErrorKind::ConnectionReset)
    }

    /// Asks where nobody is any more, and must be told so, as [`must_be_reset`](Self::must_be_reset).
    pub fn must_be_refused(&mut self) -> Result<()> {
        self.must_hear(io::ErrorKind::ConnectionRefused)
    }

    fn must_hear(&mut self, expected: io::ErrorKind) -> Result<()> {
        let error = match self.ask() {
            Ok(seen) => bail!("{}: {} answered instead of {expected}", self.to, seen.server),
            Err(error) => error,
        };
        let kind = error.downcast_ref::<io::Error>().map(io::Error::kind);
        ensure!(kind == Some(expected), "not {expected} but {error:#}");
        Ok(())
    }

    /// Asks as a client does that closes the connection afterwards.
    pub fn ask_and_close(mut self) -> Result<Seen> {
        match &mut self.socket {
            Socket::Udp(_) => self.ask(),
            Socket::Tcp(reader) => http(reader, self.to, (16, 16), "Connection: close\r\n"),
        }
        .with_context(|| format!("ask {} and close", self.to))
    }

    /// Sends a body of one size and wants one of another back; both are checked, byte by byte. A datagram comes back as it is.
    pub fn exchange(&mut self, sent: usize, wanted: usize) -> Result<Seen> {
        self.asked += 1;
        match &mut self.socket {
            Socket::Tcp(reader) => http(reader, self.to, (sent, wanted), ""),
            Socket::Udp(socket) => datagram(socket, sent, self.asked),
        }
        .with_context(|| format!("question {} to {}", self.asked, self.to))
    }

    /// Breaks a TCP connection off by a reset.
    pub fn reset(self) -> Result<()> {
        if let Socket::Tcp(reader) = &self.socket {
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            sockopt::set_any(reader.get_ref(), libc::SOL_SOCKET, libc::SO_LINGER, &linger)?;
        }
        Ok(())
    }
}

fn tcp(source: SocketAddr, to: SocketAddr, patience: Duration) -> Result<TcpStream> {
    if source.port() == 0 {
        return TcpStream::connect_timeout(&to, patience).with_context(|| format!("connect to {to}"));
    }
    let family = if to.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).context("socket")?;
    sockopt::set(&socket, libc::SOL_SOCKET, libc::SO_REUSEADDR, 1)?;
    let stream = TcpStream::from(socket);
    let descriptor = std::os::fd::AsRawFd::as_raw_fd(&stream);
    bind(descriptor, &SockaddrStorage::from(source)).with_context(|| format!("bind to {source}"))?;
    // Bounds `connect` too.
    stream.set_write_timeout(Some(patience)).context("set a write timeout")?;
    connect(descriptor, &SockaddrStorage::from(to))
        .map_err(io::Error::from)
        .with_context(|| format!("connect from {source} to {to}"))?;
    Ok(stream)
}

fn http(
    reader: &mut BufReader<TcpStream>,
    to: SocketAddr,
    (sent, wanted): (usize, usize),
    headers: &str,
) -> Result<Seen> {
    let mut request =
        format!("POST /{wanted} HTTP/1.1\r\nHost: {to}\r\nContent-Length: {sent}\r\n{headers}\r\n")
            .into_bytes();
    let head = request.len();
    request.resize(head + sent, 0);
    pattern(SEED, 0, &mut request[head..]);
    reader.get_mut().write_all(&request).context("send the request")?;
    let status = line(reader)?;
    ensure!(status == "HTTP/1.1 200 OK", "answered: {status}");
    let (mut server, mut client, mut length) = (None, None, 0);
    loop {
        let header = line(reader)?;
        match header.split_once(": ") {
            Some(("Server", value)) => server = Some(value.to_owned()),
            Some(("X-Client", value)) => client = Some(value.parse().context("X-Client")?),
            Some(("Content-Length", value)) => length = value.parse().context("Content-Length")?,
            Some(_) => {}
            None => break,
        }
    }
    ensure!(length == wanted, "a body of {length} bytes instead of {wanted}");
    let mut body = vec![0; length];
    reader.read_exact(&mut body).context("read the body")?;
    let changed = mismatch(SEED, 0, &body);
    ensure!(changed.is_none(), "the body came changed at {changed:?}");
    Ok(Seen { server: server.context("no server in the answer")?, client: client.context("no client")? })
}

fn line(reader: &mut BufReader<TcpStream>) -> Result<String> {
    let mut line = String::new();
    let length = reader.read_line(&mut line).context("read the answer")?;
    ensure!(length > 0, "the connection was closed instead of an answer");
    Ok(line.trim_end().to_owned())
}

fn datagram(socket: &UdpSocket, size: usize, number: u64) -> Result<Seen> {
    let mut message = vec![0; size.max(8)];
    let seed = SEED + usize::try_from(number % 1000)?;
    pattern(seed, 0, &mut message);
    socket.send(&message).context("send")?;
    let mut buffer = vec![0; 65_536];
    loop {
        let length = match socket.recv(&mut buffer) {
            // Of a socket with a time limit the kernel begins no call again that a signal or a freezer has interrupted (signal(7)), and
            // unlike what reads streams, the standard library leaves it at that.
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            received => received.context("no answer")?,
        };
        let answer = &buffer[..length];
        let end = answer.iter().position(|byte| *byte == b'\n').context("an answer without a first line")?;
        if answer[end + 1..] != message {
            // An answer to an earlier question that was given up.
            continue;
        }
        let (server, client) =
            std::str::from_utf8(&answer[..end])?.split_once(' ').context("an answer of one word")?;
        return Ok(Seen { server: server.to_owned(), client: client.parse().context("the client")? });
    }
}
