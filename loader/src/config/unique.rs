//! Values that must not be there twice.

use std::{collections::HashMap, hash::Hash};

use super::diagnostic::{At, Errors, Place};

/// Reports every value that has been there before.
pub(super) fn unique<'a, T: 'a, K: Eq + Hash>(
    errors: &Errors<'_>,
    what: &str,
    values: impl Iterator<Item = &'a At<T>>,
    key: impl Fn(&T) -> K,
) {
    let mut first: HashMap<K, &Place> = HashMap::new();
    for At { value, place } in values {
        if let Some(first) = first.get(&key(value)) {
            errors.wrong(place, format!("the same {what} as {}", errors.refer(first)));
        } else {
            first.insert(key(value), place);
        }
    }
}
