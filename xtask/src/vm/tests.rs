//! Real guests, with a shell in the place of test binaries.

use std::{
    env,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::Result;

use super::{
    acceleration::Acceleration,
    image::Image,
    kernel::{self, Kernel},
    machine::{Account, Machine},
    plan::{self, Plan, Run},
    qemu::{self, Qemu},
};
use crate::{project, test::suite::Suite};

/// A kernel of the cache and the program that is to be its first process; or why there is none.
fn guest() -> Result<(Kernel, PathBuf), &'static str> {
    if project::find_program(qemu::PROGRAM).is_none() {
        return Err("no qemu");
    }
    let kernel = kernel::cached().ok_or("no kernel is in the cache: `cargo xtask vm-test` fetches some")?;
    let own = env::current_exe().unwrap();
    // target/<profile>/deps/<test>
    let xtask = own.ancestors().nth(2).unwrap().join("xtask");
    if xtask.is_file() { Ok((kernel, xtask)) } else { Err("xtask is not built") }
}

/// Runs scripts as if they were test binaries.
fn run(test: &str, scripts: &[&str], patience: Duration) -> Option<Account> {
    let (kernel, xtask) = match guest() {
        Ok(guest) => guest,
        Err(reason) => {
            println!("SKIPPED: vm::tests::{test}: {reason}");
            return None;
        }
    };
    let mut image = Image::starting(&xtask).unwrap();
    for program in ["sh", "ip", "sleep"] {
        image.program(&project::find_program(program).unwrap()).unwrap();
    }
    let run = |script: &&str| Run {
        program: project::find_program("sh").unwrap(),
        directory: "/".into(),
        arguments: vec!["-c".to_owned(), (*script).to_owned()],
    };
    let plan = Plan { patience, runs: scripts.iter().map(run).collect(), ..Plan::default() };
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("guest.cpio");
    image.bytes(Path::new(plan::PATH), plan.write().into_bytes());
    image.write(&archive).unwrap();
    let acceleration = Acceleration::Emulation("it works everywhere".to_owned());
    let machine = Machine { acceleration, memory: 768, cpus: 1, qemu: Qemu::default() };
    let names: Vec<_> = (1..=scripts.len()).map(|number| (Suite::E2e, format!("script {number}"))).collect();
    Some(machine.run("test", &kernel.image, &archive, &names, patience).unwrap())
}

const PASSES: &str = "echo running 1 test; echo test good ... ok; echo test result: ok.";
const HANGS: &str = "echo running 1 test; printf 'test endless ... '; while :; do sleep 1; done";
const DIES: &str = "echo running 1 test; printf 'test fatal ... '; kill -SEGV $$";
const WARNS: &str = "echo '<4>WARNING: CPU: 0 PID: 1 at nowhere.c:1' > /dev/kmsg; sleep 1";
const PANICS: &str =
    "echo running 1 test; printf 'test last ... '; sleep 1; echo c > /proc/sysrq-trigger; sleep 60";

#[test]
fn a_guest_runs_its_plan_and_tells_how_it_went() {
    let scripts = [HANGS, DIES, WARNS, PASSES];
    let test = "a_guest_runs_its_plan_and_tells_how_it_went";
    let Some(account) = run(test, &scripts, Duration::from_secs(20)) else { return };
    let (counts, _) = &account.suites[&Suite::E2e];
    assert_eq!(counts.passed, 1, "{account:?}");
    assert_eq!(
        counts.failed,
        [
            "endless in script 1 (printed nothing for too long)",
            "fatal in script 2 (ended early: signal: 11 (SIGSEGV))",
            "script 3 (ended early: exit status: 0)",
        ]
    );
    assert_eq!(account.wrong, ["warning: WARNING: CPU: 0 PID: 1 at nowhere.c:1 (while script 3 ran)"]);
}

#[test]
fn a_guest_that_panics_is_a_failure_of_what_ran() {
    let test = "a_guest_that_panics_is_a_failure_of_what_ran";
    let Some(account) = run(test, &[PANICS, PASSES], Duration::from_mins(1)) else { return };
    let (counts, _) = &account.suites[&Suite::E2e];
    assert_eq!(counts.failed, ["last in script 1 (the guest died)"], "{account:?}");
    assert!(account.wrong.iter().any(|wrong| wrong.starts_with("panic: Kernel panic - not syncing: sysrq")));
    assert!(account.wrong.contains(&"1 of 2 test binaries were not run".to_owned()), "{account:?}");
}

#[test]
fn what_is_no_kernel_is_refused_at_once() {
    if let Err(reason) = guest() {
        println!("SKIPPED: vm::tests::what_is_no_kernel_is_refused_at_once: {reason}");
        return;
    }
    let acceleration = Acceleration::Emulation("it works everywhere".to_owned());
    let machine = Machine { acceleration, memory: 256, cpus: 1, qemu: Qemu::default() };
    let started = Instant::now();
    let runs = [(Suite::E2e, "script".to_owned())];
    let account =
        machine.run("test", Path::new("/dev/null"), Path::new("/dev/null"), &runs, Duration::from_secs(9));
    let wrong = account.unwrap().wrong;
    assert!(wrong[0].starts_with("the guest ended early (qemu: exit status: 1)"), "{wrong:?}");
    assert!(started.elapsed() < Duration::from_secs(20));
}
