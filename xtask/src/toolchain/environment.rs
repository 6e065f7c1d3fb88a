//! Keeping one toolchain's environment away from another's.

use std::{env, ffi::OsString, path::Path, process::Command};

use super::rustc::rustup_home;
use crate::project;

/// What cargo and rustup set for the programs that they start, and what steers a compilation.
const VARIABLES: [&str; 14] = [
    "CARGO",
    "CARGO_BUILD_RUSTFLAGS",
    "CARGO_BUILD_TARGET",
    "CARGO_ENCODED_RUSTFLAGS",
    "CARGO_TARGET_DIR",
    "RUSTC",
    "RUSTC_WORKSPACE_WRAPPER",
    "RUSTC_WRAPPER",
    "RUSTDOC",
    "RUSTFLAGS",
    "RUSTUP_TOOLCHAIN",
    "RUST_RECURSION_COUNT",
    "RUSTUP_TOOLCHAIN_SOURCE",
    "CARGO_MANIFEST_DIR",
];

/// Makes `command` independent of the cargo and the rustup that run this program: they name their own compiler in
/// variables, and put its libraries (among them its libLLVM) before everybody else's.
pub(super) fn clear(command: &mut Command) {
    for variable in VARIABLES {
        command.env_remove(variable);
    }
    let Some(libraries) = env::var_os("LD_LIBRARY_PATH") else { return };
    match without_toolchains(&libraries, rustup_home().as_deref()) {
        Some(rest) => command.env("LD_LIBRARY_PATH", rest),
        None => command.env_remove("LD_LIBRARY_PATH"),
    };
}

/// The library path less what belongs to rustup's toolchains and to cargo's target directories.
fn without_toolchains(libraries: &OsString, rustup: Option<&Path>) -> Option<OsString> {
    let foreign =
        |path: &Path| rustup.is_some_and(|home| path.starts_with(home)) || path.starts_with(project::root());
    let kept: Vec<_> =
        env::split_paths(libraries).filter(|path| !path.as_os_str().is_empty() && !foreign(path)).collect();
    if kept.is_empty() { None } else { env::join_paths(kept).ok() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_users_own_libraries_stay() {
        let target = project::target().join("debug/deps");
        let path = format!("{}:/opt/lib::/home/u/.rustup/toolchains/stable/lib", target.display());
        let rustup = Path::new("/home/u/.rustup");
        assert_eq!(without_toolchains(&path.into(), Some(rustup)), Some("/opt/lib".into()));
        assert_eq!(without_toolchains(&"/home/u/.rustup/toolchains/stable/lib".into(), Some(rustup)), None);
    }
}
