//! `cargo xtask vm-test`: the suites that need a kernel, on other kernels, each in a virtual machine.
//!
//! The guest has no disk and no network: its one file system is an archive with the test binaries, the programs that they
//! call and the libraries under both, each at the path that it has here. Its first process is this program again
//! ([`guest`]). It has two serial lines: one for the kernel's log, every line of which is judged ([`console`]), one for what
//! the tests print, which is read as it is on the host ([`machine`]). Several guests run at once ([`fleet`]).

mod acceleration;
mod archive;
mod console;
mod contents;
mod fleet;
pub(crate) mod guest;
mod host;
mod image;
mod kernel;
mod machine;
mod modules;
mod parallel;
mod plan;
mod protocol;
mod qemu;
mod report;
mod selection;
mod smoke;
#[cfg(test)]
mod tests;

use std::{env, num::NonZeroUsize, process::ExitCode, time::Duration};

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use self::{
    fleet::Size,
    kernel::{Kernel, Wanted},
    selection::Selection,
};
use crate::{
    build_ebpf::{self, Variant},
    signals,
    test::{self, Built, libtest::Counts, suite::Suite},
    tools,
};

/// A test binary that prints nothing for so long hangs.
const PATIENCE: Duration = Duration::from_mins(10);
/// The same where few tests are run, so that the whole of `cargo xtask test` ends in time even if all of them hang.
const SMOKE_PATIENCE: Duration = Duration::from_mins(5);
/// A guest's memory in MiB, where nothing else is asked for.
const MEMORY: u32 = 3072;
/// A guest's processors, where nothing else is asked for.
const CPUS: u32 = 2;
/// Run the program-run and end-to-end tests on other kernels, each in a virtual machine.
///
/// Kernels are Debian's, by version or package, fetched once; or files of your own. The machine is run by KVM where that
/// works, else emulated in software, ten to twenty times slower. The kernel's log is watched: a panic, a warning, a
/// lockup, an RCU stall or a checksum failure fails the run, whatever the tests say.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// A kernel: a version (`6.12`: Debian's newest of it), a package (`linux-image-...`), a file
    /// (`/boot/vmlinuz-6.12.1`, or `<image>:<directory of its modules>`), or `host` for the one that runs here. May be
    /// given more than once [default: 6.1, 6.12 and host].
    #[arg(long, value_name = "KERNEL")]
    kernel: Vec<Wanted>,
    /// Run only this suite (may be given more than once) [default: program and e2e].
    #[arg(long, value_enum)]
    only: Vec<Layer>,
    /// Run the tests on the kernel of this machine too, as `--kernel host` does.
    #[arg(long)]
    host: bool,
    /// Run what `cargo xtask test` runs in virtual machines: program runs, and a few end-to-end tests of every theme.
    #[arg(long)]
    smoke: bool,
    /// Boot the one kernel that is given and open a prompt inside, instead of running tests. Ctrl-A X ends it at once.
    #[arg(long)]
    shell: bool,
    /// Memory of a virtual machine, in MiB.
    #[arg(long, default_value_t = MEMORY, value_name = "MIB")]
    memory: u32,
    /// Processors of a virtual machine.
    #[arg(long, default_value_t = CPUS)]
    cpus: u32,
    /// How many virtual machines run at once, each with its part of the tests [default: as many as there are processors
    /// and memory for].
    #[arg(long, value_name = "COUNT")]
    guests: Option<NonZeroUsize>,
    /// How many minutes a test binary may print nothing before it counts as hung.
    #[arg(long, default_value_t = PATIENCE.as_secs() / 60, value_name = "MINUTES")]
    patience: u64,
    /// For every test binary: a part of the names of the tests to run, and any option of libtest.
    #[arg(last = true)]
    arguments: Vec<String>,
}

/// The suites that need a kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Layer {
    /// The programs run by the kernel on given packets.
    Program,
    /// Real devices and sockets in network namespaces.
    E2e,
}

impl Layer {
    fn suite(self) -> Suite {
        match self {
            Self::Program => Suite::Program,
            Self::E2e => Suite::E2e,
        }
    }
}

