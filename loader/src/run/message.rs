//! Errors as one line for a person.

use std::error::Error;

use crate::config::ConfigError;

/// An error and what caused it. Some errors name their cause themselves, others leave it to whoever prints them: it is
/// said once.
pub(super) fn one_line(error: &(dyn Error + 'static)) -> String {
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

/// As one line, except for errors of the configuration, which have lines of their own.
pub(super) fn plain(error: anyhow::Error) -> anyhow::Error {
    if error.is::<ConfigError>() { error } else { anyhow::Error::msg(one_line(error.as_ref())) }
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn a_cause_is_said_once() {
        let io = std::io::Error::other("no luck");
        let told = anyhow::anyhow!("open x: no luck");
        assert_eq!(one_line(told.as_ref()), "open x: no luck");
        let error = Err::<(), _>(io).context("open x").unwrap_err();
        assert_eq!(plain(error).to_string(), "open x: no luck");
    }
}
