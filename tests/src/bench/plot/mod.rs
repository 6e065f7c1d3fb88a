//! Plots as SVG: bars with whiskers for what is compared, lines for what depends on a number.
//!
//! A figure is one file: a title, one legend, and panels of the same kind side by side.

mod bars;
mod canvas;
mod lines;
mod scale;

pub use self::{
    bars::{Bars, Group},
    canvas::Colour,
    lines::{Line, Lines},
    scale::{Kind, show},
};
use self::{
    canvas::{Anchor, Canvas, Point, WIDTH, width_of},
    scale::Scale,
};
use crate::bench::spread::Spread;

const MARGIN: f64 = 24.0;
/// From the top of a figure to its first row of panels.
const HEAD: f64 = 96.0;
/// Between the tops of two rows of panels.
const ROW: f64 = 292.0;
/// Of a panel: its title and the unit above the axis, the marks at its left, the words below.
const ABOVE: f64 = 42.0;
const LEFT: f64 = 52.0;
const BELOW: f64 = 50.0;
const GAP: f64 = 20.0;
/// What is left out where no panel has a title.
const PANEL_TITLE: f64 = 20.0;
/// A whisker or a band that is longer than this is cut: one round in which the machine slept must not make all others look alike.
const LONGEST: f64 = 3.0;

/// One file.
#[derive(Clone, Debug)]
pub struct Figure {
    /// What it shows.
    pub title: String,
    /// How to read it.
    pub note: String,
    /// What each colour stands for.
    pub legend: Vec<(Colour, String)>,
    /// What the vertical axes count.
    pub unit: String,
    /// How they go; they are alike, so that panels can be compared.
    pub kind: Kind,
    /// What is drawn; two beside each other where there are several.
    pub panels: Vec<Panel>,
}

/// One pair of axes.
#[derive(Clone, Debug)]
pub struct Panel {
    /// What is special about it; may be empty.
    pub title: String,
    /// What is drawn.
    pub content: Content,
}

/// What a panel shows.
#[derive(Clone, Debug)]
pub enum Content {
    /// Groups of bars.
    Bars(Bars),
    /// Lines over a number.
    Lines(Lines),
}

/// Where a panel's axes are.
#[derive(Clone, Copy, Debug)]
struct Frame {
    left: f64,
    right: f64,
    top: f64,
    bottom: f64,
}

impl Figure {
    /// The file.
    #[must_use]
    pub fn svg(&self) -> String {
        let columns = if self.panels.len() > 1 { 2 } else { 1 };
        let rows = u16::try_from(self.panels.len().div_ceil(columns)).unwrap_or(u16::MAX);
        let titled = self.panels.iter().any(|panel| !panel.title.is_empty());
        let head = if titled { HEAD } else { HEAD - PANEL_TITLE };
        let mut canvas = Canvas::new(f64::from(rows).mul_add(ROW, head), &self.title);
        canvas.text((MARGIN, 34.0), Anchor::Start, "title", &self.title);
        canvas.text((MARGIN, 54.0), Anchor::Start, "note", &self.note);
        self.draw_legend(&mut canvas);
        let width = if columns == 1 { WIDTH - 2.0 * MARGIN } else { (WIDTH - 2.0 * MARGIN - GAP) / 2.0 };
        let scale = Scale::of(self.kind, self.values());
        let mut top = head;
        for row in self.panels.chunks(columns) {
            let mut left = MARGIN;
            for panel in row {
                let (right, bottom) = (left + width, top + ROW - BELOW);
                let frame = Frame { left: left + LEFT, right, top: top + ABOVE, bottom };
                panel.draw(&mut canvas, frame, &scale, &self.unit);
                left = right + GAP;
            }
            top += ROW;
        }
        canvas.finish()
    }

    fn draw_legend(&self, canvas: &mut Canvas) {
        let mut left = MARGIN;
        for (colour, name) in &self.legend {
            canvas.mark((left + 6.0, 76.0), *colour);
            canvas.text((left + 17.0, 80.0), Anchor::Start, "", name);
            left += width_of(name, 12.0) + 42.0;
        }
    }

