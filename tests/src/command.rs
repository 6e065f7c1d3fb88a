//! Running the tools of the machine (`ip`, `bridge`, `tc`, `ethtool`) and saying all that went wrong when they fail.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};

/// Runs a command in this process's namespaces and returns what it printed.
pub fn run(arguments: &[&str]) -> Result<String> {
    let (program, rest) = arguments.split_first().context("an empty command")?;
    let mut command = Command::new(program);
    command.args(rest);
    output(&mut command)
}

/// Runs a prepared command and returns what it printed.
pub fn output(command: &mut Command) -> Result<String> {
    let shown = show(command);
    let output = command.stdin(Stdio::null()).output().with_context(|| format!("start `{shown}`"))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{shown}`: {}: {}{}", output.status, stderr.trim(), stdout.trim());
    }
    Ok(stdout)
}

/// The command as one would type it.
#[must_use]
pub fn show(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy().into_owned()).collect::<Vec<_>>().join(" ")
}

/// Whether a program is on the search path.
#[must_use]
pub fn exists(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/sbin".into(), "/sbin".into()])
        .any(|at| at.join(program).is_file())
}
