//! The intent that runs apply: the example's manifest, and what is changed in it.

/// `deploy/examples/pair-witness/manifest.yaml`.
pub const EXAMPLE: &str = include_str!("../../deploy/examples/pair-witness/manifest.yaml");

/// The lease profiles.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Profile {
    /// 45 ms.
    Fast,
    /// 150 ms.
    Lan,
    /// 1 s.
    Wan,
}

impl Profile {
    /// All of them.
    pub const ALL: [Profile; 3] = [Profile::Fast, Profile::Lan, Profile::Wan];

    /// By name.
    pub fn parse(text: &str) -> Result<Self, String> {
        let found = Profile::ALL.into_iter().find(|profile| profile.name() == text);
        found.ok_or_else(|| format!("allowed: {}", Profile::ALL.map(Profile::name).join(", ")))
    }

    /// As it stands in a manifest.
    pub const fn name(self) -> &'static str {
        match self {
            Profile::Fast => "fast",
            Profile::Lan => "lan",
            Profile::Wan => "wan",
        }
    }

    /// How long a lease lasts, ms.
    pub const fn lease_ms(self) -> u64 {
        match self {
            Profile::Fast => 45,
            Profile::Lan => 150,
            Profile::Wan => 1000,
        }
    }
}

/// The document that sets the lease's duration.
pub fn cluster(profile: Profile) -> String {
    format!("apiVersion: lockstep/v1\nkind: Cluster\nspec: {{lease: {}}}\n", profile.name())
}

/// The example with its services not replicated.
pub fn without_sync() -> String {
    EXAMPLE.replace("sync: immediate", "sync: none")
}

/// The example with its group open to any node, also to those that join later.
pub fn for_any_node() -> String {
    EXAMPLE.replace("nodes: [a, b]", "nodes: []")
}

/// A group for each of so many balancers beside the example's: once all are ready, every node is given one.
pub fn further_groups(balancers: usize) -> String {
    let further = (2..=balancers).map(|number| {
        format!(
            "---\napiVersion: lockstep/v1\nkind: Group\nname: edge-{number}\n\
             spec: {{addresses: [10.0.0.{}], standbys: 1}}\n",
            20 + number
        )
    });
    further.collect()
}

/// The services of a manifest with other weights: which endpoint a flow would get changes for a good part of
/// all flows, so that live ones can be kept only by knowing them.
pub fn reweighted(manifest: &str) -> String {
    const WEIGHTS: [&str; 3] = ["weight: 10", "weight: 300", "weight: 50"];
    let services: Vec<String> = manifest
        .split("---\n")
        .filter(|document| document.contains("kind: Service"))
        .map(|document| {
            let mut weights = WEIGHTS.iter().cycle();
            document
                .split_inclusive('\n')
                .map(|line| match line.find("weight: 100") {
                    Some(_) => line.replace("weight: 100", weights.next().expect("a cycle does not end")),
                    None => line.to_owned(),
                })
                .collect()
        })
        .collect();
    services.join("---\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_change_and_nothing_else_is_named() {
        let changed = reweighted(EXAMPLE);
        assert!(!changed.contains("kind: Cluster") && !changed.contains("kind: Group"));
        assert_eq!(changed.matches("kind: Service").count(), 2);
        for weight in ["weight: 10}", "weight: 300}", "weight: 50}"] {
            assert_eq!(changed.matches(weight).count(), 2, "{weight}");
        }
        assert!(!changed.contains("weight: 100}"));
    }

    #[test]
    fn a_group_for_any_node_names_none() {
        assert!(EXAMPLE.contains("nodes: [a, b]") && for_any_node().contains("nodes: []"));
    }

    #[test]
    fn no_service_is_replicated_without_sync() {
        assert!(!without_sync().contains("sync: immediate"));
        assert_eq!(without_sync().matches("sync: none").count(), 2);
    }
}
