//! A backend out of a service's table: what a packet's first look and a socket's have in common.

use crate::{
    maps::{Backend, Service, backend_state},
    tables::Services,
};

/// The index of a backend, out of the `count` elements of a table from `first` on, by any number.
#[inline(always)]
pub fn nth<S: Services>(tables: &S, first: u32, count: u32, number: u32) -> Option<u32> {
    // The high half of the product is in 0..count: a range reduction without a division.
    let nth = (u64::from(number) * u64::from(count)) >> 32;
    tables.choice(first.wrapping_add(nth as u32))
}

/// The backend with that index, unless it has gone, or been given to another service, between two looks.
#[inline(always)]
pub fn living<S: Services>(tables: &S, service: &Service, index: u32) -> Option<Backend> {
    let backend = tables.backend(index)?;
    (backend.group == service.group && backend.state != backend_state::GONE).then_some(backend)
}
