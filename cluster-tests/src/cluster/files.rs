//! The nodes' configuration files: the example's, with room for as many flows as a run needs, and in other clusters than a
//! pair's made of its first node's.

use crate::topology::Node;

/// Held connections, young flows, and closed ones that are remembered for a while.
const FLOWS: u32 = 65_536;

/// A node's file as runs use it in a cluster of `members`. The kernel clears a flow table in one go, so long (100 ms and more for the example's
/// size) that nothing else runs on that processor, real-time threads included. A node that starts on a machine of its own
/// disturbs nobody by that; here it would hold up the other nodes' leases.
pub(super) fn usual(node: Node, members: &[Node]) -> String {
    const FIRST: &str = include_str!("../../../deploy/examples/pair-witness/a.toml");
    let example = match node {
        Node::A => FIRST.to_owned(),
        Node::B => include_str!("../../../deploy/examples/pair-witness/b.toml").to_owned(),
        Node::W => include_str!("../../../deploy/examples/pair-witness/w.toml").to_owned(),
        _ => as_of(FIRST, node),
    };
    let file = with_peers(&example, node, members);
    if node.balances() { with_room(&file, FLOWS) } else { file }
}

/// The first node's file as another's.
fn as_of(first: &str, node: Node) -> String {
    let address = |node: Node| format!("{}:", node.management());
    let name = |node: Node| format!("name = \"{}\"", node.name());
    first.replace(&address(Node::A), &address(node)).replace(&name(Node::A), &name(node))
}

/// `file` with the other members as its peers; a node alone has none.
fn with_peers(file: &str, node: Node, members: &[Node]) -> String {
    let others = members.iter().filter(|member| **member != node);
    let peers: Vec<String> = others.map(|other| format!("\"{}:7400\"", other.management())).collect();
    let setting = match &peers[..] {
        [] => String::new(),
        peers => format!("peers = [{}]\n", peers.join(", ")),
    };
    let line = |line: &str| if line.starts_with("peers = ") { setting.clone() } else { format!("{line}\n") };
    file.lines().map(line).collect()
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
        assert!(usual(Node::A, &Node::ALL).contains("max_flows = 65536\n"));
    }

    #[test]
    fn a_pair_runs_the_example_as_it_is() {
        let example = include_str!("../../../deploy/examples/pair-witness/b.toml");
        assert_eq!(usual(Node::B, &Node::ALL), with_room(example, FLOWS));
        let witness = include_str!("../../../deploy/examples/pair-witness/w.toml");
        assert_eq!(usual(Node::W, &Node::ALL), witness);
    }

    #[test]
    fn other_clusters_have_other_names_and_peers() {
        let third = usual(Node::C, Node::cluster_of(3));
        for part in [
            "name = \"c\"\n",
            "listen = \"10.9.0.4:7400\"\npeers = [\"10.9.0.1:7400\", \"10.9.0.2:7400\"]\n",
            "listen = \"10.9.0.4:7401\"\n",
        ] {
            assert!(third.contains(part), "no {part:?} in {third}");
        }
        assert!(!usual(Node::A, Node::cluster_of(1)).contains("peers"));
    }
}
