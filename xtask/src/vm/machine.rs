//! A virtual machine: how it is started, and what is made of what it says.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    acceleration::Acceleration,
    console,
    protocol::Message,
    qemu::{self, Qemu},
};
use crate::{
    child::{self, End, Follower, Stream},
    test::{
        libtest::{Counts, Reader},
        suite::Suite,
    },
};

/// How long a guest may take to say that it is up.
const BOOT: Duration = Duration::from_mins(3);
/// How long a guest that has finished, or has panicked, may take to switch itself off.
const AFTERMATH: Duration = Duration::from_secs(15);
/// What the host waits longer than the guest does for a test that says nothing: the guest knows more about it.
const MARGIN: Duration = Duration::from_mins(1);
/// How many lines of the console are shown of a guest that dies.
const LAST_WORDS: usize = 30;

/// A virtual machine to be.
#[derive(Debug, Clone)]
pub(crate) struct Machine {
    /// How it is run.
    pub(crate) acceleration: Acceleration,
    /// Its memory, in MiB.
    pub(crate) memory: u32,
    /// Its processors.
    pub(crate) cpus: u32,
    /// What runs it.
    pub(crate) qemu: Qemu,
}

impl Machine {
    /// How many of the host's processors it keeps busy.
    pub(crate) fn threads(&self) -> usize {
        match self.acceleration {
            Acceleration::Emulation(_) if !self.qemu.emulates_in_parallel() => 1,
            _ => usize::try_from(self.cpus).unwrap_or(usize::MAX),
        }
    }

    /// The command that starts it. The console and the tests' line are left to the caller.
    fn command(&self, image: &Path, archive: &Path) -> Command {
        let Self { acceleration, memory, cpus, qemu: known } = self;
        let mut qemu = Command::new(qemu::PROGRAM);
        qemu.args(["-machine", "q35", "-nodefaults", "-display", "none", "-no-reboot"]);
        match acceleration {
            Acceleration::Kvm => qemu.args(["-accel", "kvm", "-cpu", "host"]),
            Acceleration::Emulation(_) => {
                let threads = if known.emulates_in_parallel() { "multi" } else { "single" };
                qemu.args(["-accel", &format!("tcg,thread={threads}"), "-cpu", known.processor()])
            }
        };
        qemu.args(["-m", &format!("{memory}M"), "-smp", &cpus.to_string()]);
        qemu.arg("-kernel").arg(image).arg("-initrd").arg(archive).args(["-append", &self.command_line()]);
        qemu
    }

    fn command_line(&self) -> String {
        // Warnings and worse are printed; what is broken ends at once; devices keep the names that tests expect.
        let mut line =
            "console=ttyS0 loglevel=5 panic=-1 oops=panic net.ifnames=0 mitigations=off".to_owned();
        if matches!(self.acceleration, Acceleration::Emulation(_)) {
            // What takes twenty times longer is no lockup yet, and a busy host stops the guest's clock.
            line += " watchdog_thresh=60 rcupdate.rcu_cpu_stall_timeout=120 workqueue.watchdog_thresh=120 tsc=nowatchdog";
            // Translated code is found again by its address: a fifth of the time.
            line += " norandmaps nokaslr";
        }
        line
    }

    /// Gives a person the console.
    pub(crate) fn shell(&self, image: &Path, archive: &Path) -> Result<End> {
        let mut qemu = self.command(image, archive);
        qemu.args(["-chardev", "stdio,id=console,mux=on,signal=off", "-serial", "chardev:console"]);
        qemu.args(["-mon", "chardev=console", "-serial", "null"]);
        child::attached(child::dies_with_us(&mut qemu))
    }

    /// Runs the plan that the archive has, and follows it. `runs` are the names of its test binaries.
    pub(crate) fn run(
        &self,
        label: &str,
        image: &Path,
        archive: &Path,
        runs: &[(Suite, String)],
        patience: Duration,
    ) -> Result<Account> {
        let mut qemu = self.command(image, archive);
        // The console is qemu's standard error, where its own errors are, and the tests' line its standard output.
        qemu.args(["-chardev", "file,id=console,path=/dev/stderr", "-serial", "chardev:console"]);
        qemu.args(["-chardev", "file,id=tests,path=/dev/stdout", "-serial", "chardev:tests"]);
        let mut log = Log::new(label, runs, patience + MARGIN);
        let end = child::followed(&mut qemu, &mut log).context("run a virtual machine")?;
        Ok(log.finish(end))
    }
}

