//! Reads tables of the file key by key: what it does not know or can't read, it reports, and goes on.

use toml::{
    Spanned,
    de::{DeString, DeTable, DeValue},
};

use super::{
    diagnostic::{At, Errors, Place},
    schema::{self, Table},
    suggest::nearest,
    value::{Fault, kind},
};

/// The values of a list that could be read.
#[derive(Clone, Debug)]
pub(super) struct List<T> {
    /// Where the list stands, or the table that has none.
    pub(super) place: Place,
    /// Its values.
    pub(super) items: Vec<At<T>>,
    /// Whether all could be read, so that something may be concluded from what is not there.
    pub(super) complete: bool,
}

impl<T> List<T> {
    /// The values alone.
    pub(super) fn values(&self) -> impl Iterator<Item = &T> {
        self.items.iter().map(|item| &item.value)
    }
}

/// One table of the file.
pub(super) struct Section<'a> {
    errors: &'a Errors<'a>,
    entries: &'a DeTable<'a>,
    schema: &'static Table,
    /// Where it starts.
    pub(super) place: Place,
}

impl<'a> Section<'a> {
    /// The whole file.
    pub(super) fn root(errors: &'a Errors<'a>, entries: &'a DeTable<'a>) -> Self {
        Self::open(errors, entries, &schema::ROOT, Place::default())
    }

    fn open(errors: &'a Errors<'a>, entries: &'a DeTable<'a>, schema: &'static Table, place: Place) -> Self {
        let section = Self { errors, entries, schema, place };
        for key in section.unknown_keys() {
            let place = Place { key: section.path(key.get_ref()), span: key.span() };
            errors.wrong(&place, section.unknown(key.get_ref()));
        }
        section
    }

    fn unknown_keys(&self) -> impl Iterator<Item = &'a Spanned<DeString<'a>>> {
        let keys = self.schema.keys;
        self.entries.keys().filter(move |key| !keys.contains(&key.get_ref().as_ref()))
    }

    /// Whether an unknown key was meant to be this one, which then isn't missing as well.
    fn is_misspelt(&self, key: &str) -> bool {
        self.unknown_keys()
            .any(|unknown| nearest(unknown.get_ref(), self.schema.keys.iter().copied()) == Some(key))
    }

    /// What to say of a key that is not known here: the nearest one, the table it belongs to, or all there are.
    fn unknown(&self, key: &str) -> String {
        let keys = self.schema.keys;
        if let Some(meant) = nearest(key, keys.iter().copied()) {
            return format!("unknown key; did you mean \"{meant}\"?");
        }
        if let Some(table) = schema::ALL.into_iter().find(|table| table.keys.contains(&key)) {
            return format!("unknown key; \"{key}\" belongs in {}", table.heading);
        }
        format!("unknown key; known here: {}", keys.join(", "))
    }

