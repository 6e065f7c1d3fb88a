//! Where things are in the checkout, and what the workspace asks of a compiler.

use std::{
    env,
    path::{Path, PathBuf},
    sync::OnceLock,
};

/// The oldest rustc that the workspace builds with (`rust-version` in the root `Cargo.toml`), major and minor.
pub(crate) const RUST_VERSION: (u32, u32) = (1, 95);

/// The root of the checkout. `cargo run` says where that is now; the place where this was compiled is the second best,
/// as two checkouts may share a target directory.
pub(crate) fn root() -> &'static Path {
    static ROOT: OnceLock<PathBuf> = OnceLock::new();
    ROOT.get_or_init(|| {
        let xtask = env::var_os("CARGO_MANIFEST_DIR")
            .map(PathBuf::from)
            .filter(|directory| directory.ends_with("xtask"))
            .unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
        xtask.parent().unwrap_or(&xtask).to_owned()
    })
}

/// What xtask itself makes. `CARGO_TARGET_DIR` does not move it: the loader's build script looks here.
pub(crate) fn target() -> PathBuf {
    root().join("target")
}

/// Where cargo puts the host's own packages.
pub(crate) fn cargo_target() -> PathBuf {
    env::var_os("CARGO_TARGET_DIR").map_or_else(target, |directory| root().join(directory))
}

/// The finished BPF objects, `podlane.o` and `podlane-trace.o`.
pub(crate) fn ebpf_objects() -> PathBuf {
    target().join("ebpf")
}

/// Cargo's own directory for the BPF build, apart from the host's so that neither waits for the other's lock.
pub(crate) fn ebpf_build() -> PathBuf {
    target().join("ebpf-build")
}

/// The root of the tools that xtask installed for this checkout (`bin/` below it).
pub(crate) fn tools() -> PathBuf {
    target().join("tools")
}

/// Every directory of `PATH`, in order, once.
pub(crate) fn search_path() -> Vec<PathBuf> {
    let mut directories: Vec<PathBuf> = Vec::new();
    for directory in env::var_os("PATH").iter().flat_map(env::split_paths) {
        if !directories.contains(&directory) {
            directories.push(directory);
        }
    }
    directories
}

/// The first program of that name on `PATH`, or in the directories of the system administrator's tools, which an
/// ordinary user's `PATH` may lack.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let administration = ["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from);
    search_path()
        .into_iter()
        .chain(administration)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// `path` relative to the checkout where it is inside, for messages.
pub(crate) fn shown(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rust_version_is_that_of_the_workspace() {
        let manifest = std::fs::read_to_string(root().join("Cargo.toml")).unwrap();
        let (major, minor) = RUST_VERSION;
        assert!(manifest.contains(&format!("rust-version = \"{major}.{minor}\"")), "{manifest}");
    }

    #[test]
    fn paths_inside_the_checkout_are_shown_short() {
        assert_eq!(shown(&ebpf_objects().join("podlane.o")), "target/ebpf/podlane.o");
        assert_eq!(shown(Path::new("/usr/bin/rustc")), "/usr/bin/rustc");
    }
}