/// What a guest's run came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Account {
    /// By suite, with the time that it took.
    pub(crate) suites: BTreeMap<Suite, (Counts, Duration)>,
    /// From the start of qemu until the first test began.
    pub(crate) boot: Option<Duration>,
    /// What is wrong beyond the tests: in the kernel's log, and with the guest itself.
    pub(crate) wrong: Vec<String>,
    /// A person ended it.
    pub(crate) interrupted: Option<nix::sys::signal::Signal>,
}

impl Account {
    /// Adds that of a guest that ran at the same time.
    pub(crate) fn add(&mut self, other: Self) {
        let Self { suites, boot, wrong, interrupted } = other;
        for (suite, (counts, time)) in suites {
            let (sum, longest) = self.suites.entry(suite).or_default();
            sum.add(counts);
            *longest = time.max(*longest);
        }
        self.boot = self.boot.max(boot);
        self.wrong.extend(wrong);
        self.interrupted = self.interrupted.or(interrupted);
    }
}

/// A follower of a guest.
struct Log<'a> {
    label: &'a str,
    runs: &'a [(Suite, String)],
    patience: Duration,
    started: Instant,
    account: Account,
    /// The test binary that runs: which, since when, and what it has said.
    current: Option<(usize, Instant, Reader)>,
    /// How many have begun.
    begun: usize,
    /// The last lines of the console.
    console: VecDeque<String>,
    /// Whether what runs was said to run.
    said_so: bool,
    stage: Stage,
}

/// How far a guest is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// It has not said anything.
    Booting,
    /// It is up.
    Up,
    /// Its kernel has panicked.
    Panicked,
    /// It has said its last word.
    Over,
}

impl<'a> Log<'a> {
    fn new(label: &'a str, runs: &'a [(Suite, String)], patience: Duration) -> Self {
        Self {
            label,
            runs,
            patience,
            started: Instant::now(),
            account: Account::default(),
            current: None,
            begun: 0,
            console: VecDeque::new(),
            said_so: false,
            stage: Stage::Booting,
        }
    }

    fn name(&self, number: usize) -> &str {
        self.runs.get(number).map_or("a test binary", |(_, name)| name)
    }

    /// What runs now, to be said behind something.
    fn meanwhile(&self) -> String {
        match &self.current {
            Some((number, ..)) => format!(" (while {} ran)", self.name(*number)),
            None => String::new(),
        }
    }

    fn console(&mut self, line: &str) {
        if let Some(finding) = console::judge(line) {
            println!("[{}] kernel: {line}", self.label);
            if finding.meaning == "panic" {
                self.stage = Stage::Panicked;
            }
            self.account.wrong.push(format!("{}: {}{}", finding.meaning, finding.line, self.meanwhile()));
        }
        // What tests say to their standard error, as on the host.
        if self.current.is_some() && console::message(line).is_none() && !line.is_empty() {
            println!("[{}] {line}", self.label);
        }
        if self.console.len() == LAST_WORDS {
            self.console.pop_front();
        }
        self.console.push_back(line.to_owned());
    }

    fn message(&mut self, message: Message) {
        let label = self.label;
        match message {
            Message::Booted(release) => {
                self.stage = Stage::Up;
                println!("[{label}] {release} is up after {:.1} s", self.started.elapsed().as_secs_f64());
            }
            Message::Start(number) => {
                self.account.boot.get_or_insert(self.started.elapsed());
                self.begun = number + 1;
                self.said_so = false;
                self.current = Some((number, Instant::now(), Reader::default()));
            }
            Message::End(number, end) => {
                if let Some((current, ..)) = self.current
                    && current == number
                {
                    self.end(end);
                }
            }
            Message::Note(text) => println!("[{label}] note: {text}{}", self.meanwhile()),
            Message::Error(text) => {
                println!("[{label}] error: {text}");
                self.account.wrong.push(format!("{text}{}", self.meanwhile()));
                self.stage = Stage::Over;
            }
            Message::Done => self.stage = Stage::Over,
        }
    }

