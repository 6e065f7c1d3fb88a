//! What a sender is told of a packet that did not arrive: ICMP errors as its own socket sees them.

use std::{
    io::IoSliceMut,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    os::fd::AsRawFd as _,
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg},
};

use super::udp;
use crate::{netns::Netns, sockopt, wait};

/// A UDP socket that hears of errors.
#[derive(Debug)]
pub struct Probe {
    socket: UdpSocket,
    to: SocketAddr,
}

/// An ICMP error that the kernel has matched to the socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Notice {
    /// ICMP type.
    pub kind: u8,
    /// ICMP code.
    pub code: u8,
    /// The MTU, in a "too big".
    pub info: u32,
    /// Who sent it.
    pub sender: IpAddr,
}

impl Probe {
    /// A socket in a namespace, connected to an address whose port nothing has to serve.
    pub fn new(from: &Netns, to: IpAddr) -> Result<Self> {
        Self::to(from, SocketAddr::new(to, 33_434))
    }

    /// As [`new`](Self::new), with a port of the caller's choice.
    pub fn to(from: &Netns, to: SocketAddr) -> Result<Self> {
        let socket = udp::connect(from, to)?;
        let probe = Self { socket, to };
        probe.set((libc::IP_RECVERR, 1), (libc::IPV6_RECVERR, 1))?;
        Ok(probe)
    }

    /// Sets "don't fragment" and keeps to the path MTU.
    pub fn discover_mtu(&self) -> Result<()> {
        self.set(
            (libc::IP_MTU_DISCOVER, libc::IP_PMTUDISC_DO),
            (libc::IPV6_MTU_DISCOVER, libc::IPV6_PMTUDISC_DO),
        )
    }

    /// Sets the time to live or hop limit.
    pub fn set_ttl(&self, ttl: u8) -> Result<()> {
        self.set((libc::IP_TTL, ttl.into()), (libc::IPV6_UNICAST_HOPS, ttl.into()))
    }

    /// Path MTU that the kernel now knows.
    pub fn mtu(&self) -> Result<i32> {
        match self.to {
            SocketAddr::V4(_) => sockopt::get(&self.socket, libc::IPPROTO_IP, libc::IP_MTU),
            SocketAddr::V6(_) => sockopt::get(&self.socket, libc::IPPROTO_IPV6, libc::IPV6_MTU),
        }
    }

    /// Sends a datagram with so many bytes of payload; the error is the socket's, for instance `EMSGSIZE`.
    pub fn send(&self, size: usize) -> std::io::Result<usize> {
        self.socket.send(&vec![0x42; size])
    }

    /// Waits for the next ICMP error.
    pub fn notice(&self) -> Result<Notice> {
        wait::until(&format!("an ICMP error about a packet to {}", self.to.ip()), || self.pending())
    }

    /// The next ICMP error, if one is there. Errors that the socket found out by itself are skipped.
    pub fn pending(&self) -> Result<Option<Notice>> {
        loop {
            let mut data = [0; 2048];
            let mut slices = [IoSliceMut::new(&mut data)];
            let mut space = nix::cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
            let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
            let message = match recvmsg::<SockaddrStorage>(
                self.socket.as_raw_fd(),
                &mut slices,
                Some(&mut space),
                flags,
            ) {
                Err(Errno::EAGAIN) => return Ok(None),
                result => result.context("read the socket's errors")?,
            };
            for control in message.cmsgs().context("read control messages")? {
                if let Some(notice) = read(&control) {
                    return Ok(Some(notice));
                }
            }
        }
    }

    fn set(&self, option4: (i32, i32), option6: (i32, i32)) -> Result<()> {
        match self.to {
            SocketAddr::V4(_) => sockopt::set(&self.socket, libc::IPPROTO_IP, option4.0, option4.1),
            SocketAddr::V6(_) => sockopt::set(&self.socket, libc::IPPROTO_IPV6, option6.0, option6.1),
        }
    }
}

fn read(control: &ControlMessageOwned) -> Option<Notice> {
    let (error, sender): (_, IpAddr) = match *control {
        ControlMessageOwned::Ipv4RecvErr(error, Some(from)) => {
            (error, Ipv4Addr::from_bits(u32::from_be(from.sin_addr.s_addr)).into())
        }
        ControlMessageOwned::Ipv6RecvErr(error, Some(from)) => {
            (error, Ipv6Addr::from(from.sin6_addr.s6_addr).into())
        }
        _ => return None,
    };
    let from_icmp = [libc::SO_EE_ORIGIN_ICMP, libc::SO_EE_ORIGIN_ICMP6].contains(&error.ee_origin);
    from_icmp.then_some(Notice { kind: error.ee_type, code: error.ee_code, info: error.ee_info, sender })
}
