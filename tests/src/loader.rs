//! The real `loader` as a child process inside a node's namespace.

use std::{
    env,
    fs::{self, File},
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

use crate::{
    command,
    netns::Netns,
    registry::{Entry, Kind},
    wait,
};

/// The `loader` binary: `PODLANE_LOADER`, or the newest that cargo has built.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = env::var_os("PODLANE_LOADER") {
        return Ok(path.into());
    }
    let own = env::current_exe().context("find this program's own file")?;
    // target/<profile>/demo, or target/<profile>/deps/<test>.
    let mut candidates: Vec<PathBuf> = Vec::new();
    for target in own.ancestors().skip(2).take(2) {
        candidates.extend(["release", "debug"].map(|profile| target.join(profile).join("loader")));
    }
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    candidates
        .extend(["release", "debug"].map(|profile| workspace.join("target").join(profile).join("loader")));
    let newest = candidates
        .into_iter()
        .filter(|path| path.is_file())
        .max_by_key(|path| path.metadata().and_then(|data| data.modified()).ok());
    newest
        .context("no `loader` binary: build it with `cargo build --release -p loader`, or set PODLANE_LOADER")
}

/// What one run of a verb gave.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

/// Runs a verb of the loader in a namespace to its end.
pub fn verb(netns: &Netns, arguments: &[&str]) -> Result<Answer> {
    let mut command = netns.command(binary()?);
    command.args(arguments).stdin(Stdio::null());
    let output = command.output().with_context(|| format!("start `{}`", command::show(&command)))?;
    Ok(Answer {
        code: output.status.code().unwrap_or(-1),
        stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
        stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
    })
}

/// A running `loader run`; it ends with its value.
#[derive(Debug)]
pub struct Loader {
    child: Child,
    log: PathBuf,
    entry: Entry,
    kept: bool,
}

impl Loader {
    /// Starts `loader run` and waits until the node is served.
    pub fn start(netns: &Netns, node: &str, config: &Path) -> Result<Self> {
        let log = config.with_extension("log");
        let file = File::options().create(true).append(true).open(&log).context("open the loader's log")?;
        let mut command: Command = netns.command(binary()?);
        // A group of its own: Ctrl-C in a terminal ends the test, which then takes the loader down in order.
        command.args(["run", "--config"]).arg(config).process_group(0);
        command.stdin(Stdio::null()).stdout(file.try_clone()?).stderr(file);
        let child = command.spawn().with_context(|| format!("start `{}`", command::show(&command)))?;
        let entry = Entry::new(Kind::Process, &child.id().to_string())?;
        let mut loader = Self { child, log, entry, kept: false };
        let ready = wait::until(&format!("loader of {node} to be ready"), || loader.is_ready(node));
        ready.flatten().with_context(|| format!("the loader's log:\n{}", loader.log_tail()))?;
        Ok(loader)
    }

    /// Process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Everything that the loader has printed.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.child.id()).context("a process id beyond i32")?;
        kill(Pid::from_raw(pid), signal).with_context(|| format!("kill {pid} with {signal}"))
    }

    /// Asks it to read its configuration again, and waits until it has; an error if it refuses.
    pub fn reload(&self) -> Result<()> {
        // The file is written: whoever begins to read it from here on reads what it says now.
        let said = self.log().len();
        self.signal(Signal::SIGHUP)?;
        wait::until("the loader to have read its configuration again", || {
            let log = self.log();
            let since = log.get(said..).unwrap_or_default();
            // Not one for the file's sake: that may be the end of what the last change has set off, of the file as it was then.
            let Some((_, since)) = since.split_once("SIGHUP: reading ") else { return Ok(None) };
            let refused = since.lines().find(|line| line.contains("not reloaded"));
            ensure!(refused.is_none(), "{}", refused.unwrap_or_default());
            Ok(since.contains("reloaded\n").then_some(()))
        })
    }

    /// Sends a signal and waits for the process to end; returns its exit code.
    pub fn end(&mut self, signal: Signal) -> Result<Option<i32>> {
        if let Some(status) = self.child.try_wait().context("wait for the loader")? {
            return Ok(status.code());
        }
        self.signal(signal)?;
        let status = wait::until("the loader to end", || Ok(self.child.try_wait()?));
        if status.is_err() {
            let _gone = self.child.kill();
        }
        Ok(status?.code())
    }

    /// Whether the process is there.
    pub fn is_alive(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    /// Leaves the process running when this value goes.
    pub fn keep(&mut self) {
        self.kept = true;
        self.entry.keep();
    }

    /// Whether the node is served; nothing to wait for any more if the process has ended.
    fn is_ready(&mut self, node: &str) -> Result<Option<Result<()>>> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(Some(Err(anyhow!("the loader ended with {status}"))));
        }
        let state = state(node)?;
        ensure!(state["pid"] == self.child.id(), "state.json is another process's");
        Ok(Some(Ok(())))
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Loader {
    fn drop(&mut self) {
        if !self.kept {
            let _gone = self.end(Signal::SIGKILL);
        }
    }
}

/// What a node's loader says of itself in `/run/podlane/<node>/state.json`.
pub fn state(node: &str) -> Result<Value> {
    let path = format!("/run/podlane/{node}/state.json");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    serde_json::from_str(&text).with_context(|| format!("parse {path}"))
}
