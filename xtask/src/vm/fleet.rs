//! The guests of a run: which there are, what each is to do, and what came of it.

use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use super::{
    Selection, Size, archive, binaries, common,
    image::Image,
    kernel::Kernel,
    machine::{Account, Machine},
    make_machine, plan,
    plan::Run,
    report::Column,
    run_of, shares,
};
use crate::{
    signals,
    test::{Built, suite::Binary},
};

/// Boots the kernels, as many guests at once as the machine can take: each kernel's tests are divided among its guests.
pub(super) fn run(
    kernels: &[Kernel],
    built: &Built,
    selection: &Selection,
    size: Size,
) -> Result<(Vec<Column>, Option<Signal>)> {
    let Some(first) = kernels.first() else { return Ok((Vec::new(), None)) };
    let machine = make_machine(first, size)?;
    let at_once = size.at_once.unwrap_or_else(|| shares::at_once(machine.threads(), size));
    let divided = divide(built, selection, (at_once / kernels.len()).max(1))?;
    let common = common(built, selection)?;
    let guests: Vec<Guest<'_>> = kernels.iter().flat_map(|kernel| guests_of(kernel, &divided)).collect();

    let run = |guest: &Guest<'_>| {
        let Guest { kernel, label, .. } = guest;
        println!("\n[{label}] {}, {}", kernel.release, machine.acceleration.name());
        run_guest(guest, &common, &machine, built, size).unwrap_or_else(|error| {
            println!("[{label}] error: {error:#}");
            Account { wrong: vec![format!("{error:#}")], ..Account::default() }
        })
    };
    let accounts = shares::side_by_side(&guests, at_once, || signals::pending().is_some(), run);

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
    /// Which of the kernel's.
    number: usize,
    /// What its lines begin with.
    label: String,
    runs: &'a [(&'a Binary, Run)],
}

fn guests_of<'a>(
    kernel: &'a Kernel,
    divided: &'a [Vec<(&'a Binary, Run)>],
) -> impl Iterator<Item = Guest<'a>> {
    divided.iter().zip(1..).map(move |(runs, number)| {
        let label = match divided.len() {
            1 => kernel.label.clone(),
            count => format!("{} {number}/{count}", kernel.label),
        };
        Guest { kernel, number, label, runs }
    })
}

/// What each of so many guests of a kernel is to run.
fn divide<'a>(built: &'a Built, selection: &Selection, guests: usize) -> Result<Vec<Vec<(&'a Binary, Run)>>> {
    let binaries = binaries(built, selection);
    ensure!(!binaries.is_empty(), "there is nothing to run");
    let mut divided: Vec<Vec<_>> = (0..guests).map(|_| Vec::new()).collect();
    let mut turn = 0;
    for (binary, smoke) in binaries {
        let names = if guests == 1 {
            vec![smoke]
        } else if smoke.is_empty() {
            let names = shares::names(&binary.executable, &binary.directory, &selection.arguments)?;
            shares::deal(names, guests, &mut turn)
        } else {
            shares::deal(smoke, guests, &mut turn)
        };
        for (runs, names) in divided.iter_mut().zip(names) {
            if guests == 1 || !names.is_empty() {
                runs.push((binary, run_of(binary, &names, selection)));
            }
        }
    }
    divided.retain(|runs| !runs.is_empty());
    Ok(divided)
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
    let plan = plan(built, machine, runs.iter().map(|(_, run)| run.clone()).collect(), size)?;
    let archive = archive(kernel, *number, common, plan, machine)?;
    let names: Vec<_> = runs.iter().map(|(binary, _)| (binary.suite, binary.name.clone())).collect();
    machine.run(label, &kernel.image, &archive, &names, size.patience)
}
