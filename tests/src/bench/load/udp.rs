//! UDP: a conversation of small datagrams, and as many of them as get through.

use std::{
    io::{self, ErrorKind},
    net::UdpSocket,
};

use anyhow::{Context as _, Result, bail, ensure};

use super::{
    Cores, LOOK, Needed, Path, Window,
    batch::{Batch, DATAGRAMS, PAYLOAD},
    beside,
};
use crate::{sockopt, traffic::udp};

/// How often in a row a request is repeated before the path counts as broken.
const PATIENCE: usize = 40;

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
    flood(path, window, cores, (PAYLOAD, Segments::None), |_, count| count)
}

/// Bytes per second that a receiver gets in datagrams of this size, or in such as the kernel cuts into datagrams of `segment` bytes at
/// the end of the path (`UDP_SEGMENT`) and puts together again for the receiver (`UDP_GRO`).
pub fn bytes(path: Path<'_>, window: Window, cores: Cores, size: (usize, Segments)) -> Result<f64> {
    flood(path, window, cores, size, Batch::bytes)
}

/// Whether what is sent at once is several datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Segments {
    /// It is one.
    None,
    /// They have so many bytes each.
    Of(u16),
}

/// At most so much for each system call.
const AT_ONCE: usize = 512 * 1024;

fn flood(
    path: Path<'_>,
    window: Window,
    cores: Cores,
    (size, segments): (usize, Segments),
    amount: fn(&Batch, u64) -> u64,
) -> Result<f64> {
    let count = (AT_ONCE / size).clamp(1, DATAGRAMS);
    let (receiver, address) = path.receive()?;
    let sender = udp::connect(path.from, address)?;
    if let Segments::Of(length) = segments {
        sockopt::set(&sender, libc::SOL_UDP, libc::UDP_SEGMENT, i32::from(length))?;
        sockopt::set(&receiver, libc::SOL_UDP, libc::UDP_GRO, 1)?;
    }
    receiver.set_read_timeout(Some(LOOK)).context("SO_RCVTIMEO")?;
    beside(
        (cores.sender, |needed: &Needed<'_>| {
            let mut batch = Batch::new(count, size);
            while needed.still() {
                batch.send(&sender, count).context("send UDP datagrams")?;
            }
            Ok(())
        }),
        (cores.receiver, || {
            let mut batch = Batch::new(count, size);
            let mut nothing = 0;
            window.rate(|| {
                let count = take_all(&mut batch, &receiver, &mut nothing)
                    .with_context(|| format!("datagrams to {address}, in {}", path.to.name()))?;
                Ok(amount(&batch, count))
            })
        }),
    )
}

/// Takes what is there and says how many datagrams that is; errs after a long time of nothing.
pub(super) fn take_all(batch: &mut Batch, receiver: &UdpSocket, nothing: &mut usize) -> Result<u64> {
    let count = arrived(batch.receive(receiver))?.unwrap_or(0);
    *nothing = if count == 0 { *nothing + 1 } else { 0 };
    ensure!(*nothing < PATIENCE, "no UDP datagram arrives");
    Ok(count)
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
