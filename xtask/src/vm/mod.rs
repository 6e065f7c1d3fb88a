//! `cargo xtask vm-test`: the suites that need a kernel, on other kernels, each in a virtual machine.
//!
//! The guest has no disk and no network: its one file system is an archive with the test binaries, the programs that they
//! call and the libraries under both, each at the path that it has here. Its first process is this program again
//! ([`guest`]). There may be several at once ([`fleet`]). It has two serial lines: one for the kernel's log, every line of which is judged ([`console`]), one for what
//! the tests print, which is read as it is on the host ([`machine`]).

mod acceleration;
mod archive;
mod console;
mod fleet;
pub(crate) mod guest;
mod image;
mod kernel;
mod machine;
mod modules;
mod plan;
mod protocol;
mod qemu;
mod report;
mod shares;
mod smoke;
#[cfg(test)]
mod tests;

use std::{
    env,
    num::NonZeroUsize,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::Signal;

use self::{
    acceleration::Acceleration,
    image::Image,
    kernel::{Kernel, Wanted},
    machine::{Account, Machine},
    plan::{Plan, Run},
    qemu::Qemu,
    report::Column,
};
use crate::{
    build_ebpf::{self, Variant},
    child::End,
    command, packages, project, signals,
    test::{
        self, Built,
        libtest::Counts,
        suite::{Binary, Suite},
    },
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
/// What a guest needs besides its file system, in MiB.
const WORKING_MEMORY: u64 = 512;

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

/// Which tests.
#[derive(Debug, Clone)]
struct Selection {
    suites: Vec<Suite>,
    /// Of the end-to-end tests only [`smoke`]'s.
    smoke: bool,
    arguments: Vec<String>,
}

/// How guests are made.
#[derive(Debug, Clone, Copy)]
struct Size {
    memory: u32,
    cpus: u32,
    /// How many there are at once.
    at_once: Option<usize>,
    patience: Duration,
}

/// Runs the verb.
pub(crate) fn run(options: &Options) -> Result<ExitCode> {
    let mut wanted = options.kernel.clone();
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
        return shell(&kernels, &built, &selection, size);
    }

    let (mut columns, interrupted) = fleet::run(&kernels, &built, &selection, size)?;
    if interrupted.is_none() && wanted.contains(&Wanted::Host) {
        columns.push(on_host(&built, &selection)?);
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

fn make_machine(kernel: &Kernel, Size { memory, cpus, .. }: Size) -> Result<Machine> {
    let acceleration = Acceleration::find(&kernel.image)?;
    match &acceleration {
        Acceleration::Kvm => println!("virtual machines are run by KVM"),
        Acceleration::Emulation(why) => println!("virtual machines are emulated in software: {why}"),
    }
    Ok(Machine { acceleration, memory, cpus, qemu: Qemu::installed()? })
}

/// A prompt on one kernel.
fn shell(kernels: &[Kernel], built: &Built, selection: &Selection, size: Size) -> Result<ExitCode> {
    let [kernel, ..] = kernels else { bail!("`--shell` needs a kernel other than the host's") };
    if project::find_program("busybox").is_none() {
        packages::install(&["busybox-static"]).context("the prompt is busybox's")?;
    }
    let machine = make_machine(kernel, size)?;
    let mut image = common(built, selection)?;
    image.program(&project::find_program("busybox").context("no busybox for the prompt")?)?;
    let plan = Plan { shell: true, ..plan(built, &machine, Vec::new(), size)? };
    let archive = archive(kernel, 1, &image, plan, &machine)?;
    Ok(match machine.shell(&kernel.image, &archive)? {
        End::Exited(status) if status.success() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// What every kernel's guest has.
fn common(built: &Built, selection: &Selection) -> Result<Image> {
    let mut image = Image::new()?;
    for (binary, _) in binaries(built, selection) {
        image.built_program(&binary.executable)?;
        // Where it runs, with what lies there to be read.
        image.files(&binary.directory)?;
    }
    for program in [&built.loader, &built.testbed].into_iter().flatten() {
        image.built_program(program)?;
    }
    for program in tools::TOOLS.iter().map(|tool| tool.program).chain(["cat", "dmesg", "nsenter", "unshare"])
    {
        // The tests say what they miss.
        if let Some(path) = project::find_program(program) {
            image.program(&path)?;
        }
    }
    for variant in [Variant::Normal, Variant::Trace] {
        image.file(&variant.path())?;
    }
    image.tree(&project::root().join("examples"))?;
    Ok(image)
}

/// Test binaries that say nothing about a kernel: what they read is the checkout.
const NOT_OF_A_KERNEL: [&str; 1] = ["tests::acceptance"];

/// The test binaries to run, each with the names of its tests where not all are to be run.
fn binaries<'a>(built: &'a Built, selection: &Selection) -> Vec<(&'a Binary, Vec<String>)> {
    let of_kernel = |binary: &&Binary| {
        selection.suites.contains(&binary.suite)
            // Units of the testbed itself are not named `<package>::<target>`.
            && binary.name.contains("::")
            && binary.is_test_target
            && !NOT_OF_A_KERNEL.contains(&binary.name.as_str())
    };
    let chosen = |binary: &'a Binary| {
        let names = smoke::tests(&binary.name);
        match (selection.smoke && binary.suite == Suite::E2e, names.is_empty()) {
            (true, true) => None,
            (true, false) => Some((binary, names)),
            (false, _) => Some((binary, Vec::new())),
        }
    };
    built.binaries.iter().filter(of_kernel).filter_map(chosen).collect()
}

fn run_of(binary: &Binary, names: &[String], selection: &Selection) -> Run {
    let mut arguments = vec!["--show-output".to_owned(), "--color=never".to_owned()];
    if let Some(threads) = binary.suite.threads() {
        arguments.push(format!("--test-threads={threads}"));
    }
    if !names.is_empty() {
        arguments.push("--exact".to_owned());
        arguments.extend(names.iter().cloned());
    }
    arguments.extend(selection.arguments.iter().cloned());
    Run { program: binary.executable.clone(), directory: binary.directory.clone(), arguments }
}

fn plan(built: &Built, machine: &Machine, runs: Vec<Run>, size: Size) -> Result<Plan> {
    let path = |path: &Option<PathBuf>| -> Result<PathBuf> {
        path.clone().context("cargo has not said where the loader and the testbed are")
    };
    let loader = path(&built.loader)?.to_string_lossy().into_owned();
    let environment = [
        ("PODLANE_LOADER", loader),
        ("PODLANE_PATIENCE", machine.acceleration.slowness().to_string()),
        ("RUST_LIB_BACKTRACE", "0".to_owned()),
    ];
    Ok(Plan {
        modules: Vec::new(),
        environment: environment.map(|(name, value)| (name.to_owned(), value)).to_vec(),
        patience: size.patience,
        testbed: path(&built.testbed)?,
        runs,
        shell: false,
    })
}

/// Writes the file system of the kernel's guest of that number.
fn archive(
    kernel: &Kernel,
    number: usize,
    common: &Image,
    mut plan: Plan,
    machine: &Machine,
) -> Result<PathBuf> {
    let mut image = common.clone();
    for module in modules::read(&kernel.modules)? {
        image.bytes(&Path::new(plan::MODULES).join(&module.name), module.content);
        plan.modules.push(module.name);
    }
    image.bytes(Path::new(plan::PATH), plan.write().into_bytes());
    let path = project::target().join("vm").join(format!("{}.{number}.cpio", kernel.release));
    let length = image.write(&path)?;
    check_memory(length, machine.memory)?;
    Ok(path)
}

/// The kernel has the archive in memory while it unpacks it there.
fn check_memory(archive: u64, memory: u32) -> Result<()> {
    let needed = 2 * (archive >> 20) + WORKING_MEMORY;
    ensure!(
        u64::from(memory) >= needed,
        "{memory} MiB of memory are too little for the guest's files: give it `--memory {needed}`"
    );
    Ok(())
}

/// The same suites on the kernel of this machine.
fn on_host(built: &Built, selection: &Selection) -> Result<Column> {
    let before = kernel_log();
    let (suites, interrupted) = test::on_host(&selection.suites, built, &selection.arguments)?;
    // The log is a ring: what has been pushed out of it is not in either.
    let last = before.lines().last().unwrap_or_default().to_owned();
    let after = kernel_log();
    let new = after.rsplit_once(&last).map_or(after.as_str(), |(_, new)| new);
    let wrong = if last.is_empty() { "" } else { new }.lines().filter_map(console::judge);
    let wrong = wrong.map(|finding| format!("{}: {}", finding.meaning, finding.line)).collect();
    let release = command::output(Command::new("uname").arg("-r"))?.trim_end().to_owned();
    let account = Account { suites, wrong, interrupted, boot: None };
    Ok(Column { label: "host".to_owned(), release, how: "as it is".to_owned(), account })
}

/// What this machine's kernel has said; nothing where that may not be read.
fn kernel_log() -> String {
    command::as_root("dmesg").and_then(|mut dmesg| command::output(&mut dmesg)).unwrap_or_default()
}
