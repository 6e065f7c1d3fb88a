//! The guest's first file system, which is its only one: every file at the path that it has on the host.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    io::{self, BufWriter, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result};

use super::{
    archive::{Archive, Kind},
    guest,
};
use crate::{command, project};

/// What is in it, by its path in the guest.
#[derive(Debug, Clone, Default)]
pub(crate) struct Image {
    entries: BTreeMap<PathBuf, Entry>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Entry {
    Directory,
    Device {
        major: u32,
        minor: u32,
    },
    /// A file of the host.
    Host {
        source: PathBuf,
        permissions: u32,
    },
    Bytes(Vec<u8>),
}

impl Image {
    /// With what every guest has: its first process, and what the kernel wants before that has mounted anything.
    pub(crate) fn new() -> Result<Self> {
        let own = std::env::current_exe().context("find this program's own file")?;
        let mut image = Self::starting(&own)?;
        let small = stripped(&own)?;
        image.file_at(Path::new(guest::INIT), &small)?;
        Ok(image)
    }

    /// The same with another program than this one as its first process.
    pub(crate) fn starting(program: &Path) -> Result<Self> {
        let mut image = Self::default();
        for directory in ["/proc", "/sys", "/dev", "/tmp", "/run", "/root", "/etc", "/var/run", "/var/tmp"] {
            image.directory(Path::new(directory));
        }
        image.entries.insert("/dev/console".into(), Entry::Device { major: 5, minor: 1 });
        image.program_at(Path::new(guest::INIT), program)?;
        Ok(image)
    }

    /// Adds a directory and those above it.
    fn directory(&mut self, path: &Path) {
        for path in path.ancestors().filter(|path| path.parent().is_some()) {
            self.entries.entry(path.to_owned()).or_insert(Entry::Directory);
        }
    }

    fn insert(&mut self, path: &Path, entry: Entry) {
        if let Some(parent) = path.parent() {
            self.directory(parent);
        }
        self.entries.insert(path.to_owned(), entry);
    }

    /// Adds a file with this content.
    pub(crate) fn bytes(&mut self, path: &Path, content: Vec<u8>) {
        self.insert(path, Entry::Bytes(content));
    }

    /// Adds a file of the host.
    pub(crate) fn file(&mut self, path: &Path) -> Result<()> {
        self.file_at(path, path)
    }

    fn file_at(&mut self, path: &Path, source: &Path) -> Result<()> {
        let data = fs::metadata(source).with_context(|| format!("find {}", source.display()))?;
        let permissions = data.permissions().mode() & 0o777;
        self.insert(path, Entry::Host { source: source.to_owned(), permissions });
        Ok(())
    }

    /// Adds a directory of the host with the files in it, without directories.
    pub(crate) fn files(&mut self, directory: &Path) -> Result<()> {
        let entries = fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
        self.directory(directory);
        let paths = entries.flatten().map(|entry| entry.path());
        paths.filter(|path| path.is_file()).try_for_each(|path| self.file(&path))
    }

    /// Adds a directory of the host with everything in it.
    pub(crate) fn tree(&mut self, directory: &Path) -> Result<()> {
        let entries = fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
        self.directory(directory);
        for entry in entries {
            let path = entry?.path();
            if path.is_dir() { self.tree(&path)? } else { self.file(&path)? }
        }
        Ok(())
    }

    /// Adds a program of the host and the libraries that it is linked with.
    pub(crate) fn program(&mut self, path: &Path) -> Result<()> {
        self.program_at(path, path)
    }

    fn program_at(&mut self, path: &Path, source: &Path) -> Result<()> {
        self.file_at(path, source)?;
        // What is linked with nothing makes ldd fail.
        let libraries = command::output(Command::new("ldd").arg(source)).unwrap_or_default();
        libraries_in(&libraries).try_for_each(|library| self.file(Path::new(library)))
    }

    /// As [`program`](Self::program), for one that was built here: without what only a debugger needs, which is nine
    /// tenths of it.
    pub(crate) fn built_program(&mut self, path: &Path) -> Result<()> {
        self.program(path)?;
        match stripped(path) {
            Ok(small) => self.file_at(path, &small),
            Err(error) => {
                eprintln!("warning: {} is taken as it is: {error:#}", project::shown(path));
                Ok(())
            }
        }
    }

