//! Those who have called and not said anything yet.

use std::{
    collections::VecDeque,
    io::{self, Read as _, Write as _},
    net::TcpStream,
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

use nix::poll::{PollFd, PollFlags};

/// How long one may take to say something.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many there may be.
const MOST: usize = 256;
/// Most of a question that is read.
const QUESTION: usize = 1024;

/// Oldest first, and so are their deadlines.
#[derive(Default)]
pub(super) struct Callers(VecDeque<Caller>);

struct Caller {
    /// Not blocking.
    stream: TcpStream,
    /// Where he has called.
    port: u16,
    deadline: Instant,
}

impl Callers {
    /// One more. If there are too many, the oldest is left alone for him.
    pub(super) fn add(&mut self, stream: TcpStream, port: u16) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        if self.0.len() >= MOST {
            self.0.pop_front();
        }
        self.0.push_back(Caller { stream, port, deadline: Instant::now() + PATIENCE });
        Ok(())
    }

    /// What to wait for, in their order.
    pub(super) fn fds(&self) -> impl Iterator<Item = PollFd<'_>> {
        self.0.iter().map(|caller| PollFd::new(caller.stream.as_fd(), PollFlags::POLLIN))
    }

    /// When the first of them has taken too long.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.0.front().map(|caller| caller.deadline)
    }

    /// Answers those who have said something with what is answered at that port now, and leaves those alone who have taken too
    /// long.
    pub(super) fn attend(&mut self, answer: impl Fn(u16) -> Option<String>) {
        let now = Instant::now();
        self.0.retain_mut(|Caller { stream, port, deadline }| {
            // Unread, it would have the connection reset.
            let outcome = match stream.read(&mut [0; QUESTION]) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return now < *deadline,
                // In one piece, for which a connection that has not sent anything has room.
                Ok(_) => answer(*port).map_or(Ok(()), |answer| stream.write_all(answer.as_bytes())),
                Err(error) => Err(error),
            };
            if let Err(error) = outcome {
                log::debug!("health check on port {port}: {error}");
            }
            false
        });
    }
}
