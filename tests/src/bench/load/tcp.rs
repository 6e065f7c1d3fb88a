//! TCP: a bulk stream, a conversation of single bytes, and a connection for each of them.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
};

use anyhow::{Context as _, Result};
use nix::sys::{
    socket::{setsockopt, sockopt::ReceiveTimeout},
    time::{TimeVal, TimeValLike as _},
};

use super::{Cores, LOOK, Needed, Path, Window, beside, source_port::Sources};
use crate::traffic::tcp;

/// One write of a bulk sender: with large ones the path is measured rather than the system calls.
const WRITE: usize = 128 * 1024;
const READ: usize = 256 * 1024;

/// Bytes per second that a receiver gets from a sender that writes all it can.
pub fn stream(path: Path<'_>, window: Window, cores: Cores) -> Result<f64> {
    let (mut sender, mut receiver) = connected(path)?;
    beside(
        (cores.sender, move |_: &Needed<'_>| {
            let data = vec![0; WRITE];
            loop {
                match sender.write_all(&data) {
                    Ok(()) => {}
                    // The receiver has seen enough.
                    Err(error) if is_end(&error) => return Ok(()),
                    Err(error) => return Err(error).context("send a TCP stream"),
                }
            }
        }),
        (cores.receiver, move || {
            let mut buffer = vec![0; READ];
            window.rate(|| {
                let length = receiver.read(&mut buffer).context("receive a TCP stream")?;
                Ok(u64::try_from(length)?)
            })
        }),
    )
}

/// Requests of one byte per second, each answered by one byte before the next, on one connection.
pub fn round_trips(path: Path<'_>, window: Window, cores: Cores) -> Result<f64> {
    let (mut client, mut server) = connected(path)?;
    beside(
        (cores.sender, move |_: &Needed<'_>| {
            let mut byte = [0];
            loop {
                match server.read_exact(&mut byte).and_then(|()| server.write_all(&byte)) {
                    Ok(()) => {}
                    Err(error) if is_end(&error) => return Ok(()),
                    Err(error) => return Err(error).context("answer a TCP request"),
                }
            }
        }),
        (cores.sender, move || {
            let mut byte = [0];
            window.rate(|| {
                client.write_all(&byte).context("send a TCP request")?;
                client.read_exact(&mut byte).context("receive the answer to a TCP request")?;
                Ok(1)
            })
        }),
    )
}

/// Connections per second, one after the other, each for a request and an answer of one byte.
///
/// The client ends each by a reset (`SO_LINGER` of zero), so that neither side keeps the tuple in TIME-WAIT: tens of
/// thousands of them would make later rounds differ from earlier ones. Source ports are fresh for as long as they last.
pub fn connections(path: Path<'_>, window: Window, cores: Cores) -> Result<f64> {
    let (listener, address) = path.listen()?;
    let look = TimeVal::milliseconds(i64::try_from(LOOK.as_millis())?);
    // For `accept`; connections inherit it.
    setsockopt(&listener, ReceiveTimeout, &look).context("SO_RCVTIMEO of a listener")?;
    beside(
        (cores.sender, move |needed: &Needed<'_>| {
            while needed.still() {
                answer_one(&listener, needed)?;
            }
            Ok(())
        }),
        (cores.sender, move || {
            let sources = Sources::of(path.from.name());
            path.from.enter(|| window.rate(|| ask_once(&sources, address)))
        }),
    )
}

fn answer_one(listener: &TcpListener, needed: &Needed<'_>) -> Result<()> {
    let mut byte = [0];
    let served = listener.accept().and_then(|(mut connection, _client)| {
        read(&mut connection, &mut byte, needed)?;
        connection.write_all(&byte)?;
        // Until the client's reset.
        read(&mut connection, &mut byte, needed)
    });
    match served {
        Err(error) if !is_end(&error) && error.kind() != ErrorKind::WouldBlock => {
            Err(error).context("answer a TCP connection")
        }
        _ => Ok(()),
    }
}

/// Reads a byte of a connection, however late it comes: a client whose processor is taken away for a while is still to be answered.
fn read(connection: &mut TcpStream, byte: &mut [u8; 1], needed: &Needed<'_>) -> io::Result<()> {
    loop {
        match connection.read_exact(byte) {
            Err(error) if error.kind() == ErrorKind::WouldBlock && needed.still() => {}
            result => return result,
        }
    }
}

fn ask_once(sources: &Sources, address: SocketAddr) -> Result<u64> {
    let mut connection = sources.connect(address)?;
    let mut byte = [0];
    connection.write_all(&byte).context("send a request on a new TCP connection")?;
    connection.read_exact(&mut byte).context("receive an answer on a new TCP connection")?;
    Ok(1)
}

/// A connection over the path: the ends of its client and of its server.
fn connected(path: Path<'_>) -> Result<(TcpStream, TcpStream)> {
    let (listener, address) = path.listen()?;
    let client = tcp::connect(path.from, address)?;
    let (server, _client) = listener.accept().context("accept a TCP connection")?;
    server.set_nodelay(true).context("TCP_NODELAY")?;
    server.set_read_timeout(client.read_timeout()?).context("SO_RCVTIMEO")?;
    Ok((client, server))
}

/// Whether the other side has closed.
fn is_end(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof)
}
