//! The archive that a kernel unpacks as its first file system: cpio in its `newc` form.
//!
//! A header is the magic number and thirteen numbers of eight hexadecimal digits; name and content behind it are each
//! padded to four bytes (`Documentation/driver-api/early-userspace/buffer-format.rst` in the kernel's sources).

use std::io::{self, Write};

const MAGIC: &str = "070701";
const TRAILER: &str = "TRAILER!!!";

/// What an entry is, in the upper bits of its mode.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A directory.
    Directory,
    /// A file.
    File,
    /// A character device, by its numbers.
    Device { major: u32, minor: u32 },
}

impl Kind {
    fn bits(self) -> u32 {
        match self {
            Self::Directory => 0o040_000,
            Self::File => 0o100_000,
            Self::Device { .. } => 0o020_000,
        }
    }
}

/// A writer of one archive.
pub(crate) struct Archive<W> {
    out: W,
    entries: u32,
}

impl<W: Write> Archive<W> {
    /// Begins one.
    pub(crate) fn new(out: W) -> Self {
        Self { out, entries: 0 }
    }

    /// Adds an entry. `name` is its path without the leading slash; its directory has to be there already.
    pub(crate) fn add(&mut self, name: &str, kind: Kind, permissions: u32, content: &[u8]) -> io::Result<()> {
        self.entries += 1;
        self.write(name, kind.bits() | permissions, kind, content)
    }

    /// Ends it, and hands back what it was written to.
    pub(crate) fn finish(mut self) -> io::Result<W> {
        self.write(TRAILER, 0, Kind::File, &[])?;
        self.out.flush()?;
        Ok(self.out)
    }

    fn write(&mut self, name: &str, mode: u32, kind: Kind, content: &[u8]) -> io::Result<()> {
        let too_large = |_| io::Error::other(format!("{name} is too large for a cpio archive"));
        let size = u32::try_from(content.len()).map_err(too_large)?;
        let name_size = u32::try_from(name.len() + 1).map_err(too_large)?;
        let (major, minor) = match kind {
            Kind::Device { major, minor } => (major, minor),
            Kind::Directory | Kind::File => (0, 0),
        };
        let links = if kind == Kind::Directory { 2 } else { 1 };
        // Inode, mode, uid, gid, links, modified, size, the device it is on, the device it is, length of the name, no checksum.
        let numbers = [self.entries, mode, 0, 0, links, 0, size, 0, 0, major, minor, name_size, 0];
        let numbers = numbers.map(|number| format!("{number:08X}")).concat();
        let header = format!("{MAGIC}{numbers}{name}\0");
        self.out.write_all(header.as_bytes())?;
        self.pad(header.len())?;
        self.out.write_all(content)?;
        self.pad(content.len())
    }

    fn pad(&mut self, length: usize) -> io::Result<()> {
        self.out.write_all(&[0; 3][..length.next_multiple_of(4) - length])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut archive = Archive::new(Vec::new());
        archive.add("dev", Kind::Directory, 0o755, &[]).unwrap();
        archive.add("dev/console", Kind::Device { major: 5, minor: 1 }, 0o600, &[]).unwrap();
        archive.add("init", Kind::File, 0o755, b"seven b").unwrap();
        archive.finish().unwrap()
    }

    #[test]
    fn everything_is_aligned_to_four_bytes() {
        let archive = archive();
        assert_eq!(archive.len() % 4, 0);
        let starts: Vec<_> = archive.windows(6).enumerate().filter(|(_, w)| *w == MAGIC.as_bytes()).collect();
        assert_eq!(starts.len(), 4, "three entries and the trailer");
        assert!(starts.iter().all(|(at, _)| at % 4 == 0));
        let content = archive.windows(7).position(|window| window == b"seven b").unwrap();
        assert_eq!(content % 4, 0);
    }

    #[test]
    fn headers_say_what_an_entry_is() {
        let archive = String::from_utf8(archive()).unwrap();
        let at = archive.find("dev/console").unwrap() - 110;
        let field = |nth: usize| &archive[at + 6 + 8 * nth..at + 14 + 8 * nth];
        assert_eq!(field(1), "00002180", "a character device that only root may use");
        assert_eq!((field(9), field(10)), ("00000005", "00000001"));
        assert_eq!(field(11), "0000000C", "the name with its end");
        let at = archive.find("init\0").unwrap() - 110;
        assert_eq!(&archive[at + 6 + 8 * 6..at + 14 + 8 * 6], "00000007", "the length of the content");
    }
}
