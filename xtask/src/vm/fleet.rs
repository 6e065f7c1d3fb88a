//! The guests of a run: which there are, what each is to do, and what came of it.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, Result, bail};
use nix::sys::signal::Signal;

use super::{
    acceleration::Acceleration,
    contents,
    image::Image,
    kernel::Kernel,
    machine::{Account, Machine},
    parallel,
    plan::Plan,
    qemu::Qemu,
    report::Column,
    selection::{Selection, Share},
};
use crate::{child::End, packages, project, signals, test::Built};

/// How guests are made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Size {
    pub(super) memory: u32,
    pub(super) cpus: u32,
    /// How many there are at once.
    pub(super) at_once: Option<usize>,
    pub(super) patience: Duration,
}

/// Boots the kernels, as many guests at once as the machine can take: each kernel's tests are divided among its guests.
pub(super) fn run(
    kernels: &[Kernel],
    built: &Built,
    selection: &Selection,
    size: Size,
) -> Result<(Vec<Column>, Option<Signal>)> {
    let Some(first) = kernels.first() else { return Ok((Vec::new(), None)) };
    let machine = make_machine(first, size)?;
    let at_once = size.at_once.unwrap_or_else(|| parallel::at_once(machine.threads(), size.memory));
    let divided = selection.divide(built, (at_once / kernels.len()).max(1))?;
    let common = contents::common(built, selection)?;
    let shares = kernels.iter().flat_map(|kernel| shares_of(kernel, &divided)).zip(1..);
    let guests: Vec<Guest<'_>> =
        shares.map(|((kernel, label, runs), number)| Guest { kernel, number, label, runs }).collect();

    let run = |guest: &Guest<'_>| {
        let Guest { kernel, label, .. } = guest;
        println!("\n[{label}] {}, {}", kernel.release, machine.acceleration.name());
        run_guest(guest, &common, &machine, built, size).unwrap_or_else(|error| {
            println!("[{label}] error: {error:#}");
            Account { wrong: vec![format!("{error:#}")], ..Account::default() }
        })
    };
    let accounts = parallel::side_by_side(&guests, at_once, || signals::pending().is_some(), run);

    let mut columns: Vec<Column> = Vec::new();
    for (guest, account) in guests.iter().zip(accounts) {
        let Some(account) = account else { continue };
        let Kernel { label, release, .. } = guest.kernel;
        match columns.iter_mut().find(|column| column.label == *label) {
            Some(column) => column.account.add(account),
            None => columns.push(Column {
                label: label.clone(),
                release: release.clone(),
                how: machine.acceleration.name().to_owned(),
                account,
            }),
        }
    }
    let interrupted = columns.iter().find_map(|column| column.account.interrupted);
    Ok((columns, interrupted))
}

/// A virtual machine to be, and what it is to run.
struct Guest<'a> {
    kernel: &'a Kernel,
    /// Which of all: two kernels may be one, by two names.
    number: usize,
    /// What its lines begin with.
    label: String,
    runs: &'a Share<'a>,
}

/// What a kernel's guests run, and how they are called.
fn shares_of<'a>(
    kernel: &'a Kernel,
    divided: &'a [Share<'a>],
) -> impl Iterator<Item = (&'a Kernel, String, &'a Share<'a>)> {
    divided.iter().zip(1..).map(move |(runs, number)| {
        let label = match divided.len() {
            1 => kernel.label.clone(),
            count => format!("{} {number}/{count}", kernel.label),
        };
        (kernel, label, runs)
    })
}

/// One guest.
fn run_guest(
    guest: &Guest<'_>,
    common: &Image,
    machine: &Machine,
    built: &Built,
    size: Size,
) -> Result<Account> {
    let Guest { kernel, number, label, runs } = guest;
    let plan =
        contents::plan(built, machine, runs.iter().map(|(_, run)| run.clone()).collect(), size.patience)?;
    let archive = contents::archive(kernel, *number, common, plan, machine)?;
    let names: Vec<_> = runs.iter().map(|(binary, _)| (binary.suite, binary.name.clone())).collect();
    machine.run(label, &kernel.image, &archive, &names, size.patience)
}

/// A prompt on one kernel.
pub(super) fn shell(
    kernels: &[Kernel],
    built: &Built,
    selection: &Selection,
    size: Size,
) -> Result<ExitCode> {
    let [kernel, ..] = kernels else { bail!("`--shell` needs a kernel other than the host's") };
    if project::find_program("busybox").is_none() {
        packages::install(&["busybox-static"]).context("the prompt is busybox's")?;
    }
    let machine = make_machine(kernel, size)?;
    let mut image = contents::common(built, selection)?;
    image.program(&project::find_program("busybox").context("no busybox for the prompt")?)?;
    let plan = Plan { shell: true, ..contents::plan(built, &machine, Vec::new(), size.patience)? };
    let archive = contents::archive(kernel, 1, &image, plan, &machine)?;
    Ok(match machine.shell(&kernel.image, &archive)? {
        End::Exited(status) if status.success() => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

fn make_machine(kernel: &Kernel, Size { memory, cpus, .. }: Size) -> Result<Machine> {
    let acceleration = Acceleration::find(&kernel.image)?;
    match &acceleration {
        Acceleration::Kvm => println!("virtual machines are run by KVM"),
        Acceleration::Emulation(why) => println!("virtual machines are emulated in software: {why}"),
    }
    Ok(Machine { acceleration, memory, cpus, qemu: Qemu::installed()? })
}
