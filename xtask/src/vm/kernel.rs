//! Kernels to boot: Debian's, by version or by the name of a package, or a file of one's own.

use std::{
    cmp::Reverse,
    fs,
    path::{Path, PathBuf},
    process::Command,
    str::FromStr,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    command::{self, announce_and_run},
    packages, project,
};

/// The kernels that are tried where none is asked for: Debian 12's, and the newest that it has besides.
pub(crate) const DEFAULT: [&str; 2] = ["6.1", "6.12"];

/// Which kernel a person asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// The one that runs here, without a VM.
    Host,
    /// Debian's newest of that version.
    Version(String),
    /// The one in that package.
    Package(String),
    /// An image, and the directory of its modules where it is not the usual one.
    File(PathBuf, Option<PathBuf>),
}

impl FromStr for Wanted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let is_version = text.starts_with(|first: char| first.is_ascii_digit())
            && text.contains('.')
            && text.chars().all(|character| character.is_ascii_digit() || character == '.');
        if text == "host" {
            Ok(Self::Host)
        } else if text.starts_with("linux-image-") {
            Ok(Self::Package(text.to_owned()))
        } else if text.contains('/') {
            let (image, modules) = text.split_once(':').map_or((text, None), |(a, b)| (a, Some(b)));
            Ok(Self::File(image.into(), modules.map(PathBuf::from)))
        } else if is_version {
            Ok(Self::Version(text.to_owned()))
        } else {
            Err("neither a version (`6.12`), a package (`linux-image-...`), a file (`/boot/vmlinuz-...`) nor `host`"
                .to_owned())
        }
    }
}

/// A kernel that can be booted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kernel {
    /// As it was asked for, for the table.
    pub(crate) label: String,
    /// `uname -r`.
    pub(crate) release: String,
    /// The image.
    pub(crate) image: PathBuf,
    /// `lib/modules/<release>`.
    pub(crate) modules: PathBuf,
}

/// Finds what was asked for, fetching its package where it is not in the cache.
pub(crate) fn find(wanted: &Wanted) -> Result<Option<Kernel>> {
    match wanted {
        Wanted::Host => Ok(None),
        Wanted::Version(version) => {
            let package = package(version)?;
            from_package(version, &package).map(Some)
        }
        Wanted::Package(package) => from_package(package, package).map(Some),
        Wanted::File(image, modules) => from_file(image, modules.as_deref()).map(Some),
    }
}

fn from_file(image: &Path, modules: Option<&Path>) -> Result<Kernel> {
    ensure!(image.is_file(), "there is no kernel {}", image.display());
    let name = image.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let modules = match (modules, name.strip_prefix("vmlinuz-")) {
        (Some(modules), _) => modules.to_owned(),
        (None, Some(release)) => Path::new("/lib/modules").join(release),
        (None, None) => {
            bail!("where are the modules of {}? Give them as `<image>:<directory>`", image.display())
        }
    };
    ensure!(modules.is_dir(), "there are no modules in {}", modules.display());
    let release = modules.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let config = image.with_file_name(format!("config-{release}"));
    check_config(&config)?;
    Ok(Kernel { label: release.clone(), release, image: image.to_owned(), modules })
}

/// Where packages are unpacked, each under its name.
fn cache() -> PathBuf {
    project::target().join("vm/kernels")
}

/// Some kernel that was fetched before.
#[cfg(test)]
pub(crate) fn cached() -> Option<Kernel> {
    let name = fs::read_dir(cache()).ok()?.flatten().map(|entry| entry.file_name()).max()?;
    let name = name.to_str()?;
    from_package(name, name).ok()
}

/// The newest package of that version: of those that can be installed, else of those in the cache.
fn package(version: &str) -> Result<String> {
    if let Some(name) = newest(&names(version), version) {
        return Ok(name);
    }
    if packages::can_install() {
        packages::refresh().unwrap_or_else(|error| eprintln!("warning: {error:#}"));
        if let Some(name) = newest(&names(version), version) {
            return Ok(name);
        }
    }
    let cached = fs::read_dir(cache()).into_iter().flatten().flatten();
    let cached: Vec<_> = cached.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    newest(&cached.join("\n"), version).with_context(|| {
        format!("this machine's packages have no `linux-image-{version}...-amd64`, and no such kernel is in the cache")
    })
}

