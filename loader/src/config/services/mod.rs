//! Services: from the tables of the file to ports, frontends and endpoints.

mod backends;
mod build;
mod check;
mod file;
mod frontends;

pub(super) use self::{
    build::{health_checks, services},
    check::check,
    file::{HostPort, Service},
    frontends::{Frontends, resolve},
};
