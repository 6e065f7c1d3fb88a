//! How deep the stack gets: the kernel says of each function how much it takes, and limits what a chain of calls takes.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};

use crate::bpf::Instruction;

const BPF_CALL: u8 = 0x85;
const BPF_LD_IMM64: u8 = 0x18;
/// Source registers that say that the operand is a function, counted from the next instruction.
const BPF_PSEUDO_CALL: u8 = 1;
const BPF_PSEUDO_FUNC: u8 = 4;

/// How a kernel counts a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frames {
    /// In steps of 16 bytes: since Linux 6.8, where programs are compiled.
    Compiled,
    /// In steps of 32, of which an empty one takes one too.
    Interpreted,
}

impl Frames {
    const fn count(self, depth: u64) -> u64 {
        match self {
            Self::Compiled => depth.next_multiple_of(16),
            Self::Interpreted if depth == 0 => 32,
            Self::Interpreted => depth.next_multiple_of(32),
        }
    }
}

/// Bytes of the deepest chain of calls in a program whose functions take so much each.
pub fn deepest(program: &[Instruction], depths: &[u64], frames: Frames) -> Result<u64> {
    let calls = calls(program)?;
    let starts: BTreeSet<usize> = std::iter::once(0).chain(calls.iter().map(|(_, to)| *to)).collect();
    ensure!(
        starts.len() == depths.len(),
        "{} functions, of which the verifier has seen {}",
        starts.len(),
        depths.len()
    );
    let own: BTreeMap<usize, u64> =
        starts.iter().zip(depths).map(|(start, depth)| (*start, frames.count(*depth))).collect();
    let function = |at: usize| starts.range(..=at).next_back().copied().unwrap_or(0);
    let edges: BTreeSet<(usize, usize)> = calls.iter().map(|(at, to)| (function(*at), *to)).collect();
    chain(0, &own, &edges, 0)
}

/// What the chains from one function on take.
fn chain(
    from: usize,
    own: &BTreeMap<usize, u64>,
    edges: &BTreeSet<(usize, usize)>,
    depth: usize,
) -> Result<u64> {
    // The kernel takes no program that calls itself, so this ends.
    ensure!(depth < own.len(), "functions that call each other");
    let mut deepest = 0;
    for (_, to) in edges.range((from, 0)..=(from, usize::MAX)) {
        deepest = deepest.max(chain(*to, own, edges, depth + 1)?);
    }
    Ok(own.get(&from).context("a call to no function")? + deepest)
}

/// Where a function is called, or handed to a helper, and which.
fn calls(program: &[Instruction]) -> Result<Vec<(usize, usize)>> {
    let mut calls = Vec::new();
    for (at, instruction) in program.iter().enumerate() {
        let is_call = match instruction.code {
            BPF_CALL => instruction.registers >> 4 == BPF_PSEUDO_CALL,
            BPF_LD_IMM64 => instruction.registers >> 4 == BPF_PSEUDO_FUNC,
            _ => false,
        };
        if is_call {
            let to = i64::try_from(at)? + 1 + i64::from(instruction.immediate);
            calls.push((at, usize::try_from(to).context("a call to before the program")?));
        }
    }
    Ok(calls)
}

#[cfg(test)]
mod tests {
    use super::*;

    const EXIT: Instruction = Instruction { code: 0x95, registers: 0, offset: 0, immediate: 0 };

    fn call(at: i32, to: i32) -> Instruction {
        Instruction { code: BPF_CALL, registers: BPF_PSEUDO_CALL << 4, offset: 0, immediate: to - at - 1 }
    }

    #[test]
    fn the_deepest_chain_counts() {
        // 0 calls 3 and 5, 3 calls 6.
        let program = [call(0, 3), call(1, 5), EXIT, call(3, 6), EXIT, EXIT, EXIT];
        // Functions at 0, 3, 5 and 6.
        let deepest = |depths, frames| deepest(&program, depths, frames).unwrap();
        assert_eq!(deepest(&[10, 20, 40, 30], Frames::Compiled), 16 + 32 + 32);
        assert_eq!(deepest(&[10, 20, 400, 30], Frames::Compiled), 16 + 400);
        assert_eq!(deepest(&[0, 20, 0, 33], Frames::Compiled), 32 + 48);
        assert_eq!(deepest(&[0, 20, 0, 33], Frames::Interpreted), 32 + 32 + 64);
    }

    #[test]
    fn helpers_are_no_functions() {
        let helper = Instruction { code: BPF_CALL, registers: 0, offset: 0, immediate: 7 };
        assert_eq!(deepest(&[helper, EXIT], &[8], Frames::Compiled).unwrap(), 16);
    }

    #[test]
    fn another_number_of_functions_is_an_error() {
        assert!(deepest(&[EXIT], &[8, 8], Frames::Compiled).is_err());
    }
}
