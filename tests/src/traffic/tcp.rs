//! TCP: bulk transfers whose content is checked, and what a connection has lost.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::{mismatch, pattern};
use crate::{netns::Netns, sockopt, wait};

const SEED: usize = 0x7c9;
/// How long the word that a segment came twice may take: it is sent at once, by the kernel, from whichever processor got the copy.
const WORD_OF_A_COPY: Duration = Duration::from_secs(5);
/// How long the kernel waits for the answer to a SYN before it sends another, at least: a second, less what a clock's grain takes.
const SYN_PATIENCE: Duration = Duration::from_millis(900);

/// A transfer that came through whole.
#[derive(Clone, Copy, Debug)]
pub struct Transfer {
    /// Bytes received and found right.
    pub bytes: usize,
    /// From the first byte sent to the last received.
    pub elapsed: Duration,
}

impl Transfer {
    /// Throughput.
    #[must_use]
    #[expect(clippy::cast_precision_loss, reason = "a throughput is shown with three digits")]
    pub fn gigabits_per_second(&self) -> f64 {
        self.bytes as f64 * 8.0 / self.elapsed.as_secs_f64() / 1e9
    }
}

/// Listens in a namespace, on any port of an address.
pub fn listen(at: &Netns, address: IpAddr) -> Result<(TcpListener, SocketAddr)> {
    let listener = at.enter(|| {
        TcpListener::bind((address, 0)).with_context(|| format!("listen on {address} in {}", at.name()))
    })?;
    let address = listener.local_addr().context("the listener's address")?;
    Ok((listener, address))
}

/// Connects from a namespace.
pub fn connect(from: &Netns, to: SocketAddr) -> Result<TcpStream> {
    let stream = from.enter(|| {
        TcpStream::connect_timeout(&to, wait::patience())
            .with_context(|| format!("connect from {} to {to}", from.name()))
    })?;
    stream.set_read_timeout(Some(wait::patience())).context("set a read timeout")?;
    stream.set_write_timeout(Some(wait::patience())).context("set a write timeout")?;
    stream.set_nodelay(true).context("set TCP_NODELAY")?;
    Ok(stream)
}

/// How often a client's end has repeated a SYN that was only late, for [`lost`]. To be asked before anything is sent.
pub fn late_syns(connected: &TcpStream) -> Result<u32> {
    let info = sockopt::tcp_info(connected)?;
    Ok(late(info.tcpi_total_retrans, Duration::from_micros(info.tcpi_rtt.into())))
}

/// As [`late_syns`], at a server's end: the answers to a SYN that it has repeated. Each copy of the SYN is answered by one more, and
/// whether the first of them was lost is for the client's end to tell.
pub fn late_answers(accepted: &TcpStream) -> Result<u32> {
    Ok(sockopt::tcp_info(accepted)?.tcpi_total_retrans)
}

/// How many of a SYN's repetitions were for nothing: all, or as good as none, as the other end never says that it got a SYN twice.
///
/// The round trip tells: an answer echoes the timestamp of the first SYN that arrived, and with that the kernel measures. Where the very
/// first one did, the round trip is as long as the SYN was waited for; where it was lost, only as long as since another.
fn late(repeated: u32, round_trip: Duration) -> u32 {
    if round_trip >= SYN_PATIENCE * repeated { repeated } else { 0 }
}

