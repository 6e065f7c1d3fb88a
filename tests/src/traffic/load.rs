//! A steady load: questions without end, each with an answer, and what was lost.
//!
//! Late is not lost: on a machine with other work a process may stand still for a second, and a client's answer waits for the
//! server's turn. So a question waits as long as any condition of a test, and is lost if it is never answered, or, over TCP,
//! if a packet of it was lost and sent again.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow, ensure};

use super::{
    stop::Stop,
    who::{Seen, Session},
};
use crate::{config::Protocol, netns::Netns, wait};

/// Whether each question is of a connection of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Connections {
    /// Each question: connect, ask, close.
    New,
    /// All questions by one.
    One,
}

/// Questions from one namespace to one address, until told to stop; dropped, no more are asked.
#[derive(Debug)]
pub struct Load {
    name: String,
    stop: Stop,
    answered: Arc<AtomicU64>,
    client: JoinHandle<Account>,
}

/// What a load has seen.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// Answers by server.
    pub answered: BTreeMap<String, u64>,
    /// Questions without one, and why, with when.
    pub lost: Vec<String>,
    /// The longest that an answer took.
    pub slowest: Duration,
}

impl Load {
    /// Begins.
    pub fn start(from: &Netns, protocol: Protocol, to: SocketAddr, connections: Connections) -> Result<Self> {
        let from = from.another()?;
        let name = format!("{protocol:?} from {} to {to}, {connections:?}", from.name());
        let (stop, answered) = (Stop::default(), Arc::<AtomicU64>::default());
        let client = thread::spawn({
            let (stop, answered) = (stop.word(), Arc::clone(&answered));
            move || run(&from, protocol, to, connections, &stop, &answered)
        });
        Ok(Self { name, stop, answered, client })
    }

    /// What it asks.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Waits until so many more questions have been answered.
    pub fn wait_for(&self, more: u64) -> Result<()> {
        let goal = self.answered.load(Ordering::Relaxed) + more;
        // Longer than a question may take, so that a lost one is told as that.
        wait::until_after(wait::patience(), &format!("{} to go on", self.name), || {
            ensure!(!self.client.is_finished(), "it ended");
            Ok((self.answered.load(Ordering::Relaxed) >= goal).then_some(()))
        })
    }

    /// Ends it.
    pub fn finish(self) -> Result<Account> {
        let Self { name, stop, client, .. } = self;
        drop(stop);
        client.join().map_err(|_panic| anyhow!("{name} panicked"))
    }
}

fn run(
    from: &Netns,
    protocol: Protocol,
    to: SocketAddr,
    connections: Connections,
    stop: &AtomicBool,
    answered: &AtomicU64,
) -> Account {
    let mut account = Account::default();
    let started = Instant::now();
    // A load, not a flood: the machine has other work.
    let pause = wait::scaled(Duration::from_millis(1));
    let mut session = None;
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let result = session.take().map_or_else(|| Session::open(from, protocol, to), Ok).and_then(ask);
        match result {
            Ok((open, seen)) => {
                *account.answered.entry(seen.server).or_default() += 1;
                account.slowest = account.slowest.max(asked.elapsed());
                answered.fetch_add(1, Ordering::Relaxed);
                session = (connections == Connections::One).then_some(open);
            }
            Err(error) => account.lost.push(format!("after {:?}: {error:#}", started.elapsed())),
        }
        thread::sleep(pause);
    }
    account
}

fn ask(mut session: Session) -> Result<(Session, Seen)> {
    let seen = session.ask()?;
    let lost = session.lost()?;
    ensure!(lost == 0, "answered after {lost} segments of the question were lost");
    Ok((session, seen))
}
