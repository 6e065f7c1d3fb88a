//! What a finished BPF object contains: its programs with their sizes, and whether its types came along.

use anyhow::{Context as _, Result, bail};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind, SymbolKind, SymbolSection};

/// Bytes of one BPF instruction.
const INSTRUCTION: u64 = 8;

/// One function in the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Function {
    /// The symbol's name.
    pub(crate) name: String,
    /// The section it is in: the program type for an entry point, `.text` for a subprogram.
    pub(crate) section: String,
    /// Its length in instructions, before the verifier prunes any.
    pub(crate) instructions: u64,
}

impl Function {
    /// Whether it is called by programs, rather than attached.
    pub(crate) fn is_subprogram(&self) -> bool {
        self.section == ".text"
    }
}

/// Reads the functions of a BPF object, and fails where it has none or where its BTF is missing: a bpf-linker whose
/// LLVM is not rustc's loses the debug information that BTF is made from, without a word.
pub(crate) fn functions(elf: &[u8]) -> Result<Vec<Function>> {
    let file = object::File::parse(elf).context("the linker's output is not an ELF object")?;
    for section in [".BTF", ".BTF.ext"] {
        if file.section_by_name(section).is_none() {
            bail!("the object has no section {section}: rustc and bpf-linker differ in their LLVM");
        }
    }
    let mut functions = Vec::new();
    for symbol in file.symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
        let SymbolSection::Section(index) = symbol.section() else { continue };
        let section = file.section_by_index(index)?;
        if section.kind() != SectionKind::Text || symbol.size() == 0 {
            continue;
        }
        functions.push(Function {
            name: symbol.name()?.to_owned(),
            section: section.name()?.to_owned(),
            instructions: symbol.size() / INSTRUCTION,
        });
    }
    functions.sort_by(|a, b| a.name.cmp(&b.name));
    if functions.is_empty() {
        bail!("the object has no program in it");
    }
    Ok(functions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_object_is_refused() {
        let error = functions(b"BC\xc0\xde bitcode, not an object").unwrap_err();
        assert!(error.to_string().contains("not an ELF object"), "{error:#}");
    }

    #[test]
    fn an_object_without_btf_is_refused() {
        let mut elf = vec![0_u8; 64];
        elf[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
        // e_type REL, e_machine BPF, e_version 1, e_ehsize 64, no sections.
        elf[16..24].copy_from_slice(&[1, 0, 247, 0, 1, 0, 0, 0]);
        elf[52] = 64;
        elf[58] = 64;
        let error = functions(&elf).unwrap_err();
        assert!(error.to_string().contains("no section .BTF"), "{error:#}");
    }
}