/// Names of packages, one in a line; none where there is no apt.
fn names(version: &str) -> String {
    let mut apt = Command::new("apt-cache");
    command::output(apt.args(["pkgnames", &format!("linux-image-{version}")])).unwrap_or_default()
}

/// Of names of packages, one in a line: the newest of that version. The kernel for clouds has what is needed and is a
/// third of the size of the one for every machine.
fn newest(names: &str, version: &str) -> Option<String> {
    let candidates = names.lines().filter_map(|name| {
        let rest = name.strip_prefix("linux-image-")?.strip_prefix(version)?;
        let cloud = rest.ends_with("-cloud-amd64");
        let release = rest.strip_suffix("-cloud-amd64").or_else(|| rest.strip_suffix("-amd64"))?;
        // 6.1 is not 6.12, and what is left of other flavours (`-rt`) is no version either.
        let is_version = release.starts_with(['.', '-', '+'])
            && !release.split(['.', '-', '+', '~']).any(|part| part == "rt" || part == "cloud");
        let number = |part: &str| part.parse::<u64>().ok();
        let numbers: Vec<u64> = release.split(['.', '-', '+', '~']).filter_map(number).collect();
        is_version.then_some((cloud, numbers, Reverse(name.len()), name))
    });
    candidates.max().map(|(.., name)| name.to_owned())
}

fn from_package(label: &str, package: &str) -> Result<Kernel> {
    let directory = cache().join(package);
    if !directory.is_dir() {
        fetch(package, &directory)?;
    }
    let image = only(&directory.join("boot"), "vmlinuz-")?;
    let release = image.file_name().unwrap_or_default().to_string_lossy().replacen("vmlinuz-", "", 1);
    let modules =
        ["lib/modules", "usr/lib/modules"].map(|place| directory.join(place).join(&release)).into_iter();
    let modules = modules.into_iter().find(|modules| modules.is_dir());
    let modules = modules.with_context(|| format!("package {package} has no modules of {release}"))?;
    check_config(&directory.join("boot").join(format!("config-{release}")))?;
    Ok(Kernel { label: label.to_owned(), release, image, modules })
}

/// Downloads a package and unpacks it, into place only when it is whole.
fn fetch(package: &str, directory: &Path) -> Result<()> {
    ensure!(
        project::find_program("apt-get").is_some() && project::find_program("dpkg-deb").is_some(),
        "Debian's kernels come through apt, which this machine has not: give a kernel as a file"
    );
    // A version's dots are no extension.
    let partial = cache().join(format!("{package}.partial"));
    let fetched = fetch_into(package, &partial, directory);
    if fetched.is_err() {
        // What is left of it would only take room.
        let _gone = fs::remove_dir_all(&partial);
    }
    fetched
}

fn fetch_into(package: &str, partial: &Path, directory: &Path) -> Result<()> {
    if partial.exists() {
        fs::remove_dir_all(partial).with_context(|| format!("remove {}", partial.display()))?;
    }
    fs::create_dir_all(partial).with_context(|| format!("create {}", partial.display()))?;
    let download = || {
        // The user that downloads for apt may not write here.
        let mut apt = Command::new("apt-get");
        apt.args(["download", "--quiet=2", "-oAPT::Sandbox::User=root"]).arg(package).current_dir(partial);
        announce_and_run(&mut apt)
    };
    if let Err(error) = download() {
        // The lists may be older than what the servers still have.
        ensure!(packages::can_install(), error);
        packages::refresh()?;
        download().with_context(|| format!("kernel package {package}"))?;
    }
    let archive = only(partial, "linux-image-")?;
    command::run(Command::new("dpkg-deb").arg("-x").arg(&archive).arg(partial))
        .with_context(|| format!("unpack {}", archive.display()))?;
    fs::remove_file(&archive).with_context(|| format!("remove {}", archive.display()))?;
    fs::rename(partial, directory).with_context(|| format!("rename to {}", directory.display()))
}

/// The one entry whose name begins so.
fn only(directory: &Path, prefix: &str) -> Result<PathBuf> {
    let entries = fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    let is_it = |path: &PathBuf| {
        path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(prefix))
    };
    let mut found = entries.flatten().map(|entry| entry.path()).filter(is_it);
    found.next().with_context(|| format!("nothing like {prefix}... in {}", directory.display()))
}

