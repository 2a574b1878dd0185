//! `diff`: what `apply` of a manifest would change, field by field.

use lockstep_model::manifest::{Document, export_cluster, export_group, export_service, export_snat_rule};
use lockstep_proto::admin::v1 as admin;
use serde_json::Value;

use super::{parsed, read};
use crate::args::Kind;
use crate::client::Client;
use crate::failure::Failure;
use crate::print;

/// Fails with [`Failure::Differs`] if there is anything.
pub(super) async fn run(client: &mut Client, manifest: String) -> Result<(), Failure> {
    let documents = parsed(&manifest)?;
    // The server refuses what names something that is not there; here only the documents are looked at.
    let request = admin::ApplyRequest { manifest, dry_run: true, prune: false, expected_revision: None };
    client.admin.apply(request).await?;
    let mut lines = Vec::new();
    for document in documents {
        let (kind, name, wanted) = match document {
            Document::Cluster(settings) => (Kind::Cluster, None, export_cluster(&settings)),
            Document::Group(spec) => (Kind::Group, Some(spec.name.clone()), export_group(&spec)),
            Document::Service(spec) => (Kind::Service, Some(spec.name.clone()), export_service(&spec)),
            Document::SnatRule(spec) => (Kind::SnatRule, Some(spec.name.clone()), export_snat_rule(&spec)),
        };
        let object =
            name.as_ref().map_or_else(|| "cluster".to_owned(), |n| format!("{}/{n}", kind.singular()));
        let held = match read::objects(client, kind, name).await {
            Ok(objects) => objects.into_iter().next(),
            Err(Failure::NotFound(_)) => None,
            Err(failure) => return Err(failure),
        };
        match held {
            Some(held) => differences(&mut lines, &format!("{object} spec"), &held["spec"], &wanted["spec"]),
            None => lines.push(format!("{object} is not there")),
        }
    }
    print::lines(&lines);
    if lines.is_empty() { Ok(()) } else { Err(Failure::Differs) }
}

fn differences(lines: &mut Vec<String>, path: &str, held: &Value, wanted: &Value) {
    match (held, wanted) {
        (Value::Object(held), Value::Object(wanted)) => {
            let mut names: Vec<&String> = held.keys().chain(wanted.keys()).collect();
            names.sort();
            names.dedup();
            for name in names {
                let [held, wanted] = [held, wanted].map(|side| side.get(name).unwrap_or(&Value::Null));
                differences(lines, &format!("{path}.{name}"), held, wanted);
            }
        }
        (Value::Array(held), Value::Array(wanted)) => {
            for index in 0..held.len().max(wanted.len()) {
                let [held, wanted] = [held, wanted].map(|side| side.get(index).unwrap_or(&Value::Null));
                differences(lines, &format!("{path}[{index}]"), held, wanted);
            }
        }
        _ if held == wanted => {}
        (Value::Null, wanted) => lines.push(format!("{path}: nothing, would be {wanted}")),
        (held, Value::Null) => lines.push(format!("{path}: {held}, would be nothing")),
        (held, wanted) => lines.push(format!("{path}: {held}, would be {wanted}")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_field_that_differs_is_named_with_both_values() {
        let mut lines = Vec::new();
        let held = json!({"a": {"b": 1, "same": [1, 2]}, "gone": "x", "list": [{"w": 1}]});
        let wanted = json!({"a": {"b": 2, "same": [1, 2]}, "new": true, "list": [{"w": 1}, {"w": 3}]});
        differences(&mut lines, "service/web spec", &held, &wanted);
        assert_eq!(
            lines,
            [
                "service/web spec.a.b: 1, would be 2",
                "service/web spec.gone: \"x\", would be nothing",
                "service/web spec.list[1]: nothing, would be {\"w\":3}",
                "service/web spec.new: nothing, would be true",
            ]
        );
    }
}
