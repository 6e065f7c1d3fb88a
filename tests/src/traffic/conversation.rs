//! A conversation over TCP that must not break, and what is lost of it.

use std::{
    io::{Read as _, Write as _},
    net::{IpAddr, Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::{stop::Stop, tcp};
use crate::{netns::Netns, wait};

/// A connection that exchanges short messages without end, to see whether something breaks it or is lost.
#[derive(Debug)]
pub struct Conversation {
    stop: Stop,
    answered: Arc<AtomicU64>,
    client: JoinHandle<Result<TcpStream>>,
    /// [`tcp::late_syns`] of the client's end.
    late: u32,
    server: JoinHandle<Result<u32>>,
}

/// What a conversation has seen.
#[derive(Clone, Copy, Debug)]
pub struct Exchanges {
    /// Messages that were answered, each with the right content.
    pub answered: u64,
    /// Segments, of either end, that never arrived; others did in their stead.
    pub lost: u32,
}

impl Conversation {
    /// Connects and begins to talk.
    pub fn start(from: &Netns, to: (&Netns, IpAddr)) -> Result<Self> {
        let (listener, address) = tcp::listen(to.0, to.1)?;
        let server = thread::spawn(move || echo(&listener));
        let stream = tcp::connect(from, address)?;
        let late = tcp::late_syns(&stream)?;
        let (stop, answered) = (Stop::default(), Arc::<AtomicU64>::default());
        let client = thread::spawn({
            let (stop, answered) = (stop.word(), Arc::clone(&answered));
            move || converse(stream, &stop, &answered)
        });
        Ok(Self { stop, answered, client, late, server })
    }

    /// Messages answered so far.
    #[must_use]
    pub fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Waits until so many more messages have been answered.
    pub fn wait_for(&self, more: u64) -> Result<()> {
        let goal = self.answered() + more;
        wait::until("the conversation to go on", || {
            ensure!(!self.client.is_finished(), "it broke");
            Ok((self.answered() >= goal).then_some(()))
        })
    }

    /// Ends it and says what it has seen; an error if it broke.
    pub fn finish(self) -> Result<Exchanges> {
        let Self { stop, answered, client, late, server } = self;
        drop(stop);
        let client = client.join().map_err(|_panic| anyhow!("the client panicked"))??;
        // The client's end is open still, and says what it gets twice.
        let lost = server.join().map_err(|_panic| anyhow!("the server panicked"))??;
        Ok(Exchanges { answered: answered.load(Ordering::Relaxed), lost: lost + tcp::lost(&client, late)? })
    }
}

/// Talks until told to stop, and then leaves the other end the last word.
fn converse(mut stream: TcpStream, stop: &AtomicBool, answered: &AtomicU64) -> Result<TcpStream> {
    for number in 0_u64.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let message = number.to_be_bytes();
        stream.write_all(&message).context("send a message")?;
        let mut answer = [0; 8];
        stream.read_exact(&mut answer).with_context(|| format!("answer to message {number}"))?;
        ensure!(answer == message, "message {number} came back changed");
        answered.store(number + 1, Ordering::Relaxed);
        thread::sleep(Duration::from_millis(1));
    }
    stream.shutdown(Shutdown::Write).context("shut the sending side down")?;
    Ok(stream)
}

/// Answers until the client has done, and says what was lost of the answers.
fn echo(listener: &TcpListener) -> Result<u32> {
    let (mut stream, _) = listener.accept().context("accept")?;
    let late = tcp::late_answers(&stream)?;
    stream.set_nodelay(true).context("set TCP_NODELAY")?;
    stream.set_read_timeout(Some(wait::patience())).context("set a read timeout")?;
    let mut message = [0; 8];
    loop {
        let length = stream.read(&mut message).context("receive a message")?;
        if length == 0 {
            return tcp::lost(&stream, late);
        }
        stream.write_all(&message[..length]).context("answer")?;
    }
}
