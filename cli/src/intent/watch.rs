//! `get --watch`: what there is, then again whatever changes, until interrupted.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::Value;

use super::{read, tables};
use crate::args::{Kind, Output};
use crate::client::Client;
use crate::failure::Failure;
use crate::print;

/// Between two looks.
const PERIOD: Duration = Duration::from_millis(500);

/// Objects as they were, by name.
type Known = BTreeMap<String, Value>;

pub(super) async fn run(
    client: &mut Client,
    kind: Kind,
    name: Option<String>,
    output: Output,
) -> Result<(), Failure> {
    let mut known: Option<Known> = None;
    loop {
        let now = read::objects(client, kind, name.clone()).await?;
        let first = known.is_none();
        let (changed, gone) = changes(known.as_ref().unwrap_or(&Known::new()), &now);
        if first || !changed.is_empty() {
            show(kind, &changed, output, first)?;
        }
        for name in gone {
            match output {
                Output::Json => {
                    print::text(&format!("{}\n", serde_json::json!({"name": name, "deleted": true})))
                }
                _ => print::text(&format!("{name}   deleted\n")),
            }
        }
        known = Some(now.into_iter().map(|object| (name_of(&object), object)).collect());
        tokio::time::sleep(PERIOD).await;
    }
}

fn show(kind: Kind, changed: &[Value], output: Output, first: bool) -> Result<(), Failure> {
    match output {
        Output::Json => {
            changed.iter().for_each(|object| print::text(&format!("{object}\n")));
            Ok(())
        }
        Output::Yaml => {
            if !first {
                print::text("---\n");
            }
            print::objects(changed, false, output)
        }
        Output::Table | Output::Wide => {
            let (header, rows) = tables::rows(kind, changed);
            print::table(&header, &rows);
            Ok(())
        }
    }
}

/// What is new or different, and the names of what is no more.
fn changes(known: &Known, now: &[Value]) -> (Vec<Value>, Vec<String>) {
    let changed = now.iter().filter(|object| known.get(&name_of(object)) != Some(object)).cloned().collect();
    let stays = |name: &&String| now.iter().any(|object| name_of(object) == **name);
    (changed, known.keys().filter(|name| !stays(name)).cloned().collect())
}

/// The cluster has none, and is one.
fn name_of(object: &Value) -> String {
    object["name"].as_str().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_what_changed_is_shown_again() {
        let (a, b) = (json!({"name": "a", "status": {"health": "up"}}), json!({"name": "b"}));
        let known = Known::from([("a".into(), a.clone()), ("b".into(), b.clone())]);
        assert_eq!(changes(&Known::new(), &[a.clone(), b.clone()]), (vec![a.clone(), b.clone()], vec![]));
        assert_eq!(changes(&known, &[a.clone(), b.clone()]), (vec![], vec![]));
        let down = [json!({"name": "a", "status": {"health": "down"}})];
        assert_eq!(changes(&known, &down), (down.to_vec(), vec!["b".to_owned()]));
        assert_eq!(name_of(&json!({"kind": "Cluster"})), "");
    }
}
