//! The `bpf(2)` calls that aya does not offer: maps by raw bytes, batches, and what a pin really is.
//! Nothing here knows what the maps mean.

use std::ffi::CString;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_link_info, bpf_link_type, bpf_map_info};

pub(crate) const ANY: u64 = 0;
pub(crate) const NOEXIST: u64 = 1;
pub(crate) const EXIST: u64 = 2;

fn zeroed() -> bpf_attr {
    // SAFETY: bpf_attr is a union of plain integers; the kernel demands zero where nothing is given.
    unsafe { MaybeUninit::zeroed().assume_init() }
}

fn call(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: `attr` is a whole bpf_attr, and the callers below set only pointers to live buffers of the
    // size the kernel knows for the map.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, command as libc::c_long, std::ptr::from_mut(attr), size_of::<bpf_attr>())
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn path_c(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Opens what is pinned at `path`.
pub(crate) fn object_get(path: &Path) -> io::Result<OwnedFd> {
    let path = path_c(path)?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    let fd = call(bpf_cmd::BPF_OBJ_GET, &mut attr)?;
    // SAFETY: the kernel has just given this descriptor to us alone.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn info<T>(fd: BorrowedFd<'_>) -> io::Result<T> {
    let mut info = MaybeUninit::<T>::zeroed();
    let mut attr = zeroed();
    // SAFETY: a union of plain integers; writing a field of it cannot invalidate another.
    let query = unsafe { &mut attr.info };
    query.bpf_fd = fd.as_raw_fd() as u32;
    query.info = info.as_mut_ptr() as u64;
    query.info_len = size_of::<T>() as u32;
    call(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr)?;
    // SAFETY: `T` is one of the kernel's info structs, plain integers, zeroed and then filled.
    Ok(unsafe { info.assume_init() })
}

pub(crate) fn map_info(fd: BorrowedFd<'_>) -> io::Result<bpf_map_info> {
    info(fd)
}

/// What a link of tcx or XDP holds together.
pub(crate) struct Link {
    /// The interface it is on; 0 when that interface is gone.
    pub(crate) ifindex: u32,
    /// The program's id.
    pub(crate) program: u32,
}

pub(crate) fn link(fd: BorrowedFd<'_>) -> io::Result<Link> {
    let info: bpf_link_info = info(fd)?;
    let xdp = info.type_ == bpf_link_type::BPF_LINK_TYPE_XDP as u32;
    // SAFETY: a union of plain integers, zeroed before the kernel filled it.
    let ifindex =
        unsafe { if xdp { info.__bindgen_anon_1.xdp.ifindex } else { info.__bindgen_anon_1.tcx.ifindex } };
    Ok(Link { ifindex, program: info.prog_id })
}

/// Detaches a link now. Without this, removing its last pin does so some time later.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    let mut attr = zeroed();
    attr.link_detach.link_fd = link.as_raw_fd() as u32;
    call(bpf_cmd::BPF_LINK_DETACH, &mut attr).map(drop)
}

/// # Safety
/// `key` and `value` must point to buffers of the map's key and value size (per-CPU maps: one 8-aligned
/// value per possible CPU); `value` is written by a lookup.
unsafe fn element(
    command: bpf_cmd,
    map: BorrowedFd<'_>,
    key: *const u8,
    value: *mut u8,
    flags: u64,
) -> io::Result<()> {
    let mut attr = zeroed();
    // SAFETY: a union of plain integers.
    let element = unsafe { &mut attr.__bindgen_anon_2 };
    element.map_fd = map.as_raw_fd() as u32;
    element.key = key as u64;
    element.__bindgen_anon_1.value = value as u64;
    element.flags = flags;
    call(command, &mut attr).map(drop)
}

/// # Safety
/// See [`element`].
pub(crate) unsafe fn lookup(map: BorrowedFd<'_>, key: *const u8, value: *mut u8) -> io::Result<()> {
    // SAFETY: handed on.
    unsafe { element(bpf_cmd::BPF_MAP_LOOKUP_ELEM, map, key, value, 0) }
}

/// # Safety
/// See [`element`].
pub(crate) unsafe fn update(
    map: BorrowedFd<'_>,
    key: *const u8,
    value: *const u8,
    flags: u64,
) -> io::Result<()> {
    // SAFETY: handed on; an update only reads the value.
    unsafe { element(bpf_cmd::BPF_MAP_UPDATE_ELEM, map, key, value.cast_mut(), flags) }
}

/// # Safety
/// See [`element`].
pub(crate) unsafe fn delete(map: BorrowedFd<'_>, key: *const u8) -> io::Result<()> {
    // SAFETY: handed on; a deletion does not look at the value.
    unsafe { element(bpf_cmd::BPF_MAP_DELETE_ELEM, map, key, std::ptr::null_mut(), 0) }
}

/// # Safety
/// `key` (may be null: the first) and `next` must point to buffers of the map's key size.
pub(crate) unsafe fn next_key(map: BorrowedFd<'_>, key: *const u8, next: *mut u8) -> io::Result<()> {
    // SAFETY: handed on; `next_key` shares its place with `value`.
    unsafe { element(bpf_cmd::BPF_MAP_GET_NEXT_KEY, map, key, next, 0) }
}

/// One batch call. For lookups `input` and `output` are the kernel's cursors. Answers how many elements were
/// done and, if it stopped early, why.
///
/// # Safety
/// `keys` and `values` must have room for `count` elements of the map's sizes, `input` (may be null) and
/// `output` for a cursor: the larger of four bytes and the key.
pub(crate) unsafe fn batch(
    command: bpf_cmd,
    map: BorrowedFd<'_>,
    (input, output): (*const u8, *mut u8),
    (keys, values): (*mut u8, *mut u8),
    count: u32,
    element_flags: u64,
) -> (u32, io::Result<()>) {
    let mut attr = zeroed();
    // SAFETY: a union of plain integers.
    let batch = unsafe { &mut attr.batch };
    batch.in_batch = input as u64;
    batch.out_batch = output as u64;
    batch.keys = keys as u64;
    batch.values = values as u64;
    batch.count = count;
    batch.map_fd = map.as_raw_fd() as u32;
    batch.elem_flags = element_flags;
    let result = call(command, &mut attr).map(drop);
    // SAFETY: a union of plain integers; the kernel writes the count back, also on most errors.
    let done = unsafe { attr.batch.count };
    (done, result)
}

/// Runs a program once over `input`, with a beginning of its context, if any; `output` gets the packet as the program
/// left it. Answers what the program returned, and the packet's length.
pub(crate) fn test_run(
    program: BorrowedFd<'_>,
    context: &[u8],
    input: &[u8],
    output: &mut [u8],
    flags: u32,
) -> io::Result<(u32, u32)> {
    let mut attr = zeroed();
    // SAFETY: a union of plain integers.
    let test = unsafe { &mut attr.test };
    test.prog_fd = program.as_raw_fd() as u32;
    if !context.is_empty() {
        test.ctx_in = context.as_ptr() as u64;
        test.ctx_size_in = context.len() as u32;
    }
    test.data_in = input.as_ptr() as u64;
    test.data_size_in = input.len() as u32;
    test.data_out = output.as_mut_ptr() as u64;
    test.data_size_out = output.len() as u32;
    test.flags = flags;
    call(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr)?;
    // SAFETY: as above; the kernel filled it.
    Ok(unsafe { (attr.test.retval, attr.test.data_size_out) })
}
