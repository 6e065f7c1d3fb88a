//! Finding a rustc that can compile `core` for BPF.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{command, project};

/// The target that the BPF programs are compiled for.
pub(crate) const TARGET: &str = "bpfel-unknown-none";

/// Where `core` for BPF comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Core {
    /// It came compiled with the toolchain (Debian's `libstd-rust-web-dev-bpf`).
    Prebuilt,
    /// Cargo compiles it from the toolchain's `rust-src` (`-Z build-std=core`).
    FromSource,
}

/// What `rustc -vV` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Version {
    /// `1.96.0` or `1.97.0-nightly`.
    pub(crate) release: String,
    /// Major and minor.
    pub(crate) number: (u32, u32),
    /// The whole version of the LLVM inside, `22.1.8`.
    pub(crate) llvm: String,
    /// Its major version: the one that bpf-linker has to share.
    pub(crate) llvm_major: u32,
}

/// A compiler of this machine, whether it can compile for BPF yet or not.
#[derive(Debug, Clone)]
pub(crate) struct Rustc {
    /// The compiler itself, never rustup's proxy.
    pub(crate) path: PathBuf,
    /// What it says of itself.
    pub(crate) version: Version,
    /// Its BPF `core`, where it has one.
    pub(crate) core: Option<Core>,
    /// The name of its rustup toolchain, where it is one.
    pub(crate) rustup: Option<String>,
}

impl Version {
    /// Reads the output of `rustc -vV`.
    pub(crate) fn parse(verbose: &str) -> Option<Self> {
        let field = |name: &str| verbose.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        let release = field("release:")?.to_owned();
        let llvm = field("LLVM version:")?.to_owned();
        let mut numbers = release.split(['.', '-']).map(str::parse::<u32>);
        let number = (numbers.next()?.ok()?, numbers.next()?.ok()?);
        let llvm_major = llvm.split('.').next()?.parse().ok()?;
        Some(Self { release, number, llvm, llvm_major })
    }
}

impl Rustc {
    /// Asks the compiler at `path` what it is.
    fn inspect(path: &Path, rustup: Option<String>) -> Result<Self> {
        let text = command::output(Command::new(path).arg("-vV"))?;
        let version = Version::parse(&text)
            .with_context(|| format!("`{} -vV` printed no release or LLVM version", path.display()))?;
        let sysroot = command::output(Command::new(path).args(["--print", "sysroot"]))?;
        let rustlib = Path::new(sysroot.trim_end()).join("lib/rustlib");
        Ok(Self { path: path.to_owned(), version, core: core_in(&rustlib), rustup })
    }

    /// Whether the workspace builds with it at all.
    pub(crate) fn is_recent_enough(&self) -> bool {
        self.version.number >= project::RUST_VERSION
    }

    /// The cargo that came with it, or the one that runs this.
    pub(crate) fn cargo(&self) -> PathBuf {
        let sibling = self.path.with_file_name("cargo");
        if sibling.is_file() {
            return sibling;
        }
        std::env::var_os("CARGO").map_or_else(|| "cargo".into(), PathBuf::from)
    }
}

/// Which `core` for BPF a `lib/rustlib` directory holds.
fn core_in(rustlib: &Path) -> Option<Core> {
    let prebuilt = fs::read_dir(rustlib.join(TARGET).join("lib"));
    let is_core = |name: &str| name.starts_with("libcore-");
    if prebuilt.is_ok_and(|files| files.flatten().any(|file| file.file_name().to_str().is_some_and(is_core)))
    {
        return Some(Core::Prebuilt);
    }
    rustlib.join("src/rust/library/core/Cargo.toml").is_file().then_some(Core::FromSource)
}

/// Every compiler of this machine that is new enough, best first: a prebuilt `core` before one from source before
/// none; among equals the order of `PATH`, then rustup's default toolchain before its others.
pub(crate) fn find_all() -> Vec<Rustc> {
    let on_path = project::search_path().into_iter().chain([PathBuf::from("/usr/bin")]);
    let mut found: Vec<Rustc> = Vec::new();
    let mut seen: Vec<PathBuf> = Vec::new();
    let system = on_path.map(|directory| (directory.join("rustc"), None));
    let rustup = rustup_toolchains().into_iter().map(|(name, path)| (path.join("bin/rustc"), Some(name)));
    for (path, toolchain) in system.chain(rustup) {
        let Ok(real) = path.canonicalize() else { continue };
        // rustup's proxies are links to rustup itself; its toolchains are looked at one by one.
        if real.file_name().is_none_or(|name| name == "rustup") || seen.contains(&real) {
            continue;
        }
        seen.push(real);
        // A broken installation (a compiler that does not start) is none.
        found.extend(Rustc::inspect(&path, toolchain).ok().filter(Rustc::is_recent_enough));
    }
    found.sort_by_key(|rustc| rustc.core.map_or(2, |core| u8::from(core == Core::FromSource)));
    found
}

/// rustup's toolchains, name and directory, the active one first.
fn rustup_toolchains() -> Vec<(String, PathBuf)> {
    let Some(home) = rustup_home() else { return Vec::new() };
    let active = std::env::var("RUSTUP_TOOLCHAIN").ok();
    let mut toolchains: Vec<(String, PathBuf)> = fs::read_dir(home.join("toolchains"))
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .collect();
    toolchains.sort_by_key(|(name, _)| (Some(name) != active.as_ref(), name.clone()));
    toolchains
}

/// rustup's directory.
pub(crate) fn rustup_home() -> Option<PathBuf> {
    std::env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".rustup")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn release_and_llvm_are_read() {
        let version = Version::parse(
            "rustc 1.97.0-nightly (e50aa6fba 2026-05-19)\nbinary: rustc\nhost: x86_64-unknown-linux-gnu\n\
             release: 1.97.0-nightly\nLLVM version: 22.1.4\n",
        );
        assert_eq!(
            version,
            Some(Version {
                release: "1.97.0-nightly".into(),
                number: (1, 97),
                llvm: "22.1.4".into(),
                llvm_major: 22
            })
        );
    }

    #[test]
    fn what_names_no_llvm_is_no_version() {
        assert_eq!(Version::parse("release: 1.96.0\nhost: x86_64-unknown-linux-gnu\n"), None);
        assert_eq!(Version::parse("release: one.two\nLLVM version: 22.1\n"), None);
    }

    #[test]
    fn a_prebuilt_core_goes_before_its_source() {
        let rustlib = tempfile::tempdir().unwrap();
        assert_eq!(core_in(rustlib.path()), None);
        let source = rustlib.path().join("src/rust/library/core");
        fs::create_dir_all(&source).unwrap();
        fs::write(source.join("Cargo.toml"), "").unwrap();
        assert_eq!(core_in(rustlib.path()), Some(Core::FromSource));
        let prebuilt = rustlib.path().join(TARGET).join("lib");
        fs::create_dir_all(&prebuilt).unwrap();
        assert_eq!(core_in(rustlib.path()), Some(Core::FromSource), "an empty directory is no core");
        fs::write(prebuilt.join("libcore-0123.rlib"), "").unwrap();
        assert_eq!(core_in(rustlib.path()), Some(Core::Prebuilt));
    }
}
