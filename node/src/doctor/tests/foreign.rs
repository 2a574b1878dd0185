//! A program of somebody else: the smallest there is.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

const PROG_LOAD: i64 = 5;
const OBJ_GET_INFO_BY_FD: i64 = 15;
const LINK_CREATE: i64 = 28;
const PROG_TYPE_XDP: u32 = 6;
const ATTACH_XDP: u32 = 37;
/// `XDP_FLAGS_SKB_MODE`: in the stack, which every interface has.
const IN_THE_STACK: u32 = 2;

/// Attached as long as it lives.
pub(super) struct Foreign {
    pub(super) id: u32,
    _program: OwnedFd,
    _link: OwnedFd,
}

/// Passes every packet on.
pub(super) fn at_xdp(interface: &str) -> Foreign {
    // r0 = XDP_PASS; exit
    let instructions: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
    let license = c"GPL";
    let mut load = Attribute::new();
    load.u32(0, PROG_TYPE_XDP);
    load.u32(4, instructions.len() as u32);
    load.u64(8, instructions.as_ptr() as u64);
    load.u64(16, license.as_ptr() as u64);
    let program = load.call(PROG_LOAD).expect("a program of two instructions loads");

    // `struct bpf_prog_info` begins with the type and the number.
    let mut info = [0_u32; 2];
    let mut ask = Attribute::new();
    ask.u32(0, program.as_raw_fd() as u32);
    ask.u32(4, size_of_val(&info) as u32);
    ask.u64(8, info.as_mut_ptr() as u64);
    ask.result(OBJ_GET_INFO_BY_FD).expect("a program of ours tells of itself");

    let index = nix::net::if_::if_nametoindex(interface).unwrap();
    let mut attach = Attribute::new();
    attach.u32(0, program.as_raw_fd() as u32);
    attach.u32(4, index);
    attach.u32(8, ATTACH_XDP);
    attach.u32(12, IN_THE_STACK);
    let link = attach.call(LINK_CREATE).expect("nothing is in the way");
    Foreign { id: info[1], _program: program, _link: link }
}

/// `union bpf_attr`, by offsets.
struct Attribute([u64; 16]);

impl Attribute {
    fn new() -> Self {
        Self([0; 16])
    }

    fn u32(&mut self, offset: usize, value: u32) {
        self.0[offset / 8] |= u64::from(value) << (offset % 8 * 8);
    }

    fn u64(&mut self, offset: usize, value: u64) {
        self.0[offset / 8] = value;
    }

    fn result(&mut self, command: i64) -> io::Result<i32> {
        // SAFETY: the attribute is as long as said, and what it points to outlives the call.
        let result =
            unsafe { libc::syscall(libc::SYS_bpf, command, self.0.as_mut_ptr(), size_of_val(&self.0)) };
        if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
    }

    fn call(&mut self, command: i64) -> io::Result<OwnedFd> {
        let fd = self.result(command)?;
        // SAFETY: the kernel has just given this descriptor to us alone.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    }
}
