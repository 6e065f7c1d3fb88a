//! The kernel and what is mounted and switched on in it.

use std::{fs, io, path::Path};

use aya::util::KernelVersion;

use super::{Finding, State};

const AREA: &str = "kernel";

/// The oldest kernel that the loader runs on.
const MINIMUM: (u8, u8) = (6, 1);

pub(super) fn findings() -> Vec<Finding> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    vec![version(), btf(), jit(), bpffs(&mounts), cgroup(&mounts)]
}

fn version() -> Finding {
    let (major, minor) = MINIMUM;
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let recent = KernelVersion::current().is_ok_and(|version| version >= KernelVersion::new(major, minor, 0));
    Finding::new(AREA, "version", if recent { State::Present } else { State::Missing })
        .detail(release.trim_end())
        .cost(format!("the loader refuses to run: {major}.{minor} is the oldest kernel that it is tested on"))
}

fn btf() -> Finding {
    let path = "/sys/kernel/btf/vmlinux";
    let present = Path::new(path).is_file();
    Finding::new(AREA, "BTF", if present { State::Present } else { State::Absent })
        .detail(path)
        .cost("nothing: the programs use none of the kernel's own types")
}

fn jit() -> Finding {
    let path = "/proc/sys/net/core/bpf_jit_enable";
    let finding = |state| Finding::new(AREA, "BPF JIT", state).detail(path);
    match fs::read_to_string(path) {
        Ok(value) if value.trim() != "0" => finding(State::Present),
        Ok(_) => finding(State::Absent)
            .cost("every packet is interpreted, several times slower: `sysctl net.core.bpf_jit_enable=1`"),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            finding(State::Unknown).cost("only root may read it")
        }
        Err(_) => finding(State::Absent).cost("this kernel has no JIT: every packet is interpreted"),
    }
}

fn bpffs(mounts: &str) -> Finding {
    let mounted = mount_point(mounts, "bpf");
    let state = if mounted.is_some() { State::Present } else { State::Absent };
    Finding::new(AREA, "bpffs", state)
        .detail(mounted.unwrap_or("not mounted"))
        .cost("the loader mounts it, or you do: `mount -t bpf bpf /sys/fs/bpf`")
}

fn cgroup(mounts: &str) -> Finding {
    let mounted = mount_point(mounts, "cgroup2");
    let state = if mounted.is_some() { State::Present } else { State::Absent };
    Finding::new(AREA, "cgroup v2", state)
        .detail(mounted.unwrap_or("not mounted"))
        .cost("services cannot be resolved at the socket; nothing else")
}

/// Where a file system of that type is mounted first.
fn mount_point<'a>(mounts: &'a str, kind: &str) -> Option<&'a str> {
    mounts.lines().find_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let at = fields.next()?;
        (fields.next()? == kind).then_some(at)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "proc /proc proc rw 0 0\nbpf /sys/fs/bpf bpf rw,relatime 0 0\n\
                          cgroup /sys/fs/cgroup/cpu cgroup rw 0 0\ncgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";

    #[test]
    fn mount_points_are_found_by_type() {
        assert_eq!(mount_point(MOUNTS, "bpf"), Some("/sys/fs/bpf"));
        assert_eq!(mount_point(MOUNTS, "cgroup2"), Some("/sys/fs/cgroup/unified"));
        assert_eq!(mount_point(MOUNTS, "ext4"), None);
    }
}
