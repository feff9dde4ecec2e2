//! Series that are looked up by their labels: for what happens per login, per call, per reload, not per request.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::PoisonError;
use std::sync::RwLock;

use crate::telemetry::metrics::catalog::Family;
use crate::telemetry::metrics::cells::Counter;

/// The label value that stands for all series beyond the limit of a family.
pub(super) const OTHER: &str = "other";

/// Label values, in the order of [`Family::labels`].
pub(super) type Labels = Box<[Box<str>]>;

/// The series of one family.
#[derive(Debug)]
pub(super) struct Series<C> {
    pub(super) family: &'static Family,
    /// How many series there may be; what comes later shares one series labelled `other`.
    limit: usize,
    cells: RwLock<HashMap<Labels, Arc<C>>>,
}

impl Series<Counter> {
    /// The sum of those whose labels are meant.
    pub(super) fn sum(&self, meant: impl Fn(&Labels) -> bool) -> u64 {
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        let meant = cells.iter().filter(|(labels, _)| meant(labels));
        meant.map(|(_, cell)| cell.value()).sum()
    }
}

impl<C: Default> Series<C> {
    pub(super) fn new(family: &'static Family, limit: usize) -> Self {
        Self {
            family,
            limit,
            cells: RwLock::default(),
        }
    }

    /// The cell with these labels.
    pub(super) fn with(&self, values: &[&str]) -> Arc<C> {
        debug_assert_eq!(values.len(), self.family.labels.len());
        let mut key: Labels = values.iter().map(|value| Box::from(*value)).collect();
        let cells = self.cells.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(cell) = cells.get(&key) {
            return Arc::clone(cell);
        }
        drop(cells);
        let mut cells = self.cells.write().unwrap_or_else(PoisonError::into_inner);
        if self.limit <= cells.len() && !cells.contains_key(&key) {
            key = values.iter().map(|_| Box::from(OTHER)).collect();
        }
        Arc::clone(cells.entry(key).or_default())
    }

    /// Puts these series in the place of all that were there: for what a reload replaces.
    pub(super) fn replace(&self, rows: impl IntoIterator<Item = (Labels, C)>) {
        let fresh = rows
            .into_iter()
            .take(self.limit)
            .map(|(labels, cell)| (labels, Arc::new(cell)))
            .collect();
        *self.cells.write().unwrap_or_else(PoisonError::into_inner) = fresh;
    }

    /// Every series with its cell.
    pub(super) fn rows(&self) -> Vec<(Labels, Arc<C>)> {
        self.cells
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(labels, cell)| (labels.clone(), Arc::clone(cell)))
            .collect()
    }
}

/// Label values from texts.
pub(super) fn labels<const N: usize>(values: [&str; N]) -> Labels {
    values.into_iter().map(Box::from).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::catalog;
    use crate::telemetry::metrics::cells::Counter;

    #[test]
    fn series_beyond_the_limit_share_one() {
        let series = Series::<Counter>::new(&catalog::BOUNCES_REFUSED, 2);
        for app in ["a", "b", "c", "d", "a"] {
            series.with(&[app]).add(1);
        }
        let mut rows: Vec<_> = series
            .rows()
            .into_iter()
            .map(|(labels, cell)| (labels[0].to_string(), cell.value()))
            .collect();
        rows.sort();
        assert_eq!(
            rows,
            [
                ("a".to_owned(), 2),
                ("b".to_owned(), 1),
                (OTHER.to_owned(), 2)
            ]
        );
    }
}