    /// Every number that is drawn; a figure of none is not worth a file.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.values().next().is_none()
    }

    /// Those that have to have room.
    fn values(&self) -> impl Iterator<Item = f64> {
        let spreads = self.panels.iter().flat_map(|panel| panel.content.spreads());
        spreads.flat_map(|spread| {
            let Spread { median, min, max } = *spread;
            [min.max(median / LONGEST), median, max.min(median * LONGEST)]
        })
    }
}

impl Panel {
    fn draw(&self, canvas: &mut Canvas, frame: Frame, scale: &Scale, unit: &str) {
        canvas.text((frame.left - LEFT, frame.top - 26.0), Anchor::Start, "head", &self.title);
        canvas.text((frame.left - LEFT, frame.top - 9.0), Anchor::Start, "note", unit);
        for tick in &scale.ticks {
            let y = frame.height_of(scale, *tick);
            canvas.line((frame.left, y), (frame.right, y), "grid");
            canvas.text((frame.left - 8.0, y + 4.0), Anchor::End, "tick", &show(*tick));
        }
        match &self.content {
            Content::Bars(bars) => bars.draw(canvas, frame, scale),
            Content::Lines(lines) => lines.draw(canvas, frame, scale),
        }
    }
}

impl Content {
    fn spreads(&self) -> Vec<&Spread> {
        match self {
            Self::Bars(bars) => bars.spreads().collect(),
            Self::Lines(lines) => lines.spreads().collect(),
        }
    }
}

impl Frame {
    /// From the top of the picture; the room above the axis's end is for the figure on a bar.
    fn height_of(self, scale: &Scale, value: f64) -> f64 {
        let top = self.top + 14.0;
        (self.bottom - top).mul_add(-scale.share(value), self.bottom)
    }
}

/// Words below an axis, in two lines where one is too wide.
fn words(canvas: &mut Canvas, (x, y): Point, width: f64, text: &str) {
    let middle = text.len() / 2;
    let spaces = text.match_indices(' ').map(|(index, _)| index);
    match spaces.min_by_key(|index| index.abs_diff(middle)) {
        Some(space) if width_of(text, 12.0) > width => {
            let (first, second) = text.split_at(space);
            canvas.text((x, y), Anchor::Middle, "", first);
            canvas.text((x, y + 15.0), Anchor::Middle, "", second.trim_start());
        }
        _ => canvas.text((x, y), Anchor::Middle, "", text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn figure() -> Figure {
        let bar = |median: f64| Spread { median, min: median * 0.9, max: median * 1.3 };
        let group = Group { name: "TCP & UDP".to_owned(), bars: vec![(Colour::Teal, bar(2.0))] };
        Figure {
            title: "A <title>".to_owned(),
            note: "Higher is better".to_owned(),
            legend: vec![(Colour::Teal, "Podlane".to_owned())],
            unit: "times".to_owned(),
            kind: Kind::Log,
            panels: vec![Panel {
                title: "Panel".to_owned(),
                content: Content::Bars(Bars { groups: vec![group] }),
            }],
        }
    }

    #[test]
    fn a_figure_is_the_same_file_each_time_and_its_words_are_escaped() {
        let svg = figure().svg();
        assert_eq!(svg, figure().svg());
        assert!(svg.starts_with("<svg") && svg.contains("A &lt;title&gt;") && svg.contains("TCP &amp; UDP"));
    }

    #[test]
    fn nothing_is_drawn_outside() {
        for word in figure().svg().split([' ', '>']) {
            for name in ["x=", "x1=", "x2=", "y=", "y1=", "y2="] {
                let Some(value) = word.strip_prefix(name) else { continue };
                let value: f64 = value.trim_matches(['"', '/']).parse().unwrap();
                assert!((0.0..=WIDTH).contains(&value), "{word}");
            }
        }
    }

    #[test]
    fn one_round_does_not_make_the_axis() {
        let mut figure = figure();
        let Content::Bars(bars) = &mut figure.panels[0].content else { panic!("bars") };
        bars.groups[0].bars[0].1.max = 1e6;
        assert!(figure.values().all(|value| value < 7.0));
    }

    #[test]
    fn a_figure_without_bars_is_empty() {
        let mut empty = figure();
        assert!(!empty.is_empty());
        empty.panels[0].content = Content::Bars(Bars { groups: Vec::new() });
        assert!(empty.is_empty());
    }
}
