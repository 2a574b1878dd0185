//! The nodes' configuration files: the example's, with room for as many flows as a run needs.

use crate::topology::Node;

/// Held connections, young flows, and closed ones that are remembered for a while.
const FLOWS: u32 = 65_536;

/// A node's file as runs use it. The kernel clears a flow table in one go, so long (100 ms and more for the example's
/// size) that nothing else runs on that processor, real-time threads included. A node that starts on a machine of its own
/// disturbs nobody by that; here it would hold up the other nodes' leases.
pub(super) fn usual(node: Node) -> String {
    let example = match node {
        Node::A => include_str!("../../../deploy/examples/pair-witness/a.toml"),
        Node::B => include_str!("../../../deploy/examples/pair-witness/b.toml"),
        Node::W => return include_str!("../../../deploy/examples/pair-witness/w.toml").to_owned(),
    };
    with_room(example, FLOWS)
}

/// `file` with room for `flows` connections.
///
/// # Panics
///
/// If the file does not name its room.
pub fn with_room(file: &str, flows: u32) -> String {
    const SETTING: &str = "max_flows = ";
    assert!(file.lines().any(|line| line.starts_with(SETTING)), "no {SETTING:?} in {file}");
    let line = |line: &str| match line.starts_with(SETTING) {
        true => format!("{SETTING}{flows}\n"),
        false => format!("{line}\n"),
    };
    file.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_room_is_changed() {
        let file = "[dataplane]\nmax_flows = 262144\nenabled = true\n";
        assert_eq!(with_room(file, 1024), "[dataplane]\nmax_flows = 1024\nenabled = true\n");
        assert!(usual(Node::A).contains("max_flows = 65536\n"));
    }
}
