//! Packets that nobody has thought of: the program and the model agree on each.

use anyhow::{Context as _, Result};
use testbed::{
    progrun::{self, Input},
    require, setup,
};

use crate::malformed::valid;

/// Mutations of each valid frame.
const ROUNDS: usize = 150;

/// A generator of numbers that are the same in every run: xorshift (Marsaglia, 2003).
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % u64::try_from(end.max(1)).unwrap_or(1)).unwrap_or(0)
    }

    fn byte(&mut self) -> u8 {
        // Values at the edges of fields are likelier to matter than others.
        match self.below(4) {
            0 => [0, 1, 4, 5, 6, 17, 41, 44, 58, 60, 0x7f, 0x80, 0xff][self.below(13)],
            _ => self.next().to_le_bytes()[3],
        }
    }
}

/// PF-4, OV-4, NP-11: bits flipped, bytes replaced, frames cut, grown: verdict, bytes, counters and accounts are the model's, and
/// each packet is counted exactly once.
#[test]
fn mutated_packets_are_decided_as_in_memory() -> Result<()> {
    require!(setup::ready());
    progrun::on_node(|node| {
        let mut numbers = Numbers(0x2545_f491_4f6c_dd1d);
        for frame in valid(node)? {
            for round in 0..ROUNDS {
                let mut bytes = frame.bytes.clone();
                for _ in 0..=numbers.below(3) {
                    // The EtherType too, the MACs not: they decide nothing here.
                    let at = 12 + numbers.below(bytes.len() - 12);
                    bytes[at] = numbers.byte();
                }
                match numbers.below(8) {
                    0 => bytes.truncate(14 + numbers.below(bytes.len() - 14)),
                    1 => bytes.extend((0..numbers.below(1300)).map(|_| 0x5a)),
                    _ => {}
                }
                if progrun::runs(&bytes) {
                    let input = Input::new(frame.hook, frame.ifindex, &bytes);
                    node.run(&input).with_context(|| format!("round {round}"))?;
                }
            }
        }
        Ok(())
    })
}
