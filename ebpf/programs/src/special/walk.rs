//! Where a packet's transport begins, behind options or extension headers, and which piece of a packet it is.

use core::ffi::c_void;
use core::ptr::addr_of_mut;

use aya_ebpf::helpers::generated::bpf_loop;
use aya_ebpf::programs::TcContext;
use lockstep_abi::reason::Reason;
use lockstep_packet::extension::{self, MAX_STEPS};
use lockstep_packet::fragment::{Role, place4, role};
use lockstep_packet::offset::NETWORK;
use lockstep_packet::{options, quoted};

use crate::hook::{Hook, Tc};
use crate::maps::WALKS;

/// What a walk over a packet's headers found.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct Walk {
    /// Where the transport header begins in the frame, or what a later fragment holds of the packet.
    pub(crate) transport: u32,
    /// Bytes from there on.
    pub(crate) bytes: u32,
    /// IANA protocol.
    pub(crate) protocol: u8,
    /// TCP's flags, or what stands for them.
    pub(crate) flags: u8,
    /// ICMP's type.
    pub(crate) icmp: u8,
    /// Another piece follows.
    pub(crate) more: bool,
    /// Where in the packet this piece begins.
    pub(crate) offset_bytes: u32,
    /// Which packet the piece belongs to, network order.
    pub(crate) id_be: u32,
}

/// Of the packet itself.
pub(crate) const PACKET: u32 = 0;
/// Of the packet that it quotes.
pub(crate) const QUOTED: u32 = 1;

impl Walk {
    /// The CPU's own, of the packet that is decided about.
    #[inline(always)]
    pub(crate) fn of(which: u32) -> Result<&'static mut Self, Reason> {
        let room = WALKS.get_ptr_mut(which).ok_or(Reason::Malformed)?;
        // SAFETY: the element is this CPU's own, and programs of one hook do not nest.
        Ok(unsafe { &mut *room })
    }

    /// Which piece of a packet this is.
    #[inline(always)]
    pub(crate) fn role(&self) -> Role {
        role(self.offset_bytes, self.more)
    }

    /// Whether the transport header is not here.
    #[inline(always)]
    pub(crate) fn is_later(&self) -> bool {
        self.offset_bytes != 0
    }

    /// Walks over the IPv4 header at `at`.
    #[inline(always)]
    pub(crate) fn over4(&mut self, hook: &Tc, at: u32) -> Result<(), Reason> {
        let header: [u8; 20] = hook.load(at).ok_or(Reason::Malformed)?;
        let length = quoted::header_length_bytes(header[0]).ok_or(Reason::Malformed)?;
        let (offset_bytes, more) = place4(&header);
        self.transport = at + length;
        self.protocol = header[9];
        self.flags = 0;
        self.icmp = 0;
        self.more = more;
        self.offset_bytes = offset_bytes;
        self.id_be = u32::from(u16::from_ne_bytes([header[4], header[5]]));
        let total = u32::from(u16::from_be_bytes([header[2], header[3]]));
        self.bytes = end(hook, at, total).wrapping_sub(self.transport);
        Ok(())
    }

    /// Walks over the IPv6 header at `at`, and the extension headers behind it.
    #[inline(always)]
    pub(crate) fn over6(&mut self, hook: &Tc, at: u32) -> Result<(), Reason> {
        let header: [u8; 8] = hook.load(at).ok_or(Reason::Malformed)?;
        let payload = u32::from(u16::from_be_bytes([header[4], header[5]]));
        self.transport = at + 40;
        self.protocol = header[6];
        self.flags = 0;
        self.icmp = 0;
        self.more = false;
        self.offset_bytes = 0;
        self.id_be = 0;
        let end = end(hook, at, if payload == 0 { 0 } else { payload + 40 });
        if !extensions(hook, self) {
            return Err(Reason::ExtensionHeaders);
        }
        self.bytes = end.wrapping_sub(self.transport);
        if self.transport > end { Err(Reason::Malformed) } else { Ok(()) }
    }
}

/// Where a packet of this length at `at` ends in the frame; 0: an aggregate, which says no length.
#[inline(always)]
fn end(hook: &Tc, at: u32, total: u32) -> u32 {
    if total == 0 { hook.length() } else { at + total }
}

/// Goes on from the end of the fixed header. False: more headers than are looked at, or one that must not be passed on.
#[inline(never)]
fn extensions(hook: &Tc, walk: &mut Walk) -> bool {
    let first = walk.transport;
    for _ in 0..=MAX_STEPS {
        // Too short for an extension header: then it had better be none.
        let header = hook.load::<[u8; 8]>(walk.transport).unwrap_or([0; 8]);
        match extension::step(walk.protocol, walk.transport == first, &header) {
            extension::Step::Final => return true,
            extension::Step::Refused => return false,
            extension::Step::Skip { next_header, length_bytes } => {
                walk.protocol = next_header;
                walk.transport += length_bytes;
            }
            extension::Step::Fragment(fragment) => {
                walk.protocol = fragment.next_header;
                walk.transport += 8;
                walk.more = fragment.more;
                walk.offset_bytes = fragment.offset_bytes;
                walk.id_be = fragment.id_be;
                if walk.is_later() {
                    return true;
                }
            }
        }
    }
    false
}

/// A walk over IPv4's options.
struct Options {
    hook: *mut aya_ebpf::bindings::__sk_buff,
    at: u32,
    end: u32,
    refused: bool,
}

/// Whether a packet with these options may be passed on.
#[inline(never)]
pub(crate) fn options_allowed(hook: &Tc, walk: &Walk) -> bool {
    let mut options = Options { hook: hook.skb(), at: NETWORK + 20, end: walk.transport, refused: false };
    // SAFETY: the callback has the signature that the helper calls, and `options` outlives the call.
    unsafe { bpf_loop(options::MAX_STEPS, option as *mut c_void, addr_of_mut!(options).cast(), 0) };
    !options.refused
}

extern "C" fn option(_round: u32, options: *mut Options) -> i64 {
    // SAFETY: the pointer given to bpf_loop above.
    let options = unsafe { &mut *options };
    if options.at >= options.end {
        return 1;
    }
    let hook = Tc(TcContext::new(options.hook));
    // The last byte of a list has no second; then what follows the header stands for it, or nothing.
    let kind = hook.load::<u8>(options.at).unwrap_or(0);
    let length = hook.load::<u8>(options.at + 1).unwrap_or(0);
    match options::step(kind, length) {
        options::Step::End => 1,
        options::Step::Skip(bytes) => {
            options.at += bytes;
            0
        }
        options::Step::Refused => {
            options.refused = true;
            1
        }
    }
}
