//! The lines with which the verifier ends its log, asked for statistics (`print_verification_stats` in `kernel/bpf/verifier.c`).

use std::time::Duration;

use anyhow::{Context as _, Result};

/// What they say.
#[derive(Debug, PartialEq, Eq)]
pub struct Statistics {
    /// Instructions gone through.
    pub instructions: u64,
    /// States kept.
    pub total_states: u64,
    /// Most at one time.
    pub peak_states: u64,
    /// Bytes of stack of each function, in the order of the code.
    pub depths: Vec<u64>,
    /// How long it took.
    pub time: Duration,
}

/// Reads them.
pub fn read(log: &str) -> Result<Statistics> {
    let depths =
        log.lines().find_map(|line| line.strip_prefix("stack depth ")).context("no line of stack depths")?;
    // Newer kernels go on with what the stack's maximum is.
    let depths = depths.split_whitespace().next().unwrap_or("").split('+');
    let depths = depths.map(|depth| depth.parse().with_context(|| format!("a depth of `{depth}`")));
    Ok(Statistics {
        instructions: number(log, "processed ")?,
        total_states: number(log, " total_states ")?,
        peak_states: number(log, " peak_states ")?,
        depths: depths.collect::<Result<_>>()?,
        time: Duration::from_micros(number(log, "verification time ")?),
    })
}

/// The number that follows these words.
fn number(log: &str, words: &str) -> Result<u64> {
    let (_, rest) = log.split_once(words).with_context(|| format!("no `{}`", words.trim()))?;
    let digits = rest.split(|letter: char| !letter.is_ascii_digit()).next().unwrap_or("");
    digits.parse().with_context(|| format!("`{}` is followed by no number", words.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str = "verification time 8 usec
stack depth 96+0+32
processed 112315 insns (limit 1000000) max_states_per_insn 31 total_states 5006 peak_states 1206 mark_read 77
";

    #[test]
    fn the_last_lines_are_read() {
        let expected = Statistics {
            instructions: 112_315,
            total_states: 5006,
            peak_states: 1206,
            depths: vec![96, 0, 32],
            time: Duration::from_micros(8),
        };
        assert_eq!(read(LOG).unwrap(), expected);
    }

    #[test]
    fn a_log_without_them_is_no_success() {
        for missing in ["verification time", "stack depth", "processed", "peak_states"] {
            assert!(read(&LOG.replace(missing, "x")).is_err(), "{missing}");
        }
    }
}
