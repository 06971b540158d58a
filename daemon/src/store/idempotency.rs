//! Idempotency-Keys: what each was answered with, kept for 24 h, also over a restart.

use super::{
    StoreError,
    commit::Tx,
    rows::{self, Idem},
    types::{Answer, Idempotency},
};

/// The answer that this key was given before; an error where it came with another body.
pub fn replayed(tx: &Tx<'_>, idempotency: Option<&Idempotency>) -> Result<Option<Answer>, StoreError> {
    let Some(idem) = idempotency else { return Ok(None) };
    match tx.get::<Idem>(&rows::idempotency(idem))? {
        Some(row) if row.body != idem.body => Err(StoreError::IdempotencyMismatch),
        row => Ok(row.map(|r| r.answer)),
    }
}

pub fn remember(tx: &mut Tx<'_>, idempotency: Option<Idempotency>, answer: Answer) -> Result<(), StoreError> {
    let Some(idem) = idempotency else { return Ok(()) };
    let row = Idem { body: idem.body, answer, at: tx.now.wall };
    tx.put(rows::idempotency(&idem), &row)
}
