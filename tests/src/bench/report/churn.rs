//! The table of a million connections.

use std::fmt;

use comfy_table::Table;

use super::table::{Look, numbers, section};
use crate::bench::churn::Churn;

/// All tables with their titles; nothing if nothing was measured.
pub fn tables(churns: &[Churn], look: Look) -> Result<String, fmt::Error> {
    let mut text = String::new();
    if !churns.is_empty() {
        section(&mut text, "Connections through a service, one packet each", &table(churns), look)?;
    }
    Ok(text)
}

fn table(churns: &[Churn]) -> Table {
    let mut table = numbers(
        &["protocol", "dropped", "a connection from before"],
        &["table, entries", "connections", "a second", "entries then", "gone by then", "collected in"],
    );
    for churn in churns {
        let drops = churn.drops.iter().map(|(reason, packets)| format!("{reason} {packets}"));
        let drops = drops.collect::<Vec<_>>().join(", ");
        table.add_row([
            churn.protocol.to_uppercase(),
            if drops.is_empty() { "none".to_owned() } else { drops },
            if churn.established_kept { "works" } else { "broken" }.to_owned(),
            churn.capacity.to_string(),
            churn.flows.to_string(),
            format!("{:.0} k", f64::from(churn.flows) / churn.seconds / 1e3),
            churn.entries.to_string(),
            churn.gone.to_string(),
            churn.collected_in(),
        ]);
    }
    table
}
