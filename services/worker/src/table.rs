//! A table indexed by the small index numbers of the forwarding core's ids.

/// Values by index. The core reuses the index of a removed id.
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
    fn removed_index_is_free() {
        let mut table = Table::default();
        table.insert(3, "three");
        table.insert(3, "replaced");
        assert_eq!((table.len(), table.get(3)), (1, Some(&"replaced")));
        assert_eq!(table.remove(3), Some("replaced"));
        assert_eq!(table.remove(3), None);
        assert_eq!((table.len(), table.get(3), table.get(99)), (0, None, None));
    }
}
