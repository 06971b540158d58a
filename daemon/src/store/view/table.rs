//! Rows in the order of their seq, as columns: a list that filters a million rows reads 4 bytes of each.
//!
//! What lists filter by is one number a row (`Tag`): owner, status, eye and whether the row is gone; a filter is a mask and a value. How many
//! rows an owner has in each status is counted along, so that the common totals need no walk. The clinic's own reference is kept as a
//! 64-bit hash: a million texts would not fit, and two that meet by chance are not to be expected before some billions of them.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
};

use jiff::Timestamp;

use crate::{
    domain::{
        ids::{Seq, UserId},
        job::Status,
        photo::Eye,
    },
    store::types::{Filter, Page},
};

const STATUS: u32 = 0x07;
const EYE: u32 = 0x18;
const GONE: u32 = 0x80;
const OWNER: u32 = 0xffff_ff00;
/// No reference, no time of capture.
const NONE: u64 = 0;

/// Owner (24 bits), gone (1), free (2), eye (2), status (3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Tag(u32);

fn status_bits(status: Status) -> u32 {
    status as u32
}

fn eye_bits(eye: Option<Eye>) -> u32 {
    match eye {
        None => 0,
        Some(Eye::Left) => 0x08,
        Some(Eye::Right) => 0x10,
    }
}

fn reference_hash(reference: Option<&str>) -> u64 {
    let Some(text) = reference else { return NONE };
    let mut hash = DefaultHasher::new();
    text.hash(&mut hash);
    hash.finish().max(1)
}

/// Nanoseconds since 1970; 0 for none (an eye that was photographed in that nanosecond is not found by it).
fn captured_number(at: Option<Timestamp>) -> u64 {
    at.map_or(NONE, |t| t.as_nanosecond() as u64)
}

/// Owners as numbers.
#[derive(Default)]
pub struct Owners(HashMap<UserId, u32>);

impl Owners {
    pub fn number(&mut self, owner: &UserId) -> u32 {
        if let Some(n) = self.0.get(owner) {
            return *n;
        }
        let n = self.0.len() as u32;
        self.0.insert(owner.clone(), n);
        n
    }
}

/// What a list filters by, of one row.
pub struct Labels<'a> {
    pub owner: u32,
    /// Of a photo: any, always the same.
    pub status: Status,
    pub eye: Option<Eye>,
    pub reference: Option<&'a str>,
    pub captured_at: Option<Timestamp>,
}

/// A filter as a row's columns see it.
struct Wanted {
    mask: u32,
    value: u32,
    reference: Option<u64>,
    captured: Option<u64>,
}

impl Wanted {
    /// None: nobody of that name has any row.
    fn new(filter: &Filter, owners: &Owners) -> Option<Self> {
        let mut wanted = Self {
            mask: GONE,
            value: 0,
            reference: filter.client_ref.as_deref().map(|r| reference_hash(Some(r))),
            captured: filter.captured_at.map(|t| captured_number(Some(t))),
        };
        if let Some(owner) = &filter.owner {
            wanted.mask |= OWNER;
            wanted.value |= owners.0.get(owner)? << 8;
        }
        if let Some(status) = filter.status {
            wanted.mask |= STATUS;
            wanted.value |= status_bits(status);
        }
        if filter.eye.is_some() {
            wanted.mask |= EYE;
            wanted.value |= eye_bits(filter.eye);
        }
        Some(wanted)
    }

    /// Owner and status, or fewer: what the counters know.
    fn is_counted(&self) -> bool {
        self.mask & EYE == 0 && self.reference.is_none() && self.captured.is_none()
    }
}

/// A column that most devices never fill: it takes no room before its first number.
#[derive(Default)]
struct Sparse(Vec<u64>);

impl Sparse {
    fn at(&self, place: usize) -> u64 {
        self.0.get(place).copied().unwrap_or(NONE)
    }

    fn set(&mut self, place: usize, number: u64) {
        if place >= self.0.len() && number != NONE {
            self.0.resize(place + 1, NONE);
        }
        if let Some(known) = self.0.get_mut(place) {
            *known = number;
        }
    }

    fn pick(&mut self, order: &[u32]) {
        if !self.0.is_empty() {
            self.0 = order.iter().map(|place| self.at(*place as usize)).collect();
        }
    }
}

pub struct Table<E> {
    seqs: Vec<u64>,
    tags: Vec<Tag>,
    references: Sparse,
    captured: Sparse,
    rest: Vec<E>,
    /// Rows by owner and status.
    counts: HashMap<u32, usize>,
    gone: usize,
}

impl<E> Default for Table<E> {
    fn default() -> Self {
        Self {
            seqs: Vec::new(),
            tags: Vec::new(),
            references: Sparse::default(),
            captured: Sparse::default(),
            rest: Vec::new(),
            counts: HashMap::new(),
            gone: 0,
        }
    }
}

impl<E> Table<E> {
    /// Places, those of rows that are gone included.
    pub fn places(&self) -> usize {
        self.seqs.len()
    }

    pub fn gone(&self) -> usize {
        self.gone
    }

    pub fn seq_at(&self, place: usize) -> Seq {
        Seq(self.seqs[place])
    }

    pub fn at(&self, place: usize) -> &E {
        &self.rest[place]
    }

    pub fn at_mut(&mut self, place: usize) -> &mut E {
        &mut self.rest[place]
    }

