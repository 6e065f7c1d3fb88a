//! What wakes the loop.

use std::{
    cell::RefCell,
    fs::File,
    io,
    os::fd::{AsFd as _, BorrowedFd},
    path::Path,
    time::Duration,
};

use anyhow::Context as _;
use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
    },
};

use super::watch::FileWatch;
use crate::netlink::{LinkNews, Monitor};

/// What has happened since the loop last waited.
#[derive(Debug, Default)]
pub(super) struct Happened {
    /// Told to stop, by this signal.
    pub(super) stop: Option<&'static str>,
    /// Told to read the configuration again, for this reason.
    pub(super) reload: Option<&'static str>,
    /// News of links.
    pub(super) links: Vec<LinkNews>,
    /// File systems were mounted or unmounted, among them perhaps the file of a network namespace.
    pub(super) mounts: bool,
}

/// Everything that wakes the loop.
pub(super) struct Events {
    signals: SignalFd,
    file: RefCell<FileWatch>,
    links: Monitor,
    mounts: Option<File>,
}

impl Events {
    /// Starts listening. To be called before other threads are made: the signals are taken from them.
    pub(super) fn open(config: &Path) -> anyhow::Result<Self> {
        let signals = SigSet::from_iter([Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP]);
        signals.thread_block().context("block signals")?;
        let signals = SignalFd::with_flags(&signals, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC)
            .context("signalfd")?;
        let file = FileWatch::open(config).with_context(|| format!("watch {}", config.display()))?;
        let links = Monitor::open().context("listen for news of links (netlink)")?;
        // Without it pods are found by looking again and again, which is slower.
        let mounts = File::open("/proc/self/mountinfo").ok();
        Ok(Self { signals, file: RefCell::new(file), links, mounts })
    }

    /// Waits until something happens, for `patience` at most. Whatever `also` becomes readable ends the wait too.
    pub(super) fn wait(&self, patience: Duration, also: Option<BorrowedFd<'_>>) -> io::Result<Happened> {
        let mut file = self.file.borrow_mut();
        let mut happened = Happened::default();
        let ready = {
            let file_fd = file.fd();
            let mut fds = vec![
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(file_fd, PollFlags::POLLIN),
                PollFd::new(self.links.fd(), PollFlags::POLLIN),
            ];
            let mounts = self.mounts.as_ref().map(|mounts| PollFd::new(mounts.as_fd(), PollFlags::POLLPRI));
            fds.extend(mounts);
            fds.extend(also.map(|fd| PollFd::new(fd, PollFlags::POLLIN)));
            let timeout = PollTimeout::try_from(patience).unwrap_or(PollTimeout::MAX);
            match poll(&mut fds, timeout) {
                Ok(0) | Err(nix::Error::EINTR) => return Ok(happened),
                Ok(_) => {}
                Err(errno) => return Err(errno.into()),
            }
            fds.iter().map(|fd| fd.revents().is_some_and(|events| !events.is_empty())).collect::<Vec<_>>()
        };
        if ready[0] {
            self.take_signals(&mut happened)?;
        }
        if ready[1] && file.has_changed() {
            happened.reload.get_or_insert("the file has changed");
        }
        if ready[2] {
            happened.links = self.links.read()?;
        }
        happened.mounts = self.mounts.is_some() && ready[3];
        Ok(happened)
    }

    /// Whether the file is another than when it was last looked at, be that seen from its directory or not.
    pub(super) fn file_has_changed(&self) -> bool {
        self.file.borrow_mut().has_changed()
    }

    fn take_signals(&self, happened: &mut Happened) -> io::Result<()> {
        while let Some(signal) = self.signals.read_signal()? {
            match i32::try_from(signal.ssi_signo).ok().and_then(|number| Signal::try_from(number).ok()) {
                Some(Signal::SIGHUP) => happened.reload = Some("SIGHUP"),
                Some(signal) => happened.stop = Some(signal.as_str()),
                None => {}
            }
        }
        Ok(())
    }
}
