//! Tables, JSON and YAML.

use serde_json::Value;

use crate::args::Output;
use crate::failure::Failure;

/// Prints to standard output; a reader that went away (`| head`) ends the program quietly.
pub(crate) fn text(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    if out.write_all(text.as_bytes()).and_then(|()| out.flush()).is_err() {
        std::process::exit(0);
    }
}

/// Prints what a server says of its objects, a line each.
pub(crate) fn lines(lines: &[String]) {
    lines.iter().for_each(|line| text(&format!("{line}\n")));
}

/// Prints `values` as JSON or YAML: one object alone, or a list (YAML: one document each).
pub(crate) fn objects(values: &[Value], single: bool, output: Output) -> Result<(), Failure> {
    let broken = |e: &dyn std::fmt::Display| Failure::Refused(format!("the answer cannot be printed: {e}"));
    match output {
        Output::Yaml => {
            for (i, value) in values.iter().enumerate() {
                if i > 0 {
                    text("---\n");
                }
                text(&serde_saphyr::to_string(value).map_err(|e| broken(&e))?);
            }
        }
        Output::Json | Output::Table | Output::Wide => {
            let value = if single {
                values.first().cloned().unwrap_or(Value::Null)
            } else {
                Value::Array(values.to_vec())
            };
            text(&format!("{}\n", serde_json::to_string_pretty(&value).map_err(|e| broken(&e))?));
        }
    }
    Ok(())
}

/// A table with left-aligned columns.
pub(crate) fn table(header: &[&str], rows: &[Vec<String>]) {
    let mut widths: Vec<usize> = header.iter().map(|cell| cell.len()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let mut out = String::new();
    let mut line = |cells: &mut dyn Iterator<Item = &str>| {
        let mut row = String::new();
        for (width, cell) in widths.iter().zip(cells) {
            row.push_str(&format!("{cell:<width$}   "));
        }
        out.push_str(row.trim_end());
        out.push('\n');
    };
    line(&mut header.iter().copied());
    for row in rows {
        line(&mut row.iter().map(String::as_str));
    }
    text(&out);
}

/// Nanoseconds, with the unit that reads best.
pub(crate) fn nanoseconds(ns: u64) -> String {
    match ns {
        0..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{:.1}us", ns as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}ms", ns as f64 / 1e6),
        _ => format!("{:.1}s", ns as f64 / 1e9),
    }
}

/// An address of 4 or 16 bytes.
pub(crate) fn address(bytes: &[u8]) -> String {
    if let Ok(v4) = <[u8; 4]>::try_from(bytes) {
        return std::net::Ipv4Addr::from(v4).to_string();
    }
    match <[u8; 16]>::try_from(bytes) {
        Ok(v6) => std::net::Ipv6Addr::from(v6).to_string(),
        Err(_) => format!("?{bytes:02x?}"),
    }
}

/// An address and a port, an IPv6 one in brackets.
pub(crate) fn socket(socket: &lockstep_proto::types::v1::SocketAddress) -> String {
    let shown = address(&socket.address);
    if shown.contains(':') {
        format!("[{shown}]:{}", socket.port)
    } else {
        format!("{shown}:{}", socket.port)
    }
}
