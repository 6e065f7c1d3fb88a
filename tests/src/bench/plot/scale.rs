//! From values to places on an axis.

/// How values lie on an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Evenly, from zero.
    Linear,
    /// Each factor is as long as any other that is as large.
    Log,
}

/// An axis that is long enough for some values.
#[derive(Clone, Debug, PartialEq)]
pub struct Scale {
    kind: Kind,
    from: f64,
    to: f64,
    /// Where it has marks: round numbers, from one end to the other.
    pub ticks: Vec<f64>,
}

/// Steps between the marks of a linear axis, and marks of a logarithmic one, within a power of ten.
const ROUND: [f64; 3] = [1.0, 2.0, 5.0];
/// About so many marks.
const MARKS: f64 = 5.0;
/// More powers of ten than these have marks at themselves only.
const MANY_DECADES: f64 = 2.5;

impl Scale {
    /// For all of these values, which are positive on a logarithmic axis; it begins and ends at a mark.
    #[must_use]
    pub fn of(kind: Kind, values: impl Iterator<Item = f64>) -> Self {
        let (mut smallest, mut largest) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite() && (kind == Kind::Linear || *value > 0.0)) {
            (smallest, largest) = (smallest.min(value), largest.max(value));
        }
        let ticks = match kind {
            Kind::Linear => linear_ticks(if largest > 0.0 { largest } else { 1.0 }),
            Kind::Log if smallest <= largest => log_ticks(smallest, largest),
            Kind::Log => vec![1.0, 10.0],
        };
        let end = |tick: Option<&f64>| tick.copied().unwrap_or(1.0);
        Self { kind, from: end(ticks.first()), to: end(ticks.last()), ticks }
    }

    /// From exactly the first of some numbers to the last, without marks.
    #[must_use]
    pub fn exactly(kind: Kind, numbers: &[f64]) -> Self {
        let end = |number: Option<&f64>| number.copied().unwrap_or(1.0);
        Self { kind, from: end(numbers.first()), to: end(numbers.last()), ticks: Vec::new() }
    }

    /// Where a value lies: 0 at the axis's beginning, 1 at its end.
    #[must_use]
    pub fn share(&self, value: f64) -> f64 {
        let Self { from, to, .. } = self;
        if to <= from {
            return 0.5;
        }
        let share = match self.kind {
            Kind::Linear => (value - from) / (to - from),
            Kind::Log => (value / from).ln() / (to / from).ln(),
        };
        share.clamp(0.0, 1.0)
    }

    /// Whether a value has a place of its own.
    #[must_use]
    pub fn has(&self, value: f64) -> bool {
        (self.from..=self.to).contains(&value)
    }

    /// Where bars stand: at zero, or at "as much as the other".
    #[must_use]
    pub const fn base(&self) -> f64 {
        match self.kind {
            Kind::Linear => 0.0,
            Kind::Log => 1.0,
        }
    }
}

fn linear_ticks(most: f64) -> Vec<f64> {
    let raw = most / MARKS;
    let decade = 10_f64.powf(raw.log10().floor());
    let steps = ROUND.into_iter().chain([10.0]).map(|round| round * decade);
    let step = steps.into_iter().find(|step| *step >= raw * 0.999).unwrap_or(raw);
    let mut ticks = vec![0.0];
    let mut number = 0.0;
    while number * step < most * 0.999 {
        number += 1.0;
        ticks.push(number * step);
    }
    ticks
}

/// Round numbers from the last one that is not above the smallest value to the first one that is not below the largest.
fn log_ticks(smallest: f64, largest: f64) -> Vec<f64> {
    let few = (largest / smallest).log10() <= MANY_DECADES;
    let rounds = if few { &ROUND[..] } else { &ROUND[..1] };
    let mut decade = 10_f64.powf(smallest.log10().floor());
    let mut ticks = Vec::new();
    while ticks.last().is_none_or(|tick| *tick <= largest * 1.001) {
        ticks.extend(rounds.iter().map(|round| round * decade));
        decade *= 10.0;
    }
    let begin = ticks.iter().rposition(|tick| *tick <= smallest * 1.001).unwrap_or(0);
    // An axis has two ends.
    let end = ticks.iter().position(|tick| *tick >= largest * 0.999).unwrap_or(begin).max(begin + 1);
    ticks.into_iter().take(end + 1).skip(begin).collect()
}

/// A number on an axis or a bar, as short as it goes.
#[must_use]
pub fn show(value: f64) -> String {
    let (value, unit) = match value {
        value if value >= 1e6 => (value / 1e6, " M"),
        value if value >= 1e4 => (value / 1e3, " k"),
        value => (value, ""),
    };
    let digits = match value {
        value if value >= 99.95 || (value - value.round()).abs() < 1e-9 => 0,
        value if value >= 9.995 => 1,
        value if value >= 0.0995 => 2,
        _ => 4,
    };
    let text = format!("{value:.digits$}");
    let short = if digits == 0 { &text } else { text.trim_end_matches('0').trim_end_matches('.') };
    format!("{short}{unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticks(kind: Kind, values: &[f64]) -> Vec<String> {
        Scale::of(kind, values.iter().copied()).ticks.into_iter().map(show).collect()
    }

    #[test]
    fn a_linear_axis_begins_at_zero_and_ends_at_a_round_number() {
        assert_eq!(ticks(Kind::Linear, &[0.4, 0.95]), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
        assert_eq!(ticks(Kind::Linear, &[28.0]), ["0", "10", "20", "30"]);
        assert_eq!(ticks(Kind::Linear, &[1.0]), ["0", "0.2", "0.4", "0.6", "0.8", "1"]);
    }

    #[test]
    fn a_logarithmic_axis_has_round_numbers_around_its_values() {
        assert_eq!(ticks(Kind::Log, &[0.8, 26.0]), ["0.5", "1", "2", "5", "10", "20", "50"]);
        assert_eq!(ticks(Kind::Log, &[1.0, 100_000.0]), ["1", "10", "100", "1000", "10 k", "100 k"]);
        assert_eq!(ticks(Kind::Log, &[1.0]), ["1", "2"]);
    }

    #[test]
    fn ends_are_at_the_ends_and_factors_are_lengths() {
        let scale = Scale::of(Kind::Log, [1.0, 10_000.0].into_iter());
        let places = [1.0, 100.0, 10_000.0].map(|value| (scale.share(value) * 100.0).round());
        assert!((places[0], places[1], places[2]) == (0.0, 50.0, 100.0), "{places:?}");
    }

    #[test]
    fn a_single_number_is_in_the_middle() {
        assert!((Scale::exactly(Kind::Log, &[7.0]).share(7.0) - 0.5).abs() < 1e-9);
    }

    #[test]
    fn an_axis_without_values_is_an_axis() {
        assert_eq!(ticks(Kind::Log, &[]), ["1", "10"]);
        assert_eq!(ticks(Kind::Linear, &[f64::NAN]).first().map(String::as_str), Some("0"));
    }

    #[test]
    fn numbers_are_short() {
        let shown = [0.0, 0.005, 0.5, 1.57, 20.45, 64.0, 1400.0, 64_400.0, 100_000.0, 1_500_000.0].map(show);
        assert_eq!(shown, ["0", "0.005", "0.5", "1.57", "20.4", "64", "1400", "64.4 k", "100 k", "1.5 M"]);
    }
}
