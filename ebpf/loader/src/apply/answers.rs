//! Where addresses are answered.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::net::IpAddr;

use lockstep_abi::address::{AnswerKey, AnswerValue};
use lockstep_model::image::GroupImage;
use lockstep_model::protocol::Family;

use super::Apply;
use crate::answers::Answer;
use crate::family::{number, wide};
use crate::interfaces::Interface;

impl Apply<'_> {
    /// On which interfaces each address is answered. None at all: the node is unfit for the group.
    pub(super) fn wanted_answers(&mut self) -> HashMap<AnswerKey, AnswerValue> {
        let mut wanted = HashMap::new();
        let withheld: HashSet<IpAddr> = self.report.withheld.iter().copied().collect();
        for group in &self.image.groups {
            let mut told = BTreeSet::new();
            for address in &group.addresses {
                let Some(found) = self.addresses.get(&address.address) else { continue };
                let answering: Vec<&Interface> = self
                    .interfaces
                    .iter()
                    .filter(|interface| answers(group, address.address, interface))
                    .collect();
                if answering.is_empty() {
                    self.report.unfit.push((group.id, unfit(group, address.address)));
                }
                for interface in answering {
                    let key = AnswerKey {
                        ifindex: interface.index,
                        family: number(Family::of(address.address)),
                        address: wide(address.address),
                    };
                    let value = AnswerValue { address_index: found.index, address_stamp: found.stamp };
                    wanted.insert(key, value);
                    if !withheld.contains(&address.address) {
                        let (ifindex, mac) = (interface.index, interface.mac);
                        told.insert(Answer { ifindex, mac, address: address.address });
                    }
                }
            }
            self.report.answers.insert(group.id, told);
        }
        wanted
    }
}

fn answers(group: &GroupImage, address: IpAddr, interface: &Interface) -> bool {
    if !group.interfaces.is_empty() {
        return group.interfaces.contains(&interface.name);
    }
    interface.prefixes.iter().any(|prefix| prefix.contains(address))
}

fn unfit(group: &GroupImage, address: IpAddr) -> String {
    if group.interfaces.is_empty() {
        format!("no interface has a connected prefix containing {address}")
    } else {
        format!(
            "{address} is to be answered on {}, which this node does not have",
            group.interfaces.join(", ")
        )
    }
}
