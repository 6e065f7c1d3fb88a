//! Inside the guest: its first process, which is this very program under the name `/init`.
//!
//! It mounts what a running system has mounted, loads modules, runs the plan's test binaries one by one, and switches the
//! machine off. What tests print to their standard output goes to the host by a serial line of its own, so that the
//! kernel's messages are never in the midst of it; their standard error goes where those go.

use std::{
    env, fs,
    fs::File,
    io::{self, Read as _, Write as _},
    os::unix::{fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::{
    errno::Errno,
    kmod::{ModuleInitFlags, finit_module},
    mount::{MsFlags, mount},
    sys::{
        reboot::{RebootMode, reboot},
        signal::{Signal, killpg},
        wait::{WaitStatus, wait},
    },
    unistd::Pid,
};

use super::{
    plan::{self, Plan, Run},
    protocol::Message,
};
use crate::child::End;

/// The name by which the kernel starts it.
pub(crate) const INIT: &str = "/init";
/// Its argument where it is not the first process but does that one's work.
const WORK: &str = "work";
/// The line to the host. The first one is the console.
const LINE: &str = "/dev/ttyS1";
/// How often a running test is looked after.
const TICK: Duration = Duration::from_millis(20);
/// How long what an ended test has started may still hold its output open.
const AFTERMATH: Duration = Duration::from_secs(2);

/// File systems: (type, where). None at /tmp or /run: the root is in memory as it is, and may have the tests there, if that is where
/// the checkout is.
const MOUNTS: [(&str, &str); 8] = [
    ("proc", "/proc"),
    ("sysfs", "/sys"),
    ("devtmpfs", "/dev"),
    ("devpts", "/dev/pts"),
    ("bpf", "/sys/fs/bpf"),
    ("cgroup2", "/sys/fs/cgroup"),
    ("debugfs", "/sys/kernel/debug"),
    ("tracefs", "/sys/kernel/tracing"),
];

/// Whether this process is the guest's.
pub(crate) fn is_guest() -> bool {
    env::args_os().next().is_some_and(|name| name == INIT)
}

/// What the guest's processes do. The first one never returns: the kernel would panic.
pub(crate) fn run() -> ! {
    if env::args_os().nth(1).is_some_and(|argument| argument == WORK) {
        std::process::exit(work());
    }
    supervise();
    let error = reboot(RebootMode::RB_POWER_OFF);
    eprintln!("init: cannot switch the machine off: {error:?}");
    loop {
        thread::park();
    }
}

/// Lets another process do the work, and buries whatever processes are left to this one.
fn supervise() {
    let started = Command::new(INIT).arg0(INIT).arg(WORK).env_clear().spawn();
    let worker = match &started {
        Ok(worker) => i32::try_from(worker.id()).unwrap_or_default(),
        Err(error) => return eprintln!("init: {error}"),
    };
    loop {
        match wait() {
            Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, ..)) if pid.as_raw() == worker => {
                return;
            }
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return,
        }
    }
}

fn work() -> i32 {
    let mounted = mount_all();
    let line = match Line::open() {
        Ok(line) => line,
        Err(error) => {
            eprintln!("init: {error:#}");
            return 1;
        }
    };
    let result = mounted.and_then(|()| Plan::read(&fs::read_to_string(plan::PATH)?)).and_then(|plan| {
        line.say(&Message::Booted(release()));
        follow(&plan, &line)
    });
    match result {
        Ok(()) => {
            line.say(&Message::Done);
            0
        }
        Err(error) => {
            line.say(&Message::Error(format!("{error:#}")));
            1
        }
    }
}

fn mount_all() -> Result<()> {
    for (kind, at) in MOUNTS {
        fs::create_dir_all(at).with_context(|| format!("create {at}"))?;
        match mount(Some(kind), at, Some(kind), MsFlags::empty(), None::<&str>) {
            // What a kernel has not is for the tests to say.
            Ok(()) | Err(Errno::ENODEV | Errno::EBUSY) => {}
            Err(error) => return Err(error).with_context(|| format!("mount {kind} at {at}")),
        }
    }
    // For whoever a test runs a program as.
    fs::set_permissions("/tmp", fs::Permissions::from_mode(0o1777)).context("chmod /tmp")
}

fn release() -> String {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    release.trim_end().to_owned()
}

fn follow(plan: &Plan, line: &Line) -> Result<()> {
    let types = "/sys/kernel/btf/vmlinux";
    ensure!(Path::new(types).is_file(), "this kernel has no BTF: no {types}");
    for name in &plan.modules {
        if let Err(error) = load(name) {
            line.say(&Message::Note(format!("module {name}: {error:#}")));
        }
    }
    let environment = environment(plan);
    command(Path::new("ip"), &environment)
        .args(["link", "set", "lo", "up"])
        .status()
        .context("bring lo up with `ip`")?;
    if plan.shell {
        return shell(&environment);
    }
    for (number, run) in plan.runs.iter().enumerate() {
        line.say(&Message::Start(number));
        let end = attend(run, &environment, plan.patience, line)
            .with_context(|| format!("run {}", run.program.display()))?;
        line.end_line();
        line.say(&Message::End(number, end));
        if !matches!(end, End::Exited(status) if status.code().is_some()) {
            // Killed: what it made is still there.
            let cleaned = command(&plan.testbed, &environment).arg("clean").stdout(Stdio::null()).status();
            if !cleaned.is_ok_and(|status| status.success()) {
                line.say(&Message::Note("what a killed test left was not cleaned up".to_owned()));
            }
        }
    }
    Ok(())
}

