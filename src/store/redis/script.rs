//! What Redis does in one step: nobody sees half of it.
//!
//! A row is `expiry (8 bytes) version (8 bytes) content`, big-endian. Whether it has expired is decided by the expiry in it
//! and the caller's clock; Redis' own expiry comes later and only tidies up. The entries of a row are members of an index for
//! each kind (place, key of the row), and stand in a value beside it, which goes with the row and its members.

use redis::Script;

use crate::store::PLACE;

/// The scripts, with their hashes.
pub(super) struct Scripts {
    /// Writes a row, under a condition or without.
    pub(super) write: Script,
    /// Removes a row.
    pub(super) delete: Script,
    /// Takes or renews a lease.
    pub(super) lease: Script,
    /// Gives up a lease.
    pub(super) release: Script,
    /// Removes rows that have expired from the tables that have an index.
    pub(super) sweep: Script,
    /// Removes entries whose rows are gone.
    pub(super) tidy: Script,
}

/// How long an entry is as it is noted beside its row: its kind, its place.
pub(super) const NOTED: usize = 1 + PLACE;

/// Keys: row, index, due, entries. Arguments: `put` · `new` · `swap`, now, the version expected, the row, when Redis removes it
/// (or nothing), whether there is an index, the key, its expiry, the row's packed name, the channel, the entries, what the
/// names of their indexes begin with, the length of an entry, when Redis removes what is noted of the entries (or nothing).
const WRITE: &str = "
if ARGV[1] ~= 'put' then
  local row = redis.call('GET', KEYS[1])
  if row and struct.unpack('>I8', row) <= tonumber(ARGV[2]) then row = false end
  if ARGV[1] == 'new' then
    if row then return 0 end
  elseif not row or string.sub(row, 9, 16) ~= ARGV[3] then
    return 0
  end
end
if ARGV[5] == '' then
  redis.call('SET', KEYS[1], ARGV[4])
else
  redis.call('SET', KEYS[1], ARGV[4], 'PXAT', ARGV[5])
end
local length = tonumber(ARGV[13])
local before = redis.call('GET', KEYS[4])
if before then
  for at = 1, #before, length do
    local place = string.sub(before, at + 1, at + length - 1)
    redis.call('ZREM', ARGV[12] .. string.byte(before, at), place .. ARGV[7])
  end
end
if ARGV[11] ~= '' then
  if ARGV[14] == '' then
    redis.call('SET', KEYS[4], ARGV[11])
  else
    redis.call('SET', KEYS[4], ARGV[11], 'PXAT', ARGV[14])
  end
  for at = 1, #ARGV[11], length do
    local place = string.sub(ARGV[11], at + 1, at + length - 1)
    redis.call('ZADD', ARGV[12] .. string.byte(ARGV[11], at), 0, place .. ARGV[7])
  end
elseif before then
  redis.call('DEL', KEYS[4])
end
if ARGV[6] == 'index' then redis.call('ZADD', KEYS[2], 0, ARGV[7]) end
if ARGV[5] ~= '' and (ARGV[6] == 'index' or ARGV[11] ~= '') then
  redis.call('ZADD', KEYS[3], ARGV[8], ARGV[9])
else
  redis.call('ZREM', KEYS[3], ARGV[9])
end
redis.call('PUBLISH', ARGV[10], ARGV[9])
return 1";

/// Keys: row, index, due, entries. Arguments: the key, the row's packed name, the channel, what the names of the indexes of
/// entries begin with, the length of an entry.
const DELETE: &str = "
local before = redis.call('GET', KEYS[4])
if before then
  local length = tonumber(ARGV[5])
  for at = 1, #before, length do
    local place = string.sub(before, at + 1, at + length - 1)
    redis.call('ZREM', ARGV[4] .. string.byte(before, at), place .. ARGV[1])
  end
  redis.call('DEL', KEYS[4])
end
redis.call('DEL', KEYS[1])
redis.call('ZREM', KEYS[2], ARGV[1])
redis.call('ZREM', KEYS[3], ARGV[2])
redis.call('PUBLISH', ARGV[3], ARGV[2])
return 1";

/// Keys: the lease. Arguments: the holder, the span in milliseconds: counted by Redis, for all instances alike.
const LEASE: &str = "
local held = redis.call('GET', KEYS[1])
if held and held ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1";

/// Keys: the lease. Arguments: the holder.
const RELEASE: &str = "
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1";

/// Keys: due. Arguments: now, how many at once, what our keys begin with, the length of an entry. A packed name is the length
/// of the table's name, the name, the key. A row goes by the expiry in it, whatever is noted of when it is due.
const SWEEP: &str = "
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[2])
for _, packed in ipairs(due) do
  local length = string.byte(packed, 1)
  local name = string.sub(packed, 2, 1 + length)
  local key = string.sub(packed, 2 + length)
  local row = ARGV[3] .. name .. ':' .. key
  local head = redis.call('GETRANGE', row, 0, 7)
  if #head == 8 and struct.unpack('>I8', head) > tonumber(ARGV[1]) then
    redis.call('ZADD', KEYS[1], struct.unpack('>I8', head), packed)
  else
    redis.call('DEL', row)
    redis.call('ZREM', ARGV[3] .. '~index:' .. name, key)
    redis.call('ZREM', KEYS[1], packed)
    local noted = ARGV[3] .. '~noted:' .. name .. ':' .. key
    local before = redis.call('GET', noted)
    if before then
      local length = tonumber(ARGV[4])
      for at = 1, #before, length do
        local place = string.sub(before, at + 1, at + length - 1)
        redis.call('ZREM', ARGV[3] .. '~entry:' .. name .. ':' .. string.byte(before, at), place .. key)
      end
      redis.call('DEL', noted)
    end
  end
end
return #due";

/// Keys: an index of entries, rows. Arguments: the entry of each row. One that was written meanwhile is there.
const TIDY: &str = "
for at = 2, #KEYS do
  if redis.call('EXISTS', KEYS[at]) == 0 then redis.call('ZREM', KEYS[1], ARGV[at - 1]) end
end
return 1";

impl Scripts {
    pub(super) fn new() -> Self {
        Self {
            write: Script::new(WRITE),
            delete: Script::new(DELETE),
            lease: Script::new(LEASE),
            release: Script::new(RELEASE),
            sweep: Script::new(SWEEP),
            tidy: Script::new(TIDY),
        }
    }
}
