//! Names as a cluster resolves them (RFC 1035), as far as one question and its answer go: a server that answers every TXT
//! question with who it is and whom it sees, by UDP and by TCP, and a client that asks.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::socket::{Shutdown, shutdown};

use super::{tcp, udp, who::Seen};
use crate::{config::Protocol, netns::Netns, wait};

/// The question.
const NAME: &str = "who.is.there";
const TXT: u16 = 16;
const INTERNET: u16 = 1;
const HEADER: usize = 12;
/// How long a thread of a server does not look whether it is to end.
const TURN: Duration = Duration::from_millis(100);

/// A server; it ends with its value.
#[derive(Debug)]
pub struct Server {
    stop: Arc<AtomicBool>,
    listeners: Vec<Arc<TcpListener>>,
    threads: Vec<JoinHandle<()>>,
}

impl Server {
    /// Serves by UDP and TCP at a port of these addresses, under a name.
    pub fn start(at: &Netns, name: &str, addresses: &[IpAddr], port: u16) -> Result<Self> {
        let mut server = Self { stop: Arc::default(), listeners: Vec::new(), threads: Vec::new() };
        for address in addresses {
            let address = SocketAddr::new(*address, port);
            let (socket, listener) =
                at.enter(|| Ok((UdpSocket::bind(address)?, Arc::new(TcpListener::bind(address)?))))?;
            socket.set_read_timeout(Some(TURN)).context("set a read timeout")?;
            let (own, stop) = (name.to_owned(), Arc::clone(&server.stop));
            server.threads.push(thread::spawn(move || by_udp(&socket, &own, &stop)));
            let own = name.to_owned();
            server.listeners.push(Arc::clone(&listener));
            server.threads.push(thread::spawn(move || {
                while let Ok((stream, client)) = listener.accept() {
                    // A client that breaks off is the client's business.
                    let _done = by_tcp(stream, client, &own);
                }
            }));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for listener in &self.listeners {
            let _gone = shutdown(listener.as_raw_fd(), Shutdown::Both);
        }
        for thread in self.threads.drain(..) {
            let _ended = thread.join();
        }
    }
}

fn by_udp(socket: &UdpSocket, name: &str, stop: &AtomicBool) {
    let mut buffer = [0; 512];
    while !stop.load(Ordering::Relaxed) {
        let Ok((length, client)) = socket.recv_from(&mut buffer) else { continue };
        if let Some(answer) = answer(&buffer[..length], name, client) {
            let _unheard = socket.send_to(&answer, client);
        }
    }
}

fn by_tcp(mut stream: TcpStream, client: SocketAddr, name: &str) -> Result<()> {
    stream.set_read_timeout(Some(wait::patience())).context("set a read timeout")?;
    let question = framed(&mut stream)?;
    let answer = answer(&question, name, client).context("no question")?;
    stream.write_all(&frame(&answer)?).context("answer")
}

/// Asks once.
pub fn ask(from: &Netns, protocol: Protocol, to: SocketAddr) -> Result<Seen> {
    let id = u16::try_from(std::process::id() & 0x7fff).unwrap_or_default();
    let question = question(id);
    let answer = match protocol {
        Protocol::Udp => {
            let socket = udp::connect(from, to)?;
            socket.send(&question).context("ask")?;
            let mut buffer = vec![0; 512];
            let length = socket.recv(&mut buffer).with_context(|| format!("no answer from {to}"))?;
            buffer.truncate(length);
            buffer
        }
        Protocol::Tcp => {
            let mut stream = tcp::connect(from, to)?;
            stream.write_all(&frame(&question)?).context("ask")?;
            framed(&mut stream)?
        }
        Protocol::Sctp => bail!("there is no DNS over SCTP"),
    };
    read(&answer, &question)
}

fn framed(stream: &mut TcpStream) -> Result<Vec<u8>> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).context("read a length")?;
    let mut message = vec![0; u16::from_be_bytes(length).into()];
    stream.read_exact(&mut message).context("read a message")?;
    Ok(message)
}

fn frame(message: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(message.len()).context("a long message")?;
    Ok([&length.to_be_bytes(), message].concat())
}

/// Recursion desired, one question.
fn question(id: u16) -> Vec<u8> {
    let mut message = Vec::from(id.to_be_bytes());
    message.extend([0x01, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in NAME.split('.') {
        message.push(u8::try_from(label.len()).unwrap_or_default());
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(TXT.to_be_bytes());
    message.extend(INTERNET.to_be_bytes());
    message
}

/// The question again, and one record that refers to its name.
fn answer(question: &[u8], name: &str, client: SocketAddr) -> Option<Vec<u8>> {
    let mut message = question.to_vec();
    *message.get_mut(2)? |= 0x80;
    *message.get_mut(7)? = 1;
    let text = format!("{name} {client}");
    let length = u8::try_from(text.len()).ok()?;
    message.extend([0xc0, 12]);
    message.extend(TXT.to_be_bytes());
    message.extend(INTERNET.to_be_bytes());
    message.extend([0; 4]);
    message.extend((u16::from(length) + 1).to_be_bytes());
    message.push(length);
    message.extend(text.as_bytes());
    Some(message)
}

fn read(answer: &[u8], question: &[u8]) -> Result<Seen> {
    ensure!(answer.len() > question.len() + HEADER, "a short answer of {} bytes", answer.len());
    let (head, record) = answer.split_at(question.len());
    ensure!(
        head[..2] == question[..2] && head[HEADER..] == question[HEADER..],
        "an answer to another question"
    );
    // Name, type, class, time to live, length; then the text with its own length.
    let text = record.get(13..).context("an answer without a text")?;
    let (server, client) = std::str::from_utf8(text)?.split_once(' ').context("a text of one word")?;
    Ok(Seen { server: server.to_owned(), client: client.parse().context("the client")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_reads_back() {
        for client in ["10.200.0.10:4711", "[fd00:10:200::a]:4711"] {
            let client = client.parse().unwrap();
            let question = question(77);
            let seen = read(&answer(&question, "pod-0-1", client).unwrap(), &question).unwrap();
            assert_eq!(seen, Seen { server: "pod-0-1".to_owned(), client });
            assert!(read(&question, &question).is_err());
        }
    }
}
