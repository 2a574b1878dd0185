//! The `bpf(2)` calls that aya does not offer, or not with what a benchmark needs of them. Nothing here knows
//! what programs and maps mean.

use std::ffi::CStr;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use aya_obj::generated::{
    BPF_F_TEST_XDP_LIVE_FRAMES, bpf_attach_type, bpf_attr, bpf_cmd, bpf_insn, bpf_map_info, bpf_prog_info,
};

/// Entries of one batch call.
const BATCH: usize = 16384;

fn zeroed() -> bpf_attr {
    // SAFETY: bpf_attr is a union of plain integers; the kernel demands zero where nothing is given.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: `attr` is a whole bpf_attr, and the callers below set only pointers to live buffers of the
    // size the kernel knows.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_long, std::ptr::from_mut(attr), size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

/// What a test-run is given.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Input<'a> {
    pub(crate) frame: &'a [u8],
    /// The program type's context; empty: the kernel's default.
    pub(crate) context: &'a [u8],
    pub(crate) repeat: u32,
}

/// What it brought.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Ran {
    /// Of the last repeat.
    pub(crate) verdict: u32,
    /// Mean time of one repeat.
    pub(crate) ns: u32,
}

/// Runs a program over one frame, again and again, without resetting it in between.
pub(crate) fn test_run(program: BorrowedFd<'_>, input: Input<'_>) -> io::Result<Ran> {
    run(program, input, 0)
}

/// Makes frames of `input` and lets them go where the program says.
pub(crate) fn run_live(program: BorrowedFd<'_>, input: Input<'_>) -> io::Result<()> {
    run(program, input, BPF_F_TEST_XDP_LIVE_FRAMES).map(drop)
}

fn run(program: BorrowedFd<'_>, input: Input<'_>, flags: u32) -> io::Result<Ran> {
    let mut attr = zeroed();
    // SAFETY: a union of plain integers.
    let test = unsafe { &mut attr.test };
    test.prog_fd = program.as_raw_fd() as u32;
    test.data_in = input.frame.as_ptr() as u64;
    test.data_size_in = input.frame.len() as u32;
    if !input.context.is_empty() {
        test.ctx_in = input.context.as_ptr() as u64;
        test.ctx_size_in = input.context.len() as u32;
    }
    test.repeat = input.repeat;
    test.flags = flags;
    call(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr)?;
    // SAFETY: as above; the kernel filled it.
    let test = unsafe { attr.test };
    Ok(Ran { verdict: test.retval, ns: test.duration })
}

fn by_id(command: bpf_cmd, id: u32) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.__bindgen_anon_6.__bindgen_anon_1.prog_id = id;
    let fd = call(command, &mut attr)?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

pub(crate) fn program_by_id(id: u32) -> io::Result<OwnedFd> {
    by_id(bpf_cmd::BPF_PROG_GET_FD_BY_ID, id)
}

pub(crate) fn map_by_id(id: u32) -> io::Result<OwnedFd> {
    by_id(bpf_cmd::BPF_MAP_GET_FD_BY_ID, id)
}

/// The programs at tc ingress (tcx) of an interface of the calling thread's namespace, in order.
pub(crate) fn tcx_programs(ifindex: u32) -> io::Result<Vec<u32>> {
    let mut ids = [0u32; 64];
    let mut attr = zeroed();
    // SAFETY: a union of plain integers.
    let query = unsafe { &mut attr.query };
    query.__bindgen_anon_1.target_ifindex = ifindex;
    query.attach_type = bpf_attach_type::BPF_TCX_INGRESS as u32;
    query.prog_ids = ids.as_mut_ptr() as u64;
    query.__bindgen_anon_2.prog_cnt = ids.len() as u32;
    call(bpf_cmd::BPF_PROG_QUERY, &mut attr)?;
    // SAFETY: as above; the kernel wrote how many there are.
    let count = unsafe { attr.query.__bindgen_anon_2.prog_cnt } as usize;
    Ok(ids[..count.min(ids.len())].to_vec())
}