    /// Where the row with this seq stands; only in a sorted table.
    pub fn place_of(&self, seq: Seq) -> Option<usize> {
        self.seqs.binary_search(&seq.0).ok().filter(|place| self.tags[*place].0 & GONE == 0)
    }

    /// A row at the end; its place. The table is sorted as long as seqs come in their order.
    pub fn push(&mut self, seq: Seq, labels: &Labels<'_>, entry: E) -> usize {
        self.seqs.push(seq.0);
        self.tags.push(Tag(GONE));
        self.gone += 1;
        self.rest.push(entry);
        let place = self.seqs.len() - 1;
        self.label(place, labels);
        place
    }

    /// What lists filter by may have changed.
    pub fn label(&mut self, place: usize, labels: &Labels<'_>) {
        self.remove(place);
        let counted = labels.owner << 8 | status_bits(labels.status);
        self.tags[place] = Tag(counted | eye_bits(labels.eye));
        self.gone -= 1;
        *self.counts.entry(counted).or_insert(0) += 1;
        self.references.set(place, reference_hash(labels.reference));
        self.captured.set(place, captured_number(labels.captured_at));
    }

    /// The row is gone; its place stays until the table is made anew.
    pub fn remove(&mut self, place: usize) {
        let tag = self.tags[place].0;
        if tag & GONE != 0 {
            return;
        }
        if let Some(count) = self.counts.get_mut(&(tag & (OWNER | STATUS))) {
            *count -= 1;
        }
        self.tags[place] = Tag(GONE);
        self.gone += 1;
    }

    pub fn is_sorted(&self) -> bool {
        self.seqs.is_sorted()
    }

    /// Whether the last row that was pushed came in its order. Nearly all do; frames behind a snapshot that holds newer rows may not.
    pub fn ends_sorted(&self) -> bool {
        self.seqs.last_chunk::<2>().is_none_or(|[before, last]| before < last)
    }

    /// Sorts by seq and leaves out what is gone. Places change.
    pub fn make_anew(&mut self) {
        let mut order: Vec<u32> = (0..self.seqs.len() as u32).filter(|i| self.tags[*i as usize].0 & GONE == 0).collect();
        order.sort_by_key(|i| self.seqs[*i as usize]);
        fn pick<T>(column: &mut Vec<T>, order: &[u32]) {
            let mut taken: Vec<Option<T>> = std::mem::take(column).into_iter().map(Some).collect();
            *column = order.iter().filter_map(|i| taken[*i as usize].take()).collect();
        }
        pick(&mut self.seqs, &order);
        pick(&mut self.tags, &order);
        self.references.pick(&order);
        self.captured.pick(&order);
        pick(&mut self.rest, &order);
        self.gone = 0;
    }

    fn fits(&self, place: usize, wanted: &Wanted) -> bool {
        self.tags[place].0 & wanted.mask == wanted.value && self.fits_further(place, wanted)
    }

    fn fits_further(&self, place: usize, wanted: &Wanted) -> bool {
        wanted.reference.is_none_or(|r| self.references.at(place) == r) && wanted.captured.is_none_or(|c| self.captured.at(place) == c)
    }

    /// Places before `end` whose rows the filter lets through, newest first.
    fn fitting(&self, end: usize, wanted: &Wanted) -> impl Iterator<Item = usize> {
        let tags = self.tags[..end].iter().enumerate().rev();
        let tagged = tags.filter(|(_, tag)| tag.0 & wanted.mask == wanted.value);
        tagged.map(|(place, _)| place).filter(|place| self.fits_further(*place, wanted))
    }

    fn total(&self, wanted: &Wanted) -> usize {
        if wanted.is_counted() {
            return self.counts.iter().filter(|(tag, _)| *tag & wanted.mask == wanted.value).map(|(_, n)| n).sum();
        }
        self.fitting(self.places(), wanted).count()
    }

    /// Newest first: places, how many rows the filter lets through in all, and where the next page begins.
    pub fn page(&self, filter: &Filter, owners: &Owners, page: Page) -> (Vec<usize>, usize, Option<Seq>) {
        let Some(wanted) = Wanted::new(filter, owners) else { return (Vec::new(), 0, None) };
        let end = page.before.map_or(self.places(), |before| self.seqs.partition_point(|seq| *seq < before.0));
        let total = self.total(&wanted);
        // Behind the last of them nobody looks.
        let mut fitting = self.fitting(end, &wanted).take(total).skip(page.offset);
        let places: Vec<usize> = fitting.by_ref().take(page.limit).collect();
        let more = fitting.next().is_some();
        let next = places.last().map(|place| Seq(self.seqs[*place])).filter(|_| more);
        (places, total, next)
    }

    /// Newest first, among these places (newest first) alone.
    pub fn page_among(&self, among: &[usize], filter: &Filter, owners: &Owners, page: Page) -> (Vec<usize>, usize, Option<Seq>) {
        let Some(wanted) = Wanted::new(filter, owners) else { return (Vec::new(), 0, None) };
        let fitting: Vec<usize> = among.iter().copied().filter(|place| self.fits(*place, &wanted)).collect();
        let mut rest = fitting.iter().filter(|place| page.before.is_none_or(|b| self.seqs[**place] < b.0)).skip(page.offset);
        let places: Vec<usize> = rest.by_ref().take(page.limit).copied().collect();
        let more = rest.next().is_some();
        let next = places.last().map(|place| Seq(self.seqs[*place])).filter(|_| more);
        (places, fitting.len(), next)
    }
}
