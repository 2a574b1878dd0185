//! A cursor over an untyped document that collects everything wrong with it.
//!
//! Reading goes on after a mistake, so methods return `None` where there is nothing sensible to go on with; the
//! mistake itself is always in [`Issues`] then.

use std::cell::RefCell;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::check::Problem;
use crate::duration;
use crate::intent::{PortRange, Prefix};

/// Longest value shown in an error, in characters.
const SHOWN: usize = 60;

/// What was found wrong so far.
#[derive(Default)]
pub(super) struct Issues(RefCell<Vec<Problem>>);

impl Issues {
    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.0.into_inner()
    }
}

/// A value and where it stands.
pub(super) struct Node<'a> {
    value: &'a Value,
    path: String,
    issues: &'a Issues,
}

/// The fields of an object.
pub(super) struct Fields<'a> {
    map: &'a Map<String, Value>,
    path: String,
    issues: &'a Issues,
}

impl<'a> Node<'a> {
    pub(super) fn root(value: &'a Value, issues: &'a Issues) -> Self {
        Node { value, path: String::new(), issues }
    }

    pub(super) fn report(&self, problem: Problem) {
        self.issues.0.borrow_mut().push(problem);
    }

    pub(super) fn refuse(&self, allowed: impl Into<String>) {
        let path = if self.path.is_empty() { "document" } else { self.path.as_str() };
        self.report(Problem::new(path, show(self.value), allowed));
    }

    fn expect<T>(&self, value: Option<T>, allowed: &str) -> Option<T> {
        if value.is_none() {
            self.refuse(allowed);
        }
        value
    }

    pub(super) fn object(&self) -> Option<Fields<'a>> {
        let map = self.expect(self.value.as_object(), "a mapping of fields")?;
        Some(Fields { map, path: self.path.clone(), issues: self.issues })
    }

    pub(super) fn list(&self) -> Option<Vec<Node<'a>>> {
        let items = self.expect(self.value.as_array(), "a list")?;
        let node = |(i, value)| Node { value, path: format!("{}[{i}]", self.path), issues: self.issues };
        Some(items.iter().enumerate().map(node).collect())
    }

    /// Every element read; `None` if any could not be.
    pub(super) fn list_of<T>(&self, read: impl Fn(&Node<'a>) -> Option<T>) -> Option<Vec<T>> {
        let items: Vec<Option<T>> = self.list()?.iter().map(read).collect();
        items.into_iter().collect()
    }

    pub(super) fn text(&self) -> Option<&'a str> {
        self.expect(self.value.as_str(), "text (put it in quotes)")
    }

    pub(super) fn boolean(&self) -> Option<bool> {
        self.expect(self.value.as_bool(), "true or false")
    }

    pub(super) fn integer(&self, least: u16, most: u16) -> Option<u16> {
        let number = self.value.as_u64().and_then(|n| u16::try_from(n).ok());
        self.expect(number.filter(|n| (least..=most).contains(n)), &format!("{least}-{most}"))
    }

    pub(super) fn number(&self, least: u32, most: u32) -> Option<u32> {
        let number = self.value.as_u64().and_then(|n| u32::try_from(n).ok());
        self.expect(number.filter(|n| (least..=most).contains(n)), &format!("{least}-{most}"))
    }

    pub(super) fn address(&self) -> Option<IpAddr> {
        self.expect(self.value.as_str().and_then(|text| text.parse().ok()), "an IPv4 or IPv6 address")
    }

    pub(super) fn prefix(&self) -> Option<Prefix> {
        self.expect(self.value.as_str().and_then(|text| text.parse().ok()), Prefix::FORMS)
    }

    /// A number, or text.
    pub(super) fn ports(&self) -> Option<PortRange> {
        let ports = match self.value {
            Value::String(text) => text.parse().ok(),
            other => {
                let port = other.as_u64().and_then(|n| u16::try_from(n).ok()).filter(|port| *port > 0);
                port.map(PortRange::single)
            }
        };
        self.expect(ports, PortRange::FORMS)
    }

    /// Text or a number, of a type that reads itself.
    pub(super) fn parsed<T: FromStr>(&self, allowed: &str) -> Option<T> {
        let value = match self.value {
            Value::String(text) => text.parse().ok(),
            Value::Number(number) => number.to_string().parse().ok(),
            _ => None,
        };
        self.expect(value, allowed)
    }

    pub(super) fn duration(&self) -> Option<Duration> {
        self.expect(self.value.as_str().and_then(duration::parse), duration::FORMS)
    }

    /// One of the words; `later` are those that another version will know.
    pub(super) fn word<T: Copy>(&self, words: &[(&str, T)], later: &str) -> Option<T> {
        let value = self.value.as_str().and_then(|text| words.iter().find(|(word, _)| *word == text));
        if value.is_none() {
            let names: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
            let later =
                if later.is_empty() { String::new() } else { format!(" ({later} not in this version)") };
            self.refuse(format!("{}{later}", names.join(", ")));
        }
        value.map(|(_, value)| *value)
    }
}

impl<'a> Fields<'a> {
    fn path_of(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }

    /// Refuses every field but these.
    pub(super) fn only(&self, known: &[&str]) {
        for (name, value) in self.map.iter().filter(|(name, _)| !known.contains(&name.as_str())) {
            let allowed = format!("the fields {}", known.join(", "));
            let value = format!("unknown field ({})", show(value));
            self.issues.0.borrow_mut().push(Problem::new(self.path_of(name), value, allowed));
        }
    }

    /// Absent and null are the same.
    pub(super) fn get(&self, name: &str) -> Option<Node<'a>> {
        let value = self.map.get(name).filter(|value| !value.is_null())?;
        Some(Node { value, path: self.path_of(name), issues: self.issues })
    }

    pub(super) fn required(&self, name: &str, allowed: &str) -> Option<Node<'a>> {
        let node = self.get(name);
        if node.is_none() {
            self.issues.0.borrow_mut().push(Problem::new(self.path_of(name), "missing", allowed));
        }
        node
    }

    /// A field that may be absent. `None`: it is there and wrong.
    pub(super) fn or<T>(
        &self,
        name: &str,
        default: T,
        read: impl FnOnce(&Node<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.get(name) {
            None => Some(default),
            Some(node) => read(&node),
        }
    }
}

fn show(value: &Value) -> String {
    let text = match value {
        // Quoted where it would otherwise look like the number that was wanted.
        Value::String(text) if text.parse::<f64>().is_ok() => format!("{text:?}"),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    if text.chars().count() <= SHOWN {
        return text;
    }
    text.chars().take(SHOWN).chain("…".chars()).collect()
}
