//! Which hook an interface's packets meet the programs at.

mod driver;

use self::driver::Queues;

/// What the configuration asks for, and what an interface has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Hook {
    /// XDP where the driver has it and it pays, else tc.
    #[default]
    Auto,
    /// XDP in the driver, in front of tc.
    Xdp,
    /// XDP in the network stack, in front of tc. For tests.
    XdpGeneric,
    /// tc ingress (tcx) alone.
    Tc,
}

impl Hook {
    /// As configurations say it.
    pub const fn name(self) -> &'static str {
        match self {
            Hook::Auto => "auto",
            Hook::Xdp => "xdp",
            Hook::XdpGeneric => "xdp-generic",
            Hook::Tc => "tc",
        }
    }
}

impl std::fmt::Display for Hook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// An interface that the dataplane is to be attached to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceConfig {
    /// Its name.
    pub name: String,
    /// Where.
    pub hook: Hook,
}

/// Where an interface's packets meet the programs, and why there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HookReport {
    /// The interface.
    pub interface: String,
    /// Never [`Hook::Auto`].
    pub hook: Hook,
    /// For people.
    pub why: String,
}

/// What is tried for an interface, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Choice {
    /// Never [`Hook::Auto`].
    pub(crate) hook: Hook,
    pub(crate) why: String,
    /// Whether tc will do if the driver refuses.
    pub(crate) may_fall_back: bool,
}

/// Drivers with native XDP that can redirect to other interfaces.
const NATIVE: &[&str] = &[
    "atlantic",
    "bnxt_en",
    "ena",
    "enetc",
    "fec",
    "fsl_dpaa2_eth",
    "gve",
    "hv_netvsc",
    "i40e",
    "iavf",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "mana",
    "mlx4_en",
    "mlx5_core",
    "mtk_soc_eth",
    "mvneta",
    "mvpp2",
    "netsec",
    "nfp",
    "qede",
    "sfc",
    "sfc_ef100",
    "stmmac",
    "tsnep",
    "vmxnet3",
    "xen-netfront",
];

/// Drivers that have it and are better off without: their packets are large ones that were never on a wire, or
/// have checksums yet to be made, and XDP takes the one apart and cannot finish the other.
const IN_MEMORY: &[&str] = &["veth", "tun", "tap", "netkit", "netdevsim"];

const VIRTIO: &str = "virtio_net";

/// The hook to try for an interface.
pub(crate) fn choose(interface: &str, wanted: Hook) -> Choice {
    if wanted != Hook::Auto {
        return Choice { hook: wanted, why: "configured".into(), may_fall_back: false };
    }
    automatic(driver::name(interface).as_deref(), || driver::queues(interface), processors())
}

/// The driver's name, for errors.
pub(crate) fn driver_of(interface: &str) -> String {
    driver::name(interface).unwrap_or_else(|| "none".into())
}

/// What the hardware does with received packets that XDP does not agree with.
pub(crate) fn offloads(interface: &str) -> Vec<&'static str> {
    driver::offloads(interface)
}

fn automatic(driver: Option<&str>, queues: impl FnOnce() -> Option<Queues>, processors: u32) -> Choice {
    let tc = |why: String| Choice { hook: Hook::Tc, why, may_fall_back: false };
    let xdp = |why: String| Choice { hook: Hook::Xdp, why, may_fall_back: true };
    match driver {
        None => tc("auto: it names no driver".into()),
        Some(VIRTIO) => match queues() {
            // A queue to send from for each processor, beside those in use (virtnet_xdp_set).
            Some(queues) if queues.spare() >= processors => {
                xdp(format!("auto: {VIRTIO} has native XDP, and queues to spare for it"))
            }
            Some(queues) => tc(format!(
                "auto: {VIRTIO} has {} queues to spare, native XDP needs {processors}, one for each processor",
                queues.spare()
            )),
            None => tc(format!("auto: {VIRTIO} does not tell its queues, of which native XDP needs more")),
        },
        Some(name) if NATIVE.contains(&name) => xdp(format!("auto: {name} has native XDP")),
        Some(name) if IN_MEMORY.contains(&name) => {
            tc(format!("auto: packets of {name} do not come off a wire"))
        }
        Some(name) => tc(format!("auto: {name} is not known to have native XDP")),
    }
}

fn processors() -> u32 {
    aya::util::nr_cpus().map_or(u32::MAX, |cpus| cpus as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hook(driver: Option<&str>, queues: Option<Queues>) -> Hook {
        let choice = automatic(driver, || queues, 4);
        assert_eq!(choice.may_fall_back, choice.hook == Hook::Xdp);
        assert!(driver.is_none_or(|driver| choice.why.contains(driver)), "{}", choice.why);
        choice.hook
    }

    #[test]
    fn auto_is_xdp_where_packets_come_off_a_wire() {
        assert_eq!(hook(Some("mlx5_core"), None), Hook::Xdp);
        for other in ["veth", "tun", "bridge", "802.1Q VLAN Support", "bonding", "dummy", "e1000e"] {
            assert_eq!(hook(Some(other), None), Hook::Tc, "{other}");
        }
        assert_eq!(hook(None, None), Hook::Tc, "the loopback interface");
    }

    #[test]
    fn auto_is_xdp_on_virtio_with_queues_to_spare() {
        assert_eq!(hook(Some("virtio_net"), Some(Queues { used: 4, most: 8 })), Hook::Xdp);
        assert_eq!(hook(Some("virtio_net"), Some(Queues { used: 4, most: 7 })), Hook::Tc);
        assert_eq!(hook(Some("virtio_net"), None), Hook::Tc);
    }

    #[test]
    fn what_is_configured_is_tried_and_nothing_else() {
        for wanted in [Hook::Xdp, Hook::XdpGeneric, Hook::Tc] {
            let choice = choose("lo", wanted);
            assert_eq!((choice.hook, choice.may_fall_back), (wanted, false));
        }
        assert_eq!(choose("lo", Hook::Auto).hook, Hook::Tc);
    }
}
