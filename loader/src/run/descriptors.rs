//! How many files the process may have open.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Allows as many as the process may allow itself. Every port of a health check is one, and every map and program; the 1024 that
/// shells and service managers begin with are there for the sake of `select`, which nothing here calls.
pub(super) fn allow_all() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(errno) = raised {
        log::warn!("raise the limit of open files (RLIMIT_NOFILE): {errno}; going on with what there is");
    }
}
