//! Having a program verified with the log of a success, which aya does not hand out: the loading is done here, with aya's maps.

use std::{
    collections::HashSet,
    os::fd::{AsFd as _, AsRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, bail};
use aya::{Ebpf, EbpfLoader, maps::Map};
use aya_obj::{Function, Object, ProgramSection, generated::bpf_attach_type};
use common::node::Node;

use crate::{
    bpf::{self, BPF_F_XDP_HAS_FRAGS, Instruction, Kind, Typed},
    progrun,
};

/// An object whose maps are made and whose programs refer to them.
pub struct Loadable {
    object: Object,
    types: OwnedFd,
    _maps: Ebpf,
}

/// A program that the kernel has taken.
pub struct Verified {
    /// The program as it was loaded, functions that it calls and all.
    pub instructions: Vec<Instruction>,
    /// What the verifier had to say.
    pub log: String,
}

impl Loadable {
    /// The object with a node's constants.
    pub fn new(bytes: &[u8], node: &Node) -> Result<Self> {
        let maps = progrun::small(&mut EbpfLoader::new(), node).load(bytes).context("make the maps")?;
        let mut object = Object::parse(bytes).context("read the object")?;
        let features = aya::features();
        let known = features.btf().context("this kernel knows no BTF")?;
        let types = object.fixup_and_sanitize_btf(known)?.context("an object without BTF")?;
        let types = bpf::load_types(&types.to_bytes())?;

        let sections: HashSet<usize> = object.functions.keys().map(|(section, _)| *section).collect();
        let definitions = object.maps.clone();
        let mut made = Vec::new();
        for (name, definition) in &definitions {
            let map = maps.map(name).with_context(|| format!("no map {name}"))?;
            made.push((name.as_str(), descriptor(map)?, definition));
        }
        object.relocate_maps(made.into_iter(), &sections)?;
        object.relocate_calls(&sections)?;
        object.sanitize_functions(features);
        Ok(Self { object, types, _maps: maps })
    }

    /// Names of the programs, in order.
    pub fn programs(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.object.programs.keys().map(String::as_str).collect();
        names.sort_unstable();
        names
    }

    /// Has the kernel verify a program.
    pub fn verify(&self, name: &str) -> Result<Verified> {
        let program = self.object.programs.get(name).context("no such program")?;
        let function =
            self.object.functions.get(&program.function_key()).context("a program without code")?;
        let Function { instructions, func_info, func_info_rec_size, .. } = function;
        let instructions: Vec<Instruction> = instructions
            .iter()
            .map(|from| Instruction {
                code: from.code,
                registers: from.src_reg() << 4 | from.dst_reg(),
                offset: from.off,
                immediate: from.imm,
            })
            .collect();
        let (kind, attach_type, flags) = kind(&program.section)?;
        let typed = Typed {
            types: self.types.as_fd(),
            functions: &func_info.func_info_bytes(),
            function_size: *func_info_rec_size,
        };
        let log = bpf::verify(kind, &instructions, attach_type, flags, typed)?;
        Ok(Verified { instructions, log })
    }
}

/// How aya loads a program of that section: type, `attach_type`, flags.
fn kind(section: &ProgramSection) -> Result<(Kind, u32, u32)> {
    Ok(match section {
        ProgramSection::SchedClassifier => (Kind::Tc, 0, 0),
        ProgramSection::Xdp { frags, attach_type } => {
            let flags = if *frags { BPF_F_XDP_HAS_FRAGS } else { 0 };
            (Kind::Xdp, bpf_attach_type::from(*attach_type) as u32, flags)
        }
        ProgramSection::CgroupSockAddr { attach_type } => {
            (Kind::CgroupSockAddr, bpf_attach_type::from(*attach_type) as u32, 0)
        }
        other => bail!("a program of section {other:?}"),
    })
}

fn descriptor(map: &Map) -> Result<i32> {
    let data = match map {
        Map::Array(data)
        | Map::PerCpuArray(data)
        | Map::HashMap(data)
        | Map::PerCpuHashMap(data)
        | Map::LruHashMap(data)
        | Map::LpmTrie(data)
        | Map::ProgramArray(data) => data,
        other => bail!("{other:?} is no map of these programs"),
    };
    Ok(data.fd().as_fd().as_raw_fd())
}
