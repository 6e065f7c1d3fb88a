//! A netlink socket: one request, all of its answers.

use std::io;

use netlink_packet_core::{
    ErrorMessage, NLM_F_ACK, NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, NlaBuffer, NlasIterator,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::NetlinkError;

/// How often a dump is taken again that changed while it was being taken.
const DUMP_ATTEMPTS: usize = 16;
/// Attribute of an extended acknowledgement that holds the kernel's words.
const EXT_ACK_MESSAGE: u16 = 1;

/// A request socket in one network namespace: the one of the thread that opened it.
pub struct Handle {
    socket: Socket,
    sequence: u32,
}

/// What there is of something, or part of it.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    /// What was found.
    pub found: Vec<T>,
    /// Whether that is all, and of one moment; if not, there may be what was not found.
    pub is_whole: bool,
}

/// Why a request failed, before it is known what it was about.
pub(super) struct Refusal {
    source: io::Error,
    kernel: Option<String>,
}

impl Refusal {
    /// Adds what was asked for, and on what.
    pub(super) fn of(self, operation: &'static str, object: impl Into<String>) -> NetlinkError {
        NetlinkError { operation, object: object.into(), kernel: self.kernel, source: self.source }
    }

    /// Whether the kernel answered with this errno.
    pub(super) fn is(&self, errno: i32) -> bool {
        self.source.raw_os_error() == Some(errno)
    }
}

impl From<io::Error> for Refusal {
    fn from(source: io::Error) -> Self {
        Self { source, kernel: None }
    }
}

impl Handle {
    /// Opens a socket in the calling thread's network namespace.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        // Explanations instead of an echo of the request.
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends one request and returns what came before its acknowledgement.
    pub(super) fn request(
        &mut self,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        self.send(message, flags | NLM_F_ACK)?;
        Ok(self.receive(usize::MAX)?.0)
    }

    /// Lists objects, again if they changed meanwhile.
    pub(super) fn dump(
        &mut self,
        message: &RouteNetlinkMessage,
    ) -> Result<Vec<RouteNetlinkMessage>, Refusal> {
        for _ in 0..DUMP_ATTEMPTS {
            self.send(message.clone(), NLM_F_DUMP)?;
            if let (answers, true) = self.receive(usize::MAX)? {
                return Ok(answers);
            }
        }
        Err(io::Error::new(io::ErrorKind::Interrupted, "changed at every attempt to list it").into())
    }

    /// Lists objects of the calling thread's namespace, whose owner may have as many as he likes and change them all the time: no
    /// more than `limit`, and once.
    ///
    /// By a socket of its own, which is closed then: the kernel would send the other answers before it answers anything else.
    pub(super) fn dump_some(
        message: RouteNetlinkMessage,
        limit: usize,
    ) -> Result<Listing<RouteNetlinkMessage>, Refusal> {
        let mut handle = Self::open()?;
        handle.send(message, NLM_F_DUMP)?;
        let (found, is_whole) = handle.receive(limit)?;
        Ok(Listing { found, is_whole })
    }

    fn send(&mut self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = flags | NLM_F_REQUEST;
        header.sequence_number = self.sequence;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.socket.send(&bytes, 0).map(|_| ())
    }

    /// Receives up to the end of the answers, or `limit` of them; false if they are not all, or not of one moment.
    fn receive(&self, limit: usize) -> Result<(Vec<RouteNetlinkMessage>, bool), Refusal> {
        let mut answers = Vec::new();
        let mut consistent = true;
        loop {
            let (datagram, _) = self.socket.recv_from_full()?;
            for message in messages(&datagram) {
                let (header, payload) = message?;
                if header.sequence_number != self.sequence {
                    continue;
                }
                consistent &= header.flags & NLM_F_DUMP_INTR == 0;
                match payload {
                    NetlinkPayload::InnerMessage(_) if answers.len() >= limit => return Ok((answers, false)),
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(refused(&error)),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok((answers, consistent)),
                    _ => {}
                }
            }
        }
    }
}

/// The messages of one datagram. What can't be decoded is some device's oddity and none of ours: it is skipped.
pub(super) fn messages(
    mut datagram: &[u8],
) -> impl Iterator<Item = io::Result<(NetlinkHeader, NetlinkPayload<RouteNetlinkMessage>)>> {
    std::iter::from_fn(move || {
        loop {
            if datagram.is_empty() {
                return None;
            }
            let length = match NetlinkBuffer::new_checked(datagram) {
                Ok(buffer) => usize::try_from(buffer.length()).unwrap_or(usize::MAX),
                Err(error) => {
                    datagram = &[];
                    return Some(Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())));
                }
            };
            let message = &datagram[..length];
            datagram = datagram.get(length.next_multiple_of(4)..).unwrap_or_default();
            match NetlinkMessage::deserialize(message) {
                Ok(message) => return Some(Ok(message.into_parts())),
                Err(error) => log::debug!("skipped a netlink message: {error}"),
            }
        }
    })
}

fn refused(error: &ErrorMessage) -> Refusal {
    // A capped request is its header alone; the attributes of the acknowledgement follow.
    let kernel = error.header.get(16..).and_then(|attributes| {
        NlasIterator::new(attributes)
            .flatten()
            .find(|attribute: &NlaBuffer<&[u8]>| attribute.kind() == EXT_ACK_MESSAGE)
            .map(|attribute| String::from_utf8_lossy(attribute.value()).trim_end_matches('\0').to_owned())
    });
    Refusal { source: error.to_io(), kernel }
}