fn info<T>(fd: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attr = zeroed();
    // SAFETY: a union of plain integers.
    let query = unsafe { &mut attr.info };
    query.bpf_fd = fd.as_raw_fd() as u32;
    query.info = std::ptr::from_mut(info) as u64;
    query.info_len = size_of::<T>() as u32;
    call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

pub(crate) fn map_info(fd: BorrowedFd<'_>) -> io::Result<bpf_map_info> {
    // SAFETY: plain integers.
    let mut found: bpf_map_info = unsafe { MaybeUninit::zeroed().assume_init() };
    info(fd, &mut found)?;
    Ok(found)
}

pub(crate) fn program_info(fd: BorrowedFd<'_>) -> io::Result<bpf_prog_info> {
    // SAFETY: plain integers.
    let mut found: bpf_prog_info = unsafe { MaybeUninit::zeroed().assume_init() };
    info(fd, &mut found)?;
    Ok(found)
}

/// The maps that a program uses, by id.
pub(crate) fn maps_of(program: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    let mut ids = vec![0u32; program_info(program)?.nr_map_ids as usize];
    // SAFETY: plain integers, all but these zero, so that the kernel fills in nothing else.
    let mut found: bpf_prog_info = unsafe { MaybeUninit::zeroed().assume_init() };
    found.nr_map_ids = ids.len() as u32;
    found.map_ids = ids.as_mut_ptr() as u64;
    info(program, &mut found)?;
    ids.truncate(found.nr_map_ids as usize);
    Ok(ids)
}

/// A name as the kernel keeps it: at most 15 bytes.
pub(crate) fn name_of(name: &[core::ffi::c_char]) -> String {
    let bytes: Vec<u8> = name.iter().map(|c| *c as u8).take_while(|c| *c != 0).collect();
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Writes `value` at `key`, whose sizes are compared with the map's.
pub(crate) fn update(map: BorrowedFd<'_>, key: &[u8], value: &[u8]) -> io::Result<()> {
    check(map, key.len(), value.len())?;
    let mut attr = zeroed();
    // SAFETY: a union of plain integers.
    let element = unsafe { &mut attr.__bindgen_anon_2 };
    element.map_fd = map.as_raw_fd() as u32;
    element.key = key.as_ptr() as u64;
    element.__bindgen_anon_1.value = value.as_ptr() as u64;
    call(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).map(drop)
}

/// Reads the value at `key`, whose sizes are compared with the map's.
pub(crate) fn lookup(map: BorrowedFd<'_>, key: &[u8], value: &mut [u8]) -> io::Result<()> {
    check(map, key.len(), value.len())?;
    let mut attr = zeroed();
    // SAFETY: a union of plain integers.
    let element = unsafe { &mut attr.__bindgen_anon_2 };
    element.map_fd = map.as_raw_fd() as u32;
    element.key = key.as_ptr() as u64;
    element.__bindgen_anon_1.value = value.as_mut_ptr() as u64;
    call(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr).map(drop)
}

/// The kernel copies as many bytes as the map has, whatever it is given; per-CPU maps have a value for each CPU.
fn check(map: BorrowedFd<'_>, key: usize, value: usize) -> io::Result<()> {
    use aya_obj::generated::bpf_map_type::{
        BPF_MAP_TYPE_LRU_PERCPU_HASH, BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_PERCPU_HASH,
    };
    let info = map_info(map)?;
    let per_cpu = [BPF_MAP_TYPE_PERCPU_ARRAY, BPF_MAP_TYPE_PERCPU_HASH, BPF_MAP_TYPE_LRU_PERCPU_HASH];
    let mut needed = info.value_size as usize;
    if per_cpu.iter().any(|kind| *kind as u32 == info.type_) {
        let cpus = aya::util::nr_cpus().map_err(|(_, error)| error)?;
        needed = needed.next_multiple_of(8) * cpus;
    }
    if (key, value) == (info.key_size as usize, needed) {
        return Ok(());
    }
    let what =
        format!("a map with keys of {} and values of {needed} bytes, not {key} and {value}", info.key_size);
    Err(io::Error::new(io::ErrorKind::InvalidInput, what))
}

/// Adds zeroed values for all keys (which lie one behind the other).
pub(crate) fn fill(map: BorrowedFd<'_>, keys: &[u8]) -> io::Result<()> {
    let info = map_info(map)?;
    let (key_size, value_size) = (info.key_size as usize, info.value_size as usize);
    let values = vec![0u8; BATCH * value_size];
    for chunk in keys.chunks(BATCH * key_size) {
        let mut attr = zeroed();
        // SAFETY: a union of plain integers.
        let batch = unsafe { &mut attr.batch };
        batch.keys = chunk.as_ptr() as u64;
        batch.values = values.as_ptr() as u64;
        batch.count = (chunk.len() / key_size) as u32;
        batch.map_fd = map.as_raw_fd() as u32;
        call(bpf_cmd::BPF_MAP_UPDATE_BATCH, &mut attr)?;
    }
    Ok(())
}

/// Deletes everything in a hash map; answers how many there were.
pub(crate) fn empty(map: BorrowedFd<'_>) -> io::Result<u64> {
    let info = map_info(map)?;
    let mut room = BATCH.min(info.max_entries as usize).max(1);
    let mut total = 0;
    let (mut cursor, mut started) = (0u32, false);
    loop {
        let mut keys = vec![0u8; room * info.key_size as usize];
        let mut values = vec![0u8; room * info.value_size as usize];
        let mut next = 0u32;
        let mut attr = zeroed();
        // SAFETY: a union of plain integers.
        let batch = unsafe { &mut attr.batch };
        // A hash map's cursor is a bucket number of four bytes.
        batch.in_batch = if started { std::ptr::from_mut(&mut cursor) as u64 } else { 0 };
        batch.out_batch = std::ptr::from_mut(&mut next) as u64;
        batch.keys = keys.as_mut_ptr() as u64;
        batch.values = values.as_mut_ptr() as u64;
        batch.count = room as u32;
        batch.map_fd = map.as_raw_fd() as u32;
        let result = call(bpf_cmd::BPF_MAP_LOOKUP_AND_DELETE_BATCH, &mut attr);
        // SAFETY: as above; the kernel writes the count back.
        let done = u64::from(unsafe { attr.batch.count });
        match result {
            Ok(_) => total += done,
            // That was the last bucket.
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(total + done),
            // One bucket holds more than there is room for: nothing was copied.
            Err(error) if error.raw_os_error() == Some(libc::ENOSPC) => {
                room *= 2;
                continue;
            }
            Err(error) => return Err(error),
        }
        (cursor, started) = (next, true);
    }
}

/// What is loaded, and how.
pub(crate) struct ToLoad<'a> {
    /// `enum bpf_prog_type`
    pub(crate) kind: u32,
    /// `enum bpf_attach_type`
    pub(crate) attach: u32,
    pub(crate) flags: u32,
    pub(crate) license: &'a CStr,
    pub(crate) instructions: &'a [bpf_insn],
    /// The object's types, and where its functions begin: callbacks need both.
    pub(crate) btf: BorrowedFd<'a>,
    pub(crate) functions: &'a [u8],
    /// Bytes of one of `functions`.
    pub(crate) function_size: usize,
}

/// Loads the types of an object.
pub(crate) fn load_btf(types: &[u8]) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    // SAFETY: a union of plain integers.
    let load = unsafe { &mut attr.__bindgen_anon_7 };
    load.btf = types.as_ptr() as u64;
    load.btf_size = types.len() as u32;
    let fd = call(bpf_cmd::BPF_BTF_LOAD, &mut attr)?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Room for the verifier's statistics, and for its complaint.
const LOG_BYTES: usize = 1 << 20;
/// Statistics only.
const LOG_STATISTICS: u32 = 4;

/// Loads a program and answers what the verifier says of it; the program goes at once.
pub(crate) fn verify(program: &ToLoad<'_>) -> Result<String, (io::Error, String)> {
    let mut log = vec![0u8; LOG_BYTES];
    let mut attr = zeroed();
    // SAFETY: a union of plain integers.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = program.kind;
    load.expected_attach_type = program.attach;
    load.prog_flags = program.flags;
    load.insns = program.instructions.as_ptr() as u64;
    load.insn_cnt = program.instructions.len() as u32;
    load.license = program.license.as_ptr() as u64;
    load.prog_btf_fd = program.btf.as_raw_fd() as u32;
    load.func_info = program.functions.as_ptr() as u64;
    load.func_info_rec_size = program.function_size as u32;
    load.func_info_cnt = (program.functions.len() / program.function_size.max(1)) as u32;
    load.log_level = LOG_STATISTICS;
    load.log_buf = log.as_mut_ptr() as u64;
    load.log_size = log.len() as u32;
    let result = call(bpf_cmd::BPF_PROG_LOAD, &mut attr);
    let end = log.iter().position(|byte| *byte == 0).unwrap_or(log.len());
    let text = String::from_utf8_lossy(&log[..end]).into_owned();
    match result {
        Ok(fd) => {
            // SAFETY: the kernel has just given this descriptor to us alone.
            drop(unsafe { OwnedFd::from_raw_fd(fd) });
            Ok(text)
        }
        Err(error) => Err((error, text)),
    }
}

/// The ids of all programs in the kernel.
pub(crate) fn program_ids() -> io::Result<Vec<u32>> {
    let mut ids = Vec::new();
    loop {
        let mut attr = zeroed();
        attr.__bindgen_anon_6.__bindgen_anon_1.start_id = ids.last().copied().unwrap_or(0);
        match call(bpf_cmd::BPF_PROG_GET_NEXT_ID, &mut attr) {
            // SAFETY: a union of plain integers; the kernel filled in the next id.
            Ok(_) => ids.push(unsafe { attr.__bindgen_anon_6.next_id }),
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(ids),
            Err(error) => return Err(error),
        }
    }
}