    fn end(&mut self, end: End) {
        if let Some((number, since, reader)) = self.current.take()
            && let Some((suite, name)) = self.runs.get(number)
        {
            let (counts, time) = self.account.suites.entry(*suite).or_default();
            counts.add(reader.finish(name, end));
            *time += since.elapsed();
        }
    }

    /// Makes up the account, after qemu has ended or was ended.
    fn finish(mut self, end: End) -> Account {
        let label = self.label;
        if let End::Interrupted(signal) = end {
            self.account.interrupted = Some(signal);
        } else if self.stage != Stage::Over {
            let why = match end {
                _ if self.stage == Stage::Panicked => "the guest's kernel panicked".to_owned(),
                End::Hung if self.stage == Stage::Up => {
                    format!("the guest said nothing for {:?}", self.patience)
                }
                End::Hung => format!("the guest was not up within {BOOT:?}"),
                End::Exited(status) => format!("the guest ended early (qemu: {status})"),
                End::Interrupted(_) | End::Lost => "the guest ended early".to_owned(),
            };
            let why = format!("{why}{}", self.meanwhile());
            println!("[{label}] {why}; the last lines of its console:");
            for line in &self.console {
                println!("[{label}]   {line}");
            }
            self.account.wrong.push(why);
        }
        self.end(if let End::Interrupted(_) = end { end } else { End::Lost });
        let left = self.runs.len() - self.begun;
        if left > 0 && self.account.interrupted.is_none() {
            self.account.wrong.push(format!("{left} of {} test binaries were not run", self.runs.len()));
        }
        self.account
    }
}

