//! The toolchain of the BPF programs: a rustc with a `core` for BPF, and a bpf-linker whose LLVM is rustc's.

mod environment;
mod install;
mod linker;
mod probe;
mod rustc;

use std::{
    ffi::OsString,
    fmt::Write as _,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Result, bail};

pub(crate) use self::{
    linker::Linker,
    rustc::{Core, Rustc, TARGET},
};

/// A compiler and a linker that go together.
pub(crate) struct Toolchain {
    rustc: Rustc,
    core: Core,
    linker: Linker,
}

/// What this machine has, paired as well as it can be.
pub(crate) struct Inventory {
    /// Every compiler that is new enough, best first.
    pub(crate) rustcs: Vec<Rustc>,
    /// Every bpf-linker, best first.
    pub(crate) linkers: Vec<Linker>,
}

impl Inventory {
    /// Looks at the machine.
    pub(crate) fn take() -> Self {
        Self { rustcs: rustc::find_all(), linkers: linker::find_all() }
    }

    /// The best compiler that can build for BPF.
    fn best_rustc(&self) -> Option<(&Rustc, Core)> {
        self.rustcs.iter().find_map(|rustc| Some((rustc, rustc.core?)))
    }

    /// The best compiler for which there is a linker. A linker that does not tell its LLVM is tried out.
    pub(crate) fn pair(&self) -> Option<Toolchain> {
        let usable = self.rustcs.iter().filter_map(|rustc| Some((rustc, rustc.core?)));
        usable.into_iter().find_map(|(rustc, core)| {
            let fits = |linker: &&Linker| match linker.llvm_major {
                Some(major) => major == rustc.version.llvm_major,
                None => probe::links(&Toolchain::new(rustc, core, linker)),
            };
            self.linkers.iter().find(fits).map(|linker| Toolchain::new(rustc, core, linker))
        })
    }

    /// Why there is no pair, and what to install: the text of the one error.
    pub(crate) fn explain(&self) -> String {
        let mut text = String::from("no toolchain for the BPF programs");
        if let Some((rustc, _)) = self.best_rustc() {
            let _ = write!(
                text,
                ": {} has LLVM {} and no bpf-linker here has the same",
                rustc.path.display(),
                rustc.version.llvm
            );
            for linker in &self.linkers {
                let _ = write!(text, "\n  found    bpf-linker {}", linker.shown());
            }
            let _ = write!(text, "\n  install  {}", install::linker_advice(rustc.version.llvm_major));
        } else {
            let _ = write!(text, ": no rustc here can compile `core` for {TARGET}");
            for rustc in &self.rustcs {
                let Rustc { path, version, .. } = rustc;
                let _ = write!(text, "\n  found    rustc {} without it, {}", version.release, path.display());
            }
            let _ = write!(text, "\n  install  {}", install::RUSTC_ADVICE);
        }
        text
    }
}

impl Toolchain {
    fn new(rustc: &Rustc, core: Core, linker: &Linker) -> Self {
        Self { rustc: rustc.clone(), core, linker: linker.clone() }
    }

    /// Finds a toolchain, and installs what is missing if `may_install`.
    pub(crate) fn find_or_install(may_install: bool) -> Result<Self> {
        let mut inventory = Inventory::take();
        if let Some(toolchain) = inventory.pair() {
            return Ok(toolchain);
        }
        if !may_install {
            bail!("{}", inventory.explain());
        }
        if inventory.best_rustc().is_none() {
            install::rustc(&inventory.rustcs).map_err(|error| error.context(inventory.explain()))?;
            inventory = Inventory::take();
        }
        if let Some(toolchain) = inventory.pair() {
            return Ok(toolchain);
        }
        let Some((rustc, _)) = inventory.best_rustc() else { bail!("{}", inventory.explain()) };
        install::linker(rustc.version.llvm_major).map_err(|error| error.context(inventory.explain()))?;
        inventory = Inventory::take();
        let Some(toolchain) = inventory.pair() else { bail!("{}", inventory.explain()) };
        Ok(toolchain)
    }

