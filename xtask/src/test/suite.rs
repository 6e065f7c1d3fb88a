//! Which test binary belongs to which suite.

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A layer of tests, in the order in which they run: what needs least goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Suite {
    /// Units, properties and documentation of `common`, `loader` and `xtask`: no kernel, no root.
    Host,
    /// The programs run by the kernel on given packets: test targets `program*` of package `tests`.
    Program,
    /// Real devices and sockets in network namespaces: every other target of package `tests`, and `loader/tests`.
    E2e,
    /// Program runs and a few end-to-end tests on other kernels, in virtual machines (`cargo xtask vm-test --smoke`).
    Vm,
}

impl Suite {
    /// Every suite, in order.
    pub(crate) const ALL: [Self; 4] = [Self::Host, Self::Program, Self::E2e, Self::Vm];

    /// As on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Host => "host",
            Self::Program => "program",
            Self::E2e => "e2e",
            Self::Vm => "vm",
        }
    }

    /// Whether it loads BPF programs.
    pub(crate) fn loads_programs(self) -> bool {
        self != Self::Host
    }

    /// Whether it loads BPF programs and makes network namespaces on this machine itself.
    pub(crate) fn needs_root(self) -> bool {
        matches!(self, Self::Program | Self::E2e)
    }

    /// How many of its tests run at once, where that is not libtest's to say.
    ///
    /// A program run is nothing but work. An end-to-end test waits most of its time, in namespaces of its own: three at once take
    /// half of the time on two cores.
    pub(crate) fn threads(self) -> Option<usize> {
        match self {
            Self::Host | Self::Vm => None,
            Self::Program => Some(1),
            Self::E2e => Some(3),
        }
    }

    /// The packages whose test binaries it takes.
    pub(crate) fn packages(self) -> &'static [&'static str] {
        match self {
            Self::Host => &["common", "loader", "xtask"],
            Self::Program => &["tests"],
            Self::E2e | Self::Vm => &["loader", "tests"],
        }
    }

    fn of(package: &str, kind: &str, target: &str) -> Self {
        match (package, kind) {
            ("tests", "test") if target.starts_with("program") => Self::Program,
            ("tests", _) | ("loader", "test") => Self::E2e,
            _ => Self::Host,
        }
    }
}

/// A test binary that cargo has built.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Binary {
    /// Where it belongs.
    pub(crate) suite: Suite,
    /// `<package>::<target>`, for messages.
    pub(crate) name: String,
    /// The program.
    pub(crate) executable: PathBuf,
    /// Whether it is a target of its own, and not the units of a library or a program.
    pub(crate) is_test_target: bool,
    /// Its package's directory: where cargo would run it.
    pub(crate) directory: PathBuf,
}

/// The test binaries among cargo's messages (`--message-format json`), in a stable order.
pub(crate) fn binaries(messages: &str) -> Vec<Binary> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let mut binaries: Vec<Binary> =
        messages.filter(|message| message["profile"]["test"] == true).filter_map(|m| binary(&m)).collect();
    binaries.sort_by(|a, b| (a.suite, &a.name).cmp(&(b.suite, &b.name)));
    binaries
}

fn binary(message: &Value) -> Option<Binary> {
    let executable = PathBuf::from(message["executable"].as_str()?);
    let directory = Path::new(message["manifest_path"].as_str()?).parent()?.to_owned();
    let package = directory.file_name()?.to_str()?;
    let target = message["target"]["name"].as_str()?;
    let kind = message["target"]["kind"][0].as_str()?;
    let suite = Suite::of(package, kind, target);
    let name = if kind == "test" || package != target {
        format!("{package}::{target}")
    } else {
        format!("{package} ({kind})")
    };
    Some(Binary { suite, name, executable, is_test_target: kind == "test", directory })
}

/// The program of that name among cargo's messages.
pub(crate) fn program(messages: &str, name: &str) -> Option<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let is_it = |message: &Value| {
        message["target"]["name"] == name
            && message["target"]["kind"][0] == "bin"
            && message["profile"]["test"] == false
    };
    messages.filter(is_it).find_map(|message| message["executable"].as_str().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGES: &str = r#"{"reason":"compiler-artifact","manifest_path":"/w/tests/Cargo.toml","target":{"kind":["test"],"name":"e2e_overlay"},"profile":{"test":true},"executable":"/t/e2e"}
{"reason":"compiler-artifact","manifest_path":"/w/tests/Cargo.toml","target":{"kind":["test"],"name":"program_run"},"profile":{"test":true},"executable":"/t/program"}
{"reason":"compiler-artifact","manifest_path":"/w/common/Cargo.toml","target":{"kind":["lib"],"name":"common"},"profile":{"test":true},"executable":"/t/common"}
{"reason":"compiler-artifact","manifest_path":"/w/loader/Cargo.toml","target":{"kind":["bin"],"name":"loader"},"profile":{"test":false},"executable":"/t/loader"}
{"reason":"compiler-artifact","manifest_path":"/w/loader/Cargo.toml","target":{"kind":["test"],"name":"devices"},"profile":{"test":true},"executable":"/t/devices"}
{"reason":"compiler-artifact","manifest_path":"/r/anyhow/Cargo.toml","target":{"kind":["lib"],"name":"anyhow"},"profile":{"test":false},"executable":null}
{"reason":"compiler-artifact","manifest_path":"/w/tests/Cargo.toml","target":{"kind":["lib"],"name":"testbed"},"profile":{"test":true},"executable":"/t/testbed"}"#;

    #[test]
    fn test_binaries_are_sorted_into_suites() {
        let found = binaries(MESSAGES);
        let found: Vec<_> = found.iter().map(|b| (b.suite.name(), b.name.as_str())).collect();
        let expected = [
            ("host", "common (lib)"),
            ("program", "tests::program_run"),
            ("e2e", "loader::devices"),
            ("e2e", "tests::e2e_overlay"),
            ("e2e", "tests::testbed"),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_program_is_told_from_its_tests() {
        assert_eq!(program(MESSAGES, "loader"), Some(PathBuf::from("/t/loader")));
        assert_eq!(program(MESSAGES, "testbed"), None);
    }
}
