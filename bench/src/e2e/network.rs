//! The network: one client, one server, and between them a balancer for each subject, each on links of its own.
//!
//! ```text
//!  client ── ck 10.k.1.100 ──── eth0 10.k.1.2 ┐             ┌ eth1 10.k.2.2 ──── sk 10.k.2.11 ── server
//!                               VIP 10.k.1.10 └ balancer k ─┘ floating 10.k.2.1
//! ```

use std::net::Ipv4Addr;

use lockstep_cluster_tests::ip::batch;
use lockstep_cluster_tests::namespace::Namespace;
use lockstep_cluster_tests::run::Run;

use super::subject::Subject;

/// The namespaces; gone when dropped.
pub(crate) struct Network {
    pub(crate) client: Namespace,
    pub(crate) server: Namespace,
    balancers: Vec<Namespace>,
}

/// The addresses around one balancer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    k: u8,
}

impl Addresses {
    pub(crate) const fn of(subject: Subject) -> Self {
        Addresses { k: 1 + subject as u8 }
    }

    pub(crate) const fn client(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.k, 1, 100)
    }

    pub(crate) const fn vip(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.k, 1, 10)
    }

    pub(crate) const fn balancer(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.k, 1, 2)
    }

    const fn balancer_inside(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.k, 2, 2)
    }

    pub(crate) const fn floating(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.k, 2, 1)
    }

    pub(crate) const fn server(self) -> Ipv4Addr {
        Ipv4Addr::new(10, self.k, 2, 11)
    }
}

impl Network {
    pub(crate) fn create(run: &Run) -> anyhow::Result<Self> {
        let client = Namespace::create(&run.namespace("client"))?;
        let server = Namespace::create(&run.namespace("server"))?;
        let balancers = Subject::ALL
            .iter()
            .map(|subject| Namespace::create(&run.namespace(subject.name())))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let network = Network { client, server, balancers };
        for subject in Subject::ALL {
            network.connect(subject)?;
        }
        // Short connections one after the other: enough ports, and the closed ones soon again.
        for namespace in network.balancers.iter().chain([&network.client, &network.server]) {
            namespace.sysctl(&[
                ("net/ipv4/ip_local_port_range", "1024 65000"),
                ("net/ipv4/tcp_tw_reuse", "1"),
                ("net/core/somaxconn", "4096"),
            ])?;
        }
        Ok(network)
    }

    pub(crate) fn balancer(&self, subject: Subject) -> &Namespace {
        &self.balancers[subject as usize]
    }

    fn connect(&self, subject: Subject) -> anyhow::Result<()> {
        let at = Addresses::of(subject);
        let balancer = self.balancer(subject).name();
        let (outer, inner) = (format!("c{}", at.k), format!("s{}", at.k));
        batch(
            self.client.name(),
            &[
                format!("link add {outer} type veth peer name eth0 netns {balancer}"),
                format!("address add {}/24 dev {outer}", at.client()),
                format!("link set {outer} up"),
            ],
        )?;
        batch(
            self.server.name(),
            &[
                format!("link add {inner} type veth peer name eth1 netns {balancer}"),
                format!("address add {}/24 dev {inner}", at.server()),
                format!("link set {inner} up"),
            ],
        )?;
        batch(
            balancer,
            &[
                format!("address add {}/24 dev eth0", at.balancer()),
                format!("address add {}/24 dev eth1", at.balancer_inside()),
                "link set eth0 up".into(),
                "link set eth1 up".into(),
            ],
        )?;
        // Only plain forwarding is asked for the server itself; the others hide it behind the VIP.
        batch(self.client.name(), &[format!("route add {}/32 via {}", at.server(), at.balancer())])?;
        let gateway = if subject == Subject::Tc { at.floating() } else { at.balancer_inside() };
        batch(self.server.name(), &[format!("route add {}/32 via {gateway}", at.client())])
    }
}
