//! The `bpf` system call, for what aya has no way to: programs that no compiler made, what the verifier says, maps without their types.

use std::{
    io,
    os::fd::{AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
};

use anyhow::{Context as _, Result, ensure};

const BPF_MAP_CREATE: i64 = 0;
const BPF_MAP_LOOKUP_ELEM: i64 = 1;
const BPF_MAP_UPDATE_ELEM: i64 = 2;
const BPF_MAP_DELETE_ELEM: i64 = 3;
const BPF_MAP_GET_NEXT_KEY: i64 = 4;
const BPF_PROG_LOAD: i64 = 5;
const BPF_PROG_TEST_RUN: i64 = 10;
const BPF_BTF_LOAD: i64 = 18;
const BPF_MAP_LOOKUP_BATCH: i64 = 24;
const BPF_MAP_UPDATE_BATCH: i64 = 26;
const BPF_LINK_CREATE: i64 = 28;

const BPF_MAP_TYPE_PROG_ARRAY: u32 = 3;
/// The verifier is to say only what its work has cost.
const BPF_LOG_STATS: u32 = 4;
/// Bytes of what it says then, at most.
const LOG: usize = 1 << 16;

/// `bpf_attach_type` of XDP.
pub const BPF_XDP: u32 = 37;
/// The program takes packets in several pieces.
pub const BPF_F_XDP_HAS_FRAGS: u32 = 1 << 5;

/// Type of a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Kind {
    /// TC.
    Tc = 3,
    /// XDP.
    Xdp = 6,
    /// System calls of sockets that take an address.
    CgroupSockAddr = 18,
}

/// One BPF instruction.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    /// Operation.
    pub code: u8,
    /// Destination in the lower half, source in the upper.
    pub registers: u8,
    /// Where to, or from where.
    pub offset: i16,
    /// Operand.
    pub immediate: i32,
}

/// The fields of `union bpf_attr` that loading a program takes.
#[repr(C)]
struct ProgramAttributes {
    program_type: u32,
    instruction_count: u32,
    instructions: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buffer: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
    interface: u32,
    attach_type: u32,
    types: u32,
    function_size: u32,
    functions: u64,
    function_count: u32,
    line_size: u32,
}

/// The fields of `union bpf_attr` that loading types takes.
#[repr(C)]
struct TypesAttributes {
    types: u64,
    log_buffer: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
}

/// What the kernel is to know of a program's functions.
#[derive(Clone, Copy, Debug)]
pub struct Typed<'a> {
    /// BTF, loaded.
    pub types: BorrowedFd<'a>,
    /// `struct bpf_func_info` of each function.
    pub functions: &'a [u8],
    /// Bytes of one of them.
    pub function_size: usize,
}

/// The fields of `union bpf_attr` that attaching by a link takes.
#[repr(C)]
struct LinkAttributes {
    program: u32,
    interface: u32,
    attach_type: u32,
    flags: u32,
    relative: u32,
    reserved: u32,
    expected_revision: u64,
}

/// The fields of `union bpf_attr` that running a program takes.
#[repr(C)]
struct RunAttributes {
    program: u32,
    returned: u32,
    size_in: u32,
    size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    context_size_in: u32,
    context_size_out: u32,
    context_in: u64,
    context_out: u64,
}

