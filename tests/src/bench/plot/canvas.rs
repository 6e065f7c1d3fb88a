//! What plots are drawn with: text, lines and areas, in colours that change with the page.

use svg::{
    Document, Node as _,
    node::element::{Line, Polygon, Polyline, Rectangle, Style, Text, Title},
};

/// Width of every plot, in pixels.
pub const WIDTH: f64 = 880.0;

/// Light pages first; a browser that shows a dark one takes the others. The background belongs to the plot, so that it can be read
/// where the page and the browser are not of the same mind.
const STYLE: &str = "
text { font-family: system-ui, -apple-system, 'Segoe UI', 'DejaVu Sans', sans-serif; font-size: 12px; fill: #1f2328 }
.title { font-size: 17px; font-weight: 600 }
.head { font-size: 13px; font-weight: 600 }
.note, .tick { fill: #59636e }
.value { font-size: 11px }
.page { fill: #ffffff; stroke: #d1d9e0 }
.grid { stroke: #e3e8ed }
.axis { stroke: #59636e }
.whisker { stroke: #1f2328; stroke-opacity: 0.75; stroke-width: 1.2 }
.teal { color: #0f766e } .blue { color: #2f6fdb } .violet { color: #8b46c9 } .orange { color: #c2620a } .grey { color: #6e7781 }
.area { fill: currentColor; stroke: none }
.band { fill: currentColor; fill-opacity: 0.14; stroke: none }
.curve { fill: none; stroke: currentColor; stroke-width: 2; stroke-linejoin: round }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc }
.note, .tick { fill: #9198a1 }
.page { fill: #0d1117; stroke: #3d444d }
.grid { stroke: #262c36 }
.axis { stroke: #9198a1 }
.whisker { stroke: #f0f6fc }
.teal { color: #2fb5a5 } .blue { color: #6ea8fe } .violet { color: #c297f5 } .orange { color: #f0a04b } .grey { color: #9198a1 }
}
";

/// A place, in pixels from the left and from the top.
pub type Point = (f64, f64);

/// What something is drawn in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// For what a plot is about.
    Teal,
    /// Beside it.
    Blue,
    /// Beside both.
    Violet,
    /// For what it is compared with.
    Orange,
    /// For what bounds both.
    Grey,
}

impl Colour {
    const fn class(self) -> &'static str {
        match self {
            Self::Teal => "teal",
            Self::Blue => "blue",
            Self::Violet => "violet",
            Self::Orange => "orange",
            Self::Grey => "grey",
        }
    }
}

/// Which part of a text its place is that of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    /// Its beginning.
    Start,
    /// Its middle.
    Middle,
    /// Its end.
    End,
}

/// A plot that is being drawn.
pub struct Canvas {
    document: Document,
}

impl Canvas {
    /// An empty one of this height; the title is for those who can't see it.
    pub fn new(height: f64, title: &str) -> Self {
        let mut document = Document::new()
            .set("viewBox", (0.0, 0.0, WIDTH, height))
            .set("width", WIDTH)
            .set("height", height)
            .set("role", "img");
        document.append(Title::new(title));
        document.append(Style::new(STYLE));
        let page = Rectangle::new().set("class", "page").set("rx", 6).set("x", 0.5).set("y", 0.5);
        document.append(page.set("width", WIDTH - 1.0).set("height", height - 1.0));
        Self { document }
    }

    /// The SVG file.
    pub fn finish(self) -> String {
        format!("{}\n", self.document)
    }

    /// Text on a baseline.
    pub fn text(&mut self, (x, y): Point, anchor: Anchor, class: &str, text: &str) {
        let anchor = match anchor {
            Anchor::Start => "start",
            Anchor::Middle => "middle",
            Anchor::End => "end",
        };
        let text = Text::new(text).set("class", class).set("text-anchor", anchor);
        self.document.append(text.set("x", pixels(x)).set("y", pixels(y)));
    }

    /// A straight line.
    pub fn line(&mut self, from: Point, to: Point, class: &str) {
        let line = Line::new().set("class", class).set("x1", pixels(from.0)).set("y1", pixels(from.1));
        self.document.append(line.set("x2", pixels(to.0)).set("y2", pixels(to.1)));
    }

    /// A filled rectangle between two corners.
    pub fn area(&mut self, from: Point, to: Point, colour: Colour) {
        let (left, top) = (from.0.min(to.0), from.1.min(to.1));
        let area = Rectangle::new().set("class", format!("area {}", colour.class())).set("rx", 1.5);
        let area = area.set("x", pixels(left)).set("y", pixels(top));
        let (width, height) = ((from.0 - to.0).abs(), (from.1 - to.1).abs());
        self.document.append(area.set("width", pixels(width)).set("height", pixels(height)));
    }

    /// A line through points.
    pub fn curve(&mut self, points: &[Point], colour: Colour) {
        let curve = Polyline::new().set("class", format!("curve {}", colour.class()));
        self.document.append(curve.set("points", list(points)));
    }

    /// What lies between points, lightly.
    pub fn band(&mut self, points: &[Point], colour: Colour) {
        let band = Polygon::new().set("class", format!("band {}", colour.class()));
        self.document.append(band.set("points", list(points)));
    }

    /// A mark whose shape tells colours apart, too.
    pub fn mark(&mut self, (x, y): Point, colour: Colour) {
        let (corners, turn, radius): (u8, f64, f64) = match colour {
            Colour::Teal => (16, 0.0, 4.0),
            Colour::Blue => (3, -0.25, 5.2),
            Colour::Violet => (4, 0.0, 5.0),
            Colour::Orange => (4, 0.125, 5.0),
            Colour::Grey => (3, 0.25, 5.2),
        };
        let corner = |number: u8| {
            let angle = std::f64::consts::TAU * (f64::from(number) / f64::from(corners) + turn);
            (radius.mul_add(angle.cos(), x), radius.mul_add(angle.sin(), y))
        };
        let points: Vec<Point> = (0..corners).map(corner).collect();
        let mark = Polygon::new().set("class", format!("area {}", colour.class()));
        self.document.append(mark.set("points", list(&points)));
    }
}

/// About how wide a text is.
pub fn width_of(text: &str, size: f64) -> f64 {
    let letters = u16::try_from(text.chars().count()).unwrap_or(u16::MAX);
    f64::from(letters) * size * 0.56
}

/// Tenths are fine enough.
fn pixels(length: f64) -> f64 {
    (length * 10.0).round() / 10.0
}

fn list(points: &[Point]) -> String {
    let points: Vec<String> = points.iter().map(|(x, y)| format!("{},{}", pixels(*x), pixels(*y))).collect();
    points.join(" ")
}
