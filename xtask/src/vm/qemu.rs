//! What is known of the installed qemu.

use std::process::Command;

use anyhow::Result;

use crate::command;

/// The program.
pub(crate) const PROGRAM: &str = "qemu-system-x86_64";
/// The first one whose emulated processors, each on a thread of its own, see at once that the kernel has changed its code.
/// In those before, one may run into a breakpoint that is gone by then ("Oops: int3"), which was seen within the first minute
/// of end-to-end tests: each capture that begins or ends makes the kernel change its code.
const CHANGES_CODE: (u32, u32) = (8, 1);

/// An installed qemu.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Qemu {
    /// Unknown where it does not say.
    version: Option<(u32, u32)>,
}

impl Qemu {
    /// Asks it.
    pub(crate) fn installed() -> Result<Self> {
        let printed = command::output(Command::new(PROGRAM).arg("--version"))?;
        Ok(Self { version: version(&printed) })
    }

    /// Whether emulated processors may each have a thread. Where that is not known they may not, which costs time only.
    pub(crate) fn emulates_in_parallel(self) -> bool {
        self.version.is_some_and(|version| version >= CHANGES_CODE)
    }

    /// The processor to emulate: everything that this qemu knows. But an old one carries out `rep stosb` and `rep movsb` byte
    /// by byte, and Linux clears and copies by them where a processor says that they are fast; otherwise by eight bytes: a
    /// loader starts in two thirds of the time. (A guest without them hangs at its start in 10.0.)
    pub(crate) fn processor(self) -> &'static str {
        match self.version {
            Some(version) if version < CHANGES_CODE => "max,-erms",
            _ => "max",
        }
    }
}

/// `QEMU emulator version 7.2.22 (Debian ...)`.
fn version(printed: &str) -> Option<(u32, u32)> {
    let mut numbers = printed.split_once("version ")?.1.split(['.', ' ', '(']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_ones_are_known() {
        assert_eq!(version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\n"), Some((7, 2)));
        assert_eq!(version("QEMU emulator version 10.0.2\nCopyright\n"), Some((10, 0)));
        assert_eq!(version("something else"), None);
        let [old, new, unknown] = [Some((7, 2)), Some((10, 0)), None].map(|version| Qemu { version });
        assert_eq!((old.emulates_in_parallel(), old.processor()), (false, "max,-erms"));
        assert_eq!((new.emulates_in_parallel(), new.processor()), (true, "max"));
        assert_eq!((unknown.emulates_in_parallel(), unknown.processor()), (false, "max"));
    }
}