/// Runs the verb.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut wanted: Vec<Wanted> = Vec::new();
    for kernel in &options.kernel {
        if !wanted.contains(kernel) {
            wanted.push(kernel.clone());
        }
    }
    if wanted.is_empty() && !options.host {
        wanted = kernel::DEFAULT.iter().map(|version| Wanted::Version((*version).to_owned())).collect();
        if !options.shell && !options.smoke {
            wanted.push(Wanted::Host);
        }
    }
    if options.host && !wanted.contains(&Wanted::Host) {
        wanted.push(Wanted::Host);
    }
    let mut suites: Vec<Suite> = options.only.iter().map(|layer| layer.suite()).collect();
    if suites.is_empty() {
        suites = vec![Suite::Program, Suite::E2e];
    }
    suites.sort_unstable();
    suites.dedup();
    let selection = Selection { suites, smoke: options.smoke, arguments: options.arguments.clone() };
    let Options { memory, cpus, guests: at_once, patience, .. } = *options;
    let at_once = at_once.map(NonZeroUsize::get);
    let size = Size { memory, cpus, at_once, patience: Duration::from_mins(patience) };

    tools::install_missing();
    let kernels = prepare(&wanted)?;
    build_ebpf::build(&[Variant::Normal, Variant::Trace], true)?;
    // All of them, whatever is run: another set of packages would be another build.
    let built = test::build(&[Suite::Program, Suite::E2e])?;
    signals::catch()?;
    if options.shell {
        return fleet::shell(&kernels, &built, &selection, size);
    }

    let (mut columns, interrupted) = fleet::run(&kernels, &built, &selection, size)?;
    if interrupted.is_none() && wanted.contains(&Wanted::Host) {
        columns.push(host::run(&built, &selection)?);
    }
    let interrupted = signals::pending().or(interrupted);
    Ok(report::report(&selection.suites, &columns, interrupted))
}

/// What the part of `cargo xtask test` is run on that is run in virtual machines.
pub(crate) struct Prepared(Result<Vec<Kernel>>);

/// Installs and fetches what that part needs, before anything else is run.
pub(crate) fn prepare_suite() -> Prepared {
    let wanted = kernel::DEFAULT.map(|version| Wanted::Version(version.to_owned()));
    Prepared(prepare(&wanted))
}

/// Runs it. A machine that can't run any skips it, and says why.
pub(crate) fn suite(
    prepared: Prepared,
    built: &Built,
    arguments: &[String],
) -> Result<(Counts, Option<Signal>)> {
    let kernels = match prepared.0 {
        Ok(kernels) => kernels,
        Err(error) => {
            let skipped = vec![("other kernels in a VM".to_owned(), format!("{error:#}"))];
            return Ok((Counts { skipped, ..Counts::default() }, None));
        }
    };
    let suites = vec![Suite::Program, Suite::E2e];
    let selection = Selection { suites, smoke: arguments.is_empty(), arguments: arguments.to_vec() };
    let size = Size { memory: MEMORY, cpus: CPUS, at_once: None, patience: SMOKE_PATIENCE };
    let (columns, interrupted) = fleet::run(&kernels, built, &selection, size)?;
    let mut counts = Counts::default();
    for column in &columns {
        let named = |name: &String| format!("{}: {name}", column.label);
        let (passed, failed, skipped) = column.totals();
        let failed = failed.iter().map(named).collect();
        let skipped = skipped.iter().map(|(name, reason)| (named(name), reason.clone())).collect();
        counts.add(Counts { passed, failed, skipped });
    }
    Ok((counts, interrupted))
}

/// Installs what is missing, and finds the kernels that are to be booted.
fn prepare(wanted: &[Wanted]) -> Result<Vec<Kernel>> {
    if wanted.iter().all(|wanted| *wanted == Wanted::Host) {
        return Ok(Vec::new());
    }
    ensure!(env::consts::ARCH == "x86_64", "virtual machines are made on x86_64 only");
    tools::install_missing_for_vms()?;
    wanted.iter().filter_map(|wanted| kernel::find(wanted).transpose()).collect()
}
