//! The kernel modules that a guest is given, in an order in which they can be loaded.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _};

use crate::command;

/// Those without which the suites say nothing.
const NEEDED: [&str; 5] = ["veth", "dummy", "vxlan", "sch_ingress", "cls_bpf"];

/// Those that single tests use; the test says so where one is missing.
const WANTED: [&str; 23] = [
    "bridge",
    "br_netfilter",
    "ifb",
    "act_bpf",
    "cls_matchall",
    "cls_flower",
    "act_gact",
    "act_mirred",
    "sch_fq",
    "sch_netem",
    // Ending sockets by netlink.
    "inet_diag",
    "tcp_diag",
    "udp_diag",
    // The checksum of SCTP is a module that nothing depends on by its symbols.
    "crc32c_generic",
    "crc32c_intel",
    "sctp",
    "tun",
    "8021q",
    "bonding",
    "macvlan",
    "nf_conntrack",
    "nf_tables",
    "netkit",
];

/// A module, ready to be loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Module {
    /// Its name, with underscores.
    pub(crate) name: String,
    /// What the kernel takes, uncompressed.
    pub(crate) content: Vec<u8>,
}

/// Reads the modules of a release, each behind those that it depends on. `directory` is `lib/modules/<release>`.
pub(crate) fn read(directory: &Path) -> Result<Vec<Module>> {
    let available = available(directory)?;
    let built_in = built_in(directory);
    let there = |name: &str| available.contains_key(name) || built_in.contains(&name.to_owned());
    let missing = missing(&NEEDED, there);
    if !missing.is_empty() {
        bail!(
            "the kernel of {} lacks modules that the tests need: {}",
            directory.display(),
            missing.join(", ")
        );
    }
    let wanted = NEEDED.iter().chain(&WANTED).filter(|name| available.contains_key(**name));
    ordered(wanted.copied(), |name| {
        let Some(path) = available.get(name) else { return Ok(None) };
        let content = content(path)?;
        let depends = depends(&content).with_context(|| format!("read {}", path.display()))?;
        Ok(Some((content, depends)))
    })
}

fn missing<'a>(needed: &[&'a str], there: impl Fn(&str) -> bool) -> Vec<&'a str> {
    needed.iter().filter(|name| !there(name)).copied().collect()
}

/// Every module below the directory, by name.
fn available(directory: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let mut found = BTreeMap::new();
    let mut pending = vec![directory.join("kernel")];
    while let Some(directory) = pending.pop() {
        let entries =
            fs::read_dir(&directory).with_context(|| format!("no modules in {}", directory.display()))?;
        for entry in entries {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                pending.push(path);
            } else if let Some(name) = name(&path) {
                found.insert(name, path);
            }
        }
    }
    Ok(found)
}

/// Those that are part of the kernel itself.
fn built_in(directory: &Path) -> Vec<String> {
    let list = fs::read_to_string(directory.join("modules.builtin")).unwrap_or_default();
    list.lines().filter_map(|line| name(Path::new(line))).collect()
}

/// `net/sched/cls_bpf.ko.xz` is `cls_bpf`; a hyphen in a file's name is an underscore.
fn name(path: &Path) -> Option<String> {
    let (name, _) = path.file_name()?.to_str()?.split_once(".ko")?;
    Some(name.replace('-', "_"))
}

/// Puts modules behind those that they depend on. What `read` does not know is part of the kernel.
fn ordered<'a>(
    wanted: impl Iterator<Item = &'a str>,
    read: impl Fn(&str) -> Result<Option<(Vec<u8>, Vec<String>)>>,
) -> Result<Vec<Module>> {
    fn visit(
        name: &str,
        read: &impl Fn(&str) -> Result<Option<(Vec<u8>, Vec<String>)>>,
        seen: &mut Vec<String>,
        order: &mut Vec<Module>,
    ) -> Result<()> {
        if seen.iter().any(|seen| seen == name) {
            return Ok(());
        }
        seen.push(name.to_owned());
        let Some((content, depends)) = read(name)? else { return Ok(()) };
        for dependency in depends {
            visit(&dependency, read, seen, order)?;
        }
        order.push(Module { name: name.to_owned(), content });
        Ok(())
    }
    let mut order = Vec::new();
    let mut seen = Vec::new();
    for name in wanted {
        visit(name, &read, &mut seen, &mut order)?;
    }
    Ok(order)
}

