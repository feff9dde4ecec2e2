//! The fields of a head that is being built.

use std::cell::Cell;

use http::HeaderMap;
use http::HeaderName;
use http::HeaderValue;

use crate::proxy::upstream_head::HeadError;

type Row = Vec<(HeaderName, HeaderValue)>;

/// The room for fields that is kept for the next head; more is given back.
const MAX_KEPT: usize = 128;

thread_local! {
    /// The room of the last head: for its size the allocator has no short way.
    static ROOM: Cell<Row> = const { Cell::new(Vec::new()) };
}

/// Fields in the order in which they were written. They are a few dozen, so a look at each costs less than a hash of one.
#[derive(Default)]
pub(in crate::proxy) struct Fields(Row);

impl Fields {
    pub(super) fn with_capacity(room: usize) -> Self {
        let mut row = ROOM.try_with(Cell::take).unwrap_or_default();
        row.reserve(room);
        Self(row)
    }

    /// One value more.
    pub(in crate::proxy) fn append(&mut self, name: HeaderName, value: HeaderValue) {
        self.0.push((name, value));
    }

    /// The only value from here on.
    pub(in crate::proxy) fn insert(&mut self, name: HeaderName, value: HeaderValue) {
        if self.0.iter().any(|(there, _)| *there == name) {
            self.0.retain(|(there, _)| *there != name);
        }
        self.0.push((name, value));
    }

    /// All of them, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &(HeaderName, HeaderValue)> {
        self.0.iter()
    }

    /// As a map.
    ///
    /// # Errors
    ///
    /// When a map cannot hold so many.
    pub(in crate::proxy) fn into_map(mut self) -> Result<HeaderMap, HeadError> {
        let mut map =
            HeaderMap::try_with_capacity(self.0.len()).or(Err(HeadError::TooManyFields))?;
        for (name, value) in self.0.drain(..) {
            map.try_append(name, value)
                .or(Err(HeadError::TooManyFields))?;
        }
        Ok(map)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}

impl Drop for Fields {
    fn drop(&mut self) {
        let mut row = std::mem::take(&mut self.0);
        // Nothing of a request is kept with the room.
        row.clear();
        if row.capacity() <= MAX_KEPT {
            // A thread that ends needs no room.
            let _kept = ROOM.try_with(|room| room.set(row));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_inserted_is_the_only_value() {
        const A: HeaderName = HeaderName::from_static("x-a");
        let mut fields = Fields::default();
        fields.append(A, HeaderValue::from_static("1"));
        fields.append(http::header::ACCEPT, HeaderValue::from_static("*/*"));
        fields.append(A, HeaderValue::from_static("2"));
        fields.insert(A, HeaderValue::from_static("3"));
        let map = fields.into_map().unwrap();
        assert_eq!(map.get_all(A).iter().collect::<Vec<_>>(), ["3"]);
        assert_eq!(map["accept"], "*/*");
        assert_eq!(map.len(), 2);
    }
}
