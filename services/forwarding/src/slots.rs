//! A table whose ids are not reused soon: an id is an index (20 bits) and a generation (12 bits).

const INDEX_BITS: u32 = 20;
const INDEX_MASK: u32 = (1 << INDEX_BITS) - 1;

/// The index in an id.
pub(crate) fn index_of(id: u32) -> usize {
    (id & INDEX_MASK) as usize
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    value: Option<T>,
}

#[derive(Debug)]
pub(crate) struct Slots<T> {
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
}

impl<T> Slots<T> {
    /// Not the id of any value: no slot has this index.
    pub(crate) const NO_ID: u32 = u32::MAX;

    pub(crate) fn new() -> Self {
        Self { slots: Vec::new(), free: Vec::new() }
    }

    /// Inserts a value and returns its id; [`Slots::NO_ID`] when all 2^20 - 1 slots are used.
    pub(crate) fn insert(&mut self, value: T) -> u32 {
        while let Some(index) = self.free.pop() {
            if let Some(slot) = self.slots.get_mut(index as usize) {
                slot.value = Some(value);
                return slot.generation << INDEX_BITS | index;
            }
        }
        let index = self.slots.len() as u32;
        if index >= INDEX_MASK {
            return Self::NO_ID;
        }
        self.slots.push(Slot { generation: 0, value: Some(value) });
        index
    }

    pub(crate) fn remove(&mut self, id: u32) -> Option<T> {
        let slot = self.slots.get_mut(index_of(id)).filter(|slot| slot.generation == id >> INDEX_BITS)?;
        let value = slot.value.take()?;
        slot.generation = (slot.generation + 1) & (u32::MAX >> INDEX_BITS);
        self.free.push(id & INDEX_MASK);
        Some(value)
    }

    pub(crate) fn get(&self, id: u32) -> Option<&T> {
        let slot = self.slots.get(index_of(id)).filter(|slot| slot.generation == id >> INDEX_BITS)?;
        slot.value.as_ref()
    }

    pub(crate) fn get_mut(&mut self, id: u32) -> Option<&mut T> {
        let slot = self.slots.get_mut(index_of(id)).filter(|slot| slot.generation == id >> INDEX_BITS)?;
        slot.value.as_mut()
    }

    /// The id of the value at an index.
    pub(crate) fn id_at(&self, index: usize) -> Option<u32> {
        let slot = self.slots.get(index).filter(|slot| slot.value.is_some())?;
        Some(slot.generation << INDEX_BITS | index as u32)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_old_id_does_not_reach_the_new_value_in_its_slot() {
        let mut slots = Slots::new();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(index_of(first), index_of(second));
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&"second"));
        assert_eq!(slots.get(Slots::<&str>::NO_ID), None);
    }
}
