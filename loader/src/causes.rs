//! Errors with their causes, as one line for a person.

use std::error::Error;

/// An error and what caused it. Some errors name their cause themselves, others leave it to whoever prints them: it is
/// said once.
#[must_use]
pub fn one_line(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let told = anyhow::anyhow!("open x: no luck");
        assert_eq!(one_line(told.as_ref()), "open x: no luck");
        let error = Err::<(), _>(io::Error::other("no luck")).context("open x").unwrap_err();
        assert_eq!(one_line(error.as_ref()), "open x: no luck");
    }
}
