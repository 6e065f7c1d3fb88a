//! "Did you mean": the nearest of a few known words.

/// The known word that `typed` was most likely meant to be, if any is near.
pub(super) fn nearest<'a>(typed: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let typed = normal(typed);
    let (distance, word) = known
        .into_iter()
        .map(|word| (distance(&typed, &normal(word)), word))
        .min_by_key(|(distance, _)| *distance)?;
    // A third of the letters wrong still reads as the word; one letter always does.
    let within = (word.chars().count() / 3).max(1);
    (distance <= within).then_some(word)
}

/// How people vary a key without meaning another: capitals, and the underscore of other tools.
fn normal(word: &str) -> Vec<char> {
    word.chars().map(|letter| if letter == '_' { '-' } else { letter.to_ascii_lowercase() }).collect()
}

/// How many letters to insert, delete, replace or swap with their neighbour (optimal string alignment).
fn distance(from: &[char], to: &[char]) -> usize {
    let mut rows = vec![(0..=to.len()).collect::<Vec<_>>()];
    for (i, letter) in from.iter().enumerate() {
        let mut row = vec![i + 1];
        for (j, other) in to.iter().enumerate() {
            let replaced = rows[i][j] + usize::from(letter != other);
            let mut best = replaced.min(rows[i][j + 1] + 1).min(row[j] + 1);
            if i > 0 && j > 0 && from[i - 1] == *other && *letter == to[j - 1] {
                best = best.min(rows[i - 1][j - 1] + 1);
            }
            row.push(best);
        }
        rows.push(row);
    }
    rows[from.len()][to.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: [&str; 6] = ["name", "address", "uplink", "pod-cidr", "vtep-mac", "gateway"];

    #[test]
    fn finds_what_was_meant() {
        for (typed, meant) in [
            ("pod-cdir", Some("pod-cidr")),
            ("pod_cidr", Some("pod-cidr")),
            ("Pod-CIDR", Some("pod-cidr")),
            ("pod-cidrs", Some("pod-cidr")),
            ("adress", Some("address")),
            ("addresses", Some("address")),
            ("uplinks", Some("uplink")),
            ("nmae", Some("name")),
            ("nam", Some("name")),
            ("vtepmac", Some("vtep-mac")),
            ("colour", None),
            ("", None),
        ] {
            assert_eq!(nearest(typed, KEYS), meant, "{typed}");
        }
        assert_eq!(nearest("name", []), None);
    }

    #[test]
    fn counts_edits() {
        let letters = |word: &str| word.chars().collect::<Vec<_>>();
        for (from, to, edits) in
            [("", "", 0), ("", "abc", 3), ("abc", "", 3), ("abc", "acb", 1), ("kitten", "sitting", 3)]
        {
            assert_eq!(distance(&letters(from), &letters(to)), edits, "{from} {to}");
        }
    }
}
