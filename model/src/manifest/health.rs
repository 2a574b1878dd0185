//! `health:` of a service.

use serde_json::{Value, json};

use super::export::word;
use super::reader::{Fields, Node};
use crate::duration;
use crate::intent::{AllDown, HealthCheck, HttpProbe, Probe, StatusRange};
use crate::limits::MAX_RISE_FALL;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    None,
    Tcp,
    Udp,
    Http,
    Https,
    Icmp,
}

const KIND: &[(&str, Kind)] = &[
    ("tcp", Kind::Tcp),
    ("udp", Kind::Udp),
    ("http", Kind::Http),
    ("https", Kind::Https),
    ("icmp", Kind::Icmp),
    ("none", Kind::None),
];
const ALL_DOWN: &[(&str, AllDown)] = &[("serve-none", AllDown::ServeNone), ("serve-all", AllDown::ServeAll)];

const COMMON: &[&str] = &["type", "interval", "timeout", "rise", "fall", "all_down"];

/// How bytes are written that are no text.
const HEX: &str = "hex:";

/// `Some(None)`: nothing is probed.
pub(super) fn read(value: &Node<'_>) -> Option<Option<HealthCheck>> {
    let fields = value.object()?;
    let kind = fields.required("type", "tcp, udp, http, https, icmp, none")?.word(KIND, "")?;
    let own: &[&str] = match kind {
        Kind::None => {
            fields.only(&["type"]);
            return Some(None);
        }
        // `check` says that an echo has none.
        Kind::Tcp | Kind::Icmp => &["port"],
        Kind::Udp => &["port", "send", "expect"],
        Kind::Http | Kind::Https => &["port", "path", "host", "expect"],
    };
    fields.only(&[COMMON, own].concat());
    let port = fields.or("port", 0, |v| v.integer(1, u16::MAX));
    let interval = fields.or("interval", HealthCheck::INTERVAL, |v| v.duration());
    let timeout = interval.unwrap_or(HealthCheck::INTERVAL).min(HealthCheck::TIMEOUT);
    let timeout = fields.or("timeout", timeout, |v| v.duration());
    let rise = count(&fields, "rise", HealthCheck::RISE);
    let fall = count(&fields, "fall", HealthCheck::FALL);
    let all_down = fields.or("all_down", AllDown::default(), |v| v.word(ALL_DOWN, ""));
    let probe = match kind {
        Kind::Tcp => Some(Probe::Tcp),
        Kind::Icmp => Some(Probe::Icmp),
        Kind::Udp => udp(&fields),
        Kind::Http => http(&fields).map(Probe::Http),
        Kind::Https => http(&fields).map(Probe::Https),
        Kind::None => None,
    };
    Some(Some(HealthCheck {
        probe: probe?,
        port: port?,
        interval: interval?,
        timeout: timeout?,
        rise: rise?,
        fall: fall?,
        all_down: all_down?,
    }))
}

fn count(fields: &Fields<'_>, name: &str, default: u8) -> Option<u8> {
    let value = fields.or(name, default.into(), |v| v.integer(1, MAX_RISE_FALL.into()))?;
    Some(u8::try_from(value).expect("its largest value fits"))
}

fn http(fields: &Fields<'_>) -> Option<HttpProbe> {
    let path = fields.or("path", "/", |v| v.text());
    let host = fields.or("host", "", |v| v.text());
    let expect = fields.or("expect", StatusRange::default(), |v| v.parsed(StatusRange::FORMS));
    Some(HttpProbe { path: path?.to_owned(), host: host?.to_owned(), expect: expect? })
}

fn udp(fields: &Fields<'_>) -> Option<Probe> {
    let send = fields.or("send", None, |v| bytes(v).map(Some));
    let expect = fields.or("expect", None, |v| bytes(v).map(Some));
    Some(Probe::Udp { send: send?, expect: expect? })
}

fn bytes(value: &Node<'_>) -> Option<Vec<u8>> {
    let text = value.text()?;
    let Some(digits) = text.strip_prefix(HEX) else { return Some(text.as_bytes().to_vec()) };
    let pairs = digits.as_bytes().chunks(2);
    let byte = |pair: &[u8]| {
        let pair = std::str::from_utf8(pair).ok().filter(|p| p.len() == 2 && !p.starts_with('+'))?;
        u8::from_str_radix(pair, 16).ok()
    };
    let read: Option<Vec<u8>> = pairs.map(byte).collect();
    if read.is_none() {
        value.refuse(format!("text, or {HEX} and pairs of hexadecimal digits"));
    }
    read
}

fn show_bytes(bytes: &[u8]) -> String {
    let plain = |text: &&str| !text.starts_with(HEX) && !text.chars().any(char::is_control);
    match std::str::from_utf8(bytes).ok().filter(plain) {
        Some(text) => text.to_owned(),
        None => bytes.iter().fold(HEX.to_owned(), |text, byte| format!("{text}{byte:02x}")),
    }
}

/// What has no default of its own (port, host, what is sent) is left out where there is none.
pub(super) fn export(check: &HealthCheck) -> Value {
    let kind = match check.probe {
        Probe::Tcp => Kind::Tcp,
        Probe::Udp { .. } => Kind::Udp,
        Probe::Http(_) => Kind::Http,
        Probe::Https(_) => Kind::Https,
        Probe::Icmp => Kind::Icmp,
    };
    let mut fields = json!({
        "type": word(KIND, kind),
        "interval": duration::show(check.interval),
        "timeout": duration::show(check.timeout),
        "rise": check.rise,
        "fall": check.fall,
        "all_down": word(ALL_DOWN, check.all_down),
    });
    if check.port != 0 {
        fields["port"] = json!(check.port);
    }
    match &check.probe {
        Probe::Http(probe) | Probe::Https(probe) => {
            fields["path"] = json!(probe.path);
            fields["expect"] = json!(probe.expect.to_string());
            if !probe.host.is_empty() {
                fields["host"] = json!(probe.host);
            }
        }
        Probe::Udp { send, expect } => {
            for (name, bytes) in [("send", send), ("expect", expect)] {
                if let Some(bytes) = bytes {
                    fields[name] = json!(show_bytes(bytes));
                }
            }
        }
        Probe::Tcp | Probe::Icmp => {}
    }
    fields
}

#[cfg(test)]
mod tests;
