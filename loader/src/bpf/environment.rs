//! What the kernel and the machine have to offer before anything is loaded.

use std::{
    fs::{self, File},
    io,
    path::Path,
};

use nix::{
    fcntl::{Flock, FlockArg},
    mount::{MsFlags, mount},
    sys::statfs::{BPF_FS_MAGIC, statfs},
};

use super::BpfError;

/// The oldest kernel that the tests run on. What newer ones have besides is used where it is there.
const OLDEST: (u32, u32) = (6, 1);

/// Checks the kernel's version, and mounts the BPF file system at `bpffs` if nothing is mounted there.
pub fn check_environment(bpffs: &Path) -> Result<(), BpfError> {
    check_kernel(&read("/proc/sys/kernel/osrelease")?)?;
    if !Path::new("/sys/kernel/btf/vmlinux").exists() {
        // The programs use nothing of the kernel's own types, so nothing of theirs is relocated.
        log::info!("this kernel has no BTF (/sys/kernel/btf/vmlinux); Podlane does without");
    }
    ensure_bpffs(bpffs)?;
    warn_of_private_mounts(bpffs);
    Ok(())
}

fn check_kernel(release: &str) -> Result<(), BpfError> {
    let release = release.trim();
    match version(release) {
        Some(version) if version < OLDEST => Err(BpfError::OldKernel { release: release.to_owned() }),
        Some(_) => Ok(()),
        None => {
            log::warn!(
                "`{release}` is no kernel version that Podlane can read; going on as if it were recent"
            );
            Ok(())
        }
    }
}

/// Major and minor version of a release such as `6.12.9-cloud-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Mounts a BPF file system at `path` if nothing is mounted there.
pub(super) fn ensure_bpffs(path: &Path) -> Result<(), BpfError> {
    if is_bpffs(path)? {
        return Ok(());
    }
    // Two loaders that mount at the same time would hide one another's pins: whoever has the directory mounts.
    let directory = File::open(path).map_err(failed("open", path, ""))?;
    let locked = Flock::lock(directory, FlockArg::LockExclusive);
    let _locked = locked.map_err(|(_, errno)| failed("flock", path, "")(errno.into()))?;
    if is_bpffs(path)? {
        return Ok(());
    }
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let hint = "; as root, outside of any container: `mount -t bpf bpf /sys/fs/bpf`";
    mount(Some("bpf"), path, Some("bpf"), flags, Some("mode=0700"))
        .map_err(|errno| failed("mount a BPF file system at", path, hint)(errno.into()))?;
    log::info!("mounted a BPF file system at {}", path.display());
    Ok(())
}

fn is_bpffs(path: &Path) -> Result<bool, BpfError> {
    let hint =
        "; a BPF file system belongs there: `mount -t sysfs sysfs /sys`, or another place with --bpffs";
    let found = statfs(path).map_err(|errno| failed("statfs", path, hint)(errno.into()))?;
    Ok(found.filesystem_type() == BPF_FS_MAGIC)
}

fn failed(call: &'static str, path: &Path, hint: &'static str) -> impl Fn(io::Error) -> BpfError {
    move |source| BpfError::File { call, path: path.to_owned(), source, hint }
}

/// Pins live in a mounted file system: one that only this process and its children see is gone with them.
fn warn_of_private_mounts(bpffs: &Path) {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/mnt"));
    if let (Ok(own), Ok(init)) = (namespace("self"), namespace("1"))
        && own != init
    {
        log::warn!(
            "this mount namespace is not the machine's own: what is pinned at {} may be gone when this process is. \
             To run in another network namespace use `nsenter --net=<file>`, which `ip netns exec` is not; in a \
             container mount the machine's {0} with bidirectional propagation",
            bpffs.display()
        );
    }
}

fn read(path: &str) -> Result<String, BpfError> {
    fs::read_to_string(path).map_err(failed("read", Path::new(path), "; is /proc mounted?"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases() {
        assert_eq!(version("6.12.9-cloud-amd64"), Some((6, 12)));
        assert_eq!(version("6.6-rc1"), Some((6, 6)));
        assert_eq!(version("custom"), None);
    }

    #[test]
    fn an_old_kernel_is_refused_with_its_version() {
        let error = check_kernel("5.15.0-91-generic\n").unwrap_err().to_string();
        assert!(error.contains("Linux 5.15.0-91-generic;"), "{error}");
        assert!(error.contains("6.1 or newer"), "{error}");
        assert!(check_kernel("6.1.0-37-cloud-amd64").is_ok() && check_kernel("7.0").is_ok());
    }
}