/// The fields of `union bpf_attr` that making a map takes.
#[repr(C)]
struct MapAttributes {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// The fields of `union bpf_attr` that an element takes.
#[repr(C)]
struct ElementAttributes {
    map: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The fields of `union bpf_attr` that changing many elements at once takes.
#[repr(C)]
struct BatchAttributes {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map: u32,
    element_flags: u64,
    flags: u64,
}

/// What to do with an element of a map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Element {
    /// Read its value.
    LookUp,
    /// Write its value, whether it is there or not.
    Update,
    /// Remove it.
    Delete,
}

/// Loads a program for XDP with that `attach_type` and those flags, or for TC with neither.
pub fn load(kind: Kind, instructions: &[Instruction], attach_type: u32, flags: u32) -> Result<OwnedFd> {
    let mut attributes = program(kind, instructions, attach_type, flags)?;
    open(BPF_PROG_LOAD, &mut attributes).context("load a program")
}

/// Has a program verified; what the verifier says of its work, at the end of which the program is gone again.
pub fn verify(
    kind: Kind,
    instructions: &[Instruction],
    attach_type: u32,
    flags: u32,
    typed: Typed<'_>,
) -> Result<String> {
    let mut log = vec![0; LOG];
    let mut attributes = ProgramAttributes {
        log_level: BPF_LOG_STATS,
        log_size: u32::try_from(log.len()).context("a long log")?,
        log_buffer: u64::try_from(log.as_mut_ptr().addr()).context("an address")?,
        types: number(typed.types)?,
        function_size: u32::try_from(typed.function_size).context("a long record")?,
        functions: address(typed.functions)?,
        function_count: u32::try_from(typed.functions.len() / typed.function_size.max(1))?,
        ..program(kind, instructions, attach_type, flags)?
    };
    let loaded = open(BPF_PROG_LOAD, &mut attributes);
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let said = String::from_utf8_lossy(&log[..end]).into_owned();
    loaded.with_context(|| format!("the verifier refuses it: {said}"))?;
    Ok(said)
}

/// Loads BTF.
pub fn load_types(types: &[u8]) -> Result<OwnedFd> {
    let mut attributes = TypesAttributes {
        types: address(types)?,
        log_buffer: 0,
        size: u32::try_from(types.len()).context("many types")?,
        log_size: 0,
        log_level: 0,
    };
    open(BPF_BTF_LOAD, &mut attributes).context("load types")
}

fn program(
    kind: Kind,
    instructions: &[Instruction],
    attach_type: u32,
    flags: u32,
) -> Result<ProgramAttributes> {
    let license = c"GPL";
    let mut name = [0; 16];
    name[..7].copy_from_slice(b"foreign");
    Ok(ProgramAttributes {
        program_type: kind as u32,
        instruction_count: u32::try_from(instructions.len()).context("a long program")?,
        instructions: u64::try_from(instructions.as_ptr().addr()).context("an address")?,
        license: u64::try_from(license.as_ptr().addr()).context("an address")?,
        log_level: 0,
        log_size: 0,
        log_buffer: 0,
        kernel_version: 0,
        flags,
        name,
        interface: 0,
        attach_type,
        types: 0,
        function_size: 0,
        functions: 0,
        function_count: 0,
        line_size: 0,
    })
}

/// Attaches a program to a device by a link. The index is looked up in the namespace of the caller.
pub fn link(program: BorrowedFd<'_>, interface: u32, attach_type: u32) -> Result<OwnedFd> {
    let attributes = LinkAttributes {
        program: number(program)?,
        interface,
        attach_type,
        flags: 0,
        relative: 0,
        reserved: 0,
        expected_revision: 0,
    };
    open(BPF_LINK_CREATE, &mut { attributes })
}

/// Runs a program so many times on a packet, which it may change each time, with a context if one is given; nanoseconds per run, by the
/// kernel's clock around all of them.
pub fn run(program: BorrowedFd<'_>, packet: &[u8], context: &[u32], repeat: u32) -> Result<u32> {
    let mut attributes = RunAttributes {
        program: number(program)?,
        returned: 0,
        size_in: u32::try_from(packet.len()).context("a long packet")?,
        size_out: 0,
        data_in: u64::try_from(packet.as_ptr().addr()).context("an address")?,
        data_out: 0,
        repeat,
        duration: 0,
        context_size_in: u32::try_from(size_of_val(context)).context("a long context")?,
        context_size_out: 0,
        context_in: if context.is_empty() {
            0
        } else {
            u64::try_from(context.as_ptr().addr()).context("an address")?
        },
        context_out: 0,
    };
    call(BPF_PROG_TEST_RUN, &mut attributes)?;
    Ok(attributes.duration)
}

/// A map of one program that others can go on with.
pub fn program_array(program: BorrowedFd<'_>) -> Result<OwnedFd> {
    let map = MapAttributes { map_type: BPF_MAP_TYPE_PROG_ARRAY, key_size: 4, value_size: 4, max_entries: 1 };
    let map = open(BPF_MAP_CREATE, &mut { map }).context("make a program array")?;
    let (key, value) = (0_u32, number(program)?);
    let mut element = ElementAttributes {
        map: u32::try_from(map.as_raw_fd()).context("a negative descriptor")?,
        reserved: 0,
        key: u64::try_from(std::ptr::from_ref(&key).addr()).context("an address")?,
        value: u64::try_from(std::ptr::from_ref(&value).addr()).context("an address")?,
        flags: 0,
    };
    call(BPF_MAP_UPDATE_ELEM, &mut element).context("put a program into an array")?;
    Ok(map)
}

/// Reads, writes or removes an element. Key and value have to be as long as the map's are, which is not checked.
pub fn map_element(map: BorrowedFd<'_>, what: Element, key: &[u8], value: &mut [u8]) -> Result<()> {
    let command = match what {
        Element::LookUp => BPF_MAP_LOOKUP_ELEM,
        Element::Update => BPF_MAP_UPDATE_ELEM,
        Element::Delete => BPF_MAP_DELETE_ELEM,
    };
    let mut element = ElementAttributes {
        map: number(map)?,
        reserved: 0,
        key: address(key)?,
        // The kernel refuses to remove an element of which it is given a value.
        value: if value.is_empty() { 0 } else { u64::try_from(value.as_mut_ptr().addr())? },
        flags: 0,
    };
    call(command, &mut element).with_context(|| format!("{what:?} an element of a map")).map(drop)
}

/// The key that comes after one, or the first.
pub fn next_key(map: BorrowedFd<'_>, key: Option<&[u8]>, next: &mut [u8]) -> Result<()> {
    let mut element = ElementAttributes {
        map: number(map)?,
        reserved: 0,
        key: key.map_or(Ok(0), address)?,
        value: u64::try_from(next.as_mut_ptr().addr()).context("an address")?,
        flags: 0,
    };
    call(BPF_MAP_GET_NEXT_KEY, &mut element).map(drop)
}

/// Writes so many elements of an array at once.
pub fn update_all(map: BorrowedFd<'_>, keys: &[u8], values: &[u8], count: u32) -> Result<()> {
    let batch = batch(map, address(keys)?, address(values)?, count)?;
    call(BPF_MAP_UPDATE_BATCH, &mut { batch }).context("write the elements of a map").map(drop)
}

/// Reads so many elements of an array at once, from its first on.
pub fn look_up_all(map: BorrowedFd<'_>, keys: &mut [u8], values: &mut [u8], count: u32) -> Result<()> {
    let mut next = 0_u32;
    let keys = u64::try_from(keys.as_mut_ptr().addr()).context("an address")?;
    let values = u64::try_from(values.as_mut_ptr().addr()).context("an address")?;
    let out_batch = u64::try_from(std::ptr::from_mut(&mut next).addr()).context("an address")?;
    let mut batch = BatchAttributes { out_batch, ..batch(map, keys, values, count)? };
    call(BPF_MAP_LOOKUP_BATCH, &mut batch).context("read the elements of a map")?;
    ensure!(batch.count == count, "{} of {count} elements of a map", batch.count);
    Ok(())
}

fn batch(map: BorrowedFd<'_>, keys: u64, values: u64, count: u32) -> Result<BatchAttributes> {
    let map = number(map)?;
    Ok(BatchAttributes { in_batch: 0, out_batch: 0, keys, values, count, map, element_flags: 0, flags: 0 })
}

fn address(bytes: &[u8]) -> Result<u64> {
    u64::try_from(bytes.as_ptr().addr()).context("an address")
}

fn number(descriptor: BorrowedFd<'_>) -> Result<u32> {
    u32::try_from(descriptor.as_raw_fd()).context("a negative descriptor")
}

/// A call that opens a descriptor.
fn open<T>(command: i64, attributes: &mut T) -> Result<OwnedFd> {
    let descriptor = call(command, attributes)?;
    // SAFETY: the kernel has just opened it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(descriptor) })
}

fn call<T>(command: i64, attributes: &mut T) -> Result<i32> {
    // SAFETY: the pointer and the size describe `attributes`, whose own pointers are to what outlives the call.
    let result =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<T>()) };
    let answer = i32::try_from(result).context("an answer beyond i32")?;
    if answer < 0 { Err(io::Error::last_os_error()).context("bpf") } else { Ok(answer) }
}
