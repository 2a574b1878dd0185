//! Certificates and the cluster secret of a run: an authority of its own and one leaf per node.

use std::fs;
use std::io::Read;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use crate::topology::Node;

/// Where a run's keys are.
#[derive(Debug, Clone)]
pub struct Keys {
    folder: PathBuf,
}

impl Keys {
    /// Makes them all.
    pub fn create(folder: &Path, nodes: &[Node]) -> anyhow::Result<Self> {
        fs::create_dir_all(folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let keys = Keys { folder: folder.to_owned() };
        let authority = authority()?;
        private(&keys.ca(), authority.1.as_bytes())?;
        for &node in nodes {
            let (certificate, key) = leaf(node, &authority.0)?;
            private(&keys.certificate(node), certificate.as_bytes())?;
            private(&keys.key(node), key.as_bytes())?;
        }
        let mut secret = [0; 32];
        fs::File::open("/dev/urandom")
            .and_then(|mut source| source.read_exact(&mut secret))
            .context("cannot read /dev/urandom")?;
        private(&keys.secret(), &secret)?;
        Ok(keys)
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// A node's certificate.
    pub fn certificate(&self, node: Node) -> PathBuf {
        self.folder.join(format!("{}.pem", node.name()))
    }

    /// A node's key.
    pub fn key(&self, node: Node) -> PathBuf {
        self.folder.join(format!("{}.key", node.name()))
    }

    /// The secret of the lease datagrams.
    pub fn secret(&self) -> PathBuf {
        self.folder.join("cluster.secret")
    }
}

fn authority() -> anyhow::Result<(Issuer<'static, KeyPair>, String)> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "Lockstep demo authority");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate().context("cannot make a key")?;
    let certificate = params.self_signed(&key).context("cannot sign the authority's certificate")?;
    Ok((Issuer::new(params, key), certificate.pem()))
}

fn leaf(node: Node, issuer: &Issuer<'_, KeyPair>) -> anyhow::Result<(String, String)> {
    let names = vec![node.name().to_owned(), node.management().to_string(), "127.0.0.1".to_owned()];
    let mut params = CertificateParams::new(names).context("a name cannot stand in a certificate")?;
    params.distinguished_name.push(DnType::CommonName, node.name());
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let key = KeyPair::generate().context("cannot make a key")?;
    let certificate = params.signed_by(&key, issuer).context("cannot sign a node's certificate")?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn private(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::io::Write;
    let write =
        || fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?.write_all(bytes);
    write().with_context(|| format!("cannot write {}", path.display()))
}
