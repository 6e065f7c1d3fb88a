//! What a BPF map of any kind holds, as bytes.

use std::{
    io,
    os::fd::{AsFd as _, BorrowedFd},
    sync::OnceLock,
};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use aya::{
    maps::{Map, MapData},
    util::nr_cpus,
};
use bytemuck::{AnyBitPattern, NoUninit};

use crate::bpf::{self, Element};

/// Errno of a key that a map does not have.
const ENOENT: i32 = 2;

/// A key and what is there: of a map per CPU, the values of all CPUs.
pub type Entry = (Vec<u8>, Vec<u8>);

/// Whether what a map holds are entries, and not programs.
#[must_use]
pub const fn has_entries(map: &Map) -> bool {
    !matches!(map, Map::ProgramArray(_))
}

/// A map, without its types.
pub struct Bytes<'a> {
    map: BorrowedFd<'a>,
    is_array: bool,
    key_size: usize,
    value_size: usize,
    max_entries: u32,
}

impl<'a> Bytes<'a> {
    /// Of a map that programs and loader fill. Those whose contents are no entries are none of these.
    pub fn of(map: &'a Map) -> Result<Self> {
        let (data, is_array, is_per_cpu) = match map {
            Map::Array(data) => (data, true, false),
            Map::PerCpuArray(data) => (data, true, true),
            Map::PerCpuHashMap(data) => (data, false, true),
            Map::HashMap(data) | Map::LruHashMap(data) | Map::LpmTrie(data) => (data, false, false),
            other => bail!("{other:?} is no map of entries"),
        };
        Self::new(data, is_array, is_per_cpu)
    }

    fn new(data: &'a MapData, is_array: bool, is_per_cpu: bool) -> Result<Self> {
        let info = data.info()?;
        let size = usize::try_from(info.value_size())?;
        let value_size = if is_per_cpu { size.next_multiple_of(8) * cpus()? } else { size };
        Ok(Self {
            map: data.fd().as_fd(),
            is_array,
            key_size: usize::try_from(info.key_size())?,
            value_size,
            max_entries: info.max_entries(),
        })
    }

    /// All entries, in the order of their keys; of an array, those that are not zero.
    pub fn entries(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let mut key = self.key_after(None)?;
        while let Some(found) = key {
            let mut value = vec![0; self.value_size];
            bpf::map_element(self.map, Element::LookUp, &found, &mut value)?;
            key = self.key_after(Some(&found))?;
            if !self.is_array || value.iter().any(|byte| *byte != 0) {
                entries.push((found, value));
            }
        }
        entries.sort();
        Ok(entries)
    }

    /// All values of an array, in order; of one per CPU, those of all CPUs.
    pub fn values<T: AnyBitPattern>(&self) -> Result<Vec<Vec<T>>> {
        self.is_array_of::<T>()?;
        let mut values = vec![0; self.size()?];
        let mut keys = vec![0; usize::try_from(self.max_entries)? * self.key_size];
        bpf::look_up_all(self.map, &mut keys, &mut values, self.max_entries)?;
        let value =
            |bytes: &[u8]| bytes.chunks_exact(size_of::<T>()).map(bytemuck::pod_read_unaligned).collect();
        Ok(values.chunks_exact(self.value_size).map(value).collect())
    }

    /// Makes all values of an array the same, on all CPUs.
    pub fn set_all<T: NoUninit>(&self, value: &T) -> Result<()> {
        self.is_array_of::<T>()?;
        self.overwrite(&bytemuck::bytes_of(value).repeat(self.size()? / size_of::<T>()))
    }

    fn is_array_of<T>(&self) -> Result<()> {
        let fits = self.is_array && self.value_size.is_multiple_of(size_of::<T>());
        ensure!(fits, "no array of {}", std::any::type_name::<T>());
        Ok(())
    }

    /// Bytes of all values of an array.
    fn size(&self) -> Result<usize> {
        Ok(usize::try_from(self.max_entries)? * self.value_size)
    }

    fn overwrite(&self, values: &[u8]) -> Result<()> {
        let keys: Vec<u8> = (0..self.max_entries).flat_map(u32::to_ne_bytes).collect();
        bpf::update_all(self.map, &keys, values, self.max_entries)
    }

    /// Makes the map what it was when it was made.
    pub fn clear(&self) -> Result<()> {
        if self.is_array {
            return self.overwrite(&vec![0; self.size()?]);
        }
        while let Some(key) = self.key_after(None)? {
            bpf::map_element(self.map, Element::Delete, &key, &mut [])?;
        }
        Ok(())
    }

    /// Puts something into the map that is in none: for proofs that it goes away. Its key is given for a map whose keys are not just
    /// any bytes.
    pub fn spoil(&self, key: Option<&[u8]>) -> Result<()> {
        let key = match key {
            Some(key) => key.to_vec(),
            None if self.is_array => (self.max_entries - 1).to_ne_bytes().to_vec(),
            None => vec![0x5a; self.key_size],
        };
        bpf::map_element(self.map, Element::Update, &key, &mut vec![0x5a; self.value_size])
    }

    fn key_after(&self, key: Option<&[u8]>) -> Result<Option<Vec<u8>>> {
        let mut next = vec![0; self.key_size];
        match bpf::next_key(self.map, key, &mut next) {
            Ok(()) => Ok(Some(next)),
            Err(error) if errno(&error) == Some(ENOENT) => Ok(None),
            Err(error) => Err(error).context("the next key of a map"),
        }
    }
}

/// How many CPUs a map per CPU has values of.
pub fn cpus() -> Result<usize> {
    static CPUS: OnceLock<usize> = OnceLock::new();
    if let Some(cpus) = CPUS.get() {
        return Ok(*cpus);
    }
    let cpus = nr_cpus().map_err(|(file, error)| anyhow!("{file}: {error}"))?;
    Ok(*CPUS.get_or_init(|| cpus))
}

fn errno(error: &anyhow::Error) -> Option<i32> {
    error.downcast_ref::<io::Error>().and_then(io::Error::raw_os_error)
}
