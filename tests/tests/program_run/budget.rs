//! What the verifier makes of the programs stays within what was recorded.

use std::io::Write as _;

use anyhow::{Result, ensure};
use common::counters::Hook;
use testbed::{
    progrun, require, setup,
    verifier::{self, Report, budget::Budget},
};

/// OP-3: every program loads on this kernel, and none takes a tenth more of the verifier's instructions and states or of the stack than
/// somebody has looked at.
#[test]
fn programs_are_within_the_verifiers_budget() -> Result<()> {
    require!(setup::ready());
    require!(verifier::series().and_then(|series| Budget::recorded()?.has(&series)));
    let report = Report::new(&verifier::measure()?)?;
    let comparison = Budget::recorded()?.compare(&report)?;
    for saving in &comparison.savings {
        let _unheard = writeln!(
            std::io::stderr(),
            "NOTE: verifier on Linux {}: {saving}: record it by `cargo xtask verifier-budget --write`",
            report.kernel
        );
    }
    ensure!(
        comparison.failures.is_empty(),
        "the verifier of Linux {} and tests/verifier-budget.toml differ:\n  {}\n\
         `cargo xtask verifier-budget` shows all figures. Look at what has made them grow; if they are to stay, record them by \
         `cargo xtask verifier-budget --write`.",
        report.kernel,
        comparison.failures.join("\n  ")
    );
    Ok(())
}

/// What is measured is what is loaded: the same program, loaded as the loader does it, is the same work to the kernel.
#[test]
fn a_measured_program_is_the_loaded_one() -> Result<()> {
    require!(setup::ready());
    let measured = verifier::measure_one(Hook::ToPod.name())?;
    progrun::on_node_with("podlane.o", verifier::ALL, |node| {
        let loaded = node.info(Hook::ToPod)?.verified_instruction_count();
        ensure!(loaded.map(u64::from) == Some(measured.figures.instructions), "{loaded:?} and {measured:?}");
        Ok(())
    })
}
