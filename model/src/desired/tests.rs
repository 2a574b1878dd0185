use proptest::prelude::*;

use crate::arbitrary;
use crate::ids::NodeId;
use crate::image::{Image, SnatAction, desired};
use crate::intent::{AllDown, NodeRole};
use crate::protocol::Family;

proptest! {
    #[test]
    fn owner_and_standby_hold_the_same(( state, _) in arbitrary::state()) {
        let images: Vec<(NodeId, Image)> = (1..5).map(|n| (NodeId(n), desired(&state, NodeId(n)))).collect();
        for (node, image) in &images {
            let carries = state.nodes.get(node).is_some_and(|n| n.role == NodeRole::Dataplane);
            prop_assert!(carries || *image == Image::default(), "a witness holds nothing");
            for group in &image.groups {
                let assigned = state.groups[&group.id].assignment;
                prop_assert_eq!(group.owner, assigned.is_some_and(|a| a.node == *node));
                for other in images.iter().flat_map(|(_, i)| &i.groups).filter(|g| g.id == group.id) {
                    prop_assert_eq!(&group.addresses, &other.addresses);
                    prop_assert_eq!(group.epoch, other.epoch);
                    prop_assert!(!(group.owner && other.owner) || std::ptr::eq(group, other));
                }
            }
            for service in &image.services {
                prop_assert!(image.groups.iter().any(|g| g.id == service.group));
                let agreed = &state.services[&service.id];
                prop_assert_eq!(service.endpoints.len(), agreed.endpoint_ids.len());
                let group = image.groups.iter().find(|g| g.id == service.group).unwrap();
                for frontend in &service.frontends {
                    prop_assert!(group.addresses.iter().any(|a| a.vip && a.address == frontend.vip));
                }
                for source in &service.snat {
                    let known = group.addresses.iter().find(|a| a.address == *source);
                    prop_assert!(known.is_some_and(|a| a.snat && a.port_blocks != 0), "{} is no source", source);
                }
                for vip in service.frontends.iter().map(|f| f.vip) {
                    let eligible = service.eligible_for(Family::of(vip));
                    let nobody_up = service.all_down == AllDown::ServeAll && eligible.iter().all(|e| e.down);
                    prop_assert!(eligible.iter().all(|e| e.is_offered() && (nobody_up || !e.down)));
                    prop_assert!(eligible.windows(2).all(|pair| pair[0].backup == pair[1].backup));
                }
            }
            for rule in &image.snat_rules {
                let group = image.groups.iter().find(|g| g.id == rule.group);
                prop_assert!(group.is_some());
                for to in rule.action.addresses() {
                    let at = group.unwrap().addresses.iter().find(|a| a.address == *to);
                    let Some(at) = at else { panic!("{to} is no address of its group") };
                    match rule.action {
                        SnatAction::Static(_) => prop_assert_eq!(at.static_host, Some(rule.source.address)),
                        _ => prop_assert!(at.snat && at.port_blocks != 0),
                    }
                }
            }
            prop_assert!(image.snat_rules.is_sorted_by_key(|rule| (rule.priority, rule.id)));
        }
    }
}
