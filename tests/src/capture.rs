//! Raw packets on a device of a namespace: seeing what passes, and sending any frame.

use std::{
    io,
    mem::{MaybeUninit, size_of, zeroed},
    os::fd::{AsFd as _, AsRawFd as _, FromRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::{netns::Netns, packet::Packet, sockopt, wait};

/// Larger than any packet that a device hands over whole.
const LARGEST: usize = 256 * 1024;
const BUFFER: i32 = 32 * 1024 * 1024;

/// A packet socket on one device.
#[derive(Debug)]
pub struct Capture {
    socket: OwnedFd,
    device: String,
    buffer: Vec<u8>,
}

impl Capture {
    /// Starts to see all packets of a device, both ways.
    pub fn open(netns: &Netns, device: &str) -> Result<Self> {
        let all = u16::try_from(libc::ETH_P_ALL).context("ETH_P_ALL")?.to_be();
        let socket = netns.enter(|| packet_socket(device, all))?;
        Ok(Self { socket, device: device.to_owned(), buffer: vec![0; LARGEST] })
    }

    /// Sends a frame out of the device.
    pub fn inject(&self, frame: &[u8]) -> Result<()> {
        let sent =
            nix::sys::socket::send(self.socket.as_raw_fd(), frame, nix::sys::socket::MsgFlags::empty());
        sent.with_context(|| format!("send a frame of {} bytes to {}", frame.len(), self.device))?;
        Ok(())
    }

    /// Waits for the first packet that `wanted` makes something of.
    pub fn find<T>(&mut self, what: &str, wanted: impl FnMut(&Packet) -> Option<T>) -> Result<T> {
        let patience = wait::patience();
        match self.find_within(patience, wanted)? {
            Some(found) => Ok(found),
            None => bail!("{what}: not seen on {} within {patience:?}", self.device),
        }
    }

    /// As [`find`](Self::find), with a deadline of its own and no error when it passes.
    pub fn find_within<T>(
        &mut self,
        patience: Duration,
        mut wanted: impl FnMut(&Packet) -> Option<T>,
    ) -> Result<Option<T>> {
        let deadline = Instant::now() + patience;
        while let Some(packet) = self.next_before(deadline)? {
            if let Some(found) = wanted(&packet) {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// All packets that are there by now.
    pub fn drain(&mut self) -> Result<Vec<Packet>> {
        let mut packets = Vec::new();
        while let Some(packet) = self.next_before(Instant::now())? {
            packets.push(packet);
        }
        Ok(packets)
    }

    fn next_before(&mut self, deadline: Instant) -> Result<Option<Packet>> {
        let left = deadline.saturating_duration_since(Instant::now());
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let mut descriptors = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
        if poll(&mut descriptors, timeout).context("poll a packet socket")? == 0 {
            return Ok(None);
        }
        receive(&self.socket, &mut self.buffer).map(Some)
    }
}

/// A packet socket that sends out of a device and sees nothing of what passes there, so that nobody pays for it.
pub fn sending_socket(netns: &Netns, device: &str) -> Result<OwnedFd> {
    netns.enter(|| packet_socket(device, 0))
}

/// `protocol` is what it sees, as the wire has it.
fn packet_socket(device: &str, protocol: u16) -> Result<OwnedFd> {
    // Without a protocol, so that nothing of other devices queues up before the bind.
    // SAFETY: no pointers.
    let descriptor = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
    if descriptor < 0 {
        return Err(io::Error::last_os_error()).context("socket AF_PACKET (are you root?)");
    }
    // SAFETY: just opened, owned by nothing else.
    let socket = unsafe { OwnedFd::from_raw_fd(descriptor) };
    sockopt::set(&socket, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, BUFFER)?;
    sockopt::set(&socket, libc::SOL_PACKET, libc::PACKET_AUXDATA, 1)?;
    let index =
        nix::net::if_::if_nametoindex(device).with_context(|| format!("if_nametoindex of {device}"))?;
    // SAFETY: plain old data, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    address.sll_family = u16::try_from(libc::AF_PACKET).context("AF_PACKET")?;
    address.sll_protocol = protocol;
    address.sll_ifindex = i32::try_from(index).context("an interface index beyond i32")?;
    let length =
        libc::socklen_t::try_from(size_of::<libc::sockaddr_ll>()).context("the size of sockaddr_ll")?;
    // SAFETY: the pointer and the length describe `address`.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length) };
    if result != 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("bind a packet socket to {device}"));
    }
    Ok(socket)
}

fn receive(socket: &OwnedFd, buffer: &mut [u8]) -> Result<Packet> {
    #[repr(align(8))]
    struct Control([MaybeUninit<u8>; 128]);

    // SAFETY: plain old data, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { zeroed() };
    let mut control = Control([MaybeUninit::uninit(); 128]);
    let mut slice = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: plain old data, for which zero is a value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_name = (&raw mut address).cast();
    message.msg_namelen =
        libc::socklen_t::try_from(size_of_val(&address)).context("the size of sockaddr_ll")?;
    message.msg_iov = &raw mut slice;
    message.msg_iovlen = 1;
    message.msg_control = control.0.as_mut_ptr().cast();
    message.msg_controllen = control.0.len();
    // SAFETY: every pointer in `message` is to a live local with the length given beside it.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_TRUNC) };
    let Ok(length) = usize::try_from(received) else {
        return Err(io::Error::last_os_error()).context("recvmsg on a packet socket");
    };
    let auxiliary = auxiliary(&message);
    let has = |bit: u32| auxiliary.is_some_and(|data| data.tp_status & bit != 0);
    Ok(Packet {
        bytes: buffer[..length.min(buffer.len())].to_vec(),
        outgoing: address.sll_pkttype == libc::PACKET_OUTGOING,
        checksum_pending: has(libc::TP_STATUS_CSUMNOTREADY),
        vlan: if has(libc::TP_STATUS_VLAN_VALID) { auxiliary.map(|data| data.tp_vlan_tci) } else { None },
    })
}

fn auxiliary(message: &libc::msghdr) -> Option<libc::tpacket_auxdata> {
    // SAFETY: the kernel has filled `message` in; the control buffer it points to is alive.
    let header = unsafe { libc::CMSG_FIRSTHDR(message) };
    if header.is_null() {
        return None;
    }
    // SAFETY: not null, so it points into the control buffer, which is aligned for it.
    let found = unsafe { &*header };
    if found.cmsg_level != libc::SOL_PACKET || found.cmsg_type != libc::PACKET_AUXDATA {
        return None;
    }
    // SAFETY: a message of this type carries a `tpacket_auxdata`; it may lie unaligned.
    Some(unsafe { libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned() })
}
