//! UDP packets of a great many connections: frames out of pods' devices, each from another port than the one before.

use std::{net::SocketAddr, os::fd::OwnedFd};

use anyhow::{Context as _, Result, ensure};

use super::{
    Cores, LOOK, Needed, Path, Window,
    batch::{Batch, DATAGRAMS, PAYLOAD},
    beside,
    udp::take_all,
};
use crate::{
    address::Mac,
    capture,
    frame::{self, Ip},
    pod::{DEVICE, Pod},
};

/// Source ports that a pod's connections have, of those below what masquerading takes.
const FIRST_PORT: u16 = 10_000;
/// As many, at most.
const PORTS: u32 = 50_000;
/// Where they are in a frame without IP options.
const SOURCE_PORT: std::ops::Range<usize> = 34..36;
const CHECKSUM: std::ops::Range<usize> = 40..42;

/// Pods that send, each its part of the connections.
pub struct Senders(Vec<Sender>);

/// A pod's connections to one address.
struct Sender {
    socket: OwnedFd,
    batch: Batch,
    /// Of a frame from port 0.
    checksum: u16,
    connections: u16,
    next: u16,
}

impl Senders {
    /// So many connections from all of these pods to one address; the pods have the same gateway.
    pub fn new(pods: &[Pod], gateway: Mac, to: SocketAddr, connections: u32) -> Result<Self> {
        let count = u32::try_from(pods.len())?;
        ensure!(connections <= count * PORTS, "{connections} connections of {count} pods");
        let of_pod = |(index, pod): (u32, &Pod)| -> Result<Option<Sender>> {
            let own = u16::try_from((connections + count - 1 - index) / count)?;
            (own > 0).then(|| Sender::new(pod, gateway, to, own)).transpose()
        };
        let senders = (0..).zip(pods).filter_map(|pod| of_pod(pod).transpose());
        senders.collect::<Result<_>>().map(Self)
    }

    /// Sends one packet of each connection.
    pub fn pass(&mut self) -> Result<()> {
        for sender in &mut self.0 {
            for _ in 0..usize::from(sender.connections).div_ceil(DATAGRAMS) {
                sender.send()?;
            }
        }
        Ok(())
    }
}

impl Sender {
    fn new(pod: &Pod, gateway: Mac, to: SocketAddr, connections: u16) -> Result<Self> {
        let packet = Ip::new(pod.v4()?.into(), to.ip()).udp((0, to.port()), &[0; PAYLOAD]);
        let frame = frame::ethernet(pod.netns.mac(DEVICE)?, gateway, &packet);
        let checksum =
            frame.get(CHECKSUM).and_then(|bytes| bytes.try_into().ok()).context("a short frame")?;
        Ok(Self {
            socket: capture::sending_socket(&pod.netns, DEVICE)?,
            batch: Batch::of(vec![frame; DATAGRAMS]),
            checksum: u16::from_be_bytes(checksum),
            connections,
            next: 0,
        })
    }

    /// A packet of each of the next connections.
    fn send(&mut self) -> Result<()> {
        for frame in self.batch.payloads() {
            let port = FIRST_PORT + self.next;
            self.next = if self.next + 1 == self.connections { 0 } else { self.next + 1 };
            frame[SOURCE_PORT].copy_from_slice(&port.to_be_bytes());
            frame[CHECKSUM].copy_from_slice(&with_port(self.checksum, port).to_be_bytes());
        }
        self.batch.send(&self.socket, DATAGRAMS).context("send frames")
    }
}

/// The checksum of a UDP packet whose source port was 0.
fn with_port(checksum: u16, port: u16) -> u16 {
    let sum = frame::sum(&port.to_be_bytes(), !checksum);
    if sum == u16::MAX { u16::MAX } else { !sum }
}

/// Packets per second that the path's receiver gets from the senders, which send all they can, of one connection after the other. All
/// of them have sent before.
pub fn of_many(path: Path<'_>, senders: &mut Senders, window: Window, cores: Cores) -> Result<f64> {
    let (receiver, _) = path.receive()?;
    receiver.set_read_timeout(Some(LOOK)).context("SO_RCVTIMEO")?;
    senders.pass()?;
    // What they have sent by now is not what they send while it counts.
    let mut batch = Batch::new(DATAGRAMS, PAYLOAD);
    while take_all(&mut batch, &receiver, &mut 0)? > 0 {}
    beside(
        (cores.sender, |needed: &Needed<'_>| {
            while needed.still() {
                senders.0.iter_mut().try_for_each(Sender::send)?;
            }
            Ok(())
        }),
        (cores.receiver, || {
            let mut nothing = 0;
            window.rate(|| take_all(&mut batch, &receiver, &mut nothing))
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_port_has_a_right_checksum() {
        let ip = Ip::new([10, 200, 0, 10].into(), [10, 32, 255, 2].into());
        let whole = |port| frame::ethernet([2; 6], [4; 6], &ip.udp((port, 80), &[0; PAYLOAD]));
        let of = |frame: &[u8]| u16::from_be_bytes(frame[CHECKSUM].try_into().unwrap());
        let checksum = of(&whole(0));
        for port in (FIRST_PORT..60_000).step_by(7) {
            let frame = whole(port);
            assert_eq!(frame[SOURCE_PORT], port.to_be_bytes());
            assert_eq!(with_port(checksum, port), of(&frame), "port {port}");
        }
    }
}
