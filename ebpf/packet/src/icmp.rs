//! ICMP types.

/// Echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Echo request.
pub const ECHO_REQUEST: u8 = 8;

/// Whether a message of this type carries the packet it is about, whose addresses would need translation:
/// unreachable, source quench, redirect, time exceeded, parameter problem.
#[inline(always)]
pub const fn is_error(kind: u8) -> bool {
    matches!(kind, 3 | 4 | 5 | 11 | 12)
}