impl Follower for Log<'_> {
    fn line(&mut self, stream: Stream, line: &str) {
        if stream == Stream::Err {
            return self.console(line);
        }
        if let Some(message) = Message::parse(line) {
            return self.message(message);
        }
        let Some((number, _, reader)) = &mut self.current else { return };
        if reader.line(line) {
            if !self.said_so {
                self.said_so = true;
                let (suite, name) = &self.runs[*number];
                println!("\n[{}] {}: {name}", self.label, suite.name());
            }
            println!("[{}] {line}", self.label);
        }
    }

    fn patience(&self) -> Duration {
        match self.stage {
            Stage::Booting => BOOT,
            Stage::Up => self.patience,
            Stage::Panicked | Stage::Over => AFTERMATH,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{os::unix::process::ExitStatusExt as _, process::ExitStatus};

    use super::*;

    fn runs() -> Vec<(Suite, String)> {
        vec![(Suite::Program, "tests::program_run".to_owned()), (Suite::E2e, "tests::overlay".to_owned())]
    }

    fn follow(lines: &[(Stream, &str)], end: End) -> Account {
        let runs = runs();
        let mut log = Log::new("6.1", &runs, Duration::from_secs(1));
        for (stream, line) in lines {
            log.line(*stream, line);
        }
        log.finish(end)
    }

    fn exited() -> End {
        End::Exited(ExitStatus::from_raw(0))
    }

    use Stream::{Err, Out};

    const PASSED: [(Stream, &str); 8] = [
        (Out, "@@booted 6.1.0-56-cloud-amd64"),
        (Out, "@@start 0"),
        (Out, "running 1 test"),
        (Out, "test one ... ok"),
        (Out, "test result: ok. 1 passed"),
        (Out, "@@end 0 0"),
        (Out, "@@start 1"),
        (Out, "running 2 tests"),
    ];

    #[test]
    fn a_run_to_the_end_is_counted() {
        let rest = [
            (Out, "test two ... ok"),
            (Out, "test three ... FAILED"),
            (Out, "test result: FAILED."),
            (Out, "@@end 1 25856"),
            (Out, "@@done"),
        ];
        let account = follow(&[&PASSED[..], &rest].concat(), exited());
        assert_eq!(account.suites[&Suite::Program].0.passed, 1);
        let (counts, _) = &account.suites[&Suite::E2e];
        assert_eq!((counts.passed, counts.failed.as_slice()), (1, &["three".to_owned()][..]));
        assert!(account.wrong.is_empty() && account.boot.is_some(), "{:?}", account.wrong);
    }

    #[test]
    fn a_panic_is_a_failure_of_the_test_that_ran() {
        let rest = [
            (Out, "test two ... "),
            (Err, "[   12.5] Kernel panic - not syncing: Fatal exception in interrupt"),
        ];
        let account = follow(&[&PASSED[..], &rest].concat(), exited());
        let expected = ["two in tests::overlay (the guest died)"];
        assert_eq!(account.suites[&Suite::E2e].0.failed, expected);
        assert_eq!(
            account.wrong,
            [
                "panic: Kernel panic - not syncing: Fatal exception in interrupt (while tests::overlay ran)",
                "the guest's kernel panicked (while tests::overlay ran)"
            ]
        );
    }

    #[test]
    fn a_guest_that_never_comes_up_or_says_nothing_is_a_failure() {
        let account = follow(&[(Err, "qemu: could not load kernel")], exited());
        assert_eq!(account.wrong.len(), 2, "{:?}", account.wrong);
        assert!(account.wrong[0].starts_with("the guest ended early (qemu: "), "{:?}", account.wrong);
        assert_eq!(account.wrong[1], "2 of 2 test binaries were not run");
        let account = follow(&[], End::Hung);
        assert!(account.wrong[0].starts_with("the guest was not up within"), "{:?}", account.wrong);
        let account = follow(&PASSED, End::Hung);
        assert_eq!(account.wrong, ["the guest said nothing for 1s (while tests::overlay ran)"]);
    }

    #[test]
    fn an_error_of_the_guest_and_a_test_that_hangs_are_failures() {
        let account = follow(&[(Out, "@@booted 7.0"), (Out, "@@error this kernel has no BTF")], exited());
        assert_eq!(account.wrong, ["this kernel has no BTF", "2 of 2 test binaries were not run"]);
        let rest = [(Out, "test two ... "), (Out, "@@end 1 hung"), (Out, "@@done")];
        let account = follow(&[&PASSED[..], &rest].concat(), exited());
        let expected = ["two in tests::overlay (printed nothing for too long)"];
        assert_eq!(account.suites[&Suite::E2e].0.failed, expected);
    }

    #[test]
    fn the_accounts_of_guests_add_up_and_their_times_do_not() {
        let suites = |passed, seconds| {
            let counts = Counts { passed, failed: vec!["one".to_owned()], skipped: Vec::new() };
            [(Suite::E2e, (counts, Duration::from_secs(seconds)))].into()
        };
        let boot = |seconds| Some(Duration::from_secs(seconds));
        let mut sum = Account { suites: suites(3, 50), boot: boot(8), ..Account::default() };
        sum.add(Account {
            suites: suites(4, 40),
            boot: boot(9),
            wrong: vec!["x".to_owned()],
            interrupted: None,
        });
        let (counts, time) = &sum.suites[&Suite::E2e];
        assert_eq!((counts.passed, counts.failed.len(), time.as_secs()), (7, 2, 50));
        assert_eq!((sum.boot, sum.wrong.len()), (boot(9), 1));
    }

    #[test]
    fn a_warning_in_the_log_fails_a_run_that_passes() {
        let rest = [
            (Err, "[   12.5] WARNING: CPU: 0 PID: 99 at net/core/dev.c:3150"),
            (Out, "test result: ok."),
            (Out, "@@end 1 0"),
            (Out, "@@done"),
        ];
        let account = follow(&[&PASSED[..], &rest].concat(), exited());
        assert_eq!(account.wrong.len(), 1, "{:?}", account.wrong);
    }

    #[test]
    fn what_a_person_ends_has_not_failed() {
        let signal = nix::sys::signal::Signal::SIGINT;
        let account = follow(&PASSED, End::Interrupted(signal));
        assert_eq!((account.interrupted, account.wrong.len()), (Some(signal), 0));
        assert!(account.suites[&Suite::E2e].0.failed.is_empty());
    }

    #[test]
    fn emulation_is_slower_and_says_why() {
        let emulation = Acceleration::Emulation("no /dev/kvm".to_owned());
        let machine = |acceleration| Machine { acceleration, memory: 1024, cpus: 2, qemu: Qemu::default() };
        assert!(machine(emulation).command_line().contains("watchdog_thresh"));
        assert!(!machine(Acceleration::Kvm).command_line().contains("watchdog_thresh"));
    }
}
