//! UDP: echoes of any size, fragmented or not, and bursts that the kernel segments (`UDP_SEGMENT`).

use std::net::{IpAddr, SocketAddr, UdpSocket};

use anyhow::{Context as _, Result, ensure};

use super::{mismatch, pattern};
use crate::{netns::Netns, sockopt, wait};

const SOL_UDP: i32 = 17;
const UDP_SEGMENT: i32 = 103;
const BUFFER: i32 = 16 * 1024 * 1024;
const SEED: usize = 0x0d9;
/// What a socket takes in one call.
const LARGEST: usize = 65_000;

/// A UDP socket in a namespace, on any port of an address.
pub fn bind(at: &Netns, address: IpAddr) -> Result<UdpSocket> {
    let socket = at.enter(|| {
        UdpSocket::bind((address, 0)).with_context(|| format!("bind to {address} in {}", at.name()))
    })?;
    socket.set_read_timeout(Some(wait::patience())).context("set a read timeout")?;
    sockopt::set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER)?;
    Ok(socket)
}

/// A UDP socket in a namespace that sends to one address only.
pub fn connect(from: &Netns, to: SocketAddr) -> Result<UdpSocket> {
    let any: IpAddr = if to.is_ipv4() { [0; 4].into() } else { [0_u16; 8].into() };
    let socket = bind(from, any)?;
    socket.connect(to).with_context(|| format!("connect a UDP socket in {} to {to}", from.name()))?;
    Ok(socket)
}

/// Sends datagrams of these payload sizes one by one and expects each back, unchanged, before the next.
pub fn echo(from: &Netns, to: (&Netns, IpAddr), sizes: &[usize]) -> Result<()> {
    let server = bind(to.0, to.1)?;
    let address = server.local_addr().context("the server's address")?;
    let client = connect(from, address)?;
    // Fragmentation is what is asked for: no path MTU discovery on either side.
    for socket in [&client, &server] {
        never_set_dont_fragment(socket, address.is_ipv4())?;
    }
    let mut buffer = vec![0; 65_536];
    for size in sizes {
        let mut message = vec![0; *size];
        pattern(SEED, 0, &mut message);
        client.send(&message).with_context(|| format!("send {size} bytes to {address}"))?;
        let (length, source) = server
            .recv_from(&mut buffer)
            .with_context(|| format!("{size} bytes from {} to {address} did not arrive", from.name()))?;
        ensure!(
            length == *size && mismatch(SEED, 0, &buffer[..length]).is_none(),
            "{size} bytes arrived changed"
        );
        server.send_to(&buffer[..length], source).context("answer")?;
        let length = client.recv(&mut buffer).with_context(|| {
            format!("the answer of {size} bytes from {address} to {source} did not arrive")
        })?;
        ensure!(
            length == *size && mismatch(SEED, 0, &buffer[..length]).is_none(),
            "{size} bytes came back changed"
        );
    }
    Ok(())
}

/// Leaves packets that are too large for the path to be fragmented, instead of learning its MTU.
pub(super) fn never_set_dont_fragment(socket: &UdpSocket, ipv4: bool) -> Result<()> {
    if ipv4 {
        sockopt::set(socket, libc::IPPROTO_IP, libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DONT)
    } else {
        sockopt::set(socket, libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DONT)
    }
}

/// Sends bursts that the kernel cuts into segments, and expects every segment as a datagram of its own, whole and right.
///
/// The receiver takes no part in `UDP_GRO`: a packet that stayed together all the way has to be cut for it.
pub fn segmented(from: &Netns, to: (&Netns, IpAddr), segment: usize, bursts: usize) -> Result<()> {
    let server = bind(to.0, to.1)?;
    let address = server.local_addr().context("the server's address")?;
    let client = connect(from, address)?;
    sockopt::set(&client, SOL_UDP, UDP_SEGMENT, i32::try_from(segment).context("a segment beyond i32")?)?;
    // The kernel cuts at most 128 (formerly 64) segments from one send; the last one here is shorter than the others.
    let segments = (LARGEST / segment).min(60);
    let last = segment / 2;
    let burst_length = (segments - 1) * segment + last;
    let mut message = vec![0; burst_length];
    let mut buffer = vec![0; 65_536];
    // One after the other: two bursts that different processors send may overtake each other.
    for burst in 0..bursts {
        pattern(SEED + burst, 0, &mut message);
        client
            .send(&message)
            .with_context(|| format!("send a burst of {burst_length} bytes to {address}"))?;
        for (index, expected) in message.chunks(segment).enumerate() {
            let length = server.recv(&mut buffer).with_context(|| {
                format!("datagram {index} of {segments} of burst {burst} to {address} did not arrive")
            })?;
            ensure!(
                length == expected.len(),
                "a datagram of {length} bytes instead of {}, {index} of {segments}",
                expected.len()
            );
            ensure!(buffer[..length] == *expected, "datagram {index} of burst {burst} arrived changed");
        }
    }
    Ok(())
}
