//! A table beside the core, indexed by the small numbers of its ids.

/// Values by index. An index is used again once its value is gone.
#[derive(Debug)]
pub(super) struct Table<T> {
    slots: Vec<Option<T>>,
    len: usize,
}

impl<T> Default for Table<T> {
    fn default() -> Self {
        Self { slots: Vec::new(), len: 0 }
    }
}

impl<T> Table<T> {
    pub(super) fn insert(&mut self, index: usize, value: T) {
        if index >= self.slots.len() {
            self.slots.resize_with(index + 1, || None);
        }
        if let Some(slot) = self.slots.get_mut(index)
            && slot.replace(value).is_none()
        {
            self.len += 1;
        }
    }

    pub(super) fn get(&self, index: usize) -> Option<&T> {
        self.slots.get(index)?.as_ref()
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.slots.get_mut(index)?.as_mut()
    }

    pub(super) fn remove(&mut self, index: usize) -> Option<T> {
        let value = self.slots.get_mut(index)?.take();
        self.len -= usize::from(value.is_some());
        value
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_removed_value_is_gone_and_its_place_is_free() {
        let mut table = Table::default();
        table.insert(3, "three");
        table.insert(3, "again");
        assert_eq!((table.len(), table.get(3)), (1, Some(&"again")));
        assert_eq!(table.remove(3), Some("again"));
        assert_eq!(table.remove(3), None);
        assert_eq!((table.len(), table.get(3), table.get(99)), (0, None, None));
    }
}