    fn path(&self, key: &str) -> String {
        if self.place.key.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place.key) }
    }

    fn get(&self, key: &str) -> Option<(Place, &'a DeValue<'a>)> {
        debug_assert!(
            self.schema.keys.contains(&key),
            "{key} is missing in the schema of {}",
            self.schema.heading
        );
        let value: &Spanned<DeValue<'_>> = self.entries.get(key)?;
        Some((Place { key: self.path(key), span: value.span() }, value.get_ref()))
    }

    fn read<T>(
        &self,
        place: Place,
        value: &DeValue<'_>,
        read: impl Fn(&DeValue<'_>) -> Result<T, Fault>,
    ) -> Option<At<T>> {
        read(value).map_err(|fault| self.errors.wrong(&place, fault.0)).ok().map(|value| At { value, place })
    }

    fn missing(&self, key: &str) -> Place {
        let place = Place { key: self.path(key), span: self.place.span.clone() };
        if !self.is_misspelt(key) {
            self.errors.missing(&place, "missing");
        }
        place
    }

    /// The value of `key`, if it is there and can be read.
    pub(super) fn optional<T>(
        &self,
        key: &str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Fault>,
    ) -> Option<At<T>> {
        let (place, value) = self.get(key)?;
        self.read(place, value, read)
    }

    /// The value of `key`, which must be there.
    pub(super) fn required<T>(
        &self,
        key: &str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Fault>,
    ) -> Option<At<T>> {
        if self.get(key).is_none() {
            self.missing(key);
        }
        self.optional(key, read)
    }

    /// The values of the list `key`; none if it isn't there.
    pub(super) fn list<T>(&self, key: &str, read: impl Fn(&DeValue<'_>) -> Result<T, Fault>) -> List<T> {
        let Some((place, value)) = self.get(key) else {
            return List { place: self.place.clone(), items: Vec::new(), complete: !self.is_misspelt(key) };
        };
        let DeValue::Array(values) = value else {
            let hint = if value.is_str() { "; put it in [ ]" } else { "" };
            self.errors.wrong(&place, format!("expected a list, found {}{hint}", kind(value)));
            return List { place, items: Vec::new(), complete: false };
        };
        let items: Vec<_> = values
            .iter()
            .enumerate()
            .filter_map(|(index, value)| {
                let place = Place { key: format!("{}[{index}]", place.key), span: value.span() };
                self.read(place, value.get_ref(), &read)
            })
            .collect();
        let complete = items.len() == values.len();
        List { place, items, complete }
    }

    /// The values of the list `key`, which must be there and must not be empty.
    pub(super) fn required_list<T>(
        &self,
        key: &str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Fault>,
    ) -> List<T> {
        if self.get(key).is_none() {
            return List { place: self.missing(key), items: Vec::new(), complete: false };
        }
        self.filled_list(key, read)
    }

    /// The values of the list `key`, which must not be empty; none if it isn't there.
    pub(super) fn filled_list<T>(
        &self,
        key: &str,
        read: impl Fn(&DeValue<'_>) -> Result<T, Fault>,
    ) -> List<T> {
        let mut list = self.list(key, read);
        if self.get(key).is_some() && list.items.is_empty() && list.complete {
            self.errors.wrong(&list.place, "empty; give at least one");
            list.complete = false;
        }
        list
    }

    /// The table `[name]`, if it is there.
    pub(super) fn table(&self, schema: &'static Table) -> Option<Self> {
        let (place, value) = self.get(schema.name)?;
        match value {
            DeValue::Table(entries) => Some(Self::open(self.errors, entries, schema, place)),
            other => {
                self.errors
                    .wrong(&place, format!("expected one table {}, found {}", schema.heading, kind(other)));
                None
            }
        }
    }

    /// The table `[name]`, which must be there.
    pub(super) fn required_table(&self, schema: &'static Table) -> Option<Self> {
        if self.get(schema.name).is_none() && !self.is_misspelt(schema.name) {
            self.errors.missing(
                &Place { key: self.path(schema.name), span: self.place.span.clone() },
                format!("missing; give a table {}", schema.heading),
            );
        }
        self.table(schema)
    }

    /// Every table `[[name]]`.
    pub(super) fn tables(&self, schema: &'static Table) -> Vec<Self> {
        self.elements(schema)
            .into_iter()
            .filter_map(|(place, value)| {
                let DeValue::Table(entries) = value else {
                    self.errors.wrong(&place, format!("expected a table, found {}", kind(value)));
                    return None;
                };
                Some(Self::open(self.errors, entries, schema, place))
            })
            .collect()
    }

    /// Every table `[[name]]`, of which there must be one.
    pub(super) fn required_tables(&self, schema: &'static Table) -> Vec<Self> {
        let tables = self.tables(schema);
        if self
            .get(schema.name)
            .is_none_or(|(_, value)| value.as_array().is_some_and(|tables| tables.is_empty()))
            && !self.is_misspelt(schema.name)
        {
            let place = Place { key: self.path(schema.name), span: self.place.span.clone() };
            self.errors.missing(&place, format!("missing; give at least one {}", schema.heading));
        }
        tables
    }

    /// Every element of the list, unread.
    fn elements(&self, schema: &'static Table) -> Vec<(Place, &'a DeValue<'a>)> {
        match self.get(schema.name) {
            None => Vec::new(),
            Some((place, DeValue::Array(values))) => {
                let at = |(index, value): (usize, &'a Spanned<DeValue<'a>>)| {
                    (Place { key: format!("{}[{index}]", place.key), span: value.span() }, value.get_ref())
                };
                values.iter().enumerate().map(at).collect()
            }
            Some((place, other)) => {
                self.errors
                    .wrong(&place, format!("expected {}, once each, found {}", schema.heading, kind(other)));
                Vec::new()
            }
        }
    }
}