    /// Compiler and linker for a table: (what, which).
    pub(crate) fn facts(&self) -> [(&'static str, String); 3] {
        let Self { rustc, core, linker } = self;
        let core = match core {
            Core::Prebuilt => "came with the compiler",
            Core::FromSource => "built from rust-src",
        };
        let rustc =
            format!("{} with LLVM {}, {}", rustc.version.release, rustc.version.llvm, rustc.path.display());
        [("rustc", rustc), ("core", format!("{TARGET}, {core}")), ("bpf-linker", linker.shown())]
    }

    /// A cargo that builds for BPF with this toolchain and nothing of the one that runs this program. Its first
    /// argument is the subcommand `build`.
    pub(crate) fn cargo_build(&self, directory: &Path, target_directory: &Path) -> Command {
        let Self { rustc, core, linker } = self;
        let mut command = Command::new(rustc.cargo());
        environment::clear(&mut command);
        command
            .current_dir(directory)
            .env("RUSTC", &rustc.path)
            // aya-ebpf uses features that stable compilers keep for themselves unless told otherwise.
            .env("RUSTC_BOOTSTRAP", "1")
            .env("CARGO_ENCODED_RUSTFLAGS", encoded_flags(&linker.path, rustc.version.llvm_major))
            .args(["build", "--release", "--target", TARGET, "--target-dir"])
            .arg(target_directory);
        if *core == Core::FromSource {
            command.args(["-Z", "build-std=core"]);
        }
        command
    }
}

/// The flags of every BPF crate, in cargo's encoding. They are flags rather than profile settings because `core` and
/// the dependencies need them as much as the programs do: debug information on some crates only makes BTF whose
/// functions do not match, which the kernel refuses.
fn encoded_flags(linker: &Path, llvm_major: u32) -> OsString {
    let mut flags: Vec<OsString> = Vec::new();
    let mut linker_flag = OsString::from("-Clinker=");
    linker_flag.push(linker);
    flags.push(linker_flag);
    flags.extend(
        [
            "-Cdebuginfo=2",
            "-Clink-arg=--btf",
            // Small copies and zeroes are stores. By default bpf-linker has them in an order that some drivers' compilers look for, and then
            // LLVM makes each a call of a loop over bytes: 137 of them, a tenth of a service packet's time.
            "-Clink-arg=--disable-expand-memcpy-in-order",
            // Atomic instructions that return a value, 32-bit ALU and jumps; any kernel that has TCX runs them.
            "-Ctarget-cpu=v3",
        ]
        .map(OsString::from),
    );
    if llvm_major >= 22 {
        // Wire headers have alignment 1: without this each of their fields is read byte by byte.
        flags.push("-Clink-arg=--cpu-features=+allows-misaligned-mem-access".into());
    }
    flags.push(format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH).into());
    flags.join(std::ffi::OsStr::new("\x1f"))
}

/// Where a header of LLVM `major` would be found: the prefix that `llvm-sys` builds against.
pub(crate) fn llvm_prefix(major: u32) -> Option<PathBuf> {
    [format!("/usr/lib/llvm-{major}"), format!("/usr/lib64/llvm{major}"), "/usr/local".into(), "/usr".into()]
        .into_iter()
        .map(PathBuf::from)
        .find(|prefix| {
            let asked = Command::new(prefix.join("bin/llvm-config")).arg("--version").output();
            asked.is_ok_and(|output| {
                String::from_utf8_lossy(&output.stdout).starts_with(&format!("{major}."))
                    && prefix.join("include/llvm-c/Core.h").is_file()
            })
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_name_the_linker_and_the_host_architecture() {
        let flags = encoded_flags(Path::new("/opt/my tools/bpf-linker"), 22).into_string().unwrap();
        let flags: Vec<&str> = flags.split('\x1f').collect();
        assert_eq!(flags[0], "-Clinker=/opt/my tools/bpf-linker");
        assert!(flags.contains(&"-Clink-arg=--disable-expand-memcpy-in-order"));
        assert!(flags.contains(&"-Clink-arg=--cpu-features=+allows-misaligned-mem-access"));
        let arch = std::env::consts::ARCH;
        assert!(flags.contains(&format!("--cfg=bpf_target_arch=\"{arch}\"").as_str()));
    }

    #[test]
    fn older_llvm_is_not_asked_for_what_it_lacks() {
        let flags = encoded_flags(Path::new("bpf-linker"), 21).into_string().unwrap();
        assert!(!flags.contains("misaligned"), "{flags}");
    }
}
