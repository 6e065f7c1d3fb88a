//! UDP: a conversation of small datagrams, and as many of them as get through.

use std::{
    io::{self, ErrorKind},
    net::UdpSocket,
};

use anyhow::{Context as _, Result, bail};

use super::{
    Cores, LOOK, Needed, Path, Window,
    batch::{Batch, PAYLOAD},
    beside,
};
use crate::traffic::udp;

/// How often in a row a request is repeated before the path counts as broken.
const PATIENCE: usize = 20;

/// Requests of 64 bytes per second, each answered by as many before the next.
pub fn round_trips(path: Path<'_>, window: Window, cores: Cores) -> Result<f64> {
    let (server, address) = path.receive()?;
    let client = udp::connect(path.from, address)?;
    for socket in [&server, &client] {
        socket.set_read_timeout(Some(LOOK)).context("SO_RCVTIMEO")?;
    }
    beside(
        (cores.sender, |needed: &Needed<'_>| {
            let mut buffer = [0; PAYLOAD];
            while needed.still() {
                if let Some((length, source)) = arrived(server.recv_from(&mut buffer))? {
                    server.send_to(&buffer[..length], source).context("answer a UDP request")?;
                }
            }
            Ok(())
        }),
        (cores.sender, || window.rate(|| ask(&client))),
    )
}

/// Datagrams of 64 bytes per second that a receiver gets from a sender that sends all it can.
pub fn packets(path: Path<'_>, window: Window, cores: Cores) -> Result<f64> {
    let (receiver, address) = path.receive()?;
    let sender = udp::connect(path.from, address)?;
    receiver.set_read_timeout(Some(LOOK)).context("SO_RCVTIMEO")?;
    beside(
        (cores.sender, |needed: &Needed<'_>| {
            let mut batch = Batch::new();
            while needed.still() {
                batch.send(&sender).context("send UDP datagrams")?;
            }
            Ok(())
        }),
        (cores.receiver, || {
            let mut batch = Batch::new();
            let mut nothing = 0;
            window.rate(|| {
                let count = arrived(batch.receive(&receiver))?.unwrap_or(0);
                nothing = if count == 0 { nothing + 1 } else { 0 };
                if nothing == PATIENCE {
                    bail!("no UDP datagram to {address} arrives in {}", path.to.name());
                }
                Ok(count)
            })
        }),
    )
}

/// Repeats what gets no answer: UDP may lose it, and the time that this takes counts.
fn ask(client: &UdpSocket) -> Result<u64> {
    let mut buffer = [0; PAYLOAD];
    for _ in 0..PATIENCE {
        client.send(&buffer).context("send a UDP request")?;
        if arrived(client.recv(&mut buffer))?.is_some() {
            return Ok(1);
        }
    }
    bail!("no answer to a UDP request to {}", client.peer_addr()?)
}

/// What has arrived, or nothing within the time set for the socket.
fn arrived<T>(result: io::Result<T>) -> Result<Option<T>> {
    match result {
        Ok(arrived) => Ok(Some(arrived)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error).context("receive UDP datagrams"),
    }
}