    /// Writes it to a file, and says how long that is.
    pub(crate) fn write(&self, path: &Path) -> Result<u64> {
        let write = || -> Result<u64> {
            let mut archive = Archive::new(BufWriter::with_capacity(1 << 20, File::create(path)?));
            self.add_to(&mut archive)?;
            let file = archive.finish()?.into_inner().map_err(io::IntoInnerError::into_error)?;
            Ok(file.metadata()?.len())
        };
        write().with_context(|| format!("write {}", path.display()))
    }

    fn add_to(&self, archive: &mut Archive<impl Write>) -> Result<()> {
        for (path, entry) in &self.entries {
            let name = path.strip_prefix("/").unwrap_or(path).to_str().context("a path that is no UTF-8")?;
            match entry {
                Entry::Directory => archive.add(name, Kind::Directory, 0o755, &[])?,
                Entry::Device { major, minor } => {
                    archive.add(name, Kind::Device { major: *major, minor: *minor }, 0o600, &[])?;
                }
                Entry::Bytes(content) => archive.add(name, Kind::File, 0o644, content)?,
                Entry::Host { source, permissions } => {
                    let content = fs::read(source).with_context(|| format!("read {}", source.display()))?;
                    archive.add(name, Kind::File, *permissions, &content)?;
                }
            }
        }
        Ok(())
    }
}

/// The files that `ldd` names: `libc.so.6 => /lib/libc.so.6 (0x...)`, and `/lib64/ld-linux.so.2 (0x...)`.
fn libraries_in(printed: &str) -> impl Iterator<Item = &str> {
    printed.lines().filter_map(|line| {
        let line = line.split_once("=>").map_or(line, |(_, path)| path);
        line.split_whitespace().next().filter(|word| word.starts_with('/'))
    })
}

/// A copy of a program without symbols, made anew when the program is newer.
fn stripped(path: &Path) -> Result<PathBuf> {
    let directory = project::target().join("vm/stripped");
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let copy = directory.join(path.to_string_lossy().trim_start_matches('/').replace('/', "+"));
    let modified = |path: &Path| fs::metadata(path).and_then(|data| data.modified()).ok();
    if modified(&copy).is_none_or(|copied| Some(copied) < modified(path)) {
        command::output(Command::new("strip").arg("-o").arg(&copy).arg(path))?;
    }
    Ok(copy)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_found_in_what_ldd_prints() {
        let printed = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibm.so.6 => /lib/x86_64-linux-gnu/libm.so.6 (0x7f)\n\t\
                       /lib64/ld-linux-x86-64.so.2 (0x7f)\n";
        let expected = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib64/ld-linux-x86-64.so.2"];
        assert_eq!(libraries_in(printed).collect::<Vec<_>>(), expected);
        assert_eq!(libraries_in("\tstatically linked\n").count(), 0);
    }

    #[test]
    fn directories_come_before_what_is_in_them() {
        let mut image = Image::default();
        image.bytes(Path::new("/b/c/d"), vec![1]);
        image.directory(Path::new("/a/x"));
        let mut archive = Archive::new(Vec::new());
        image.add_to(&mut archive).unwrap();
        let archive = String::from_utf8(archive.finish().unwrap()).unwrap();
        let at = |name: &str| archive.find(name).unwrap();
        assert!(at("a\0") < at("a/x\0") && at("b\0") < at("b/c\0") && at("b/c\0") < at("b/c/d\0"));
    }

    #[test]
    fn a_disk_that_is_full_is_named() {
        let mut image = Image::default();
        image.bytes(Path::new("/large"), vec![0; 4 << 20]);
        let error = format!("{:#}", image.write(Path::new("/dev/full")).unwrap_err());
        assert_eq!(error, "write /dev/full: No space left on device (os error 28)");
    }

    #[test]
    fn a_program_brings_its_libraries() {
        let mut image = Image::default();
        image.program(Path::new("/bin/sh")).unwrap();
        let libc = image.entries.keys().any(|path| path.to_string_lossy().contains("libc.so"));
        assert!(libc, "{:?}", image.entries.keys());
    }
}