/// The module itself; the guest has nothing to decompress it with.
fn content(path: &Path) -> Result<Vec<u8>> {
    let program = match path.extension().and_then(|extension| extension.to_str()) {
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => return fs::read(path).with_context(|| format!("read {}", path.display())),
    };
    command::output_bytes(Command::new(program).args(["-d", "-c"]).arg(path))
}

/// What it says that it depends on: `depends=a,b` in the section `.modinfo`, which has its texts one behind the other.
fn depends(module: &[u8]) -> Result<Vec<String>> {
    let file = object::File::parse(module).context("no ELF object")?;
    let information = file.section_by_name(".modinfo").context("no section .modinfo")?.uncompressed_data()?;
    Ok(depends_in(&information))
}

fn depends_in(information: &[u8]) -> Vec<String> {
    let mut texts = information.split(|byte| *byte == 0).map(String::from_utf8_lossy);
    let depends = texts.find_map(|text| text.strip_prefix("depends=").map(str::to_owned)).unwrap_or_default();
    depends.split(',').filter(|name| !name.is_empty()).map(|name| name.replace('-', "_")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modules_come_behind_what_they_depend_on() {
        let depends = |name: &str| {
            let depends: &[&str] = match name {
                "vxlan" => &["ip6_udp_tunnel", "udp_tunnel"],
                "ip6_udp_tunnel" => &["udp_tunnel"],
                "udp_tunnel" | "veth" => &[],
                // Part of the kernel.
                _ => return Ok(None),
            };
            Ok(Some((Vec::new(), depends.iter().map(ToString::to_string).collect())))
        };
        let order = ordered(["vxlan", "veth", "vxlan", "ipv6"].into_iter(), depends).unwrap();
        let names: Vec<_> = order.iter().map(|module| module.name.as_str()).collect();
        assert_eq!(names, ["udp_tunnel", "ip6_udp_tunnel", "vxlan", "veth"]);
    }

    #[test]
    fn modules_are_known_by_their_names() {
        for (path, expected) in [
            ("kernel/net/sched/cls_bpf.ko", Some("cls_bpf")),
            ("kernel/crypto/crc32c-intel.ko.xz", Some("crc32c_intel")),
            ("modules.order", None),
        ] {
            assert_eq!(name(Path::new(path)).as_deref(), expected);
        }
    }

    #[test]
    fn dependencies_are_read() {
        let information = b"license=GPL\0depends=udp_tunnel,ip6-udp-tunnel\0name=vxlan\0";
        assert_eq!(depends_in(information), ["udp_tunnel", "ip6_udp_tunnel"]);
        assert!(depends_in(b"depends=\0name=veth\0").is_empty());
        assert!(depends(b"not an object").is_err());
    }

    #[test]
    fn a_kernel_without_a_needed_module_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let network = directory.path().join("kernel/net");
        fs::create_dir_all(&network).unwrap();
        fs::write(network.join("vxlan.ko"), "").unwrap();
        fs::write(directory.path().join("modules.builtin"), "kernel/drivers/net/veth.ko\n").unwrap();
        let error = read(directory.path()).unwrap_err().to_string();
        assert!(error.ends_with("lacks modules that the tests need: dummy, sch_ingress, cls_bpf"), "{error}");
    }

    #[test]
    fn no_modules_at_all_is_said() {
        let error = read(Path::new("/nonexistent")).unwrap_err().to_string();
        assert_eq!(error, "no modules in /nonexistent/kernel");
    }
}
