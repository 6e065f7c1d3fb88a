//! Running other programs: what is run is said, and a failure names the command.

use std::{
    ffi::OsStr,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, bail};

use crate::project;

/// The command as a person would type it, without its environment.
pub(crate) fn shown(command: &Command) -> String {
    std::iter::once(command.get_program())
        .chain(command.get_args())
        .map(|word| word.to_string_lossy().into_owned())
        .collect::<Vec<_>>()
        .join(" ")
}

/// Runs the command with the terminal as its output.
pub(crate) fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !status.success() {
        bail!("`{}` failed: {status}", shown(command));
    }
    Ok(())
}

/// Says what is about to be run and runs it: for what takes long, or changes the machine.
pub(crate) fn announce_and_run(command: &mut Command) -> Result<()> {
    eprintln!("      run  {}", shown(command));
    run(command)
}

/// Runs the command and returns what it printed to stdout; stderr is part of the error where it fails.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let bytes = output_bytes(command)?;
    String::from_utf8(bytes).with_context(|| format!("`{}` printed no UTF-8", shown(command)))
}

/// As [`output`], for what prints no text.
pub(crate) fn output_bytes(command: &mut Command) -> Result<Vec<u8>> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("cannot start `{}`", shown(command)))?;
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        bail!("`{}` failed: {}\n{}", shown(command), output.status, stderr.trim_end());
    }
    Ok(output.stdout)
}

/// As [`output`], with the terminal as the command's stderr: for what reports its progress there.
pub(crate) fn output_with_stderr(command: &mut Command) -> Result<String> {
    output(command.stderr(Stdio::inherit()))
}

/// The cargo that runs this, for the host's own packages.
pub(crate) fn cargo() -> Command {
    let mut command = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(project::root());
    command
}

/// A command that runs as root: as it is where this process is root already, through sudo otherwise.
pub(crate) fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    if is_root() {
        return Ok(Command::new(program));
    }
    let Some(sudo) = project::find_program("sudo") else {
        let program = Path::new(program.as_ref());
        bail!("`{}` has to run as root: run this as root, or install sudo", program.display());
    };
    let mut command = Command::new(sudo);
    command.arg("-E").arg("--").arg(program);
    Ok(command)
}

/// Whether this process is root.
pub(crate) fn is_root() -> bool {
    nix::unistd::geteuid().is_root()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_names_the_command_and_what_it_said() {
        let error = output(Command::new("sh").args(["-c", "echo no such pod >&2; exit 3"])).unwrap_err();
        let text = format!("{error:#}");
        assert!(text.contains("`sh -c") && text.contains("exit status: 3") && text.ends_with("no such pod"));
        let error = run(&mut Command::new("/nonexistent/tool")).unwrap_err();
        assert!(format!("{error:#}").starts_with("cannot start `/nonexistent/tool`"));
    }

    #[test]
    fn output_is_what_was_printed() {
        assert_eq!(output(Command::new("echo").arg("hello")).unwrap(), "hello\n");
    }
}
