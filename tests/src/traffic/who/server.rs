//! The servers.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use nix::sys::socket::{Backlog, Shutdown, listen, shutdown};

use super::super::{mismatch, pattern, udp};
use crate::{config::Protocol, netns::Netns};

/// How long a thread of a server does not look whether it is to end.
const TURN: Duration = Duration::from_millis(100);
/// Seed of the bodies.
pub(super) const SEED: usize = 0x3e8;

/// A server; it ends with its value.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    listeners: Vec<Arc<TcpListener>>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Serves at these addresses of a namespace under a name.
    pub fn start(at: &Netns, name: &str, protocol: Protocol, addresses: &[SocketAddr]) -> Result<Self> {
        let mut server = Self { stop: Arc::default(), listeners: Vec::new(), threads: Vec::new() };
        for address in addresses {
            server
                .serve(at, name, protocol, *address)
                .with_context(|| format!("serve {protocol:?} at {address} in {}", at.name()))?;
        }
        Ok(server)
    }

    /// Serves TCP and UDP at one port of each of these addresses.
    pub fn both(at: &Netns, name: &str, addresses: &[IpAddr], port: u16) -> Result<[Self; 2]> {
        let addresses: Vec<_> = addresses.iter().map(|address| SocketAddr::new(*address, port)).collect();
        Ok([
            Self::start(at, name, Protocol::Tcp, &addresses)?,
            Self::start(at, name, Protocol::Udp, &addresses)?,
        ])
    }

    fn serve(&mut self, at: &Netns, name: &str, protocol: Protocol, address: SocketAddr) -> Result<()> {
        let (stop, name) = (Arc::clone(&self.stop), name.to_owned());
        let thread = match protocol {
            Protocol::Udp => {
                let socket = at.enter(|| Ok(UdpSocket::bind(address)?))?;
                socket.set_read_timeout(Some(TURN)).context("set a read timeout")?;
                udp::never_set_dont_fragment(&socket, address.is_ipv4())?;
                thread::spawn(move || answer_datagrams(&socket, &name, &stop))
            }
            Protocol::Tcp => {
                let listener = Arc::new(at.enter(|| Ok(TcpListener::bind(address)?))?);
                // More than the standard library asks for: tests connect in bursts.
                listen(&*listener, Backlog::new(4096)?).context("listen")?;
                self.listeners.push(Arc::clone(&listener));
                thread::spawn(move || {
                    while let Ok((stream, client)) = listener.accept() {
                        let (name, stop) = (name.clone(), Arc::clone(&stop));
                        // A client that breaks off is the client's business.
                        thread::spawn(move || drop(answer_requests(&stream, client, &name, &stop)));
                    }
                })
            }
            Protocol::Sctp => anyhow::bail!("SCTP is in `traffic::sctp`"),
        };
        self.threads.push(thread);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for listener in &self.listeners {
            // Lets its thread out of `accept`.
            let _gone = shutdown(listener.as_raw_fd(), Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
    }
}

fn answer_datagrams(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut buffer = vec![0; 65_536];
    while !stop.load(Ordering::Relaxed) {
        // Errors are of clients that have gone.
        let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
        let mut answer = format!("{name} {client}\n").into_bytes();
        answer.extend(&buffer[..length]);
        let _unheard = socket.send_to(&answer, client);
    }
}

/// Serves requests until the client closes the connection, or asks for that.
fn answer_requests(stream: &TcpStream, client: SocketAddr, name: &str, stop: &AtomicBool) -> Result<()> {
    stream.set_read_timeout(Some(TURN)).context("set a read timeout")?;
    stream.set_nodelay(true).context("set TCP_NODELAY")?;
    let mut reader = BufReader::new(stream);
    while let Some(request) = Request::read(&mut reader, stop)? {
        let mut body = vec![0; request.wanted];
        pattern(SEED, 0, &mut body);
        let status = if request.intact { "200 OK" } else { "400 Bad Request" };
        let mut answer = format!(
            "HTTP/1.1 {status}\r\nServer: {name}\r\nX-Client: {client}\r\nContent-Length: {}\r\n\r\n",
            request.wanted
        )
        .into_bytes();
        answer.append(&mut body);
        (&*stream).write_all(&answer).context("answer")?;
        if request.close {
            break;
        }
    }
    Ok(())
}

/// A request: its path is the number of bytes that it wants.
struct Request {
    wanted: usize,
    intact: bool,
    close: bool,
}

impl Request {
    fn read(reader: &mut BufReader<&TcpStream>, stop: &AtomicBool) -> Result<Option<Self>> {
        let Some(first) = line(reader, stop)? else { return Ok(None) };
        let path = first.split(' ').nth(1).and_then(|path| path.strip_prefix('/')).unwrap_or_default();
        let (mut length, mut close) = (0, false);
        loop {
            let header = line(reader, stop)?.context("the request ends early")?;
            match header.split_once(": ") {
                Some(("Content-Length", value)) => length = value.parse().context("Content-Length")?,
                Some(("Connection", value)) => close = value == "close",
                Some(_) => {}
                None => break,
            }
        }
        let mut body = vec![0; length];
        let mut have = 0;
        while have < length {
            have += patient(stop, || reader.read(&mut body[have..]))?;
        }
        let intact = mismatch(SEED, 0, &body).is_none();
        Ok(Some(Self { wanted: path.parse().unwrap_or(0), intact, close }))
    }
}

/// The next line without its end; nothing at the end of the stream.
fn line(reader: &mut BufReader<&TcpStream>, stop: &AtomicBool) -> Result<Option<String>> {
    let mut line = String::new();
    let length = patient(stop, || reader.read_line(&mut line))?;
    Ok((length > 0).then(|| line.trim_end().to_owned()))
}

/// Tries again after each timeout, until the server is to end.
fn patient(stop: &AtomicBool, mut read: impl FnMut() -> io::Result<usize>) -> Result<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                ensure!(!stop.load(Ordering::Relaxed), "the server ends");
            }
            result => return result.context("read"),
        }
    }
}
