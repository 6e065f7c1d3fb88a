//! Lines over a number: medians, with a band from the smallest to the largest of the rounds.

use super::{
    Frame,
    canvas::{Anchor, Canvas, Colour, Point, width_of},
    scale::{Kind, Scale, show},
};
use crate::bench::spread::Spread;

/// Lines over the same number.
#[derive(Clone, Debug)]
pub struct Lines {
    /// What the number is.
    pub over: String,
    /// The lines; the last is drawn over the others.
    pub lines: Vec<Line>,
}

/// One line.
#[derive(Clone, Debug)]
pub struct Line {
    /// Its colour and mark.
    pub colour: Colour,
    /// Numbers above zero, in order, and what was measured there.
    pub points: Vec<(f64, Spread)>,
}

impl Lines {
    pub(super) fn spreads(&self) -> impl Iterator<Item = &Spread> {
        self.lines.iter().flat_map(|line| &line.points).map(|(_, spread)| spread)
    }

    pub(super) fn draw(&self, canvas: &mut Canvas, frame: Frame, scale: &Scale) {
        let numbers = self.numbers();
        let across = Across { frame, scale: Scale::exactly(Kind::Log, &numbers) };
        canvas.line((frame.left, frame.bottom), (frame.right, frame.bottom), "axis");
        let mut taken = f64::NEG_INFINITY;
        for number in numbers {
            let (x, text) = (across.at(number), show(number));
            canvas.line((x, frame.bottom), (x, frame.bottom + 4.0), "axis");
            // What has no room is left out; its mark tells where it is.
            let half = width_of(&text, 12.0) / 2.0;
            if x - half > taken {
                canvas.text((x, frame.bottom + 18.0), Anchor::Middle, "tick", &text);
                taken = x + half + 4.0;
            }
        }
        let middle = f64::midpoint(frame.left, frame.right);
        canvas.text((middle, frame.bottom + 36.0), Anchor::Middle, "note", &self.over);
        for line in &self.lines {
            let along = |of: fn(&Spread) -> f64| -> Vec<Point> {
                let place = |(number, spread): &(f64, Spread)| {
                    (across.at(*number), frame.height_of(scale, of(spread)))
                };
                line.points.iter().map(place).collect()
            };
            let mut band = along(|spread| spread.max);
            band.extend(along(|spread| spread.min).into_iter().rev());
            canvas.band(&band, line.colour);
            let medians = along(|spread| spread.median);
            canvas.curve(&medians, line.colour);
            for point in medians {
                canvas.mark(point, line.colour);
            }
        }
    }

    /// Those at which anything was measured.
    fn numbers(&self) -> Vec<f64> {
        let points = self.lines.iter().flat_map(|line| &line.points);
        let mut numbers: Vec<f64> = points.map(|(number, _)| *number).collect();
        numbers.sort_by(f64::total_cmp);
        numbers.dedup();
        numbers
    }
}

/// The horizontal axis: from the first number to the last, with a little room at both ends.
struct Across {
    frame: Frame,
    scale: Scale,
}

impl Across {
    fn at(&self, number: f64) -> f64 {
        let (left, right) = (self.frame.left + 16.0, self.frame.right - 20.0);
        (right - left).mul_add(self.scale.share(number), left)
    }
}
