//! What is on its way: positions are consecutive, so it is a queue.

use std::collections::VecDeque;

use super::queues::Item;

#[derive(Debug, Default)]
pub(super) struct Sent {
    /// The position of the first.
    first: u64,
    items: VecDeque<Item>,
}

impl Sent {
    pub(super) fn len(&self) -> usize {
        self.items.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    pub(super) fn push(&mut self, position: u64, item: Item) {
        if self.items.is_empty() {
            self.first = position;
        }
        assert_eq!(position, self.first + self.items.len() as u64, "positions are consecutive");
        self.items.push_back(item);
    }

    pub(super) fn get(&self, position: u64) -> Option<Item> {
        let index = position.checked_sub(self.first)?;
        self.items.get(usize::try_from(index).ok()?).copied()
    }

    /// The first, if it is not behind `position`.
    pub(super) fn pop_until(&mut self, position: u64) -> Option<(u64, Item)> {
        if self.first > position {
            return None;
        }
        let item = self.items.pop_front()?;
        self.first += 1;
        Some((self.first - 1, item))
    }

    pub(super) fn take(&mut self) -> VecDeque<Item> {
        std::mem::take(&mut self.items)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::WalkId;
    use lockstep_model::ids::GroupId;

    #[test]
    fn positions_find_their_items() {
        let item = |walk| Item::Begin(GroupId(1), WalkId(walk));
        let mut sent = Sent::default();
        (5..9).for_each(|position| sent.push(position, item(position)));
        assert_eq!(
            [4, 5, 8, 9].map(|position| sent.get(position)),
            [None, Some(item(5)), Some(item(8)), None]
        );
        assert_eq!(
            [sent.pop_until(6), sent.pop_until(6), sent.pop_until(6)],
            [Some((5, item(5))), Some((6, item(6))), None]
        );
        assert_eq!((sent.len(), sent.get(7)), (2, Some(item(7))));
        assert_eq!(sent.take().len(), 2);
        sent.push(20, item(20));
        assert_eq!(sent.get(20), Some(item(20)));
    }
}