fn load(name: &str) -> Result<()> {
    let file = File::open(Path::new(plan::MODULES).join(name))?;
    match finit_module(&file, c"", ModuleInitFlags::empty()) {
        Ok(()) | Err(Errno::EEXIST) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

type Environment = Vec<(String, String)>;

fn environment(plan: &Plan) -> Environment {
    let own = [
        ("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"),
        ("HOME", "/root"),
        ("TERM", "linux"),
    ];
    let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
    own.into_iter().chain(plan.environment.iter().cloned()).collect()
}

/// A command by its path, or by its name on the guest's search path.
fn command(program: &Path, environment: &Environment) -> Command {
    let mut command = Command::new(program);
    command.env_clear().envs(environment.iter().map(|(name, value)| (name, value))).stdin(Stdio::null());
    command
}

/// A prompt on the console, until it is left.
fn shell(environment: &Environment) -> Result<()> {
    println!("\r\nKernel {}: the tests' programs are where the host has them; `exit` ends it.\r", release());
    let mut shell = command(Path::new("busybox"), environment);
    shell.args(["setsid", "-c", "busybox", "sh", "-l"]);
    let console = File::options().read(true).write(true).open("/dev/ttyS0").context("open the console")?;
    let status = shell
        .stdin(console.try_clone()?)
        .stdout(console.try_clone()?)
        .stderr(console)
        .status()
        .context("start a shell")?;
    // Whatever the last command came to, the shell was there.
    ensure!(status.code() != Some(127), "there is no shell in the guest");
    Ok(())
}

/// Runs a test binary to its end, or until it has said nothing for too long.
fn attend(run: &Run, environment: &Environment, patience: Duration, line: &Line) -> Result<End> {
    let Run { program, directory, arguments } = run;
    let mut command = command(program, environment);
    command.args(arguments).current_dir(directory).env("CARGO_MANIFEST_DIR", directory);
    let mut child = command.process_group(0).stdout(Stdio::piped()).spawn()?;
    let mut output = child.stdout.take().context("a child without stdout")?;

    let started = Instant::now();
    // When it said something last, in milliseconds since then.
    let heard = Arc::<AtomicU64>::default();
    let since_start = move || u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
    let reader = thread::spawn({
        let (heard, line) = (Arc::clone(&heard), line.clone());
        move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = output.read(&mut buffer) {
                heard.store(since_start(), Ordering::Relaxed);
                line.write(&buffer[..length]);
            }
        }
    });
    let end = loop {
        if let Some(status) = child.try_wait()? {
            break End::Exited(status);
        }
        let silent = since_start().saturating_sub(heard.load(Ordering::Relaxed));
        if u128::from(silent) > patience.as_millis() {
            line.end_line();
            line.say(&Message::Note(format!("it hangs; its threads: {}", threads(&child).join(", "))));
            kill(&mut child)?;
            break End::Hung;
        }
        thread::sleep(TICK);
    };
    let until = Instant::now() + AFTERMATH;
    while !reader.is_finished() && Instant::now() < until {
        thread::sleep(TICK);
    }
    Ok(end)
}

/// Libtest names its threads after their tests, in fifteen characters.
fn threads(child: &Child) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{}/task", child.id())).into_iter().flatten().flatten();
    tasks
        .filter_map(|task| fs::read_to_string(task.path().join("comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect()
}

fn kill(child: &mut Child) -> Result<()> {
    let group = Pid::from_raw(i32::try_from(child.id()).context("a process id beyond i32")?);
    // It may have ended in between.
    let _gone = killpg(group, Signal::SIGKILL);
    child.wait()?;
    Ok(())
}

/// The line to the host, for whoever has something to say.
#[derive(Clone)]
struct Line(Arc<Mutex<Serial>>);

struct Serial {
    port: File,
    /// Whether what was written last ended its line.
    ended: bool,
}

impl Line {
    fn open() -> Result<Self> {
        let port = File::options().write(true).open(LINE).with_context(|| format!("open {LINE}"))?;
        Ok(Self(Arc::new(Mutex::new(Serial { port, ended: true }))))
    }

    fn say(&self, message: &Message) {
        self.write(format!("{message}\n").as_bytes());
    }

    /// Lets what comes next begin a line of its own.
    fn end_line(&self) {
        let ended = self.0.lock().unwrap_or_else(PoisonError::into_inner).ended;
        if !ended {
            self.write(b"\n");
        }
    }

    fn write(&self, bytes: &[u8]) {
        let mut serial = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        serial.ended = bytes.ends_with(b"\n");
        if let Err(error) = serial.port.write_all(bytes) {
            // There is nobody else to tell.
            let _unheard = writeln!(io::stderr(), "init: {LINE}: {error}");
        }
    }
}
