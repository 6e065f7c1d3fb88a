//! The order in which figures are taken.

use anyhow::Result;

use super::progress::Progress;

/// Takes every figure once in each round. Those that are compared with each other stand together, `sides` of them: they are taken one
/// after the other, so that a machine that gets slower or faster does so for all of them, and each round begins with another one, so
/// that none always comes after the same.
pub fn interleaved<T>(
    figures: &mut [T],
    sides: usize,
    (rounds, progress): (usize, &mut Progress),
    mut take: impl FnMut(&mut T) -> Result<()>,
    tell: impl Fn(&[T]) -> String,
) -> Result<()> {
    let sides = sides.max(1);
    for round in 0..rounds {
        for compared in figures.chunks_mut(sides) {
            let mut in_turn: Vec<&mut T> = compared.iter_mut().collect();
            let first = round % in_turn.len().max(1);
            in_turn.rotate_left(first);
            in_turn.into_iter().try_for_each(&mut take)?;
            progress.step(round, &tell(compared));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, time::Duration};

    use super::*;
    use crate::bench::load::Window;

    #[test]
    fn every_round_takes_all_and_begins_with_another() {
        let order = RefCell::new(String::new());
        let mut figures = ['a', 'b', 'c', 'd'];
        let mut progress = Progress::begin("test", (3, Window::new(Duration::ZERO)), 2, 2);
        let take = |figure: &mut char| {
            order.borrow_mut().push(*figure);
            Ok(())
        };
        interleaved(&mut figures, 2, (3, &mut progress), take, |_| String::new()).unwrap();
        assert_eq!(order.into_inner(), "abcdbadcabcd");
    }
}
