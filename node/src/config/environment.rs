//! `LOCKSTEP_SECTION__KEY` overrides.

use toml::{Table, Value};

const PREFIX: &str = "LOCKSTEP_";

/// Writes every `LOCKSTEP_SECTION__KEY` of `variables` into `table`. Unknown sections and keys are written
/// too, so that the check of the whole refuses them by name.
pub(super) fn overlay(table: &mut Table, variables: impl Iterator<Item = (String, String)>) {
    for (name, text) in variables {
        let Some((section, key)) = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once("__")) else {
            continue; // LOCKSTEP_SERVER and the like belong to the command line
        };
        let section = table.entry(section.to_lowercase()).or_insert_with(|| Value::Table(Table::new()));
        if let Value::Table(section) = section {
            section.insert(key.to_lowercase(), read(&text));
        }
    }
}

fn read(text: &str) -> Value {
    match format!("v = {text}").parse::<Table>() {
        Ok(mut table) => table.remove("v").unwrap_or_else(|| Value::String(text.to_owned())),
        Err(_) => Value::String(text.to_owned()),
    }
}
