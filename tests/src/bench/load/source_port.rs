//! Source ports that have rested.
//!
//! The kernel picks ephemeral ports in a narrow circle per destination: at ten thousand connections a second it is back
//! at the same one within the second. Connection tracking still holds that tuple then, in a state that makes a new
//! connection slower, or stall. So each namespace goes once around all its ports before it comes back to one.

use std::{
    collections::HashMap,
    net::{SocketAddr, TcpStream},
    os::fd::{AsRawFd as _, OwnedFd},
    sync::{LazyLock, Mutex, PoisonError},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::{
        socket::{
            AddressFamily, SockFlag, SockType, SockaddrStorage, bind, connect, setsockopt, socket,
            sockopt::{Linger, ReceiveTimeout, ReuseAddr},
        },
        time::{TimeVal, TimeValLike as _},
    },
};

/// Below are the ports of servers that anyone may know, above are those that masquerading takes.
const PORTS: std::ops::RangeInclusive<u16> = 2048..=60_999;

/// The port that was taken last, by namespace.
static LAST: LazyLock<Mutex<HashMap<String, u16>>> = LazyLock::new(Mutex::default);

/// The next source ports of a namespace.
#[derive(Debug)]
pub struct Sources(String);

impl Sources {
    /// Of the namespace of this name.
    #[must_use]
    pub fn of(namespace: &str) -> Self {
        Self(namespace.to_owned())
    }

    /// The next one; another user of the namespace may have it.
    #[must_use]
    pub fn next(&self) -> u16 {
        let mut last = LAST.lock().unwrap_or_else(PoisonError::into_inner);
        let port = last.entry(self.0.clone()).or_insert(*PORTS.end());
        *port = if PORTS.contains(port) && *port != *PORTS.end() { *port + 1 } else { *PORTS.start() };
        *port
    }

    /// Connects from this thread's namespace, which must be the one that this is for. Closing resets the connection.
    pub(super) fn connect(&self, to: SocketAddr) -> Result<TcpStream> {
        let socket = self.bound(to.is_ipv4())?;
        setsockopt(&socket, Linger, &libc::linger { l_onoff: 1, l_linger: 0 }).context("SO_LINGER")?;
        setsockopt(&socket, ReceiveTimeout, &TimeVal::seconds(5)).context("SO_RCVTIMEO")?;
        connect(socket.as_raw_fd(), &SockaddrStorage::from(to))
            .with_context(|| format!("connect over TCP to {to}"))?;
        Ok(socket.into())
    }

    /// A socket with a source port of its own: a server of this namespace may have the next one.
    fn bound(&self, ipv4: bool) -> Result<OwnedFd> {
        let (family, any) = if ipv4 {
            (AddressFamily::Inet, std::net::IpAddr::from([0; 4]))
        } else {
            (AddressFamily::Inet6, std::net::IpAddr::from([0_u16; 8]))
        };
        loop {
            let socket = socket(family, SockType::Stream, SockFlag::SOCK_CLOEXEC, None).context("socket")?;
            setsockopt(&socket, ReuseAddr, &true).context("SO_REUSEADDR")?;
            let address = SocketAddr::new(any, self.next());
            match bind(socket.as_raw_fd(), &SockaddrStorage::from(address)) {
                Err(Errno::EADDRINUSE) => {}
                result => {
                    return result.map(|()| socket).with_context(|| format!("bind to {address}"));
                }
            }
        }
    }
}