/// Refuses a kernel that says of itself that it was built without what everything else needs. One that says nothing is
/// asked once it runs.
fn check_config(config: &Path) -> Result<()> {
    let Ok(text) = fs::read_to_string(config) else { return Ok(()) };
    let lacks = lacks(&text);
    ensure!(lacks.is_empty(), "the kernel of {} is built without {}", config.display(), lacks.join(", "));
    Ok(())
}

fn lacks(config: &str) -> Vec<&'static str> {
    let needed =
        ["CONFIG_BPF_SYSCALL", "CONFIG_DEBUG_INFO_BTF", "CONFIG_DEVTMPFS", "CONFIG_SERIAL_8250_CONSOLE"];
    let has = |option: &str| config.lines().any(|line| line == format!("{option}=y"));
    needed.into_iter().filter(|option| !has(option)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: &str = "linux-image-6.1.0-9-cloud-amd64
linux-image-6.1.0-56-amd64
linux-image-6.1.0-56-rt-amd64
linux-image-6.1.0-56-cloud-amd64-dbg
linux-image-6.1.0-56-cloud-amd64-unsigned
linux-image-6.1.0-56-cloud-amd64
linux-image-6.1.0-47-cloud-amd64
linux-image-6.12-cloud-amd64
linux-image-6.12.9+deb12-cloud-amd64
linux-image-6.12.117+deb12-cloud-amd64
linux-image-6.12.120+deb12-rt-amd64
linux-image-6.5.0-0.deb12.4-amd64
linux-image-amd64";

    #[test]
    fn the_newest_kernel_of_a_version_is_taken() {
        assert_eq!(newest(NAMES, "6.1").as_deref(), Some("linux-image-6.1.0-56-cloud-amd64"));
        assert_eq!(newest(NAMES, "6.12").as_deref(), Some("linux-image-6.12.117+deb12-cloud-amd64"));
        assert_eq!(newest(NAMES, "6.1.0-47").as_deref(), None, "a version has dots only");
        assert_eq!(
            newest(NAMES, "6.5").as_deref(),
            Some("linux-image-6.5.0-0.deb12.4-amd64"),
            "no cloud kernel"
        );
        assert_eq!(newest(NAMES, "6.6"), None);
        assert_eq!(newest("", "6.1"), None);
    }

    #[test]
    fn a_kernel_is_asked_for_in_four_ways() {
        assert_eq!("host".parse(), Ok(Wanted::Host));
        assert_eq!("6.12".parse(), Ok(Wanted::Version("6.12".to_owned())));
        let package = "linux-image-6.12-amd64";
        assert_eq!(package.parse(), Ok(Wanted::Package(package.to_owned())));
        assert_eq!("/boot/vmlinuz-7.0".parse(), Ok(Wanted::File("/boot/vmlinuz-7.0".into(), None)));
        let parts = Wanted::File("./bzImage".into(), Some("/m/7.0".into()));
        assert_eq!("./bzImage:/m/7.0".parse(), Ok(parts));
        for wrong in ["six", "6", "", "../"] {
            let parsed: Result<Wanted, _> = wrong.parse();
            assert!(parsed.is_err() || wrong == "../", "{wrong}: {parsed:?}");
        }
    }

    #[test]
    fn a_kernel_without_btf_is_refused() {
        let config = "CONFIG_BPF_SYSCALL=y\n# CONFIG_DEBUG_INFO_BTF is not set\nCONFIG_DEVTMPFS=y\nCONFIG_SERIAL_8250_CONSOLE=y\n";
        assert_eq!(lacks(config), ["CONFIG_DEBUG_INFO_BTF"]);
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config-7.0");
        fs::write(&path, config).unwrap();
        let error = check_config(&path).unwrap_err().to_string();
        assert!(error.ends_with("is built without CONFIG_DEBUG_INFO_BTF"), "{error}");
        check_config(&directory.path().join("none")).unwrap();
    }

    #[test]
    fn files_that_are_not_there_are_named() {
        let error = from_file(Path::new("/nonexistent/vmlinuz-7.0"), None).unwrap_err().to_string();
        assert_eq!(error, "there is no kernel /nonexistent/vmlinuz-7.0");
        let directory = tempfile::tempdir().unwrap();
        let image = directory.path().join("vmlinuz-7.0-none");
        fs::write(&image, "").unwrap();
        let error = from_file(&image, None).unwrap_err().to_string();
        assert_eq!(error, "there are no modules in /lib/modules/7.0-none");
    }
}
