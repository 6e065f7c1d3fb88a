//! Finding a bpf-linker, and telling which LLVM is inside it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use crate::{command, project};

/// A bpf-linker of this machine.
#[derive(Debug, Clone)]
pub(crate) struct Linker {
    /// Where it is.
    pub(crate) path: PathBuf,
    /// `0.13.0`.
    pub(crate) version: String,
    /// The major version of its LLVM, where it can be told.
    pub(crate) llvm_major: Option<u32>,
}

impl Linker {
    /// Asks the linker at `path` what it is; one that does not start (its libLLVM was removed) is an error.
    pub(crate) fn inspect(path: &Path) -> Result<Self> {
        let printed = command::output(Command::new(path).arg("--version"))?;
        let version = printed.split_whitespace().nth(1).unwrap_or("of unknown version").to_owned();
        let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { path: path.to_owned(), version, llvm_major: llvm_major(&bytes) })
    }

    /// For messages: version, LLVM, path.
    pub(crate) fn shown(&self) -> String {
        let llvm = self.llvm_major.map_or_else(|| "an unknown LLVM".into(), |major| format!("LLVM {major}"));
        format!("{} with {llvm}, {}", self.version, project::shown(&self.path))
    }
}

/// Every bpf-linker of this machine: this checkout's own first, then those on `PATH`, then cargo's.
pub(crate) fn find_all() -> Vec<Linker> {
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let mut seen: Vec<PathBuf> = Vec::new();
    std::iter::once(project::tools().join("bin"))
        .chain(project::search_path())
        .chain(cargo_home.map(|home| home.join("bin")))
        .map(|directory| directory.join("bpf-linker"))
        .filter(|path| {
            let new = path.is_file() && !seen.contains(path);
            seen.push(path.clone());
            new
        })
        .filter_map(|path| Linker::inspect(&path).ok())
        .collect()
}

/// The LLVM in a bpf-linker's executable. The program does not say, but its file does: it either names the shared
/// library that it was linked with (`libLLVM.so.22.1`, `libLLVM-21.so`), or contains LLVM, which carries the producer
/// string that it writes into bitcode (`LLVM22.1.8`).
fn llvm_major(executable: &[u8]) -> Option<u32> {
    ["libLLVM.so.", "libLLVM-", "LLVM"]
        .into_iter()
        .find_map(|marker| occurrences(executable, marker.as_bytes()).find_map(leading_version))
}

/// What follows each occurrence of `marker`.
fn occurrences<'a>(haystack: &'a [u8], marker: &'a [u8]) -> impl Iterator<Item = &'a [u8]> {
    haystack
        .windows(marker.len())
        .enumerate()
        .filter(move |(_, window)| *window == marker)
        .filter_map(move |(at, _)| haystack.get(at + marker.len()..))
}

/// The number in `22.1.8` or `21.so`: two digits and a dot, so that no stray digit after the marker counts.
fn leading_version(text: &[u8]) -> Option<u32> {
    match text {
        [tens @ b'1'..=b'9', units @ b'0'..=b'9', b'.', ..] => {
            Some(u32::from(tens - b'0') * 10 + u32::from(units - b'0'))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shared_llvm_is_named_by_its_library() {
        assert_eq!(llvm_major(b"\0libgcc_s.so.1\0libLLVM.so.22.1\0libc.so.6\0"), Some(22));
        assert_eq!(llvm_major(b"\0libLLVM-21.so\0"), Some(21));
    }

    #[test]
    fn a_static_llvm_is_named_by_its_producer_string() {
        assert_eq!(llvm_major(b"LLVM 22 builds also support\0LLVM\0LLVM23.1.0-rust-1.98\0"), Some(23));
    }

    #[test]
    fn text_that_mentions_llvm_is_no_version() {
        assert_eq!(llvm_major(b"LLVM target triple. LLVM 22 builds also support this. LLVM3.9"), None);
        assert_eq!(llvm_major(b""), None);
    }
}
