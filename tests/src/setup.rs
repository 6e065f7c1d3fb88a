//! What every suite does first: find out whether it can run here, and clean up after runs that were killed.

use std::{
    fmt,
    io::{self, Write as _},
    path::PathBuf,
    sync::OnceLock,
    thread,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use nix::sys::signal::{SigSet, Signal};

use crate::{command, config, loader, registry};

/// Marks an error that is no matter of the machine's: the test fails, and is not skipped.
#[derive(Debug)]
pub struct OutOfOrder;

impl fmt::Display for OutOfOrder {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the testbed is out of order")
    }
}

/// Cleans up once per process. Says why when this machine can't run the testbed.
pub fn ready() -> Result<()> {
    static CLEANED: OnceLock<Result<(), String>> = OnceLock::new();
    can_run()?;
    let clean = || registry::clean(false).map(drop).map_err(|error| format!("{error:#}"));
    CLEANED.get_or_init(clean).clone().map_err(|reason| anyhow!(reason).context(OutOfOrder))
}

/// As [`ready`], for what needs the loader too.
pub fn ready_with_loader() -> Result<()> {
    ready()?;
    loader::binary().map(drop).context(OutOfOrder)
}

/// For tests of what veths between nodes do and wires don't: there packets stay large, and ports are free for programs. Where
/// every node has XDP, they are made to be like wires (see [`wire`](crate::wire)).
pub fn wires_as_they_are() -> Result<()> {
    config::xdp_mode()
        .map_or(Ok(()), |mode| bail!("PODLANE_XDP={mode}: the nodes' cables are as XDP needs them"))
}

/// From here on, Ctrl-C and SIGTERM take down what this process has made, and end it. To be called before any other thread
/// is made.
pub fn clean_up_when_interrupted() -> Result<()> {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGINT);
    signals.add(Signal::SIGTERM);
    // Each thread inherits that these wait for the one that asks for them.
    signals.thread_block().context("block SIGINT and SIGTERM")?;
    thread::spawn(move || {
        if let Ok(signal) = signals.wait() {
            eprintln!("\n{signal}: taking everything down");
            if let Err(error) = registry::clean_own() {
                eprintln!("error: {error:#}");
            }
            std::process::exit(130);
        }
    });
    Ok(())
}

/// Where cgroups of version 2 are. Says so when the machine has none mounted.
pub fn cgroup() -> Result<PathBuf> {
    let mounts = std::fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    let mut fields = mounts.lines().map(|line| line.split(' ').collect::<Vec<_>>());
    let found =
        fields.find_map(|fields| (fields.get(2) == Some(&"cgroup2")).then(|| PathBuf::from(fields[1])));
    found.context("no cgroups of version 2 are mounted (`mount -t cgroup2 none /sys/fs/cgroup`)")
}

/// As [`ready_with_loader`], for what needs cgroups too.
pub fn ready_with_cgroup() -> Result<()> {
    ready_with_loader()?;
    cgroup().map(drop)
}

fn can_run() -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "the testbed needs root");
    let missing: Vec<&str> =
        ["ip", "bridge", "ethtool", "ping"].into_iter().filter(|tool| !command::exists(tool)).collect();
    ensure!(missing.is_empty(), "not on this machine: {}", missing.join(", "));
    Ok(())
}

/// Lines of the kernel's log that say a checksum was wrong where it must not be.
///
/// # Errors
///
/// The log can't be read: then nobody knows.
pub fn checksum_complaints() -> Result<Vec<String>> {
    let log = command::run(&["dmesg"]).context("read the kernel's log")?;
    Ok(log.lines().filter(|line| line.contains("hw csum failure")).map(str::to_owned).collect())
}

/// Says that a test is skipped: to libtest, which shows it to `cargo xtask test`, and past it, as it swallows what passing
/// tests print otherwise.
pub fn skipped(test: &str, reason: &anyhow::Error) {
    println!("SKIPPED: {test}: {reason:#}");
    let _unheard = writeln!(io::stderr(), "SKIPPED: {test}: {reason:#}");
}

/// Opens a test: returns from it with a line that says so when the machine can't run it, and with the error when it is
/// [out of order](crate::setup::OutOfOrder).
#[macro_export]
macro_rules! require {
    ($ready:expr) => {
        if let Err(reason) = $ready {
            if reason.is::<$crate::setup::OutOfOrder>() {
                return Err(reason);
            }
            let thread = std::thread::current();
            $crate::setup::skipped(thread.name().unwrap_or("a test"), &reason);
            return Ok(());
        }
    };
}
