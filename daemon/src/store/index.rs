//! sled as an index that can be lost.
//!
//! Constraints
//! - Holds what the journal's frames up to `lsn` say, or says so (`verify`): nobody is told lies.
//! - Each group of frames is applied as one sled batch together with `meta`, so that a process death leaves whole groups.
//! - Never asked for durability: sled 0.34's `flush` is no fsync (docs/decisions/0001); after a power cut the journal brings it up to date.
//!
//! Format: one tree; the rows of `rows.rs` as `record.rs` writes them, and under the key `!` the meta row:
//! `u64 lsn | u64 rows | u64 digest | u32 CRC-32`, little endian. The digest is the wrapping sum of a hash of each (key, row): a
//! zeroed block, a lost or a doubled row shows in one scan.

use std::{
    collections::HashMap,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use super::{StoreError, journal::Op};

const META: &[u8] = b"!";
/// The whole state of 10,000 pending jobs is some 10 MB; sled's default of 1 GiB would be the device's memory.
const CACHE_BYTES: u64 = 32 << 20;

pub struct Index {
    db: sled::Db,
    meta: Meta,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Meta {
    lsn: u64,
    rows: u64,
    digest: u64,
}

impl Index {
    pub fn open(dir: &Path) -> Result<Self, StoreError> {
        // sled answers some damage with a panic.
        let open = AssertUnwindSafe(|| sled::Config::new().path(dir).cache_capacity(CACHE_BYTES).open());
        let db = catch_unwind(open).map_err(|_| StoreError::Index("sled panicked while it opened".into()))??;
        let meta = match db.get(META)? {
            None if db.iter().next().is_none() => Meta::default(),
            None => return Err(StoreError::Index("the index has rows but no meta row".into())),
            Some(bytes) => Meta::decode(&bytes).ok_or_else(|| StoreError::Index("the index' meta row is damaged".into()))?,
        };
        Ok(Self { db, meta })
    }

    /// Frames up to this one are in here.
    pub fn lsn(&self) -> u64 {
        self.meta.lsn
    }

    pub fn is_new(&self) -> bool {
        self.meta == Meta::default()
    }

    /// Reads every row; an error where they are not the rows that were written.
    pub fn verify(&self) -> Result<(), StoreError> {
        let scan = AssertUnwindSafe(|| {
            let mut seen = Meta { lsn: self.meta.lsn, ..Meta::default() };
            for row in self.rows() {
                let (key, value) = row?;
                seen.rows += 1;
                seen.digest = seen.digest.wrapping_add(hash(&key, &value));
            }
            if seen == self.meta { Ok(()) } else { Err(StoreError::Index(format!("the index holds {seen:?}, not {:?}", self.meta))) }
        });
        catch_unwind(scan).map_err(|_| StoreError::Index("sled panicked while it was read".into()))?
    }

    pub fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        Ok(self.db.get(key)?)
    }

    /// All rows, sorted by key.
    pub fn rows(&self) -> impl Iterator<Item = Result<(Vec<u8>, Vec<u8>), StoreError>> + use<> {
        self.db.iter().filter_map(|row| match row {
            Ok((key, _)) if key == META => None,
            Ok((key, value)) => Some(Ok((key.to_vec(), value.to_vec()))),
            Err(e) => Some(Err(e.into())),
        })
    }

    /// Applies the frames up to `lsn` as one batch.
    pub fn apply<'a>(&mut self, lsn: u64, ops: impl IntoIterator<Item = &'a Op>) -> Result<(), StoreError> {
        // The last operation on a key wins: the digest must count each key once.
        let mut last: HashMap<&[u8], Option<&[u8]>> = HashMap::new();
        for op in ops {
            match op {
                Op::Put { key, value } => last.insert(key, Some(value)),
                Op::Delete { key } => last.insert(key, None),
            };
        }
        let mut meta = Meta { lsn, ..self.meta };
        let mut batch = sled::Batch::default();
        for (key, new) in last {
            if let Some(old) = self.db.get(key)? {
                meta.rows -= 1;
                meta.digest = meta.digest.wrapping_sub(hash(key, &old));
            }
            match new {
                Some(value) => {
                    meta.rows += 1;
                    meta.digest = meta.digest.wrapping_add(hash(key, value));
                    batch.insert(key, value);
                }
                None => batch.remove(key),
            }
        }
        batch.insert(META, &meta.encode()[..]);
        self.db.apply_batch(batch)?;
        self.meta = meta;
        Ok(())
    }

    /// Hands everything to the system, so that the next start finds it in one piece.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        Ok(())
    }

    /// A reader beside the committer.
    pub fn reader(&self) -> Reader {
        Reader { db: self.db.clone() }
    }
}

/// Reads rows while the committer writes; sees whole groups only.
#[derive(Clone)]
pub struct Reader {
    db: sled::Db,
}

impl Reader {
    pub fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        Ok(self.db.get(key)?)
    }

    /// Rows whose key starts with `prefix` and lies at or after `from`, sorted.
    pub fn range(&self, prefix: u8, from: &[u8]) -> impl Iterator<Item = Result<(sled::IVec, sled::IVec), StoreError>> + use<> {
        self.db.range(from.to_vec()..).take_while(move |row| !matches!(row, Ok((key, _)) if key.first() != Some(&prefix))).map(|r| Ok(r?))
    }
}

fn hash(key: &[u8], value: &[u8]) -> u64 {
    u64::from(crc32fast::hash(key)) << 32 | u64::from(crc32fast::hash(value))
}

impl Meta {
    fn encode(self) -> [u8; 28] {
        let mut out = [0; 28];
        for (i, n) in [self.lsn, self.rows, self.digest].into_iter().enumerate() {
            out[i * 8..i * 8 + 8].copy_from_slice(&n.to_le_bytes());
        }
        let crc = crc32fast::hash(&out[..24]);
        out[24..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    fn decode(bytes: &[u8]) -> Option<Self> {
        let (head, crc) = bytes.split_at_checked(24)?;
        if crc != crc32fast::hash(head).to_le_bytes() {
            return None;
        }
        let word = |i: usize| head[i * 8..i * 8 + 8].try_into().map(u64::from_le_bytes).ok();
        Some(Self { lsn: word(0)?, rows: word(1)?, digest: word(2)? })
    }
}
