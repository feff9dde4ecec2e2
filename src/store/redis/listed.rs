//! Rows by an index, a few at a time.

use tracing::debug;

use crate::clock::UnixTime;
use crate::store::Each;
use crate::store::Row;
use crate::store::StoreError;
use crate::store::redis::RedisStore;

impl RedisStore {
    /// Hands over the rows whose keys stand in an index behind `skip` bytes, in the order of the index, from where its members
    /// begin with `prefix`: at most `limit`, `at_once` in memory; how many.
    pub(super) async fn listed(
        &self,
        (table, index, skip): (&str, &str, usize),
        prefix: &[u8],
        (limit, at_once): (usize, usize),
        now: UnixTime,
        each: Each<'_>,
    ) -> Result<usize, StoreError> {
        let by_entries = 0 < skip;
        let end = behind(prefix);
        let mut from = [b"[", prefix].concat();
        let mut handed = 0;
        while handed < limit {
            let most = at_once.min(limit);
            let (begin, until) = (from.clone(), end.clone());
            let members = self
                .link
                .call(|mut connection| async move {
                    let mut range = redis::cmd("ZRANGEBYLEX");
                    range.arg(index).arg(begin).arg(until);
                    range.arg("LIMIT").arg(0).arg(most);
                    range.query_async::<Vec<Vec<u8>>>(&mut connection).await
                })
                .await?;
            // What has expired is not handed over: there may be more behind it.
            let Some(last) = members.last() else {
                break;
            };
            from = [b"(", &**last].concat();
            let keys = members.iter().map(|member| member.get(skip..));
            let keys: Vec<&[u8]> = keys.map(Option::unwrap_or_default).collect();
            let names: Vec<_> = keys.iter().map(|key| self.row(table, key)).collect();
            let rows = self
                .link
                .call(|mut connection| async move {
                    let mut get = redis::cmd("MGET");
                    get.arg(names);
                    get.query_async::<Vec<Option<Vec<u8>>>>(&mut connection)
                        .await
                })
                .await?;
            let mut left = Vec::new();
            for ((key, row), member) in keys.into_iter().zip(rows).zip(&members) {
                if row.is_none() && by_entries {
                    left.push((self.row(table, key), member));
                }
                if limit <= handed {
                    break;
                }
                match row.map_or(Ok(None), |row| live(&row, now)) {
                    Ok(Some(row)) => {
                        handed += 1;
                        each(key, row);
                    }
                    Ok(None) => {}
                    // By whom it is found cannot be said of it: it keeps no others from being found.
                    Err(error) if by_entries => debug!(%error, table, "A row is left out."),
                    Err(error) => return Err(error),
                }
            }
            self.tidy(index, &left).await;
            if members.len() < most {
                break;
            }
        }
        Ok(handed)
    }

    /// Removes entries whose rows are gone: by themselves, before a sweep.
    async fn tidy(&self, index: &str, left: &[(Vec<u8>, &Vec<u8>)]) {
        if left.is_empty() {
            return;
        }
        let mut ask = self.scripts.tidy.prepare_invoke();
        ask.key(index);
        for (row, entry) in left {
            ask.key(&**row).arg(&***entry);
        }
        let tidied = self
            .link
            .call(|mut connection| async move { ask.invoke_async::<()>(&mut connection).await });
        if let Err(error) = tidied.await {
            debug!(%error, "Entries without a row stay until they are met again.");
        }
    }
}

/// A row that has not expired.
pub(super) fn live(row: &[u8], now: UnixTime) -> Result<Option<Row>, StoreError> {
    let damaged = || StoreError::Damaged(String::from("a row without a head"));
    let (expires, rest) = row.split_first_chunk::<8>().ok_or_else(damaged)?;
    let (version, value) = rest.split_first_chunk::<8>().ok_or_else(damaged)?;
    let expires = UnixTime::from_millis(u64::from_be_bytes(*expires));
    Ok((now < expires).then(|| Row {
        value: value.to_vec(),
        version: u64::from_be_bytes(*version),
    }))
}

/// The end of a range of keys, in the language of `ZRANGEBYLEX`: behind all that begin with `prefix`.
fn behind(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return [b"(", &*end].concat();
        }
    }
    b"+".to_vec()
}