/// Segments of this end that never arrived: that it sent again, less those that the other end says it got twice (RFC 2883) and the
/// `late` ones of the connection's beginning, which were only late. So a machine that takes a processor away for a while has lost
/// nothing, which a time would not tell from a loss.
pub fn lost(stream: &TcpStream, late: u32) -> Result<u32> {
    let deadline = Instant::now() + wait::scaled(WORD_OF_A_COPY);
    loop {
        let info = sockopt::tcp_info(stream)?;
        let lost = info.tcpi_total_retrans.saturating_sub(info.tcpi_dsack_dups).saturating_sub(late);
        if lost == 0 || Instant::now() >= deadline {
            return Ok(lost);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Sends `length` bytes from one namespace to an address in another and compares every byte there.
pub fn transfer(from: &Netns, to: (&Netns, IpAddr), length: usize) -> Result<Transfer> {
    let (listener, address) = listen(to.0, to.1)?;
    thread::scope(|scope| {
        let server = scope.spawn(move || receive(&listener));
        let client = send(from, address, length);
        if client.is_err() {
            // Lets the server out of `accept` in case nothing ever arrived.
            let _woken = to.0.enter(|| Ok(TcpStream::connect_timeout(&address, wait::patience())));
        }
        let received = server.join().map_err(|_panic| anyhow!("the receiver panicked"))?;
        let elapsed = client?;
        let received = received?;
        ensure!(received == length, "{received} of {length} bytes arrived");
        Ok(Transfer { bytes: received, elapsed })
    })
    .with_context(|| format!("TCP from {} to {address}", from.name()))
}

fn send(from: &Netns, to: SocketAddr, length: usize) -> Result<Duration> {
    let mut stream = connect(from, to)?;
    let started = Instant::now();
    let mut chunk = vec![0; 256 * 1024];
    let mut sent = 0;
    while sent < length {
        let part = chunk.len().min(length - sent);
        pattern(SEED, sent, &mut chunk[..part]);
        stream.write_all(&chunk[..part]).with_context(|| format!("send after {sent} bytes"))?;
        sent += part;
    }
    stream.shutdown(Shutdown::Write).context("shut the sending side down")?;
    let mut verdict = [0; 2];
    stream.read_exact(&mut verdict).context("wait for the receiver's word")?;
    ensure!(&verdict == b"ok", "the receiver got something else than was sent");
    Ok(started.elapsed())
}

fn receive(listener: &TcpListener) -> Result<usize> {
    let (mut stream, _) = listener.accept().context("accept")?;
    stream.set_read_timeout(Some(wait::patience())).context("set a read timeout")?;
    let mut chunk = vec![0; 256 * 1024];
    let mut received = 0;
    loop {
        let part = stream.read(&mut chunk).with_context(|| format!("receive after {received} bytes"))?;
        if part == 0 {
            break;
        }
        if let Some(place) = mismatch(SEED, received, &chunk[..part]) {
            stream.write_all(b"no").context("tell the sender")?;
            anyhow::bail!("byte {place} is not what was sent");
        }
        received += part;
    }
    stream.write_all(b"ok").context("tell the sender")?;
    Ok(received)
}

/// Sends a stream of known length as fast as it goes, unchecked, for its throughput.
pub fn throughput(from: &Netns, to: (&Netns, IpAddr), time: Duration) -> Result<Transfer> {
    let (listener, address) = listen(to.0, to.1)?;
    let server = thread::spawn(move || -> Result<usize> {
        let (mut stream, _) = listener.accept().context("accept")?;
        stream.set_read_timeout(Some(wait::patience())).context("set a read timeout")?;
        let mut chunk = vec![0; 1024 * 1024];
        let mut received = 0;
        loop {
            match stream.read(&mut chunk).context("receive")? {
                0 => return Ok(received),
                part => received += part,
            }
        }
    });
    let mut stream = connect(from, address)?;
    let chunk = vec![0x5a; 256 * 1024];
    let started = Instant::now();
    while started.elapsed() < time {
        stream.write_all(&chunk).context("send")?;
    }
    drop(stream);
    let bytes = server.join().map_err(|_panic| anyhow!("the receiver panicked"))??;
    Ok(Transfer { bytes, elapsed: started.elapsed() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_late_syn_is_told_from_a_lost_one() {
        let milliseconds = Duration::from_millis;
        assert_eq!(late(0, milliseconds(0)), 0);
        assert_eq!(late(1, milliseconds(1003)), 1, "answered late");
        assert_eq!(late(1, milliseconds(2)), 0, "the first one was lost");
        assert_eq!(late(2, milliseconds(1001)), 0, "the first of three was lost");
        assert_eq!(late(2, milliseconds(3005)), 2);
    }
}
