//! Sock diag netlink: the UDP sockets of one network namespace, and their end.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use netlink_sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};

const SOCK_DIAG_BY_FAMILY: u16 = 20;
const SOCK_DESTROY: u16 = 21;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
/// Length of `struct nlmsghdr`.
const HEADER: usize = 16;
/// Length of `struct inet_diag_sockid`.
const ID: usize = 48;
/// Where it is in `struct inet_diag_msg`.
const ID_IN_ANSWER: usize = 4;

/// A socket, as the kernel identifies it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UdpSocket {
    family: u8,
    id: [u8; ID],
}

impl UdpSocket {
    /// The socket's cookie.
    #[must_use]
    pub fn cookie(&self) -> u64 {
        let half = |at| u64::from(u32::from_ne_bytes(take(&self.id, at)));
        half(40) | half(44) << 32
    }

    /// Whom it is connected to; port 0 if nobody. An IPv4 address that is mapped into IPv6 is an IPv4 address.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        let address = if i32::from(self.family) == libc::AF_INET {
            IpAddr::V4(Ipv4Addr::from(take::<4>(&self.id, 20)))
        } else {
            IpAddr::V6(Ipv6Addr::from(take::<16>(&self.id, 20))).to_canonical()
        };
        SocketAddr::new(address, u16::from_be_bytes(take(&self.id, 2)))
    }
}

/// A request socket in one network namespace: the one of the thread that opened it.
pub struct Diag {
    socket: Socket,
}

impl Diag {
    /// Opens it.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&NetlinkAddr::new(0, 0))?;
        Ok(Self { socket })
    }

    /// All UDP sockets of both families.
    pub fn udp_sockets(&self) -> io::Result<Vec<UdpSocket>> {
        let mut sockets = Vec::new();
        for family in [libc::AF_INET, libc::AF_INET6] {
            let family = u8::try_from(family).map_err(io::Error::other)?;
            self.send(SOCK_DIAG_BY_FAMILY, NLM_F_DUMP, family, &[0; ID])?;
            self.receive(|family, id| sockets.push(UdpSocket { family, id }))?;
        }
        Ok(sockets)
    }

    /// Ends a socket: who receives from it gets `ECONNABORTED`, once, and who sends `EDESTADDRREQ`, as it is connected to nobody.
    pub fn destroy(&self, socket: &UdpSocket) -> io::Result<()> {
        self.send(SOCK_DESTROY, NLM_F_ACK, socket.family, &socket.id)?;
        self.receive(|_, _| {})
    }

    /// Sends `struct inet_diag_req_v2`.
    fn send(&self, kind: u16, flags: u16, family: u8, id: &[u8; ID]) -> io::Result<()> {
        let mut request = Vec::with_capacity(HEADER + 8 + ID);
        request.extend([0; 4]);
        request.extend(kind.to_ne_bytes());
        request.extend((flags | NLM_F_REQUEST).to_ne_bytes());
        request.extend([0; 8]);
        request.extend([family, u8::try_from(libc::IPPROTO_UDP).map_err(io::Error::other)?, 0, 0]);
        // In whatever state.
        request.extend(u32::MAX.to_ne_bytes());
        request.extend(id);
        let length = u32::try_from(request.len()).map_err(io::Error::other)?;
        request[..4].copy_from_slice(&length.to_ne_bytes());
        self.socket.send(&request, 0).map(drop)
    }

    /// Receives up to the end of the answers.
    fn receive(&self, mut each: impl FnMut(u8, [u8; ID])) -> io::Result<()> {
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            let mut rest = datagram.as_slice();
            while let Some((kind, payload)) = message(&mut rest) {
                match kind {
                    NLMSG_DONE => return Ok(()),
                    NLMSG_ERROR => {
                        return match i32::from_ne_bytes(take(payload, 0)) {
                            0 => Ok(()),
                            errno => Err(io::Error::from_raw_os_error(-errno)),
                        };
                    }
                    _ if payload.len() >= ID_IN_ANSWER + ID => each(payload[0], take(payload, ID_IN_ANSWER)),
                    _ => {}
                }
            }
        }
    }
}

/// The next message of a datagram: its type and what is in it.
fn message<'a>(datagram: &mut &'a [u8]) -> Option<(u16, &'a [u8])> {
    let length = usize::try_from(u32::from_ne_bytes(take(datagram.get(..HEADER)?, 0))).ok()?;
    let payload = datagram.get(HEADER..length)?;
    let kind = u16::from_ne_bytes(take(datagram, 4));
    *datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
    Some((kind, payload))
}

/// So many bytes from there; zeros where there are none.
fn take<const N: usize>(bytes: &[u8], at: usize) -> [u8; N] {
    bytes.get(at..).and_then(|bytes| bytes.first_chunk()).copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket as Std;

    use super::*;

    fn connected(own: &str, to: &str) -> Std {
        let socket = Std::bind(own).unwrap();
        socket.connect(to).unwrap();
        socket
    }

    #[test]
    fn sockets_are_found_and_ended() {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root to end a socket");
            return;
        }
        let diag = Diag::open().unwrap();
        for (own, to, peer) in [
            ("127.0.0.1:0", "127.0.0.1:9", "127.0.0.1:9"),
            ("[::1]:0", "[::1]:9", "[::1]:9"),
            ("[::]:0", "[::ffff:127.0.0.1]:9", "127.0.0.1:9"),
        ] {
            let socket = connected(own, to);
            let port = socket.local_addr().unwrap().port();
            let sockets = diag.udp_sockets().unwrap();
            let ours = |found: &&UdpSocket| {
                found.id[..2] == port.to_be_bytes() && found.peer() == peer.parse().unwrap()
            };
            let found = sockets.iter().find(ours).unwrap_or_else(|| panic!("{to} is not in {sockets:?}"));
            assert_ne!(found.cookie(), 0);
            if let Err(error) = diag.destroy(found) {
                assert_eq!(error.raw_os_error(), Some(libc::EOPNOTSUPP), "{error}");
                println!("skipped: a kernel without CONFIG_INET_DIAG_DESTROY");
                return;
            }
            let error = socket.recv(&mut [0]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionAborted, "{to}: {error}");
            let error = socket.send(b"x").unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::EDESTADDRREQ), "{to}: {error}");
        }
    }
}
