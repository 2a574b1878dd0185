use std::time::Duration;

use super::super::{Document, export_service, parse};
use crate::intent::{AllDown, HealthCheck, HttpProbe, Probe, ServiceSpec, StatusRange};

fn manifest(port: &str, health: &str) -> String {
    format!(
        "apiVersion: lockstep/v1\nkind: Service\nname: web\nspec:\n  group: edge\n  vip: [192.0.2.10]\n  \
         port: {port}\n  protocol: [tcp]\n  health: {health}\n  endpoints: [{{address: 10.0.0.11}}]\n"
    )
}

fn service(health: &str) -> ServiceSpec {
    match parse(&manifest("443", health)).unwrap().remove(0) {
        Document::Service(spec) => spec,
        other => panic!("it is a service: {other:?}"),
    }
}

#[test]
fn the_interfaces_example_is_read_and_has_the_defaults() {
    let example = "{type: http, port: 8080, path: /healthz, host: web, expect: 200-399, interval: 1s, \
                   timeout: 500ms, rise: 2, fall: 3}";
    let http = HttpProbe { path: "/healthz".into(), host: "web".into(), expect: StatusRange::default() };
    let expected = HealthCheck {
        probe: Probe::Http(http),
        port: 8080,
        interval: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        rise: 2,
        fall: 3,
        all_down: AllDown::ServeNone,
    };
    assert_eq!(service(example).health.as_deref(), Some(&expected));
    let short = service("{type: http, port: 8080, path: /healthz, host: web}");
    assert_eq!(short.health, service(example).health);
}

#[test]
fn each_type_is_read_and_exported() {
    let none = service("{type: none}");
    assert_eq!(none.health, None);
    assert_eq!(export_service(&none)["spec"]["health"], serde_json::Value::Null);
    let bytes = |text: &[u8]| Some(text.to_vec());
    for (text, probe) in [
        ("{type: tcp}", Probe::Tcp),
        ("{type: icmp}", Probe::Icmp),
        ("{type: udp}", Probe::Udp { send: None, expect: None }),
        (
            "{type: udp, send: ping, expect: \"hex:00fF\"}",
            Probe::Udp { send: bytes(b"ping"), expect: bytes(b"\x00\xff") },
        ),
        (
            "{type: https, expect: 204}",
            Probe::Https(HttpProbe {
                path: "/".into(),
                host: String::new(),
                expect: StatusRange { first: 204, last: 204 },
            }),
        ),
    ] {
        let spec = service(text);
        assert_eq!(spec.health.as_ref().map(|health| &health.probe), Some(&probe), "{text}");
        let again = parse(&export_service(&spec).to_string()).unwrap();
        assert_eq!(again, [Document::Service(spec)], "{text}");
    }
    let quick = service("{type: tcp, interval: 200ms, all_down: serve-all}").health.unwrap();
    assert_eq!(quick.timeout, Duration::from_millis(200), "not longer than the interval");
    assert_eq!(quick.all_down, AllDown::ServeAll);
}

#[test]
fn what_is_wrong_is_named_with_what_is_allowed() {
    for (health, expected) in [
        ("{port: 1}", "type: missing: allowed tcp, udp, http, https, icmp, none"),
        ("{type: ping}", "type: ping: allowed tcp, udp, http, https, icmp, none"),
        ("{type: none, port: 1}", "port: unknown field (1): allowed the fields type"),
        ("{type: tcp, path: /}", "path: unknown field (/): allowed the fields type, interval, timeout, rise"),
        ("{type: icmp, port: 1}", "port: 1: allowed no port: the type is icmp"),
        ("{type: tcp, port: 0}", "port: 0: allowed 1-65535"),
        ("{type: tcp, interval: 1}", "interval: 1: allowed a number with ms, s, m, h or d"),
        ("{type: tcp, interval: 99ms}", "interval: 99ms: allowed 100ms-1h"),
        ("{type: tcp, interval: 2h}", "interval: 2h: allowed 100ms-1h"),
        ("{type: tcp, timeout: 1001ms}", "timeout: 1001ms: allowed 1ms-1s"),
        ("{type: tcp, timeout: 0s}", "timeout: 0s: allowed 1ms-1s"),
        ("{type: tcp, rise: 0}", "rise: 0: allowed 1-10"),
        ("{type: tcp, fall: 11}", "fall: 11: allowed 1-10"),
        ("{type: tcp, all_down: panic}", "all_down: panic: allowed serve-none, serve-all"),
        ("{type: http, path: healthz}", "path: \"healthz\": allowed a path of 1-1024 visible ASCII"),
        ("{type: http, path: \"/ HTTP/1.1\\r\\nX: y\"}", "path: \"/ HTTP/1.1\\r\\nX: y\": allowed a path"),
        ("{type: http, host: \"a\\r\\nb\"}", "host: \"a\\r\\nb\": allowed a host of 1-253 characters"),
        ("{type: http, expect: 700}", "expect: 700: allowed a status of 100-599 such as 200, or a range"),
        ("{type: http, expect: 399-200}", "expect: 399-200: allowed a status"),
        ("{type: udp, send: \"\"}", "send: 0 bytes: allowed 1-512 bytes"),
        ("{type: udp, expect: \"hex:0g\"}", "expect: hex:0g: allowed text, or hex: and pairs of hexadecimal"),
    ] {
        let errors = parse(&manifest("443", health)).expect_err(health);
        assert_eq!(errors.len(), 1, "{health}: {errors:?}");
        let error = errors[0].to_string();
        assert!(error.starts_with(&format!("document 1: spec.health.{expected}")), "{health}: {error}");
    }
    let errors = parse(&manifest("\"1-9\"", "{type: tcp}")).unwrap_err();
    let expected =
        "document 1: spec.health.port: missing: allowed 1-65535: spec.endpoints[0] (10.0.0.11) has no port";
    assert!(errors[0].to_string().starts_with(expected), "{errors:?}");
    assert!(parse(&manifest("\"1-9\"", "{type: tcp, port: 5}")).is_ok());
    assert!(parse(&manifest("\"1-9\"", "{type: icmp}")).is_ok());
}
