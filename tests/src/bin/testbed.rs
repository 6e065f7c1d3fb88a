//! `podlane-testbed clean`: removes what test runs that were killed have left behind.

use anyhow::Result;
use clap::{Parser, Subcommand};
use testbed::registry;

/// The testbed's own housekeeping.
#[derive(Parser)]
#[command(name = "podlane-testbed", version)]
struct Arguments {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Remove the namespaces, pins and files of test processes that are gone.
    Clean {
        /// Also take down what was left up on purpose (`demo --keep`).
        #[arg(long)]
        all: bool,
    },
}

fn main() -> Result<()> {
    let Verb::Clean { all } = Arguments::parse().verb;
    let removed = registry::clean(all)?;
    for thing in &removed {
        println!("removed {thing}");
    }
    if removed.is_empty() {
        println!("nothing to remove");
    }
    Ok(())
}
