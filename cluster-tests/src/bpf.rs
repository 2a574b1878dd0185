//! The few bpf(2) calls that a black-box test needs: list what is loaded, write one value into a pinned map, and
//! be somebody else with a program of his own.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

pub mod stranger;

const MAP_LOOKUP_ELEM: u32 = 1;
const MAP_UPDATE_ELEM: u32 = 2;
const MAP_DELETE_ELEM: u32 = 3;
const OBJ_GET: u32 = 7;
const PROG_GET_NEXT_ID: u32 = 11;
const MAP_GET_NEXT_ID: u32 = 12;
const PROG_GET_FD_BY_ID: u32 = 13;
const OBJ_GET_INFO_BY_FD: u32 = 15;
const LINK_GET_NEXT_ID: u32 = 31;
/// Room for every member of the kernel's `union bpf_attr` that is used here.
const ATTR: usize = 64;

/// Kinds of objects with ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Programs.
    Program,
    /// Maps.
    Map,
    /// Links.
    Link,
}

/// The ids of everything of this kind in the kernel.
pub fn ids(kind: Kind) -> anyhow::Result<Vec<u32>> {
    let command = match kind {
        Kind::Program => PROG_GET_NEXT_ID,
        Kind::Map => MAP_GET_NEXT_ID,
        Kind::Link => LINK_GET_NEXT_ID,
    };
    let mut found = Vec::new();
    let mut last = 0u32;
    loop {
        let mut attr = [0u8; ATTR];
        attr[..4].copy_from_slice(&last.to_ne_bytes());
        match call(command, &mut attr) {
            Ok(_) => {
                last = u32::from_ne_bytes(attr[4..8].try_into().expect("four bytes"));
                found.push(last);
            }
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(found),
            Err(error) => return Err(error).with_context(|| format!("cannot list {kind:?}s")),
        }
    }
}

/// What the kernel calls the text of a program: programs of the same instructions have the same.
pub type Tag = [u8; 8];

/// The tag of a program; none, if it has gone meanwhile.
pub fn tag(program: u32) -> anyhow::Result<Option<Tag>> {
    let mut attr = [0u8; ATTR];
    attr[..4].copy_from_slice(&program.to_ne_bytes());
    let fd = match call(PROG_GET_FD_BY_ID, &mut attr) {
        // SAFETY: the descriptor is new and ours.
        Ok(fd) => unsafe { OwnedFd::from_raw_fd(fd) },
        Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(None),
        Err(error) => return Err(error).context("cannot open a program"),
    };
    // `struct bpf_prog_info` begins with type and id, four bytes each, and the tag.
    let mut info = [0u8; 16];
    describe(&fd, &mut info).context("cannot ask what a program is")?;
    Ok(Some(info[8..].try_into().expect("eight bytes")))
}

/// Fills `info` with the beginning of what the kernel says of an object.
fn describe(fd: &OwnedFd, info: &mut [u8]) -> io::Result<()> {
    let mut attr = [0u8; ATTR];
    attr[..4].copy_from_slice(&(fd.as_raw_fd() as u32).to_ne_bytes());
    attr[4..8].copy_from_slice(&(info.len() as u32).to_ne_bytes());
    attr[8..16].copy_from_slice(&(info.as_mut_ptr() as u64).to_ne_bytes());
    call(OBJ_GET_INFO_BY_FD, &mut attr).map(|_| ())
}

/// The kernel's `struct bpf_map_info` begins with type, id, key size and value size, four bytes each.
const MAP_INFO: usize = 16;

/// A pinned map.
#[derive(Debug)]
pub struct PinnedMap {
    fd: OwnedFd,
    key_size: usize,
    value_size: usize,
}

impl PinnedMap {
    /// Opens a pin.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let name = CString::new(path.as_os_str().as_bytes()).context("a path with a zero byte")?;
        let mut attr = [0u8; ATTR];
        attr[..8].copy_from_slice(&(name.as_ptr() as u64).to_ne_bytes());
        let fd =
            call(OBJ_GET, &mut attr).with_context(|| format!("cannot open the pin {}", path.display()))?;
        // SAFETY: the descriptor is new and ours.
        let fd = unsafe { OwnedFd::from_raw_fd(fd) };
        let mut info = [0u8; MAP_INFO];
        describe(&fd, &mut info).with_context(|| format!("cannot ask what {} is", path.display()))?;
        let size = |at: usize| u32::from_ne_bytes(info[at..at + 4].try_into().expect("four bytes")) as usize;
        Ok(PinnedMap { fd, key_size: size(8), value_size: size(12) })
    }

    /// Reads the value at `key`; both must be as long as the map's. False: there is none.
    pub fn read(&self, key: &[u8], value: &mut [u8]) -> anyhow::Result<bool> {
        self.check("values", value.len(), self.value_size)?;
        match self.element(MAP_LOOKUP_ELEM, key, value.as_mut_ptr() as u64) {
            Err(error) if error.downcast_ref::<io::Error>().is_some_and(is_absent) => Ok(false),
            result => result.map(|()| true).context("cannot read a map"),
        }
    }

    /// Writes the value at `key`; both must be as long as the map's.
    pub fn write(&self, key: &[u8], value: &[u8]) -> anyhow::Result<()> {
        self.check("values", value.len(), self.value_size)?;
        self.element(MAP_UPDATE_ELEM, key, value.as_ptr() as u64).context("cannot write a map")
    }

    /// Removes what is at `key`.
    pub fn delete(&self, key: &[u8]) -> anyhow::Result<()> {
        self.element(MAP_DELETE_ELEM, key, 0).context("cannot delete from a map")
    }

    /// The kernel copies as many bytes as the map says, whatever it is given.
    fn check(&self, what: &str, length: usize, wanted: usize) -> anyhow::Result<()> {
        anyhow::ensure!(
            length == wanted,
            "the map's {what} have {wanted} bytes, not {length}: its layout has changed"
        );
        Ok(())
    }

    fn element(&self, command: u32, key: &[u8], value: u64) -> anyhow::Result<()> {
        self.check("keys", key.len(), self.key_size)?;
        let mut attr = [0u8; ATTR];
        attr[..4].copy_from_slice(&(self.fd.as_raw_fd() as u32).to_ne_bytes());
        attr[8..16].copy_from_slice(&(key.as_ptr() as u64).to_ne_bytes());
        attr[16..24].copy_from_slice(&value.to_ne_bytes());
        call(command, &mut attr)?;
        Ok(())
    }
}

fn is_absent(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOENT)
}

/// The pin of the map `name`, somewhere below a node's folder of pins.
pub fn find_pin(folder: &Path, name: &str) -> anyhow::Result<PathBuf> {
    search(folder, name)?.with_context(|| format!("no pin below {} is called {name}", folder.display()))
}

fn search(folder: &Path, name: &str) -> anyhow::Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if let Some(found) = search(&path, name)? {
                return Ok(Some(found));
            }
        } else if path.file_name().is_some_and(|found| found == name) {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

fn call(command: u32, attr: &mut [u8; ATTR]) -> io::Result<i32> {
    // SAFETY: the attribute is as long as said, and every pointer in it refers to memory that the callers above
    // keep alive over the call.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attr.as_mut_ptr(), ATTR) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}
