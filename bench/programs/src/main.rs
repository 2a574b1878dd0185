//! What the benchmark runs beside and around the shipped programs: the empty program, the floor ("parse, one
//! hash lookup, transmit"), a bare lookup, wrappers that restore the packet and those that forget its flow, and both ends
//! of a live run.

#![no_std]
#![no_main]

mod again;
mod choose;
mod empty;
mod floor;
mod live;
mod lookup;
mod maps;
#[allow(dead_code, reason = "shared with the benchmark, which uses all of it")]
mod plan;
mod wrap;

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 4] = *b"GPL\0";

#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here panics in a verified program: the verifier refuses one that could reach this loop.
    loop {}
}
