use super::*;

const FILE: &str = r#"
[node]
name = "a"
role = "dataplane"
data_dir = "/var/lib/lockstep"
[cluster]
name = "edge"
listen = "10.9.0.1:7400"
peers = ["10.9.0.2:7400", "10.9.0.3:7400"]
secret_file = "/etc/lockstep/cluster.secret"
[lease]
listen = "10.9.0.1:7401"
[dataplane]
interfaces = [{ name = "eth0", hook = "auto" }, { name = "eth1" }]
[tls]
ca = "ca.pem"
cert = "a.pem"
key = "a.key"
"#;

fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Config, String> {
    let variables = variables.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Config::parse(Path::new("node.toml"), text, variables).map_err(|e| e.to_string())
}

#[test]
fn a_full_file_is_read() {
    let config = parse(FILE, &[]).unwrap();
    assert_eq!(config.node.name, "a");
    assert_eq!(config.dataplane.unwrap().max_flows, 1 << 20);
    assert_eq!(config.api.listen.to_string(), "127.0.0.1:7443");
}

#[test]
fn replication_listens_beside_the_cluster_listener() {
    let listen = |text: &str| parse(text, &[]).unwrap().sync_listen().to_string();
    assert_eq!(listen(FILE), "10.9.0.1:7402");
    let elsewhere = FILE.replacen("[lease]", "[sync]\nlisten = \"10.9.0.1:7999\"\n[lease]", 1);
    assert_eq!(listen(&elsewhere), "10.9.0.1:7999");
    assert_eq!(listen(&FILE.replace("10.9.0.1:7400", "10.9.0.1:65533")), "10.9.0.1:65535");
    let highest = elsewhere.replace("10.9.0.1:7400", "10.9.0.1:65535");
    assert_eq!(listen(&highest), "10.9.0.1:7999", "with an address of its own any port will do");
}

#[test]
fn the_environment_overrides_any_key() {
    let config = parse(
        FILE,
        &[
            ("LOCKSTEP_NODE__DATA_DIR", "/tmp/x"),
            ("LOCKSTEP_DATAPLANE__MAX_FLOWS", "2048"),
            ("LOCKSTEP_LOG__FORMAT", "json"),
            ("LOCKSTEP_SERVER", "127.0.0.1:1"),
        ],
    )
    .unwrap();
    assert_eq!(config.node.data_dir, PathBuf::from("/tmp/x"));
    assert_eq!(config.dataplane.unwrap().max_flows, 2048);
    assert_eq!(config.log.format, LogFormat::Json);
}

#[test]
fn every_refusal_names_key_value_and_what_is_allowed() {
    let cases: &[(&str, &str, &[&str])] = &[
        ("10.9.0.1:7400", "10.9.0.1:65534", &["cluster.listen", "10.9.0.1:65534", "65533", "sync.listen"]),
        ("name = \"a\"", "name = \"A b\"", &["node.name", "\"A b\"", "a-z"]),
        ("role = \"dataplane\"", "role = \"king\"", &["node.role", "king", "dataplane"]),
        ("[lease]", "[lease]\nlength = 3", &["lease", "length", "listen"]),
        (
            "[lease]",
            "[sync]\nlisten = \"10.9.0.1:7400\"\n[lease]",
            &["sync.listen", "10.9.0.1:7400", "other than"],
        ),
        (
            "[lease]",
            "[sync]\nlisten = \"10.8.0.1:7402\"\n[lease]",
            &["sync.listen", "10.8.0.1:7402", "10.9.0.1"],
        ),
        ("listen = \"10.9.0.1:7400\"", "listen = \"10.9.0.1\"", &["cluster.listen", "socket address"]),
        ("\"10.9.0.3:7400\"", "\"10.9.0.2:7400\"", &["cluster.peers[1]", "10.9.0.2:7400", "once"]),
        ("hook = \"auto\"", "hook = \"xpd\"", &["dataplane.interfaces[0].hook", "xpd", "xdp-generic", "tc"]),
        ("[tls]", "[x]\n[tls]", &["unknown field", "x", "dataplane"]),
        ("ca = \"ca.pem\"\n", "", &["tls.ca", "missing"]),
        ("[tls]", "[routing]\nhook = \"bin/hook\"\n[tls]", &["routing.hook", "bin/hook", "absolute"]),
        (
            "[tls]",
            "[routing]\nhook = \"/nonexistent\"\n[tls]",
            &["routing.hook", "/nonexistent", "executable"],
        ),
        (
            "[tls]",
            "[routing]\nhook = \"/etc/passwd\"\n[tls]",
            &["routing.hook", "/etc/passwd", "not executable"],
        ),
        ("[tls]", "[routing]\nhook = \"/\"\n[tls]", &["routing.hook", "not executable"]),
        ("[tls]", "[routing]\nsocket = \"run/s\"\n[tls]", &["routing.socket", "run/s", "absolute", "107"]),
        (
            "[tls]",
            "[routing]\nhook = \"/bin/sh\"\nsocket = \"/run/s\"\n[tls]",
            &["routing.hook", "/bin/sh", "either routing.hook or routing.socket"],
        ),
    ];
    for (from, to, wanted) in cases {
        let error = parse(&FILE.replacen(from, to, 1), &[]).unwrap_err();
        for word in *wanted {
            assert!(error.contains(word), "{to:?}: {error:?} should contain {word:?}");
        }
        assert!(error.starts_with("node.toml: "), "{error}");
    }
}

#[test]
fn every_hook_has_a_name() {
    let names =
        [("auto", Hook::Auto), ("xdp", Hook::Xdp), ("xdp-generic", Hook::XdpGeneric), ("tc", Hook::Tc)];
    for (name, hook) in names {
        let config = parse(&FILE.replacen("hook = \"auto\"", &format!("hook = \"{name}\""), 1), &[]).unwrap();
        assert_eq!(config.dataplane.unwrap().interfaces[0].hook, hook);
    }
}

#[test]
fn plain_text_beyond_loopback_must_be_asked_for() {
    let bare = FILE.split("[tls]").next().unwrap().to_owned();
    assert!(parse(&bare, &[]).unwrap_err().contains("cluster.listen: 10.9.0.1:7400"));
    assert!(parse(&bare, &[("LOCKSTEP_TLS__ALLOW_PLAINTEXT", "true")]).is_ok());
}

#[test]
fn a_routing_hook_is_an_executable_of_a_node_that_can_own() {
    let with_hook = FILE.replacen("[tls]", "[routing]\nhook = \"/bin/sh\"\n[tls]", 1);
    assert_eq!(parse(&with_hook, &[]).unwrap().routing.hook, Some(PathBuf::from("/bin/sh")));
    let witness = with_hook.replacen("role = \"dataplane\"", "role = \"witness\"", 1);
    let (before, after) = witness.split_once("[dataplane]").unwrap();
    let witness = format!("{before}{}", after.split_once('\n').unwrap().1.split_once('\n').unwrap().1);
    let error = parse(&witness, &[]).unwrap_err();
    assert!(error.contains("routing.hook: \"/bin/sh\": a witness"), "{error}");
}
