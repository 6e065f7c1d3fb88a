//! Waiting for a child that may hang, or that a signal may cut short.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use nix::sys::{prctl, signal::Signal};

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
    /// The machine that it ran on has gone.
    Lost,
}

/// Where a line was printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stream {
    /// To standard output.
    Out,
    /// To standard error.
    Err,
}

/// Whoever makes something of what a child prints.
pub(crate) trait Follower {
    /// Takes a line, also the last one where it does not end.
    fn line(&mut self, stream: Stream, line: &str);

    /// For how long the child may print nothing to its standard output, as things are.
    fn patience(&self) -> Duration;

    /// Whether enough is known, so that the child may be ended.
    fn is_over(&self) -> bool {
        false
    }
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
pub(crate) fn streamed(command: &mut Command, patience: Duration, line: impl FnMut(&str)) -> Result<End> {
    struct Lines<F>(F, Duration);

    impl<F: FnMut(&str)> Follower for Lines<F> {
        fn line(&mut self, _: Stream, line: &str) {
            (self.0)(line);
        }

        fn patience(&self) -> Duration {
            self.1
        }
    }

    let mut child = spawn(command.stdin(Stdio::null()).stdout(Stdio::piped()))?;
    follow(&mut child, &mut Lines(line, patience), end)
}

/// Runs the command, out of reach of the terminal's signals, and lets both of its outputs be followed. It ends with this
/// process, however that ends.
pub(crate) fn followed(command: &mut Command, follower: &mut impl Follower) -> Result<End> {
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
    let mut child = spawn(dies_with_us(command))?;
    // It has not heard of any signal.
    follow(&mut child, follower, |child, _| end(child, Signal::SIGTERM))
}

/// Makes the kernel kill the command's process as soon as the thread that starts it ends. For what holds nothing that it
/// would have to clean up.
pub(crate) fn dies_with_us(command: &mut Command) -> &mut Command {
    // SAFETY: between fork and exec only `prctl` is called, which is async-signal-safe.
    unsafe { command.pre_exec(|| Ok(prctl::set_pdeathsig(Signal::SIGKILL)?)) }
}

/// Hands on what a child prints until it ends or is ended.
fn follow(
    child: &mut Child,
    follower: &mut impl Follower,
    end: impl Fn(&mut Child, Signal) -> Result<()>,
) -> Result<End> {
    let (sender, receiver) = mpsc::channel::<(Stream, Vec<u8>)>();
    if let Some(stdout) = child.stdout.take() {
        send_from(stdout, Stream::Out, sender.clone());
    }
    if let Some(stderr) = child.stderr.take() {
        send_from(stderr, Stream::Err, sender.clone());
    }
    drop(sender);

    let mut outputs = [Lines::default(), Lines::default()];
    let mut add = |(stream, bytes): (Stream, Vec<u8>), follower: &mut _| {
        let lines = &mut outputs[stream as usize];
        lines.add(&bytes, &mut |line: &str| Follower::line(follower, stream, line));
    };
    let mut last_output = Instant::now();
    let finish = loop {
        match receiver.recv_timeout(TICK) {
            Ok(output) => {
                if output.0 == Stream::Out {
                    last_output = Instant::now();
                }
                add(output, follower);
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
            end(child, signal)?;
            break Some(End::Interrupted(signal));
        }
        if follower.is_over() || last_output.elapsed() > follower.patience() {
            end(child, Signal::SIGTERM)?;
            break Some(End::Hung);
        }
    };
    while let Ok(output) = receiver.try_recv() {
        add(output, follower);
    }
    for (lines, stream) in outputs.iter_mut().zip([Stream::Out, Stream::Err]) {
        lines.finish(&mut |line: &str| follower.line(stream, line));
    }
    let end = match finish {
        Some(end) => end,
        None => End::Exited(child.wait().context("wait for a child")?),
    };
    // Ctrl-C reaches parent and child alike: the child's end may be seen before the signal.
    Ok(signals::pending().map_or(end, End::Interrupted))
}

/// Reads an output on a thread of its own, to its end.
fn send_from(mut output: impl io::Read + Send + 'static, stream: Stream, sender: Sender<(Stream, Vec<u8>)>) {
    thread::spawn(move || {
        let mut buffer = [0; 8192];
        loop {
            match output.read(&mut buffer) {
                Ok(0) => break,
                Ok(length) => {
                    if sender.send((stream, buffer[..length].to_vec())).is_err() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    });
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

    /// What is printed, and a patience that ends when enough is known.
    #[derive(Default)]
    struct Seen(Vec<(Stream, String)>);

    impl Follower for Seen {
        fn line(&mut self, stream: Stream, line: &str) {
            self.0.push((stream, line.to_owned()));
        }

        fn patience(&self) -> Duration {
            Duration::from_millis(500)
        }

        fn is_over(&self) -> bool {
            self.0.iter().any(|(_, line)| line == "enough")
        }
    }

    #[test]
    fn both_outputs_are_followed() {
        let mut seen = Seen::default();
        let end = followed(Command::new("sh").args(["-c", "echo out; echo err >&2; exit 3"]), &mut seen);
        assert!(matches!(end.unwrap(), End::Exited(status) if status.code() == Some(3)));
        seen.0.sort_by_key(|(stream, _)| *stream as usize);
        assert_eq!(seen.0, [(Stream::Out, "out".to_owned()), (Stream::Err, "err".to_owned())]);
    }

    #[test]
    fn a_child_is_ended_when_enough_is_known_or_only_errors_come() {
        for script in ["echo enough; exec sleep 600", "while :; do echo error >&2; sleep 0.1; done"] {
            let mut seen = Seen::default();
            let started = Instant::now();
            let end = followed(Command::new("sh").args(["-c", script]), &mut seen).unwrap();
            assert!(end == End::Hung && started.elapsed() < Duration::from_secs(20), "{end:?}");
        }
    }

    #[test]
    fn a_child_dies_with_whoever_started_it() {
        let mut command = Command::new("sleep");
        let child = thread::spawn(move || dies_with_us(command.arg("600")).spawn().unwrap()).join();
        let status = child.unwrap().wait().unwrap();
        assert_eq!(status.to_string(), "signal: 9 (SIGKILL)", "its thread has ended");
    }

    #[test]
    fn a_grandchild_with_our_pipe_does_not_hold_us() {
        let (end, _) = shell("sleep 5 & echo started", Duration::from_mins(1));
        assert!(matches!(end, End::Exited(status) if status.success()), "{end:?}");
    }
}
