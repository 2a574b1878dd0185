//! Another build of the daemon, for upgrades under traffic: the same program, with the eBPF object that it embeds
//! compiled "differently". Pairs of neighbouring register moves that know nothing of each other change places; the
//! programs do the same as before, and are others to the kernel, by their tags. It costs no second compilation.
//!
//! A real earlier build is better where there is one: `LOCKSTEP_UPGRADE_FROM=FILE` names it.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Range;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

use crate::programs;

/// Names an earlier `lockstepd` to upgrade from, of the same map layout.
const FROM: &str = "LOCKSTEP_UPGRADE_FROM";

/// The daemon that is upgraded from: the one that is named, or one made in `folder`.
pub fn lockstepd(folder: &Path) -> anyhow::Result<PathBuf> {
    if let Some(path) = std::env::var_os(FROM).map(PathBuf::from) {
        ensure!(path.is_file(), "{FROM}: there is no file {}", path.display());
        return Ok(path);
    }
    let mut bytes = fs::read(programs::lockstepd()?).context("cannot read lockstepd")?;
    let object = find_object(&bytes)?;
    let swapped = alter(&mut bytes[object])?;
    let path = folder.join("lockstepd-of-another-build");
    fs::write(&path, bytes).with_context(|| format!("cannot write {}", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).context("cannot make it a program")?;
    println!("{}: {swapped} pairs of instructions swapped", path.display());
    Ok(path)
}

/// ELF, 64 bits, little-endian, version 1.
const MAGIC: [u8; 7] = [0x7f, b'E', b'L', b'F', 2, 1, 1];
const MACHINE: usize = 0x12;
const EM_BPF: u16 = 247;
const SECTIONS: usize = 0x28;
const SECTION_SIZE: usize = 0x3a;
const SECTION_COUNT: usize = 0x3c;
const PROGBITS: u32 = 1;
const EXECUTABLE: u64 = 4;

/// Where the one eBPF object begins in a program's file; its end is not known, nor needed.
fn find_object(bytes: &[u8]) -> anyhow::Result<std::ops::RangeFrom<usize>> {
    let found: Vec<usize> = bytes
        .windows(MACHINE + 2)
        .enumerate()
        .filter(|(_, window)| {
            window.starts_with(&MAGIC) && u16_at(window, MACHINE).is_ok_and(|machine| machine == EM_BPF)
        })
        .map(|(at, _)| at)
        .collect();
    match found[..] {
        [at] => Ok(at..),
        _ => anyhow::bail!("lockstepd has {} eBPF objects in it, not one", found.len()),
    }
}

/// Swaps what may be swapped in every executable section; how many pairs.
fn alter(object: &mut [u8]) -> anyhow::Result<usize> {
    let table = u64_at(object, SECTIONS).map(|at| at as usize)?;
    let (size, count) = (u16_at(object, SECTION_SIZE)?, u16_at(object, SECTION_COUNT)?);
    let mut swapped = 0;
    for header in (0..usize::from(count)).map(|index| table + index * usize::from(size)) {
        if u32_at(object, header + 4)? != PROGBITS || u64_at(object, header + 8)? & EXECUTABLE == 0 {
            continue;
        }
        let (offset, length) = (u64_at(object, header + 0x18)? as usize, u64_at(object, header + 0x20)?);
        let code = object.get_mut(offset..offset + length as usize).context("a section beyond the end")?;
        swapped += swap_moves(code);
    }
    ensure!(swapped > 0, "no two instructions of the object may be swapped");
    Ok(swapped)
}

const INSTRUCTION: usize = 8;
const MOVES: [u8; 4] = [0xb4, 0xb7, 0xbc, 0xbf];
const FROM_REGISTER: u8 = 0x08;
const LONG_IMMEDIATE: u8 = 0x18;

/// One instruction, as far as it matters here.
#[derive(Debug, Clone, Copy)]
struct Move {
    to: u8,
    from: Option<u8>,
}

fn read_move(code: &[u8]) -> Option<Move> {
    // With an offset it is a move with sign extension; none is made for the oldest kernels we run on.
    let plain = MOVES.contains(&code[0]) && code[2..4] == [0, 0];
    let from = (code[0] & FROM_REGISTER != 0).then_some(code[1] >> 4);
    plain.then_some(Move { to: code[1] & 0x0f, from })
}

fn independent(first: Move, second: Move) -> bool {
    first.to != second.to && first.from != Some(second.to) && second.from != Some(first.to)
}

fn swap_moves(code: &mut [u8]) -> usize {
    let targets = jump_targets(code);
    let count = code.len() / INSTRUCTION;
    let (mut at, mut swapped) = (0, 0);
    while at + 1 < count {
        let here = range(at);
        if code[here.start] == LONG_IMMEDIATE {
            at += 2;
            continue;
        }
        let pair = read_move(&code[here.clone()]).zip(read_move(&code[range(at + 1)]));
        let swappable = pair.is_some_and(|(first, second)| independent(first, second));
        if swappable && !targets.contains(&(at + 1)) {
            let (first, second) = code[here.start..].split_at_mut(INSTRUCTION);
            first.swap_with_slice(&mut second[..INSTRUCTION]);
            swapped += 1;
            at += 2;
        } else {
            at += 1;
        }
    }
    swapped
}

/// Instructions that something in this section jumps to.
fn jump_targets(code: &[u8]) -> BTreeSet<usize> {
    let mut targets = BTreeSet::new();
    let mut at = 0;
    while at < code.len() / INSTRUCTION {
        let instruction = &code[range(at)];
        let (class, operation) = (instruction[0] & 7, instruction[0] >> 4);
        // Classes JMP and JMP32, less calls and exits.
        if matches!(class, 5 | 6) && !matches!(operation, 8 | 9) {
            let offset = i16::from_le_bytes([instruction[2], instruction[3]]);
            targets.extend((at + 1).checked_add_signed(isize::from(offset)));
        }
        at += if instruction[0] == LONG_IMMEDIATE { 2 } else { 1 };
    }
    targets
}

fn range(at: usize) -> Range<usize> {
    at * INSTRUCTION..(at + 1) * INSTRUCTION
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> anyhow::Result<[u8; N]> {
    let slice = bytes.get(at..at + N).context("an object that is cut off")?;
    Ok(slice.try_into().expect("of this length"))
}

fn u16_at(bytes: &[u8], at: usize) -> anyhow::Result<u16> {
    array(bytes, at).map(u16::from_le_bytes)
}

fn u32_at(bytes: &[u8], at: usize) -> anyhow::Result<u32> {
    array(bytes, at).map(u32::from_le_bytes)
}

fn u64_at(bytes: &[u8], at: usize) -> anyhow::Result<u64> {
    array(bytes, at).map(u64::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `to = from`, both registers.
    fn copy(to: u8, from: u8) -> [u8; 8] {
        [0xbf, from << 4 | to, 0, 0, 0, 0, 0, 0]
    }

    fn set(to: u8, value: u8) -> [u8; 8] {
        [0xb7, to, 0, 0, value, 0, 0, 0]
    }

    fn jump(offset: i8) -> [u8; 8] {
        let [low, high] = i16::from(offset).to_le_bytes();
        [0x05, 0, low, high, 0, 0, 0, 0]
    }

    fn swapped(code: &[[u8; 8]]) -> Vec<[u8; 8]> {
        let mut bytes = code.concat();
        swap_moves(&mut bytes);
        bytes.chunks(8).map(|chunk| chunk.try_into().unwrap()).collect()
    }

    #[test]
    fn moves_that_know_nothing_of_each_other_change_places() {
        assert_eq!(swapped(&[set(1, 5), copy(2, 6)]), [copy(2, 6), set(1, 5)]);
        let three = [set(1, 5), set(2, 6), set(3, 7)];
        assert_eq!(swapped(&three), [three[1], three[0], three[2]]);
    }

    #[test]
    fn order_is_kept_where_it_matters() {
        let load = [[0x18, 1, 0, 0, 0xb7, 0, 0, 0], [0; 8]];
        for code in [
            vec![set(1, 5), set(1, 6)],
            vec![copy(1, 2), copy(2, 3)],
            vec![copy(2, 3), copy(1, 2)],
            // The second is jumped to, from before and from behind.
            vec![jump(1), set(1, 5), set(2, 6)],
            vec![set(1, 5), set(2, 6), jump(-2)],
            vec![load[0], load[1], set(2, 6)],
        ] {
            assert_eq!(swapped(&code), code);
        }
    }
}
