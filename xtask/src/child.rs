//! Waiting for a child that may hang, or that a signal may cut short.

use std::{
    io::{self, Read as _},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use crate::{command, signals};

/// How often a waiting xtask looks whether it was told to stop.
const TICK: Duration = Duration::from_millis(100);
/// How long a child has to take down what it built, once it was told to stop.
const GRACE: Duration = Duration::from_secs(30);

/// How a child came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// By itself.
    Exited(ExitStatus),
    /// This process was told to stop, and told the child.
    Interrupted(Signal),
    /// It printed nothing for so long that it was ended.
    Hung,
}

/// Runs the command on this terminal.
pub(crate) fn attached(command: &mut Command) -> Result<End> {
    let mut child = spawn(command)?;
    loop {
        if let Some(status) = child.try_wait().context("wait for a child")? {
            return Ok(signals::pending().map_or(End::Exited(status), End::Interrupted));
        }
        if let Some(signal) = signals::pending() {
            end(&mut child, signal)?;
            return Ok(End::Interrupted(signal));
        }
        thread::sleep(TICK);
    }
}

/// Runs the command and hands each line of its stdout to `line`, also the last one where it does not end. A child that
/// prints nothing for `patience` is ended.
pub(crate) fn streamed(command: &mut Command, patience: Duration, mut line: impl FnMut(&str)) -> Result<End> {
    let mut child = spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    let mut stdout = child.stdout.take().context("a child without stdout")?;
    let (sender, receiver) = mpsc::channel::<Vec<u8>>();
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        loop {
            match stdout.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    if sender.send(buffer[..length].to_vec()).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    });

    let mut lines = Lines::default();
    let mut last_output = Instant::now();
    let finish = loop {
        match receiver.recv_timeout(TICK) {
            Ok(bytes) => {
                last_output = Instant::now();
                lines.add(&bytes, &mut line);
            }
            Err(RecvTimeoutError::Disconnected) => break None,
            // What the child started may hold its stdout open: the child's end is the end.
            Err(RecvTimeoutError::Timeout) => {
                if let Some(status) = child.try_wait().context("wait for a child")? {
                    break Some(End::Exited(status));
                }
            }
        }
        if let Some(signal) = signals::pending() {
            end(&mut child, signal)?;
            break Some(End::Interrupted(signal));
        }
        if last_output.elapsed() > patience {
            end(&mut child, Signal::SIGTERM)?;
            break Some(End::Hung);
        }
    };
    while let Ok(bytes) = receiver.try_recv() {
        lines.add(&bytes, &mut line);
    }
    lines.finish(&mut line);
    let end = match finish {
        Some(end) => end,
        None => End::Exited(child.wait().context("wait for a child")?),
    };
    // Ctrl-C reaches parent and child alike: the child's end may be seen before the signal.
    Ok(signals::pending().map_or(end, End::Interrupted))
}

fn spawn(command: &mut Command) -> Result<Child> {
    command.spawn().with_context(|| format!("cannot start `{}`", command::shown(command)))
}

/// Ends a child after a signal came: asks, then insists. Ctrl-C on a terminal has reached the child already, and asking
/// twice might keep it from cleaning up.
fn end(child: &mut Child, signal: Signal) -> Result<()> {
    let told = signal != Signal::SIGTERM;
    if told && has_ended(child, GRACE)? {
        return Ok(());
    }
    for (signal, grace) in [("TERM", GRACE), ("KILL", GRACE)] {
        send(child, signal);
        if has_ended(child, grace)? {
            return Ok(());
        }
    }
    bail!("process {} does not end", child.id())
}

/// Sends a signal, as root where the child runs as root. The child may have ended in between, so a failure says nothing.
fn send(child: &Child, signal: &str) {
    let pid = child.id().to_string();
    let kill = |mut kill: Command| kill.args(["-s", signal, &pid]).stderr(Stdio::null()).status();
    if !kill(Command::new("kill")).is_ok_and(|status| status.success())
        && let Ok(root) = command::as_root("kill")
    {
        drop(kill(root));
    }
}

/// Waits for the child's end for so long.
fn has_ended(child: &mut Child, patience: Duration) -> Result<bool> {
    let deadline = Instant::now() + patience;
    while child.try_wait().context("wait for a child")?.is_none() {
        if Instant::now() > deadline {
            return Ok(false);
        }
        thread::sleep(TICK);
    }
    Ok(true)
}

/// Cuts a stream of bytes into lines.
#[derive(Default)]
struct Lines {
    partial: Vec<u8>,
}

impl Lines {
    fn add(&mut self, bytes: &[u8], line: &mut impl FnMut(&str)) {
        for piece in bytes.split_inclusive(|byte| *byte == b'\n') {
            self.partial.extend_from_slice(piece);
            if piece.ends_with(b"\n") {
                self.finish(line);
            }
        }
    }

    fn finish(&mut self, line: &mut impl FnMut(&str)) {
        if !self.partial.is_empty() {
            line(String::from_utf8_lossy(&self.partial).trim_end_matches(['\n', '\r']));
            self.partial.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, patience: Duration) -> (End, Vec<String>) {
        let mut lines = Vec::new();
        let mut command = Command::new("sh");
        let end =
            streamed(command.args(["-c", script]), patience, |line| lines.push(line.to_owned())).unwrap();
        (end, lines)
    }

    #[test]
    fn lines_come_whole_however_they_are_cut() {
        let mut seen = Vec::new();
        let mut lines = Lines::default();
        for piece in ["on", "e\ntwo\n\nth", "ree"] {
            lines.add(piece.as_bytes(), &mut |line: &str| seen.push(line.to_owned()));
        }
        lines.finish(&mut |line: &str| seen.push(line.to_owned()));
        assert_eq!(seen, ["one", "two", "", "three"]);
    }

    #[test]
    fn the_exit_status_is_the_childs() {
        let (end, lines) = shell("echo one; printf two; exit 7", Duration::from_secs(30));
        assert!(matches!(end, End::Exited(status) if status.code() == Some(7)), "{end:?}");
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn a_silent_child_is_ended() {
        let (end, lines) = shell("printf 'test hangs ... '; exec sleep 600", Duration::from_millis(300));
        assert_eq!(end, End::Hung);
        assert_eq!(lines, ["test hangs ... "], "the line that names the culprit is not lost");
    }

    #[test]
    fn a_grandchild_with_our_pipe_does_not_hold_us() {
        let (end, _) = shell("sleep 5 & echo started", Duration::from_mins(1));
        assert!(matches!(end, End::Exited(status) if status.success()), "{end:?}");
    }
}
