//! The thread that answers.

use std::{
    io,
    net::TcpListener,
    os::fd::AsFd as _,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::eventfd::EventFd,
};

use super::{Ports, callers::Callers, response};

/// How many callers of one port are taken before it is another's turn.
const AT_ONCE: usize = 16;
/// How long nobody is taken after that has failed, as it does while the process has no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// Until the process ends.
pub(super) fn serve(shared: &Mutex<Ports>, changed: &EventFd) {
    let mut callers = Callers::default();
    let mut pause = None;
    let mut is_told = false;
    loop {
        let listeners = listeners(shared);
        if let Err(errno) = wait(changed, &listeners, &callers, pause) {
            return log::error!("health checks are not answered any more: poll: {errno}");
        }
        // Whatever it counted: the ports are looked at anew.
        let _ = changed.read();
        if pause.is_none_or(|until| until <= Instant::now()) {
            let outcome = take(&listeners, &mut callers);
            pause = outcome.is_err().then(|| Instant::now() + PAUSE);
            if let Err(error) = outcome {
                let level = if is_told { log::Level::Debug } else { log::Level::Warn };
                log::log!(level, "health checks are answered late: accept: {error}");
                is_told = true;
            }
        }
        callers.attend(|port| {
            let ports = shared.lock().unwrap_or_else(PoisonError::into_inner);
            ports.get(&port).map(|(_, check)| response(check))
        });
    }
}

fn listeners(shared: &Mutex<Ports>) -> Vec<(u16, Arc<TcpListener>)> {
    let ports = shared.lock().unwrap_or_else(PoisonError::into_inner);
    ports.iter().map(|(port, (listener, _))| (*port, Arc::clone(listener))).collect()
}

/// Until something is to be done. In a `pause` nobody is waited for who calls anew: he would be heard at once, again and again.
fn wait(
    changed: &EventFd,
    listeners: &[(u16, Arc<TcpListener>)],
    callers: &Callers,
    pause: Option<Instant>,
) -> nix::Result<()> {
    let mut fds = vec![PollFd::new(changed.as_fd(), PollFlags::POLLIN)];
    fds.extend(callers.fds());
    if pause.is_none() {
        fds.extend(listeners.iter().map(|(_, listener)| PollFd::new(listener.as_fd(), PollFlags::POLLIN)));
    }
    let until = callers.deadline().into_iter().chain(pause).min();
    // A millisecond more, which is what is cut off.
    let timeout =
        until.map(|until| until.saturating_duration_since(Instant::now()) + Duration::from_millis(1));
    let timeout =
        timeout.map_or(PollTimeout::NONE, |it| PollTimeout::try_from(it).unwrap_or(PollTimeout::MAX));
    match poll(&mut fds, timeout) {
        Ok(_) | Err(nix::Error::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

/// Takes whoever has called.
fn take(listeners: &[(u16, Arc<TcpListener>)], callers: &mut Callers) -> io::Result<()> {
    for (port, listener) in listeners {
        for _ in 0..AT_ONCE {
            match listener.accept() {
                Ok((stream, _)) => callers.add(stream, *port)?,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // He has gone meanwhile.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {}
                Err(error) => return Err(error),
            }
        }
    }
    Ok(())
}
