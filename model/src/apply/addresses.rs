//! Which group serves which address, and how an address goes from one group to another without two nodes
//! serving it at once (I3, DESIGN section 7).
//!
//! The group that had the address gets a higher epoch in the same command that gives it to another group, so
//! no voter that knows of the command renews the old one, and the new group's owner waits MAX_LEASE from then.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::change::Draft;
use super::invalid;
use crate::ids::{Epoch, GroupId};
use crate::limits::{MAX_ADDRESSES, MAX_RELEASED_ADDRESSES};
use crate::state::{Refusal, Released, State};

/// An address belongs to one group; VIPs may be shared by the services of one group, on other ports, and the
/// addresses of rules by its rules and services.
pub(super) fn check(state: &State) -> Result<(), Refusal> {
    let mut taken: BTreeMap<IpAddr, (GroupId, String)> = BTreeMap::new();
    for (id, group) in &state.groups {
        for (i, address) in group.spec.addresses.iter().enumerate() {
            let object = format!("group/{}", group.spec.name);
            take(&mut taken, *address, *id, &object, &format!("spec.addresses[{i}]"))?;
        }
    }
    for service in state.services.values() {
        for (i, vip) in service.spec.vip.iter().enumerate() {
            let object = format!("service/{}", service.spec.name);
            take(&mut taken, *vip, service.group, &object, &format!("spec.vip[{i}]"))?;
        }
    }
    for rule in state.snat_rules.values() {
        for (i, to) in rule.spec.action.addresses().iter().enumerate() {
            let object = format!("snatrule/{}", rule.spec.name);
            take(&mut taken, *to, rule.group, &object, &format!("spec.action.to[{i}]"))?;
        }
    }
    if taken.len() > MAX_ADDRESSES {
        return Err(invalid("addresses".into(), taken.len(), format!("at most {MAX_ADDRESSES}")));
    }
    Ok(())
}

fn take(
    taken: &mut BTreeMap<IpAddr, (GroupId, String)>,
    address: IpAddr,
    group: GroupId,
    object: &str,
    path: &str,
) -> Result<(), Refusal> {
    match taken.get(&address) {
        Some((other, holder)) if *other != group => {
            let allowed = format!("an address that no other group has: {holder} has this one");
            Err(invalid(format!("{object}: {path}"), address, allowed))
        }
        Some(_) => Ok(()),
        None => {
            taken.insert(address, (group, object.to_owned()));
            Ok(())
        }
    }
}

/// Remembers the addresses that left a group between `before` and the draft, and raises the epoch of a group
/// whose former address another group takes now.
pub(super) fn hand_over(before: &State, draft: &mut Draft) {
    let (old, new) = (before.addresses(), draft.state.addresses());
    let index = draft.index;
    for (address, group) in &old {
        if new.get(address) != Some(group) {
            draft.state.released.insert(*address, Released { by: *group, index });
        }
    }
    for (address, taker) in new.iter().filter(|(address, taker)| old.get(*address) != Some(*taker)) {
        let Some(released) = draft.state.released.get_mut(address).filter(|r| r.by != *taker) else {
            continue;
        };
        // Whoever owned it could renew until now: the wait starts now, not when it was given up.
        released.index = index;
        let loser = draft.state.groups.get_mut(&released.by);
        if let Some(assignment) = loser.and_then(|group| group.assignment.as_mut()) {
            assignment.epoch = Epoch(index.get());
        }
    }
    forget_oldest(&mut draft.state);
}

/// One command releases at most MAX_ADDRESSES, which is no more than are remembered: what is forgotten was
/// released by an earlier one.
fn forget_oldest(state: &mut State) {
    const { assert!(MAX_ADDRESSES <= MAX_RELEASED_ADDRESSES) };
    let surplus = state.released.len().saturating_sub(MAX_RELEASED_ADDRESSES);
    let mut by_age: Vec<_> = state.released.iter().map(|(address, r)| (r.index, *address)).collect();
    by_age.sort();
    for (_, address) in by_age.into_iter().take(surplus) {
        state.released.remove(&address);
    }
}
