//! Groups of bars with whiskers: the median, and the smallest and the largest of the rounds.

use super::{
    Frame,
    canvas::{Anchor, Canvas, Colour},
    scale::{Scale, show},
    words,
};
use crate::bench::spread::Spread;

/// The widest that a bar gets.
const WIDEST: f64 = 34.0;
/// How much of a group's room its bars take.
const FILLED: f64 = 0.84;

/// Bars, in groups.
#[derive(Clone, Debug)]
pub struct Bars {
    /// From left to right.
    pub groups: Vec<Group>,
}

/// Bars that are compared with each other.
#[derive(Clone, Debug)]
pub struct Group {
    /// What they have in common.
    pub name: String,
    /// From left to right.
    pub bars: Vec<(Colour, Spread)>,
}

impl Bars {
    pub(super) fn spreads(&self) -> impl Iterator<Item = &Spread> {
        self.groups.iter().flat_map(|group| &group.bars).map(|(_, spread)| spread)
    }

    pub(super) fn draw(&self, canvas: &mut Canvas, frame: Frame, scale: &Scale) {
        let room = (frame.right - frame.left) / count(self.groups.len());
        let most = self.groups.iter().map(|group| group.bars.len()).max().unwrap_or(0);
        let width = (room * FILLED / count(most)).min(WIDEST);
        let mut middle = frame.left + room / 2.0;
        for group in &self.groups {
            let mut left = middle - width * count(group.bars.len()) / 2.0;
            for (colour, spread) in &group.bars {
                draw_bar(canvas, (left, left + width), frame, scale, (*colour, *spread));
                left += width;
            }
            words(canvas, (middle, frame.bottom + 19.0), room, &group.name);
            middle += room;
        }
        let base = frame.height_of(scale, scale.base());
        canvas.line((frame.left, base), (frame.right, base), "axis");
    }
}

fn draw_bar(
    canvas: &mut Canvas,
    (left, right): (f64, f64),
    frame: Frame,
    scale: &Scale,
    (colour, Spread { median, min, max }): (Colour, Spread),
) {
    let at = |value| frame.height_of(scale, value);
    let (middle, base) = (f64::midpoint(left, right), at(scale.base()));
    canvas.area((left + 1.5, base), (right - 1.5, at(median)), colour);
    canvas.line((middle, at(min)), (middle, at(max)), "whisker");
    // One that is cut has no end.
    for end in [min, max].into_iter().filter(|end| scale.has(*end)) {
        canvas.line((middle - 3.0, at(end)), (middle + 3.0, at(end)), "whisker");
    }
    // Of a bar that hangs, above where it hangs from.
    let above = at(max).min(base);
    canvas.text((middle, above - 4.0), Anchor::Middle, "value", &figure(median));
}

/// The figure on a bar: with two decimals, so that neighbours can be compared, or with one.
fn figure(value: f64) -> String {
    match value {
        value if value < 9.995 => format!("{value:.2}"),
        value if value < 99.95 => format!("{value:.1}"),
        value => show(value),
    }
}

fn count(of: usize) -> f64 {
    f64::from(u16::try_from(of.max(1)).unwrap_or(u16::MAX))
}
