//! The predicted bytes: a function of a key, a direction and a position, so that a byte that is missing, twice,
//! altered, or from another connection is seen at once.

/// Which way bytes go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u64)]
pub enum Direction {
    /// Client to endpoint.
    Up = 0x5550,
    /// Endpoint to client.
    Down = 0x444f_574e,
}

/// The bytes of one connection in one direction.
#[derive(Debug, Clone, Copy)]
pub struct Pattern {
    seed: u64,
}

impl Pattern {
    /// Of the connection with this key.
    pub fn new(key: u64, direction: Direction) -> Self {
        Pattern { seed: mix(key ^ (direction as u64).rotate_left(32)) }
    }

    /// Writes the bytes from `position` on.
    pub fn fill(self, position: u64, out: &mut [u8]) {
        for (byte, at) in out.iter_mut().zip(position..) {
            *byte = self.byte(at);
        }
    }

    /// Whether these are the bytes from `position` on.
    pub fn matches(self, position: u64, bytes: &[u8]) -> bool {
        bytes.iter().zip(position..).all(|(byte, at)| *byte == self.byte(at))
    }

    fn byte(self, position: u64) -> u8 {
        mix(self.seed.wrapping_add(position >> 3)).to_le_bytes()[(position & 7) as usize]
    }
}

/// The finaliser of splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
fn mix(mut z: u64) -> u64 {
    z = z.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_difference_is_seen() {
        let up = Pattern::new(7, Direction::Up);
        let mut bytes = [0u8; 64];
        up.fill(5, &mut bytes);
        assert!(up.matches(5, &bytes));
        assert!(!up.matches(6, &bytes));
        assert!(!Pattern::new(7, Direction::Down).matches(5, &bytes));
        assert!(!Pattern::new(8, Direction::Up).matches(5, &bytes));
        bytes[63] ^= 1;
        assert!(!up.matches(5, &bytes));
    }
}
