//! The machine's package manager, where it is Debian's.

use std::process::Command;

use anyhow::Result;

use crate::{
    command::{self, announce_and_run},
    project,
};

/// Whether packages can be installed: apt is there, and this is root or sudo is there.
pub(crate) fn can_install() -> bool {
    project::find_program("apt-get").is_some()
        && (command::is_root() || project::find_program("sudo").is_some())
}

/// Fetches the lists of packages.
pub(crate) fn refresh() -> Result<()> {
    announce_and_run(command::as_root("apt-get")?.args(["update", "--quiet=2"]))
}

/// Installs packages without a question. The lists of packages may be missing or older than what the servers still
/// have, so a failure fetches them and tries again.
pub(crate) fn install(names: &[&str]) -> Result<()> {
    if try_install(names).is_ok() {
        return Ok(());
    }
    refresh()?;
    try_install(names)
}

fn try_install(names: &[&str]) -> Result<()> {
    let mut apt = command::as_root("env")?;
    apt.args([
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "install",
        "--yes",
        "--quiet=2",
        "-oDpkg::Use-Pty=0",
    ])
    .args(["--no-install-recommends"])
    .args(names);
    announce_and_run(&mut apt)
}

/// The version that would be installed.
pub(crate) fn candidate(name: &str) -> Option<String> {
    let policy = command::output(Command::new("apt-cache").env("LC_ALL", "C").args(["policy", name])).ok()?;
    candidate_in(&policy)
}

fn candidate_in(policy: &str) -> Option<String> {
    let version = policy.lines().find_map(|line| line.trim().strip_prefix("Candidate:"))?.trim();
    (version != "(none)").then(|| version.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_candidate_is_read() {
        let policy =
            "rustc-web:\n  Installed: (none)\n  Candidate: 1.96.0+dfsg1-1~deb12u2\n  Version table:\n";
        assert_eq!(candidate_in(policy).as_deref(), Some("1.96.0+dfsg1-1~deb12u2"));
        assert_eq!(candidate_in("llvm-99-dev:\n  Candidate: (none)\n"), None);
        assert_eq!(candidate_in(""), None);
    }
}
