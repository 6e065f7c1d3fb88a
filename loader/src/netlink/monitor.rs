//! News of links: made, changed, gone.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
};

use netlink_packet_core::NetlinkPayload;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::{Link, link::link_of, socket::messages};

/// Multicast group of link messages (`RTNLGRP_LINK`).
const GROUP_LINK: u32 = 1;

/// Something happened to a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LinkNews {
    /// It was made or changed.
    Changed(Link),
    /// It is gone.
    Gone(Link),
    /// Messages were lost: anything may have happened.
    Lost,
}

/// A socket that hears of every link of the namespace in which it was opened.
pub struct Monitor {
    socket: Socket,
}

impl Monitor {
    /// Starts listening in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        socket.add_membership(GROUP_LINK)?;
        socket.set_non_blocking(true)?;
        Ok(Self { socket })
    }

    /// Readable when there is news.
    #[must_use]
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Takes all the news there is, without waiting.
    pub fn read(&self) -> io::Result<Vec<LinkNews>> {
        let mut news = Vec::new();
        loop {
            match self.socket.recv_from_full() {
                Ok((datagram, _)) => {
                    for message in messages(&datagram) {
                        if let (_, NetlinkPayload::InnerMessage(message)) = message? {
                            news.extend(news_of(&message));
                        }
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(news),
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => news.push(LinkNews::Lost),
                Err(error) => return Err(error),
            }
        }
    }
}

fn news_of(message: &RouteNetlinkMessage) -> Option<LinkNews> {
    let link = link_of(message)?;
    match message {
        RouteNetlinkMessage::NewLink(_) => Some(LinkNews::Changed(link)),
        RouteNetlinkMessage::DelLink(_) => Some(LinkNews::Gone(link)),
        _ => None,
    }
}
